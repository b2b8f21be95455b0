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


def write_colour_model(folder: Path) -> tuple[Path, Path]:
    """Write `colour_model` and its class map; return both paths."""
    model, classes = folder / "colours.keras", folder / "colours.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras on its way to NumPy 2
        colour_model().save(model)
    entries = {str(index): entry for index, entry in enumerate(COLOURS.values())}
    classes.write_text(json.dumps(entries))
    return model, classes
