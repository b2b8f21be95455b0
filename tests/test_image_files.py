"""Files that are made to keep their reader busy, or full, are refused at once."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from car_classifier.errors import MessageError, Reason
from car_classifier.image_files import MOST_SCANS, MOST_SEGMENTS, check_file
from car_classifier.images import decode_image
from tests.photos import encoded, picture
from tests.scripts import ROOT

SIZE = (32, 24)
FULL = 15 * 2**20  # bytes of the largest image that fits a message

JPEG = encoded(picture(), "JPEG")
PROGRESSIVE = encoded(picture(), "JPEG", progressive=True)
PNG = encoded(picture(), "PNG")
GIF = encoded(picture(), "GIF")
GIF_BLOCKS = 13 + (3 << (GIF[10] & 7) + 1)  # after the header and the palette


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def png_with(chunks: bytes) -> bytes:
    """Return a PNG with chunks between its header and its picture."""
    return PNG[:33] + chunks + PNG[33:]


def jpeg_with(segments: bytes) -> bytes:
    return JPEG[:2] + segments + JPEG[2:]


def gif_with(blocks: bytes) -> bytes:
    return GIF[:GIF_BLOCKS] + blocks + GIF[GIF_BLOCKS:]


def resized(jpeg: bytes, side: int) -> bytes:
    """Return a JPEG that says it is so large."""
    frame = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: frame + 5] + struct.pack(">HH", side, side) + jpeg[frame + 9 :]


def with_scans(jpeg: bytes, count: int) -> bytes:
    """Return a progressive JPEG whose last scan comes so many times more."""
    last, end = jpeg.rindex(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    return jpeg[:end] + jpeg[last:end] * count + jpeg[end:]


def rejection(data: bytes) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode_image(data, SIZE)
    return caught.value


def seconds(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with(b"\xff" * FULL),
        jpeg_with(b"\xff\xe1\x00\x02" * (FULL // 4)),
        with_scans(resized(PROGRESSIVE, 9999), 1000),
        png_with(chunk(b"teXt", b"") * (FULL // 12)),
        gif_with(b"\x21\xfe" + (b"\xff" + b"a" * 255) * (FULL // 256) + b"\x00"),
        gif_with(b"\x21\xfe\x01a\x00" * (FULL // 5)),
        GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:],
    ],
    ids=[
        *("jpeg-padding", "jpeg-segments", "jpeg-scans", "png-chunks"),
        *("gif-comment", "gif-comments", "gif-canvas"),
    ],
)
def test_a_file_of_millions_of_parts_is_refused_before_pillow_walks_them(data: bytes) -> None:
    assert seconds(lambda: rejection(data)) < 1
    assert rejection(data).reason is Reason.IMAGE_TOO_LARGE


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with(b"\xff\xe1\x00\x02" * (MOST_SEGMENTS // 2)),
        with_scans(PROGRESSIVE, MOST_SCANS // 2),
        png_with(chunk(b"teXt", b"") * 2000),
        gif_with(b"\x21\xfe" + (b"\xff" + b"a" * 255) * (MOST_SEGMENTS // 2) + b"\x00"),
    ],
    ids=["jpeg-segments", "jpeg-scans", "png-chunks", "gif-comment"],
)
def test_a_file_of_rather_many_parts_is_read(data: bytes) -> None:
    assert decode_image(data, SIZE).shape == (24, 32, 3)


@pytest.mark.parametrize(
    "name_and_head", [b"zTXt" + b"a\0\0", b"iTXt" + b"a\0\1\0\0\0", b"iCCP" + b"a\0\0"]
)
@pytest.mark.parametrize("after_the_picture", [False, True])
def test_text_that_unpacks_to_gigabytes_is_refused(
    name_and_head: bytes, after_the_picture: bool
) -> None:
    bomb = chunk(name_and_head[:4], name_and_head[4:] + zlib.compress(bytes(100_000_000), 1))
    data = PNG[:-12] + bomb + PNG[-12:] if after_the_picture else png_with(bomb)

    assert seconds(lambda: decode_or_reject(data)) < 1


def decode_or_reject(data: bytes) -> None:
    try:
        decode_image(data, SIZE)
    except MessageError as error:
        assert error.reason is Reason.DAMAGED_IMAGE  # noqa: PT017 - some may be skipped and read


@pytest.mark.parametrize("side", [8, 64])
def test_exif_data_that_is_garbage_does_not_spoil_a_photo(side: int) -> None:
    image = picture(side, side)
    expected = decode_image(encoded(image, "JPEG"), SIZE)
    garbage = [
        *(
            b"Exif\0\0",
            b"Exif\0\0II*\0",
            b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
            b"Exif\0\0" + b"\xff" * 99,
        ),
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\xff\xff\xff\0\0\0\0",
    ]
    for exif in garbage:
        assert (decode_image(encoded(image, "JPEG", exif=exif), SIZE) == expected).all()


def test_a_bmp_that_pillow_would_unpack_in_python_is_refused() -> None:
    data = bytearray(encoded(picture().quantize(16), "BMP"))
    data[30] = 1  # run-length encoded

    assert rejection(bytes(data)).reason is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_the_kind_is_told_by_the_content(kind: str) -> None:
    assert check_file(encoded(picture(), kind)) == kind


BOMBS = {
    "jpeg": resized(JPEG, 65_500),
    "png": PNG[:16] + struct.pack(">II", 30_000, 30_000) + PNG[24:29] + bytes(4) + PNG[33:],
    "webp": encoded(Image.new("RGB", (16_383, 16_383)), "WEBP", lossless=True, method=0),
    "gif": GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:],
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_takes_no_memory(kind: str, tmp_path: Path) -> None:
    # Given a program of its own, whose peak is what this file took
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(JPEG)
    bad.write_bytes(BOMBS[kind])
    code = """
import resource, sys
from car_classifier.errors import MessageError
from car_classifier.images import decode_image
good, bad = (open(path, "rb").read() for path in sys.argv[1:])
decode_image(good, (32, 24))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_image(bad, (32, 24))
except MessageError as error:
    print(error.reason.value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    # When it is given the file
    run = subprocess.run(
        [sys.executable, "-c", code, good, bad],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    # Then it has refused it, and has grown by next to nothing
    reason, grown_kib = run.stdout.split()
    assert reason in ("image_too_large", "damaged_image")
    assert int(grown_kib) < 50_000
