"""What runs the model: three ways to turn a batch of photos into class probabilities.

| name | file | needs |
|---|---|---|
| `openvino` | int8 `.tflite` | the optional package openvino |
| `litert` | int8 `.tflite` | the package ai-edge-litert, or TensorFlow, which carries a copy |
| `keras` | `.keras` | TensorFlow |

Each takes uint8 RGB ``(N, height, width, 3)`` and returns float32 probabilities ``(N, classes)``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from car_classifier.errors import ModelError, SettingsError
from car_classifier.model_files import check_keras_archive
from car_classifier.roundings import drop_needless_roundings
from car_classifier.sharing import MOST_ENGINES, Engine, SharedOut, processors
from car_classifier.tflite_files import check_tflite

__all__ = ["RUNTIMES", "Runtime", "load_runtime", "native_log_muted", "root_cause"]

Shape = tuple[Any, ...]
Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


class Runtime(Protocol):
    """A loaded model. Shapes are what the file says; whether they fit is checked elsewhere."""

    name: str
    path: Path  # the file that was loaded
    input_shape: Shape  # (None, height, width, 3)
    output_shape: Shape  # (None, classes)

    def predict(self, images: Images) -> Probabilities:
        """Class probabilities of a batch of any size; may be called from several threads."""


class KerasRuntime:
    """The ``.keras`` file as a compiled graph, its weights constants in it."""

    name = "keras"

    def __init__(self, path: Path) -> None:
        self.path = path
        with native_log_muted():
            self.model = _load_keras(path)
        self.input_shape: Shape = getattr(self.model, "input_shape", ())
        self.output_shape: Shape = getattr(self.model, "output_shape", ())

    @functools.cached_property
    def _infer(self) -> Callable[[Images], Any]:
        """The graph: made at the first use, since a model of another kind has none."""
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        signature = tf.TensorSpec((None, *self.input_shape[1:]), tf.uint8)
        graph = tf.function(
            lambda images: self.model(tf.cast(images, tf.float32), training=False),
            input_signature=[signature],
        ).get_concrete_function()
        if not tf.is_tensor(graph.structured_outputs):
            raise TypeError(f"got {graph.structured_outputs}")
        # Constant weights let TensorFlow fold the BatchNorms into the convolutions.
        frozen = convert_variables_to_constants_v2(graph)
        return lambda images: frozen(tf.constant(images))[0]

    def predict(self, images: Images) -> Probabilities:
        """See `Runtime`."""
        return np.asarray(self._infer(images), np.float32)


class LiteRtRuntime:
    """The int8 file on LiteRT (formerly TensorFlow Lite), with XNNPACK's kernels."""

    name = "litert"

    def __init__(self, path: Path) -> None:
        self.path = path
        with native_log_muted():
            self._interpreter_class = _litert_interpreter()
            # A photo takes as long in a batch as alone, so each goes to whoever is free.
            self._engines = SharedOut(self._engine, most=1)

    def _engine(self, threads: int) -> Engine:
        try:
            interpreter = self._interpreter_class(model_path=str(self.path), num_threads=threads)
            (photo,) = interpreter.get_input_details()
            interpreter.resize_tensor_input(photo["index"], [1, *photo["shape"].tolist()[1:]])
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{self.path}: expected a LiteRT model: {reason}") from error
        output = interpreter.get_output_details()[0]
        self.input_shape: Shape = (None, *photo["shape"].tolist()[1:])
        self.output_shape: Shape = (None, *output["shape"].tolist()[1:])

        def run(image: Images) -> Probabilities:
            interpreter.set_tensor(photo["index"], image.astype(photo["dtype"], copy=False))
            interpreter.invoke()
            probabilities: Probabilities = interpreter.get_tensor(output["index"])
            return probabilities

        return run

    def predict(self, images: Images) -> Probabilities:
        """See `Runtime`."""
        return self._engines.predict(images)


class OpenVinoRuntime:
    """The int8 file on OpenVINO."""

    name = "openvino"

    def __init__(self, path: Path) -> None:
        import openvino

        self.path = path
        self._core = openvino.Core()
        # Its first look at NumPy would lock two threads up for ever if both took it at a time.
        openvino.Type.u8.to_dtype()
        try:
            model = self._read_model()
            shared = self._compiled(model, streams=min(processors(), MOST_ENGINES))
            # All processors together are done with one photo in half the time, and take 40 MB.
            joint = self._compiled(model, streams=1) if processors() > 1 else None
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"{path}: expected a LiteRT model: {reason}") from error
        self._engines = SharedOut(
            lambda _: _openvino_engine(shared),
            most=8,  # together they take less than one by one, and more than 8 no less
            lone=_openvino_engine(joint) if joint else None,
        )

    def _read_model(self) -> Any:
        from openvino import Type
        from openvino.preprocess import PrePostProcessor

        with native_log_muted():  # its readers of other formats complain, too
            model = self._core.read_model(self.path)
        (photo,) = model.inputs
        self.input_shape: Shape = (None, *photo.shape[1:])
        model.reshape([-1, *photo.shape[1:]])
        sides = list(model.outputs[0].partial_shape)[1:]
        self.output_shape: Shape = (
            None,
            *(side.get_length() if side.is_static else None for side in sides),
        )
        drop_needless_roundings(model)
        steps = PrePostProcessor(model)
        steps.input().tensor().set_element_type(Type.u8)  # as photos come
        return steps.build()

    def _compiled(self, model: Any, streams: int) -> Any:
        options = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": processors(),
            "ENABLE_CPU_PINNING": False,  # decoding runs on the same processors
        }
        return self._core.compile_model(model, "CPU", options)

    def predict(self, images: Images) -> Probabilities:
        """See `Runtime`."""
        return self._engines.predict(images)


def _openvino_engine(network: Any) -> Engine:
    request = network.create_infer_request()

    def run(images: Images) -> Probabilities:
        answer = request.infer(images, share_inputs=True)
        return np.asarray(answer[0], np.float32)

    return run


RUNTIMES: dict[str, type[Any]] = {  # the fastest first
    runtime.name: runtime for runtime in (OpenVinoRuntime, LiteRtRuntime, KerasRuntime)
}


def load_runtime(name: str, model: Path) -> Runtime:
    """Load a model file with the runtime of this name.

    Args:
        name: one of `RUNTIMES`; or "auto": the fastest whose package and file are there, with a
            word on stderr if that is not the first.
        model: a ``.keras`` file, beside which there may be a ``.tflite`` file of the same name; or
            a ``.tflite`` file alone.

    Raises:
        SettingsError: the runtime's package is not installed; says what to install.
        ModelError: the file it needs is not there, damaged, or not safe to load.
    """
    if name not in ("auto", *RUNTIMES):
        raise SettingsError(f"runtime: expected auto, {', '.join(RUNTIMES)}, got {name!r}")
    if name != "auto":
        return _load(name, model)
    obstacles: list[str] = []
    for candidate in RUNTIMES:
        obstacle = _obstacle(candidate, model)
        if obstacle is None:
            if obstacles:
                print(
                    f"Using the runtime {candidate}; a faster one is there to be had: "
                    + "; ".join(obstacles),
                    file=sys.stderr,
                    flush=True,
                )
            return _load(candidate, model)
        obstacles.append(obstacle)
    raise ModelError(f"no model at {model}: expected a .keras file (--model)")


def _load(name: str, model: Path) -> Runtime:
    path = _file_for(name, model)
    if not path.is_file():
        how = "python -m training.export makes it" if path != model else "--model"
        kind = ".keras" if name == "keras" else ".tflite"
        raise ModelError(f"no model at {path}: expected a {kind} file ({how})")
    if path.suffix == ".tflite":
        check_tflite(path)
    try:
        runtime: Runtime = RUNTIMES[name](path)
    except ImportError as error:
        raise SettingsError(
            f"the runtime {name} is not installed ({error}): "
            "pip install -r requirements/accelerator.txt"
        ) from error
    return runtime


def _file_for(name: str, model: Path) -> Path:
    return model if name == "keras" else model.with_suffix(".tflite")


def _obstacle(name: str, model: Path) -> str | None:
    """Why this runtime cannot be used for the model; None if it can."""
    path = _file_for(name, model)
    if name == "keras" and model.suffix == ".tflite":
        return "keras needs a .keras file"
    if name == "openvino" and importlib.util.find_spec("openvino") is None:
        return "openvino is not installed (pip install -r requirements/accelerator.txt)"
    if not path.is_file():
        return f"{name} needs {path} (python -m training.export makes it)"
    return None


def _litert_interpreter() -> Any:
    """The interpreter: from the small package if it is there, else from TensorFlow."""
    if importlib.util.find_spec("ai_edge_litert") is not None:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter
    import tensorflow as tf

    return tf.lite.Interpreter


def _load_keras(path: Path) -> Any:
    import keras

    check_keras_archive(path)
    try:
        # Safe mode refuses files that bring code of their own along.
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(f"{path}: expected a Keras model file: {root_cause(error)}") from error


@contextlib.contextmanager
def native_log_muted() -> Iterator[None]:
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


def root_cause(error: BaseException) -> str:
    """What went wrong in the first place, in a line; libraries wrap it in advice."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
