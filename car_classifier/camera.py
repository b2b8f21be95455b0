"""The simulated camera: the photos of a folder, one after the other."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from car_classifier.errors import PhotoFileError, SettingsError
from car_classifier.image_files import check_file
from car_classifier.images import refuse_part, to_rgb

__all__ = ["PhotoFolder", "read_photo"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_FILE_BYTES = 15 * 2**20  # its base64 is the 20 MiB that the broker takes
MAX_READ_BYTES = 256 * 2**20  # of a photo that may yet be shrunk
_JPEG_QUALITY = 90
_SUFFIX = re.compile(rf".+({'|'.join(map(re.escape, EXTENSIONS))})", re.IGNORECASE | re.DOTALL)
_LARGE_FOLDER = 1_000  # photos; listing so many takes a millisecond
_COARSEST_SECONDS = 3.0  # FAT counts in steps of two
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # Windows has neither it nor such pipes


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
        if not _Listing(folder).names:
            raise SettingsError(
                f"no photo in {folder}: expected files that end in {', '.join(EXTENSIONS)}"
            )

    def round(self) -> Iterator[Path]:
        """Yield each photo that is there once, and look again whenever the folder has changed."""
        shown: set[str] = set()
        waiting: list[str] = []  # the next one last
        listing = None
        while True:
            if listing is None or listing.is_old(at_the_end=not waiting):
                listing = _Listing(self._folder)
                waiting = [name for name in listing.names if name not in shown]
                if self._shuffle:
                    random.shuffle(waiting)
                else:
                    waiting.sort(reverse=True)
            if not waiting:
                return
            name = waiting.pop()
            shown.add(name)
            path = self._folder / name
            if not self._is_skipped(path):
                yield path

    def skip(self, path: Path) -> None:
        """Leave a photo out from now on, until its file changes: it may have been half copied."""
        self._skipped[path.name] = _changed_ns(path)

    def _is_skipped(self, path: Path) -> bool:
        return path.name in self._skipped and self._skipped[path.name] == _changed_ns(path)


class _Listing:
    """The names in a folder that look like photos, whatever is behind them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = time.time()
        self._folder_changed = _changed_ns(folder)  # first: what changes meanwhile is seen later
        self.names: list[str] = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:  # it may be gone for now
            # No look at the files themselves, which would take a second for 100,000 of them.
            self.names = [entry.name for entry in entries if _SUFFIX.fullmatch(entry.name)]

    def is_old(self, at_the_end: bool) -> bool:
        """Whether the folder has changed, and it is time to look at it again.

        A large folder into which many cameras write is listed once a second, and ``at_the_end``.
        """
        age = time.time() - self._made
        if len(self.names) > _LARGE_FOLDER and 0 <= age < 1 and not at_the_end:
            return False
        # File systems note times coarsely: a change right after the listing may bear its time.
        is_fresh = self._made - self._folder_changed / 1e9 < _COARSEST_SECONDS
        return is_fresh or _changed_ns(self._folder) != self._folder_changed


def _changed_ns(path: Path) -> int:
    """When a file or folder changed, or the link to a file that is gone; 0 if there is nothing."""
    for look in (path.stat, path.lstat):
        with contextlib.suppress(OSError):
            return look().st_mtime_ns
    return 0


def read_photo(path: Path, max_side: int | None = None) -> bytes:
    """Read a photo's bytes, as they are unless it has to be shrunk.

    Args:
        path: the image file.
        max_side: the longest side to send, in pixels; a larger photo becomes a smaller JPEG.

    Raises:
        PhotoFileError: it cannot be read, is no file, or is too large to send.
    """
    try:
        data = _read_file(path)
        if max_side is not None:
            data = _shrink(data, max_side)
    except PhotoFileError:
        raise
    except OSError as error:
        raise PhotoFileError(f"{path}: cannot be read: {error.strerror or error}") from error
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


def _read_file(path: Path) -> bytes:
    # Without waiting: a named pipe that nobody writes to would hold us for ever.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NO_WAITING)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PhotoFileError(f"{path}: expected a file, got something else by that name")
        if status.st_size > MAX_READ_BYTES:
            raise PhotoFileError(
                f"{path}: {status.st_size / 2**20:.0f} MiB, "
                f"more than the {MAX_READ_BYTES // 2**20} MiB that are ever read"
            )
        return file.read()


def _shrink(data: bytes, max_side: int) -> bytes:
    kind = check_file(data)  # half a photo must not become a whole one, with grey below
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        if max(image.size) <= max_side:
            return data
        image.draft("RGB", (max_side, max_side))
        refuse_part(image, data, (max_side, max_side))
        small = to_rgb(ImageOps.exif_transpose(image))
        small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
