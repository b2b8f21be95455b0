"""Random training views of a photo, and mixtures of two of them. Pillow and numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.aspect import Aspect, fit
from training.framing import frame_photo, place_car

# What a photo is turned into, and how often. Tight crops keep the details that tell sister models
# apart; framed ones teach that a car may be small, off centre and partly cut.
FRAMED_SHARE = 0.3
FRAMED_COVERAGE = (0.30, 0.90)
FRAMED_MAX_CUT = 0.08
CROP_AREA = (0.6, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)  # relative to the photo's own
ERASE_SHARE = 0.15
GREY_SHARE = 0.05
TINT = 0.08  # largest gain or loss of one colour channel: a camera's white balance
GAMMA_SHARE = 0.3
GAMMA = (0.7, 1.5)
COARSE_SHARE = 0.15  # views with fewer pixels than the model takes, as of a distant car
COARSE_SIDE = (0.3, 0.8)  # of the model's side

Pixels = NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def random_view(
    photo: Image.Image,
    donor: Image.Image,
    size: int,
    rng: np.random.Generator,
    aspect: Aspect = "squash",
) -> Pixels:
    """One augmented view, float32 (size, size, 3), RGB 0-255. ``donor`` may lend its borders."""
    if rng.random() < FRAMED_SHARE:
        frame_aspect = rng.uniform(1.2, 1.85)
        placement = place_car(
            photo.width / photo.height, frame_aspect, FRAMED_COVERAGE, rng, FRAMED_MAX_CUT
        )
        frame = (size, size) if aspect == "squash" else (size, round(size / frame_aspect))
        view = fit(frame_photo(photo, donor, placement, frame, rng), (size, size), aspect)
    else:
        view = fit(photo, (size, size), aspect, _random_crop(photo.size, rng))
    if rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.2:
        corner = view.getpixel((0, 0))
        view = view.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR, fillcolor=corner)
    if rng.random() < COARSE_SHARE:
        side = round(rng.uniform(*COARSE_SIDE) * size)
        coarse = view.resize((side, side), Image.Resampling.BILINEAR)
        view = coarse.resize((size, size), Image.Resampling.BILINEAR)
    pixels = jitter_colour(np.asarray(view, np.float32), rng)
    if rng.random() < ERASE_SHARE:
        _erase(pixels, rng)
    return pixels


def _random_crop(
    size: tuple[int, int], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A box (left, top, right, bottom) inside a photo of this size (width, height)."""
    area = rng.uniform(*CROP_AREA)
    stretch = np.exp(rng.uniform(*np.log(CROP_ASPECT)))
    width = min(1.0, (area * stretch) ** 0.5)
    height = min(1.0, (area / stretch) ** 0.5)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return (
        left * size[0],
        top * size[1],
        min((left + width) * size[0], size[0]),
        min((top + height) * size[1], size[1]),
    )


def jitter_colour(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Random light and colour: neither a car's paint nor the hour says anything of its model.

    ``pixels`` is float32 (H, W, 3) in 0-255; so is the result. Brightness, contrast, saturation,
    hue and white balance are one 3x3 matrix and an offset, so that each pixel is touched once;
    gamma, where it is drawn, once more.
    """
    saturation = 0.0 if rng.random() < GREY_SHARE else rng.uniform(0.6, 1.4)
    angle = rng.uniform(-0.3, 0.3) if rng.random() < 0.4 else 0.0  # radians
    # Rotation about the grey axis (1, 1, 1), Rodrigues' formula.
    cos, sin = np.cos(angle), np.sin(angle) / 3**0.5
    hue = cos * np.eye(3) + (1 - cos) / 3 + sin * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    saturate = saturation * np.eye(3) + (1 - saturation) * _LUMA[None, :]
    contrast = rng.uniform(0.75, 1.3)
    brightness = rng.uniform(0.75, 1.3)
    tint = np.diag(1 + rng.uniform(-TINT, TINT, 3))
    matrix = (contrast * brightness * (saturate @ hue @ tint)).astype(np.float32)
    mean = float(pixels.mean()) * brightness
    changed: Pixels = np.clip(pixels @ matrix.T + np.float32((1 - contrast) * mean), 0, 255)
    if rng.random() < GAMMA_SHARE:
        gamma = np.exp(rng.uniform(*np.log(GAMMA)))
        changed = np.float32(255) * (changed / np.float32(255)) ** np.float32(gamma)
    return changed


def _erase(pixels: Pixels, rng: np.random.Generator) -> None:
    """Fill a random rectangle with one colour, in place (random erasing, Zhong et al. 2017)."""
    side = pixels.shape[0]
    height, width = (int(side * rng.uniform(0.1, 0.4)) for _ in range(2))
    top, left = int(rng.integers(0, side - height)), int(rng.integers(0, side - width))
    pixels[top : top + height, left : left + width] = rng.uniform(0, 255, 3)


def mix_batch(
    images: Pixels, labels: NDArray[np.float32], share: float, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.float32]]:
    """With probability ``share`` blend each photo with another one of the batch.

    Half of the time by mixup (Zhang et al. 2017), half by CutMix (Yun et al. 2019).
    ``images`` float32 (N, H, W, 3), ``labels`` float32 (N, classes), rows sum to 1; returns both.
    """
    if rng.random() >= share:
        return images, labels
    other = rng.permutation(len(images))
    if rng.random() < 0.5:
        keep = max(lam := rng.beta(0.3, 0.3), 1 - lam)
        mixed = np.float32(keep) * images + np.float32(1 - keep) * images[other]
    else:
        height, width = images.shape[1:3]
        cut = np.sqrt(1 - rng.uniform(0.5, 1.0))  # side of the patch, relative
        rows, columns = int(cut * height), int(cut * width)
        top = int(rng.integers(0, height - rows + 1))
        left = int(rng.integers(0, width - columns + 1))
        mixed = images.copy()
        window = np.s_[:, top : top + rows, left : left + columns]
        mixed[window] = images[other][window]
        keep = 1 - rows * columns / (height * width)
    return mixed, np.float32(keep) * labels + np.float32(1 - keep) * labels[other]
