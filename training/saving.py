"""Write models and class maps so that a crash or a full disk leaves the old file as it was."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from car_classifier.class_map import CarClass
from training.files import replace_file

KEPT_MANTISSA_BITS = 10  # of float32's 23, as half precision has; what is zero compresses away
# Keras 3.12, the last for Python 3.10, refuses them; none of our layers sets them.
ARGUMENTS_OF_NEWER_KERAS = {
    "quantization_config",
    "renorm",
    "renorm_clipping",
    "renorm_momentum",
}


def save_classifier(
    model: keras.Model, classes: Sequence[CarClass], path: Path, classes_path: Path
) -> None:
    """Save the model at ``path`` (``.keras``) and its class map at ``classes_path`` (JSON).

    An int8 file beside it, made of the model that it replaces, is removed.

    Raises:
        OSError: one cannot be written; both are then what they were.
    """
    with replace_file(classes_path) as unfinished:
        unfinished.write_text(class_map_text(classes), encoding="utf-8")
        save_model(model, path)  # the map takes its place only after the model, which is harder
    # An int8 file of the model that was there before would be taken for one of this.
    path.with_suffix(".tflite").unlink(missing_ok=True)


def save_model(model: keras.Model, path: Path) -> None:
    """Save as ``.keras``, the weights rounded to half precision's digits and compressed.

    The rounding changes the probabilities by some 0.001 and halves the file; ``model`` itself is
    left with the rounded weights.

    Raises:
        OSError: it cannot be written; the file that was there is what it was.
    """
    for variable in model.weights:
        if variable.dtype == "float32":
            variable.assign(round_mantissa(keras.ops.convert_to_numpy(variable)))
    with replace_file(path) as unfinished:
        plain = unfinished.with_name(f"plain-{unfinished.name}")
        try:
            model.save(plain)
            with (
                zipfile.ZipFile(plain) as source,
                zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target,
            ):
                for name in source.namelist():
                    data = source.read(name)
                    target.writestr(name, _plain_config(data) if name == "config.json" else data)
        finally:
            plain.unlink(missing_ok=True)


def _plain_config(config: bytes) -> bytes:
    """A model's description without what only newer versions of Keras understand.

    Initializers say how training began; the weights in the file say where it ended. The arguments
    left out are at the defaults that older versions have without naming them.
    """

    def plain(value: Any, key: str = "") -> Any:
        if key.endswith("_initializer"):
            return {"module": "keras.initializers", "class_name": "Zeros", "config": {}}
        if isinstance(value, dict):
            return {
                name: plain(inner, name)
                for name, inner in value.items()
                if name not in ARGUMENTS_OF_NEWER_KERAS
            }
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return value

    return json.dumps(plain(json.loads(config))).encode()


def round_mantissa(
    values: NDArray[np.float32], bits: int = KEPT_MANTISSA_BITS
) -> NDArray[np.float32]:
    """Round float32 values to the nearest with so many bits of mantissa; the rest become zero."""
    dropped = 23 - bits
    half = np.uint32(1 << (dropped - 1))
    mask = np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    digits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((digits + half) & mask).view(np.float32)


def class_map_text(classes: Sequence[CarClass]) -> str:
    """The class map in JSON: index -> make, model, year (left out where they are no part)."""
    entries = {
        str(index): {"make": car.make}
        | ({"model": car.model} if car.model else {})
        | ({"year": car.year} if car.year else {})
        for index, car in enumerate(classes)
    }
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
