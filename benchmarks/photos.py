"""Photos as a camera sends them: 1280x720 JPEGs of 100 to 200 kB, the same ones in every run."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from benchmarks.errors import BenchmarkError

__all__ = ["HEIGHT", "LARGEST_BYTES", "SMALLEST_BYTES", "WIDTH", "benchmark_photos"]

WIDTH, HEIGHT = 1280, 720
SMALLEST_BYTES, LARGEST_BYTES = 100_000, 200_000
REAL_PHOTOS = Path(__file__).parents[1] / "data" / "imagenes_test"

_DISTINCT = 40  # more than the processor's caches hold; topics repeat them
_AIM_BYTES = (115_000, 195_000)  # for sizes that vary as a camera's do
_QUALITIES = range(20, 98)
_SENSOR_NOISE = 5.0  # standard deviation; enlarged photos are smoother than any camera's


def benchmark_photos(count: int = _DISTINCT) -> list[bytes]:
    """Return so many different JPEG files: drawn scenes and enlarged real photos in turn.

    Raises:
        BenchmarkError: a photo cannot be brought to the size that is promised.
    """
    real = sorted(REAL_PHOTOS.glob("*.jpg"))
    photos = []
    for number in range(count):
        random = np.random.default_rng(number)
        path = real[number // 2 % len(real)]
        picture = _enlarged(path, random) if number % 2 else _scene(random)
        photos.append(_jpeg(picture, int(random.integers(*_AIM_BYTES))))
    return photos


def _scene(random: np.random.Generator) -> Image.Image:
    """A street of sorts: sky, road and boxes, with texture from coarse to fine."""
    sky, road = random.integers(90, 255, 3), random.integers(40, 130, 3)
    horizon = int(HEIGHT * random.uniform(0.3, 0.6))
    pixels = np.empty((HEIGHT, WIDTH, 3))
    pixels[:horizon], pixels[horizon:] = sky, road
    picture = Image.fromarray(pixels.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y = random.integers(0, WIDTH), random.integers(horizon // 2, HEIGHT)
        wide, high = random.integers(30, 400), random.integers(20, 200)
        box = [int(x), int(y), int(x + wide), int(y + high)]
        colour = tuple(random.integers(0, 256, 3).tolist())
        pen.rounded_rectangle(box, radius=int(high // 4), fill=colour)
    texture = sum(_noise(random, cell, strength=3 + cell / 2) for cell in (2, 8, 32))
    return _from_floats(np.asarray(picture, np.float64) + texture)


def _enlarged(path: Path, random: np.random.Generator) -> Image.Image:
    with Image.open(path) as image:
        picture = ImageOps.fit(image.convert("RGB"), (WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return _from_floats(np.asarray(picture) + _noise(random, 1, _SENSOR_NOISE))


def _noise(random: np.random.Generator, cell: int, strength: float) -> NDArray[np.float32]:
    """Smooth grey noise (HEIGHT, WIDTH, 1) whose features are ``cell`` pixels large."""
    coarse = random.normal(0, strength, (HEIGHT // cell + 1, WIDTH // cell + 1))
    smooth = Image.fromarray(coarse.astype(np.float32)).resize(
        (WIDTH, HEIGHT), Image.Resampling.BICUBIC
    )
    return np.asarray(smooth)[..., None]


def _from_floats(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _jpeg(picture: Image.Image, most_bytes: int) -> bytes:
    """The best JPEG of the picture that is no larger than ``most_bytes``."""
    low, high = _QUALITIES[0], _QUALITIES[-1]
    while low < high:
        middle = (low + high + 1) // 2
        if len(_encoded(picture, middle)) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    data = _encoded(picture, low)
    if not SMALLEST_BYTES <= len(data) <= LARGEST_BYTES:
        raise BenchmarkError(
            f"expected a photo of {SMALLEST_BYTES} to {LARGEST_BYTES} bytes, got {len(data)}"
        )
    return data


def _encoded(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
