"""A photo of any aspect becomes the model's square: squashed, as in the service, or padded."""

from __future__ import annotations

from typing import Literal

from PIL import Image, ImageOps

Aspect = Literal["squash", "letterbox"]
ASPECTS: tuple[Aspect, ...] = ("squash", "letterbox")

_PADDING = (127, 127, 127)  # RGB, beside a letterboxed photo


def fit(
    photo: Image.Image,
    size: tuple[int, int],
    aspect: Aspect = "squash",
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """Return the photo, or a part of it, at a size of (width, height) in pixels.

    Args:
        photo: RGB.
        size: (width, height) in pixels.
        aspect: "squash" gives the photo's aspect up, "letterbox" keeps it and pads with grey.
        box: (left, top, right, bottom) of the part, in pixels; None is the whole.
    """
    if aspect == "squash":
        return photo.resize(size, Image.Resampling.BILINEAR, box=box)
    left, top, right, bottom = box or (0, 0, *photo.size)
    scale = min(size[0] / (right - left), size[1] / (bottom - top))
    inner = (max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top))))
    part = photo.resize(inner, Image.Resampling.BILINEAR, box=box)
    return ImageOps.pad(part, size, Image.Resampling.BILINEAR, color=_PADDING)
