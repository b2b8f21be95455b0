"""Small pictures for people who look at results."""

from __future__ import annotations

import io

from PIL import Image

__all__ = ["LONGEST_SIDE", "thumbnail"]

LONGEST_SIDE = 320  # pixels
QUALITY = 75  # of the JPEG


def thumbnail(image: Image.Image) -> bytes:
    """Return a JPEG of an RGB image, shrunk in proportion if it is larger than `LONGEST_SIDE`."""
    scale = LONGEST_SIDE / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        # The gap: first shrunk by a whole number, which is quick, then the rest.
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
