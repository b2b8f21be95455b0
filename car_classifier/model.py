"""The model: a batch of photos in, class probabilities out."""

from __future__ import annotations

import contextlib
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from car_classifier.class_map import CarClass
from car_classifier.errors import ClassMapError, ModelError

__all__ = ["Classifier", "load_classifier"]


class Classifier:
    """A Keras classifier, compiled for batches of any size.

    Attributes:
        input_size: (width, height) in pixels that `predict` takes.
        classes: what each output stands for.
    """

    def __init__(self, model: object, classes: list[CarClass]) -> None:
        import tensorflow as tf

        _, height, width, _ = model.input_shape  # type: ignore[attr-defined]
        self.input_size = (int(width), int(height))
        self.classes = classes
        signature = tf.TensorSpec((None, height, width, 3), tf.uint8)

        def infer(images: tf.Tensor) -> tf.Tensor:
            return model(tf.cast(images, tf.float32), training=False)  # type: ignore[operator]

        self._infer = tf.function(infer, input_signature=[signature])

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, classes), of uint8 (N, height, width, 3), RGB 0-255."""
        return np.asarray(self._infer(images), np.float32)


def load_classifier(path: Path, classes: list[CarClass]) -> Classifier:
    """Load a ``.keras`` file and check that it is a classifier of these classes.

    The contract: one input ``(N, H, W, 3)`` of RGB 0-255 (whatever scaling the backbone wants is
    a layer of the model), one output ``(N, classes)`` of probabilities.

    Raises:
        ModelError: there is no such file, damaged, unsafe to load, or another kind of model.
        ClassMapError: the model has another number of outputs than there are classes.
    """
    if not path.is_file():
        raise ModelError(f"no model at {path}: expected a .keras file (--model)")
    with _native_log_muted():
        model = _load(path)
        _check_shapes(path, model, len(classes))
        classifier = Classifier(model, classes)
        _check_probabilities(path, classifier)
    return classifier


def _load(path: Path) -> object:
    import keras

    if not zipfile.is_zipfile(path):
        raise ModelError(
            f"{path}: expected a .keras file, which is a zip archive; got something else "
            "or a part of one"
        )
    try:
        # Safe mode refuses files that bring code of their own along.
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(f"{path}: expected a Keras model file: {_first_line(error)}") from error


@contextlib.contextmanager
def _native_log_muted() -> Iterator[None]:
    """Keep TensorFlow's start-up notes off the terminal.

    Its C++ part writes them to file descriptor 2 before it looks at its own log level. Python's
    errors are not lost: they leave as exceptions.
    """
    sys.stderr.flush()
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


def _first_line(error: BaseException) -> str:
    """What went wrong in the first place; Keras wraps it in advice for programmers."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def _check_shapes(path: Path, model: object, classes: int) -> None:
    inputs = getattr(model, "input_shape", None)
    outputs = getattr(model, "output_shape", None)
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
            f"{_first_line(error)}"
        ) from error
    sums = output.sum(axis=1)
    if not (np.isfinite(output).all() and (output >= 0).all() and (abs(sums - 1) < 0.01).all()):
        raise ModelError(
            f"{path}: expected softmax probabilities that sum to 1, got outputs from "
            f"{output.min():.3g} to {output.max():.3g} that sum to {sums.min():.3g} "
            f"to {sums.max():.3g}"
        )
