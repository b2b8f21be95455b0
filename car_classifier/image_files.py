"""Image files are looked at before they are decoded: of a known kind, whole, and no trap.

Pillow fills in grey where a JPEG ends early, and walks headers in Python, so that a file of
millions of empty blocks would keep it busy for minutes. This module knows just enough of each kind
to refuse both in microseconds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from car_classifier.errors import MessageError, Reason

__all__ = ["KINDS", "check_file", "spliced"]

# A photo's file has dozens of segments, chunks or blocks. A thousand segments of a JPEG, or ten
# thousand chunks of a PNG, hold more than the largest message.
MOST_SEGMENTS = 1_000
MOST_CHUNKS = 10_000
# Progressive JPEGs have about ten, and each makes the decoder pass over the whole picture.
MOST_SCANS = 40

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
_SCANS = re.compile(_START_OF_SCAN)  # finds them twice as fast as bytes.count
_PLAIN_BMP = (0, 3, 6)  # not compressed; Pillow decodes the others in Python
_JUNK = bytes(range(1, 128))  # entropy-coded data of no meaning, without markers
_RESTARTS = b"".join(bytes((0xFF, 0xD0 + number)) + _JUNK for number in range(8))


def check_file(data: bytes) -> str:
    """Return the kind of an image file, as Pillow calls it.

    What follows an image's end is ignored: phones append videos.

    Raises:
        MessageError: of another kind, cut short (be it by one byte), or made to keep us busy.
    """
    for kind, (signature, check) in KINDS.items():
        if signature.match(data):
            try:
                whole = check(data)
            except IndexError:
                whole = False
            if not whole:
                raise MessageError(Reason.DAMAGED_IMAGE, f"expected a whole {kind}, got a part")
            return kind
    raise MessageError(
        Reason.NOT_AN_IMAGE, f"expected an image ({', '.join(KINDS)}) in 'image_data'"
    )


def spliced(data: bytes) -> bytes:
    """Return a JPEG with junk wherever its entropy-coded data ends.

    If all the data is there the decoder skips the junk; where data is missing, the junk takes its
    place and the picture changes.
    """
    start = _first_scan(data)
    end = data.index(_END_OF_IMAGE, start)
    coded = data[start:end]
    if coded.count(_START_OF_SCAN) == 1:  # else tables lie between the scans
        header = int.from_bytes(coded[2:4], "big") + 2
        coded = coded[:header] + re.sub(rb"(?=\xff[^\x00])", _JUNK, coded[header:])
    return data[:start] + coded + _JUNK + _RESTARTS + data[end:]


def _is_whole_jpeg(data: bytes) -> bool:
    start = _first_scan(data)
    end = data.rfind(_END_OF_IMAGE, start)  # thumbnails, which have ends too, come before
    scans = _SCANS.finditer(data, start)
    if next(itertools.islice(scans, MOST_SCANS, None), None):
        raise _trap(f"at most {MOST_SCANS} scans")
    return end >= 0


def _first_scan(data: bytes) -> int:
    """Where a JPEG's first scan begins; IndexError if the file ends before it."""
    position = 2
    for _ in range(MOST_SEGMENTS):
        marker, code = data[position], data[position + 1]
        if marker != 0xFF:
            raise MessageError(Reason.DAMAGED_IMAGE, f"expected a JPEG segment at byte {position}")
        if code == _START_OF_SCAN[1]:
            return position
        if code == 0xFF:  # a marker may be preceded by any number of these
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise _trap(f"at most {MOST_SEGMENTS} segments before the picture")


def _is_whole_png(data: bytes) -> bool:
    position = 8
    for _ in range(MOST_CHUNKS):
        name = data[position + 4 : position + 8]
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        if position > len(data) or name == b"IEND":
            return position <= len(data)
    raise _trap(f"at most {MOST_CHUNKS} chunks")


def _is_whole_gif(data: bytes) -> bool:
    flags = data[10]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    for _ in range(MOST_SEGMENTS):
        if data[position] == 0x2C:  # the first frame
            return data.rstrip(b"\x00").endswith(b";")
        if data[position] == 0x21:  # an extension: a label, then blocks
            position += 2
        position += data[position] + 1
    raise _trap(f"at most {MOST_SEGMENTS} blocks before the picture")


def _is_whole_webp(data: bytes) -> bool:
    return int.from_bytes(data[4:8], "little") + 8 <= len(data)


def _is_whole_bmp(data: bytes) -> bool:
    header_size = int.from_bytes(data[14:18], "little")
    if header_size >= 40 and int.from_bytes(data[30:34], "little") not in _PLAIN_BMP:
        raise MessageError(Reason.NOT_AN_IMAGE, "expected a BMP that is not compressed")
    return int.from_bytes(data[2:6], "little") <= len(data)


def _trap(expected: str) -> MessageError:
    return MessageError(Reason.IMAGE_TOO_LARGE, f"expected {expected}, got more")


# What cameras and people send. Pillow reads some forty more, each a parser open to strangers.
KINDS: dict[str, tuple[re.Pattern[bytes], Callable[[bytes], bool]]] = {
    "JPEG": (re.compile(rb"\xff\xd8\xff"), _is_whole_jpeg),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), _is_whole_png),
    "WEBP": (re.compile(rb"RIFF....WEBP", re.DOTALL), _is_whole_webp),
    "BMP": (re.compile(rb"BM"), _is_whole_bmp),
    "GIF": (re.compile(rb"GIF8[79]a"), _is_whole_gif),
}
