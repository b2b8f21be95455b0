"""Photos on disk: is it one, how large is it, and its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from training.errors import UnreadablePhotoError
from training.listing import Box, fit_box

# What Pillow raises on files that are no pictures, are cut short, or lie about their size.
_DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def photo_size(path: Path) -> tuple[int, int]:
    """Decode the photo to its end, as cheaply as its format allows; return (width, height).

    Raises:
        UnreadablePhotoError: it is no picture, or a damaged one.
    """
    try:
        with Image.open(path) as photo:
            width, height = int(photo.width), int(photo.height)
            photo.draft("RGB", (width // 8, height // 8))
            photo.load()
            return width, height
    except _DECODING_ERRORS as error:
        raise UnreadablePhotoError(f"{path}: not a readable photo: {error}") from error


def load_photo(path: Path, box: Box | None = None) -> NDArray[np.uint8]:
    """Return the photo, cut to `box` if there is one, as RGB, uint8 (height, width, 3), upright.

    Boxes were drawn on the pixels as they are stored, so the cut comes before the turn that the
    photo's EXIF data asks for. A box that reaches beyond the photo is cut to it.

    Raises:
        UnreadablePhotoError: it is no picture, a damaged one, or the box lies outside of it.
    """
    try:
        with Image.open(path) as photo:
            pixels = photo.convert("RGB")
    except _DECODING_ERRORS as error:
        raise UnreadablePhotoError(f"{path}: not a readable photo: {error}") from error
    if box is not None:
        fitted = fit_box(box, pixels.width, pixels.height)
        if fitted is None:
            raise UnreadablePhotoError(
                f"{path}: the box {box} lies outside of its {pixels.width} x {pixels.height} pixels"
            )
        pixels = pixels.crop(fitted)
    return np.asarray(ImageOps.exif_transpose(pixels))
