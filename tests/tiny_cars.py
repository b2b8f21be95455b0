"""A data set so easy that a network of random weights learns it in seconds: a colour a class."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image, ImageDraw

from training.backbones import BACKBONES, Backbone
from training.train import main

COLOURS = {
    "Audi TT Coupe 2012": (220, 30, 30),
    "BMW X5 SUV 2007": (30, 60, 220),
    "Land Rover LR2 SUV 2012": (40, 200, 60),
}

# Options that make a good model of them in a few dozen steps, and in little time.
QUICK = (
    *("--backbone", "tiny", "--weights", "none", "--precision", "float32", "--image-size", "32"),
    *("--batch-size", "12", "--learning-rate", "0.05", "--ema", "0.5", "--mix", "0"),
    *("--label-smoothing", "0", "--dropout", "0"),
)


def draw_car(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """A car of this colour, 48 x 36 pixels, on a grey ground; the seed moves and shades it."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (48, 36), (int(rng.integers(90, 160)),) * 3)
    draw = ImageDraw.Draw(image)
    left, top = (int(value) for value in rng.integers(0, 8, 2))
    draw.rectangle((left, top + 8, left + 38, top + 24), fill=colour)
    draw.rectangle((left + 8, top, left + 28, top + 10), fill=colour)
    for wheel in (left + 6, left + 26):
        draw.ellipse((wheel, top + 19, wheel + 8, top + 27), fill=(0, 0, 0))
    return image


def write_cars(root: Path, count: int = 20) -> Path:
    """Write so many photos of each class into a folder of its own below ``root``."""
    for name, colour in COLOURS.items():
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(count):
            draw_car(colour, number).save(folder / f"{number:02}.jpg", quality=95)
    return root


def tiny_backbone() -> Backbone:
    """Two small convolutions and a norm; compiles and trains in a moment."""

    def build(inputs: keras.KerasTensor, weights: str | None) -> keras.KerasTensor:
        assert weights is None
        x = layers.Conv2D(8, 3, 2, padding="same", name="stem_conv")(inputs)
        x = layers.BatchNormalization(name="stem_bn")(x)
        x = layers.ReLU(name="stem_relu")(x)
        return layers.Conv2D(8, 1, activation="relu", name="top_conv")(x)

    return Backbone(build, scale=1 / 128, offset=-1.0)


def train_tiny(arguments: Sequence[str]) -> int:
    """Run training.train with the tiny backbone as an additional choice, --backbone tiny."""
    BACKBONES["tiny"] = tiny_backbone()
    try:
        return main([*QUICK, *arguments])
    finally:
        del BACKBONES["tiny"]


if __name__ == "__main__":
    sys.exit(train_tiny(sys.argv[1:]))
