"""The model: a batch of photos in, class probabilities out."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from car_classifier.class_map import CarClass
from car_classifier.errors import ClassMapError, ModelError
from car_classifier.runtimes import Runtime, load_runtime, native_log_muted, root_cause

__all__ = ["Classifier", "ModelIdentity", "load_classifier"]


@dataclass(frozen=True)
class ModelIdentity:
    """Which model answered: what a result is traced back by."""

    file: str  # its name, without a folder
    sha256: str  # of its content, in hexadecimal
    runtime: str  # what ran it

    @classmethod
    def of(cls, runtime: Runtime) -> ModelIdentity:
        """Read the file that a runtime has loaded.

        Raises:
            OSError: it is gone.
        """
        digest = hashlib.sha256()
        with open(runtime.path, "rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        return cls(runtime.path.name, digest.hexdigest(), runtime.name)


class Classifier:
    """A model and what its outputs stand for.

    Attributes:
        input_size: (width, height) in pixels that `predict` takes.
        classes: what each output stands for.
        runtime: what runs the model.
    """

    def __init__(self, runtime: Runtime, classes: list[CarClass]) -> None:
        _, height, width, _ = runtime.input_shape
        self.input_size = (int(width), int(height))
        self.classes = classes
        self.runtime = runtime

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, classes), of uint8 (N, height, width, 3), RGB 0-255."""
        return self.runtime.predict(images)

    @functools.cached_property
    def identity(self) -> ModelIdentity:
        """Which model this is. Read at the first use; raises OSError if the file is gone."""
        return ModelIdentity.of(self.runtime)


def load_classifier(path: Path, classes: list[CarClass], runtime: str = "keras") -> Classifier:
    """Load a model file and check that it is a classifier of these classes.

    The contract: one input ``(N, H, W, 3)`` of RGB 0-255 (whatever scaling the backbone wants is
    a layer of the model), one output ``(N, classes)`` of probabilities.

    Args:
        path: a ``.keras`` file; other runtimes use the ``.tflite`` file beside it.
        classes: what each output stands for.
        runtime: "auto" or one of `car_classifier.runtimes.RUNTIMES`.

    Raises:
        SettingsError: the runtime is not installed.
        ModelError: there is no such file, damaged, unsafe to load, or another kind of model.
        ClassMapError: the model has another number of outputs than there are classes.
    """
    loaded = load_runtime(runtime, path)
    _check_shapes(loaded, len(classes))
    classifier = Classifier(loaded, classes)
    with native_log_muted():
        _check_probabilities(loaded.path, classifier)
    return classifier


def _check_shapes(runtime: Runtime, classes: int) -> None:
    path, inputs, outputs = runtime.path, runtime.input_shape, runtime.output_shape
    if not (
        isinstance(inputs, tuple)
        and len(inputs) == 4
        and inputs[3] == 3
        and all(isinstance(side, int) for side in inputs[1:3])
    ):
        raise ModelError(
            f"{path}: expected one input of shape (None, height, width, 3), got {inputs}"
        )
    if not (isinstance(outputs, tuple) and len(outputs) == 2 and isinstance(outputs[1], int)):
        raise ModelError(f"{path}: expected one output of shape (None, classes), got {outputs}")
    if outputs[1] != classes:
        raise ClassMapError(
            f"{path} tells {outputs[1]} classes apart, the class map names {classes}: "
            "they do not belong together"
        )


def _check_probabilities(path: Path, classifier: Classifier) -> None:
    """Run once: proves the output, and has the graph ready before the first photo."""
    width, height = classifier.input_size
    images = np.empty((3, height, width, 3), np.uint8)
    images[0], images[1] = 0, 255  # black and white: what is no softmax may pass on one image
    images[2] = np.random.default_rng(0).integers(0, 256, images[2].shape, dtype=np.uint8)
    try:
        output = classifier.predict(images)
    except Exception as error:
        raise ModelError(
            f"{path}: expected a model that takes a batch of RGB images and returns one tensor: "
            f"{root_cause(error)}"
        ) from error
    sums = output.sum(axis=1)
    if not (np.isfinite(output).all() and (output >= 0).all() and (abs(sums - 1) < 0.01).all()):
        raise ModelError(
            f"{path}: expected softmax probabilities that sum to 1, got outputs from "
            f"{output.min():.3g} to {output.max():.3g} that sum to {sums.min():.3g} "
            f"to {sums.max():.3g}"
        )
