"""Keras models for tests: tiny ones, built on the fly, that load and answer at once."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 24, 16

# What a photo of one plain colour is taken for by `colour_model`.
COLOURS: dict[str, dict[str, Any]] = {
    "red": {"make": "Ferrari", "model": "458 Italia", "year": 2012},
    "green": {"make": "Jaguar", "model": "E-Type"},
    "blue": {"make": "Bugatti"},
}


def colour_model(sharpness: float = 8.0) -> Any:
    """Return a classifier that fulfils the contract and names the strongest of red, green, blue.

    A plain colour comes out with a confidence near 1, grey with one of a third.
    """
    import keras
    import numpy as np
    from keras import layers

    pixels = keras.Input((HEIGHT, WIDTH, 3))
    scaled = layers.Rescaling(1 / 255.0)(pixels)
    shares = layers.Dense(3, activation="softmax")
    model = keras.Model(pixels, shares(layers.GlobalAveragePooling2D()(scaled)))
    shares.set_weights([np.eye(3, dtype=np.float32) * sharpness, np.zeros(3, np.float32)])
    return model


def conv_model() -> Any:
    """Return a classifier of five classes with what real ones are made of, on random weights."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    pixels = keras.Input((HEIGHT, WIDTH, 3))
    tensor = layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    tensor = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(tensor)
    tensor = layers.ReLU(6.0)(layers.BatchNormalization()(tensor))
    tensor = layers.DepthwiseConv2D(3, padding="same")(tensor)
    tensor = layers.GlobalAveragePooling2D()(tensor)
    strong = keras.initializers.RandomNormal(stddev=8.0)  # or all classes are equally likely
    shares = layers.Dense(5, activation="softmax", kernel_initializer=strong)
    return keras.Model(pixels, shares(tensor))


def write_colour_model(folder: Path) -> tuple[Path, Path]:
    """Write `colour_model` and its class map; return both paths."""
    model, classes = folder / "colours.keras", folder / "colours.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras on its way to NumPy 2
        colour_model().save(model)
    entries = {str(index): entry for index, entry in enumerate(COLOURS.values())}
    classes.write_text(json.dumps(entries))
    return model, classes


def write_light_colour_model(folder: Path) -> tuple[Path, Path]:
    """The same for OpenVINO, which starts in a tenth of the time; return both paths.

    The answers are those of the Keras model: unlike what training.export writes, it is in float32.
    """
    from training.export import lite_converter

    model, classes = write_colour_model(folder)
    light = model.with_suffix(".tflite")
    light.write_bytes(lite_converter(colour_model()).convert())
    return light, classes


def environment_of(model: Path, classes: Path, runtime: str) -> dict[str, str]:
    """Return what points the programs at a model."""
    return {
        "MODEL_PATH": str(model),
        "CLASSES_PATH": str(classes),
        "RUNTIME": runtime,
        "CUDA_VISIBLE_DEVICES": "-1",  # a graphics card, if there is one, takes seconds to start
    }
