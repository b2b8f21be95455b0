"""Checkpoints that survive a kill: each is written beside the last and replaces it in one step."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from training.errors import CheckpointError
from training.files import replace_file
from training.pretrained import load_weights


@dataclass(frozen=True)
class RunIdentity:
    """What a run must have in common with a checkpoint to go on with it."""

    backbone: str
    classes: list[str]  # names, in the order of the model's outputs


@dataclass(frozen=True)
class Checkpoint:
    """All that a run is after some epochs."""

    path: Path
    done: int  # epochs
    best: float  # accuracy on val so far, 0..1
    untrained: frozenset[str]  # layers that began without pre-trained weights
    model_values: list[NDArray[np.generic]]
    optimizer_values: list[NDArray[np.generic]]

    def restore_model(self, model: keras.Model) -> None:
        """Give a model of the same build its weights and random states back.

        Raises:
            CheckpointError: it is built otherwise.
        """
        self._assign(model.variables, self.model_values, "weights")

    def restore_optimizer(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Give an optimizer, built for the same weights, its state back.

        Raises:
            CheckpointError: it trains other weights.
        """
        self._assign(optimizer.variables, self.optimizer_values, "the optimizer's state")

    def _assign(
        self, variables: Sequence[keras.Variable], values: list[NDArray[np.generic]], what: str
    ) -> None:
        if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
            raise CheckpointError(
                f"{self.path}: expected {what} of the shapes that --backbone, --frozen and "
                "--head-epochs ask for: resume with the options that the run was started with, or "
                "start anew without --resume"
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


class Checkpoints:
    """A folder with the state after the last epoch, and the best weights so far."""

    def __init__(self, folder: Path, run: RunIdentity) -> None:
        """The folder is made when the first file is."""
        self.folder = folder
        self.best = -1.0  # accuracy on val, 0..1
        self._run = run
        self._best_path = folder / "best.npz"

    def last_epoch(self) -> int | None:
        """After how many epochs the checkpoint was written; None if there is none."""
        return max(self._epochs(), default=None)

    def prospect(self, done: int, resume: bool) -> str:
        """Say, at a run's start, what becomes of the checkpoint that is there or is not."""
        if done:
            return f"{self.folder}: going on after epoch {done}"
        if resume:
            return f"{self.folder}: no checkpoint to go on with, starting anew"
        last = self.last_epoch()
        if last is None:
            return f"{self.folder}: a checkpoint will be written here after each epoch"
        return (
            f"warning: {self.folder}: the checkpoint of epoch {last} that is there will be "
            "overwritten after the first epoch; to go on with it, stop now and add --resume"
        )

    def load(self) -> Checkpoint | None:
        """Return the last checkpoint, None if there is none.

        Raises:
            CheckpointError: it cannot be read, or is of another backbone or other classes.
        """
        done = self.last_epoch()
        if done is None:
            return None
        path = self._path(done)
        try:
            with np.load(path, allow_pickle=False) as archive:
                about = json.loads(str(archive["about"]))
                run = RunIdentity(**about["run"])
                checkpoint = Checkpoint(
                    path,
                    done,
                    float(about["best"]),
                    frozenset(about["untrained"]),
                    _values(archive, "model"),
                    _values(archive, "optimizer"),
                )
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{path}: expected a checkpoint: {error}") from error
        self._check_same_run(path, run)
        self.best = checkpoint.best
        return checkpoint

    def save(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        done: int,
        untrained: frozenset[str],
    ) -> None:
        """Write the state after ``done`` epochs; then the older ones go.

        Raises:
            OSError: it cannot be written; the older one is still there.
        """
        about = {"run": asdict(self._run), "best": self.best, "untrained": sorted(untrained)}
        arrays = {"about": np.array(json.dumps(about))}
        for name, variables in (
            ("model", model.variables),
            ("optimizer", optimizer.variables),
        ):
            for index, variable in enumerate(variables):
                arrays[f"{name}/{index}"] = keras.ops.convert_to_numpy(variable)
        with replace_file(self._path(done)) as unfinished:
            _write(unfinished, arrays)
        for other in (*map(self._path, self._epochs()), *self.folder.glob("unfinished-*")):
            if other != self._path(done):
                other.unlink(missing_ok=True)

    def keep_if_best(self, model: keras.Model, accuracy: float) -> None:
        """Write the weights, as ``--weights`` reads them, if no epoch before was as good on val."""
        if accuracy <= self.best:
            return
        arrays = {
            f"{layer.name}/{index}": values
            for layer in model.layers
            for index, values in enumerate(layer.get_weights())
        }
        with replace_file(self._best_path) as unfinished:
            _write(unfinished, arrays)
        self.best = accuracy

    def load_best(self, model: keras.Model) -> None:
        """Give the model the best weights.

        Raises:
            TrainingError: the file is gone, damaged or of another model.
        """
        missing = load_weights(model, self._best_path)
        if missing:
            raise CheckpointError(f"{self._best_path}: expected weights for {missing[0]}")

    def _path(self, done: int) -> Path:
        return self.folder / f"epoch-{done:04d}.npz"

    def _epochs(self) -> list[int]:
        names = (path.name for path in self.folder.glob("epoch-*.npz"))
        return [
            int(match[1]) for name in names if (match := re.fullmatch(r"epoch-(\d+)\.npz", name))
        ]

    def _check_same_run(self, path: Path, run: RunIdentity) -> None:
        if run.backbone != self._run.backbone:
            raise CheckpointError(
                f"{path}: expected a checkpoint of {self._run.backbone}, got one of {run.backbone}"
            )
        if len(run.classes) != len(self._run.classes):
            raise CheckpointError(
                f"{path}: expected a checkpoint for the manifest's {len(self._run.classes)} "
                f"classes, got one for {len(run.classes)}"
            )
        for label, (here, there) in enumerate(zip(self._run.classes, run.classes, strict=True)):
            if here != there:
                raise CheckpointError(
                    f"{path}: expected a checkpoint for the manifest's classes; class {label} is "
                    f"{here!r} in the manifest and {there!r} in the checkpoint"
                )


def _write(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write an .npz file by name, as `numpy.savez` does by keyword."""
    np.savez(path, allow_pickle=False, **arrays)


def _values(archive: np.lib.npyio.NpzFile, kind: str) -> list[NDArray[np.generic]]:
    count = sum(name.startswith(f"{kind}/") for name in archive.files)
    return [archive[f"{kind}/{index}"] for index in range(count)]
