"""The simulated camera: the photos of a folder, one after the other."""

from __future__ import annotations

import contextlib
import io
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from car_classifier.errors import PhotoFileError, SettingsError
from car_classifier.images import to_rgb

__all__ = ["PhotoFolder", "read_photo"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_FILE_BYTES = 15 * 2**20  # its base64 is the 20 MiB that the broker takes
_JPEG_QUALITY = 90


class PhotoFolder:
    """A folder of photos, walked in rounds; what is added or removed meanwhile is noticed."""

    def __init__(self, folder: Path, shuffle: bool = False) -> None:
        """``shuffle`` walks each round in an order of its own instead of by name.

        Raises:
            SettingsError: there is no such folder, or it holds no photo.
        """
        self._folder = folder
        self._shuffle = shuffle
        self._skipped: dict[str, int] = {}  # name -> time of change, in ns
        if not folder.is_dir():
            raise SettingsError(f"no folder {folder}: expected one with photos (--images)")
        if not self._list():
            raise SettingsError(
                f"no photo in {folder}: expected files that end in {', '.join(EXTENSIONS)}"
            )

    def round(self) -> Iterator[Path]:
        """Yield each photo that is there once, and look again after each."""
        shown: set[str] = set()
        while waiting := [path for path in self._list() if path.name not in shown]:
            path = random.choice(waiting) if self._shuffle else waiting[0]
            shown.add(path.name)
            yield path

    def skip(self, path: Path) -> None:
        """Leave a photo out from now on, until its file changes: it may have been half copied."""
        with contextlib.suppress(FileNotFoundError):
            self._skipped[path.name] = path.stat().st_mtime_ns

    def _is_skipped(self, path: Path) -> bool:
        return path.name in self._skipped and self._skipped[path.name] == path.stat().st_mtime_ns

    def _list(self) -> list[Path]:
        try:
            return sorted(
                path
                for path in self._folder.iterdir()
                if path.suffix.lower() in EXTENSIONS
                and path.is_file()
                and not self._is_skipped(path)
            )
        except OSError:  # the folder itself is gone for now
            return []


def read_photo(path: Path, max_side: int | None = None) -> bytes:
    """Read a photo's bytes, as they are unless it has to be shrunk.

    Args:
        path: the image file.
        max_side: the longest side to send, in pixels; a larger photo becomes a smaller JPEG.

    Raises:
        PhotoFileError: it cannot be read, or is too large to send.
    """
    try:
        data = path.read_bytes()
        if max_side is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's advice on odd files
                data = _shrink(data, max_side)
    except Exception as error:  # Pillow stumbles over damaged files in many ways
        raise PhotoFileError(f"{path}: cannot be read: {error}") from error
    if not data:
        raise PhotoFileError(f"{path}: the file is empty")
    if len(data) > MAX_FILE_BYTES:
        raise PhotoFileError(
            f"{path}: {len(data) / 2**20:.1f} MiB, more than the {MAX_FILE_BYTES // 2**20} MiB "
            "that can be sent; --max-side shrinks photos"
        )
    return data


def _shrink(data: bytes, max_side: int) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        if max(image.size) <= max_side:
            return data
        image.draft("RGB", (max_side, max_side))
        small = to_rgb(ImageOps.exif_transpose(image))
        small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
