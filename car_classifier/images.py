"""Image bytes become what the model looks at: the whole photo, squashed to the model's size."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageChops

from car_classifier.errors import MessageError, Reason
from car_classifier.image_files import check_file, spliced
from car_classifier.thumbnails import thumbnail

__all__ = ["decode_image", "decode_photo", "refuse_part", "to_rgb"]

# More in a file as small as a message is a trap. JPEGs may have more because telephones make such,
# and because they can be decoded at an eighth.
MAX_PIXELS = 50_000_000
MAX_PIXELS_OF_JPEG = 100_000_000
# Photos that are still larger when decoded take turns: many threads decode at once.
LARGE_PIXELS = 16_000_000
# JPEGs are decoded at a half, quarter or eighth as long as this many times the size is left. The
# model's answers then change no more than if each value were one higher or lower by chance.
DRAFT_MARGIN = 1.5
_BACKGROUND = (255, 255, 255)  # what shows through transparent pixels
_MISSING = (127, 128)  # what libjpeg decodes missing data to, in every channel
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]
_BLENDING = ("L", "LA", "RGB", "RGBA", "CMYK")  # modes whose values can be averaged as they are
_one_large = threading.Lock()

# Pillow's advice on odd files is not for our users. Once and for all: the filters are the whole
# program's, so that threads which set and restore them would get in each other's way.
warnings.filterwarnings("ignore", module=r"PIL\.")


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
        RGB 0-255, uint8 (height, width, 3), turned upright as its EXIF data asks for (EXIF data
        that cannot be read asks for nothing); and the thumbnail, a JPEG, if asked for.

    Raises:
        MessageError: no image of a known kind, damaged or cut short, or too many pixels.
    """
    kind = check_file(data)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            most = MAX_PIXELS_OF_JPEG if kind == "JPEG" else MAX_PIXELS
            if image.width * image.height > most:
                raise MessageError(
                    Reason.IMAGE_TOO_LARGE,
                    f"expected at most {most} pixels, got {image.width}x{image.height}",
                )
            enough = int(size[0] * DRAFT_MARGIN), int(size[1] * DRAFT_MARGIN)
            image.draft("RGB", enough)
            is_large = image.width * image.height > LARGE_PIXELS
            with _one_large if is_large else contextlib.nullcontext():
                refuse_part(image, data, enough)
                turn = _turn(image)
                small = _small(image, turn, size)
                thumb = thumbnail(_turned(to_rgb(image), turn)) if with_thumbnail else None
    except MessageError:
        raise
    except Image.DecompressionBombError as error:
        raise MessageError(Reason.IMAGE_TOO_LARGE, str(error)) from error
    except MemoryError:
        raise  # ours, not the image's fault
    except Exception as error:
        raise MessageError(
            Reason.DAMAGED_IMAGE, f"expected a whole image: {type(error).__name__}: {error}"
        ) from error
    return np.asarray(small), thumb


def refuse_part(image: Image.Image, data: bytes, drafted: tuple[int, int]) -> None:
    """Load an image, and refuse a JPEG in which Pillow fills in data that is missing.

    Args:
        image: as opened from ``data``, then ``draft("RGB", drafted)``.
        data: the file's bytes, which `check_file` found whole.
        drafted: the size that the draft was asked for.

    Raises:
        MessageError: the JPEG has an end, but not all the data before it.
        OSError: Pillow cannot load it.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    channels = last if isinstance(last, tuple) else (last,)
    if not data.startswith(b"\xff\xd8") or any(value not in _MISSING for value in channels):
        return
    # Seldom so: look whether the picture depends on what follows its data.
    with Image.open(io.BytesIO(spliced(data)), formats=["JPEG"]) as other:
        other.draft("RGB", drafted)
        if ImageChops.difference(image, other).getbbox(alpha_only=False):
            raise MessageError(Reason.DAMAGED_IMAGE, "expected a whole JPEG, got a part")


def _small(image: Image.Image, turn: Image.Transpose | None, size: tuple[int, int]) -> Image.Image:
    """Upright RGB of this size. Shrunk before it is turned or converted, which is less work."""
    if turn in _SIDEWAYS:
        size = size[1], size[0]
    if image.mode not in _BLENDING or "transparency" in image.info:
        image = to_rgb(image)
    return _turned(to_rgb(image.resize(size, Image.Resampling.BILINEAR)), turn)


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow stumbles over damaged EXIF data in many ways
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB; transparency becomes white."""
    if image.mode.startswith("I"):  # 16-bit grey, where Pillow's own conversion would clip
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, _BACKGROUND)
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
