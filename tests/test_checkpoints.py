"""A checkpoint holds all of a run, belongs to that run, and is never lost for a newer one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_saving import disk_full_after
from training.averaging import LiveWeights
from training.checkpoints import Checkpoints, RunIdentity
from training.errors import CheckpointError

RUN = RunIdentity("tiny", ["Audi A4", "BMW M3", "Kia Rio"])
UNTRAINED = frozenset(["classes", "head"])


def compiled_model(units: int = 4, seed: int = 0) -> Any:
    """A small model with dropout, normalisation and an averaging optimizer, as training has it."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = layers.Dense(units, name="head")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.4, name="dropout")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="classes")(x))
    optimizer = keras.optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "categorical_crossentropy")
    optimizer.build(model.trainable_variables)
    return model


def train(model: Any, steps: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        images = rng.normal(size=(8, 6)).astype(np.float32)
        labels = np.eye(3, dtype=np.float32)[rng.integers(3, size=8)]
        model.train_on_batch(images, labels)


def values(variables: Any) -> list[np.ndarray]:
    return [np.asarray(variable.numpy()) for variable in variables]


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = compiled_model()
    train(whole, 5)
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.save(whole, whole.optimizer, 1, UNTRAINED)
    train(whole, 5, seed=1)

    resumed = compiled_model(seed=9)
    checkpoint = Checkpoints(tmp_path, RUN).load()
    assert checkpoint is not None
    checkpoint.restore_model(resumed)
    checkpoint.restore_optimizer(resumed.optimizer)
    train(resumed, 5, seed=1)

    assert (checkpoint.done, checkpoint.untrained) == (1, UNTRAINED)
    for expected, got in (
        (whole.variables, resumed.variables),
        (whole.optimizer.variables, resumed.optimizer.variables),
    ):
        for one, other in zip(values(expected), values(got), strict=True):
            assert other == pytest.approx(one, abs=1e-5)


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none", RUN)
    assert checkpoints.load() is None
    assert checkpoints.last_epoch() is None


def test_the_last_checkpoint_alone_is_kept(tmp_path: Path) -> None:
    model = compiled_model()
    checkpoints = Checkpoints(tmp_path, RUN)
    (tmp_path / "unfinished-1-epoch-0009.npz").write_bytes(b"of a killed run")
    for done in (9, 10, 11):
        checkpoints.save(model, model.optimizer, done, UNTRAINED)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0011.npz"]
    assert checkpoints.last_epoch() == 11


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    model = compiled_model()
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.keep_if_best(model, 0.5)
    checkpoints.save(model, model.optimizer, 1, UNTRAINED)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with disk_full_after(500):
        with pytest.raises(OSError, match="too large"):
            checkpoints.keep_if_best(model, 0.6)
        with pytest.raises(OSError, match="too large"):
            checkpoints.save(model, model.optimizer, 2, UNTRAINED)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_best_weights_stay_best_across_a_resume(tmp_path: Path) -> None:
    model = compiled_model()
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.keep_if_best(model, 0.8)
    best = values(model.weights)
    train(model, 3)
    checkpoints.keep_if_best(model, 0.7)
    checkpoints.save(model, model.optimizer, 1, UNTRAINED)

    resumed = Checkpoints(tmp_path, RUN)
    resumed.load()
    assert resumed.best == 0.8
    resumed.keep_if_best(model, 0.75)
    resumed.load_best(model)
    for expected, got in zip(best, values(model.weights), strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            RunIdentity("resnet50", RUN.classes),
            "expected a checkpoint of resnet50, got one of tiny",
        ),
        (RunIdentity("tiny", ["Audi A4"]), "the manifest's 1 classes, got one for 3"),
        (
            RunIdentity("tiny", ["Audi A4", "BMW M5", "Kia Rio"]),
            "class 1 is 'BMW M5' in the manifest and 'BMW M3' in the checkpoint",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, run: RunIdentity, message: str
) -> None:
    whole = compiled_model()
    Checkpoints(tmp_path, RUN).save(whole, whole.optimizer, 1, UNTRAINED)
    with pytest.raises(CheckpointError, match=message):
        Checkpoints(tmp_path, run).load()


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, RUN)
    whole = compiled_model()
    checkpoints.save(whole, whole.optimizer, 1, UNTRAINED)
    checkpoint = checkpoints.load()
    assert checkpoint is not None
    other = compiled_model(units=5)
    with pytest.raises(CheckpointError, match="expected weights of the shapes"):
        checkpoint.restore_model(other)
    with pytest.raises(CheckpointError, match="expected the optimizer's state of the shapes"):
        checkpoint.restore_optimizer(other.optimizer)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "incomplete"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, RUN)
    whole = compiled_model()
    checkpoints.save(whole, whole.optimizer, 3, UNTRAINED)
    path = tmp_path / "epoch-0003.npz"
    if damage == "incomplete":
        np.savez(path, about=np.array(json.dumps({"best": 0.5})))
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"text", "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=r"epoch-0003\.npz: expected a checkpoint"):
        checkpoints.load()


def test_fit_ends_with_the_averages_and_the_live_weights_can_be_put_back() -> None:
    model = compiled_model()
    start = values(model.trainable_variables)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 6)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[rng.integers(3, size=40)]
    live = LiveWeights()
    model.fit(images, labels, batch_size=8, verbose=0, callbacks=[live])
    averages = values(model.trainable_variables)
    live.restore()
    trained = values(model.trainable_variables)
    moved = [float(np.abs(a - b).sum()) for a, b in zip(trained, start, strict=True)]
    lagging = [float(np.abs(a - b).sum()) for a, b in zip(averages, start, strict=True)]
    assert sum(lagging) < 0.7 * sum(moved)
