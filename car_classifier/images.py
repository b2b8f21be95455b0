"""Image bytes become what the model looks at: the whole photo, squashed to the model's size."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from car_classifier.errors import MessageError, Reason
from car_classifier.thumbnails import thumbnail

__all__ = ["decode_image", "decode_photo", "to_rgb"]

# What cameras and people send. Pillow reads some forty more, each a parser open to strangers.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
# How a JPEG, PNG, GIF or WebP begins, however little of it has arrived.
_SIGNATURE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP", re.DOTALL)
# A 100-megapixel photo is 300 MB of RGB; more than that in a small file is a trap.
MAX_PIXELS = 100_000_000
# JPEGs are decoded at a half, quarter or eighth as long as this many times the size is left.
DRAFT_MARGIN = 2
_BACKGROUND = (255, 255, 255)  # what shows through transparent pixels


def decode_image(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Do what `decode_photo` does, without a thumbnail."""
    return decode_photo(data, size, with_thumbnail=False)[0]


def decode_photo(
    data: bytes, size: tuple[int, int], *, with_thumbnail: bool
) -> tuple[NDArray[np.uint8], bytes | None]:
    """Decode a whole image file and squash it to the model's size.

    Args:
        data: the file's bytes; of an animation, the first frame counts.
        size: (width, height) in pixels.
        with_thumbnail: whether to make one on the way.

    Returns:
        RGB 0-255, uint8 (height, width, 3), turned upright as its EXIF data asks for; and the
        thumbnail, a JPEG, if asked for.

    Raises:
        MessageError: no image of a known kind, damaged or cut short, or too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's advice on odd files is not for our users
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise MessageError(
                        Reason.IMAGE_TOO_LARGE,
                        f"expected at most {MAX_PIXELS} pixels, got {image.width}x{image.height}",
                    )
                image.draft("RGB", (size[0] * DRAFT_MARGIN, size[1] * DRAFT_MARGIN))
                upright = ImageOps.exif_transpose(image)
                rgb = to_rgb(upright)
                small = rgb.resize(size, Image.Resampling.BILINEAR)
                thumb = thumbnail(rgb) if with_thumbnail else None
    except MessageError:
        raise
    except UnidentifiedImageError:
        if _SIGNATURE.match(data):
            raise MessageError(
                Reason.DAMAGED_IMAGE, "expected a whole image, got one cut short or mixed up"
            ) from None
        raise MessageError(
            Reason.NOT_AN_IMAGE, f"expected an image ({', '.join(FORMATS)}) in 'image_data'"
        ) from None
    except Image.DecompressionBombError as error:
        raise MessageError(Reason.IMAGE_TOO_LARGE, str(error)) from error
    except MemoryError:
        raise  # ours, not the image's fault
    except Exception as error:
        raise MessageError(
            Reason.DAMAGED_IMAGE, f"expected a whole image: {type(error).__name__}: {error}"
        ) from error
    return np.asarray(small), thumb


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB; transparency becomes white."""
    if image.mode.startswith("I"):  # 16-bit grey, where Pillow's own conversion would clip
        values = np.asarray(image, np.float64)
        image = Image.fromarray((values / 65535 * 255).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, _BACKGROUND)
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")
