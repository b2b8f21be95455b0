"""Every picture people send is read whole and upright; half a picture, or a trap, never is."""

from __future__ import annotations

import io
import random
import re
import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from car_classifier import images
from car_classifier.errors import MessageError, Reason
from car_classifier.images import decode_image, to_rgb
from tests.photos import encoded, picture

SIZE = (32, 24)  # width, height
LOSSY = 12  # how far an 8-bit value may lie from the original after a lossy kind of file


def squashed(image: Image.Image) -> NDArray[np.int16]:
    return np.asarray(image.convert("RGB").resize(SIZE, Image.Resampling.BILINEAR), np.int16)


def difference(data: bytes, expected: Image.Image) -> float:
    """Return the mean distance between the decoded file and a picture, 0-255."""
    return float(np.abs(decode_image(data, SIZE) - squashed(expected)).mean())


def rejection(data: bytes) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode_image(data, SIZE)
    return caught.value


def with_alpha() -> Image.Image:
    """Return a picture whose left half is transparent."""
    image = picture().convert("RGBA")
    image.paste((9, 9, 9, 0), (0, 0, image.width // 2, image.height))
    return image


def deep_grey() -> Image.Image:
    grey = np.asarray(picture().convert("L"), np.uint16) * 257
    return Image.fromarray(grey)


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """Return a PNG of 8-bit grey that says it is so large, whatever it holds."""

    return png_of(struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), rows)


def png_of(header: bytes, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("PNG", {}),
        ("PNG", {"interlace": 1}),
        ("WEBP", {"quality": 95}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
    ],
)
def test_the_kinds_of_files_people_send_are_read(kind: str, options: dict[str, Any]) -> None:
    array = decode_image(encoded(picture(), kind, **options), SIZE)

    assert array.dtype == np.uint8
    assert array.shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(array - squashed(picture())).max() <= LOSSY


def test_of_an_animation_the_first_frame_counts() -> None:
    first, second = picture(), Image.new("RGB", (64, 48))
    data = encoded(first, "GIF", save_all=True, append_images=[second], duration=100)

    assert difference(data, first) < 5  # a GIF has 256 colours


@pytest.mark.parametrize(
    ("kind", "image", "expected"),
    [
        ("PNG", picture().convert("L"), picture().convert("L")),
        ("JPEG", picture().convert("L"), picture().convert("L")),
        ("PNG", picture().convert("1"), picture().convert("1")),
        ("PNG", picture().quantize(64), picture().quantize(64)),
        ("JPEG", picture().convert("CMYK"), picture()),
        ("PNG", deep_grey(), picture().convert("L")),
    ],
    ids=["grey-png", "grey-jpeg", "black-and-white", "palette", "cmyk", "16-bit"],
)
def test_pictures_of_any_mode_become_rgb(
    kind: str, image: Image.Image, expected: Image.Image
) -> None:
    assert difference(encoded(image, kind), expected) < 3


@pytest.mark.parametrize("alpha", [False, True])
def test_16_bit_colour_is_read(alpha: bool) -> None:
    # Pillow does not write such a file
    pixel = struct.pack(">HHH", 60_000, 30_000, 10_000) + (b"\xff\xff" if alpha else b"")
    rows = (b"\x00" + pixel * 8) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, 6 if alpha else 2, 0, 0, 0)

    array = decode_image(png_of(header, rows), SIZE)

    assert np.abs(array - np.array((60_000, 30_000, 10_000)) / 257).max() <= 1


def test_photos_that_are_large_when_decoded_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given threads enough to decode all at once, and a limit that a small photo passes
    inside, most = 0, 0
    refuse_part = images.refuse_part

    def watched(*arguments: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        refuse_part(*arguments)
        inside -= 1

    monkeypatch.setattr(images, "refuse_part", watched)
    monkeypatch.setattr(images, "LARGE_PIXELS", 1000)
    data = encoded(picture(), "PNG")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: decode_image(data, SIZE), range(12)))

    assert most == 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_become_white(kind: str, mode: str) -> None:
    array = decode_image(encoded(with_alpha().convert(mode), kind, lossless=True), SIZE)

    assert (array[:, : SIZE[0] // 2 - 2] > 250).all()
    assert (array[:, -1] < 250).any()


def test_a_transparent_colour_of_a_palette_becomes_white() -> None:
    image = Image.new("P", (64, 48), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])

    array = decode_image(encoded(image, "PNG", transparency=0), SIZE)

    assert (array == 255).all()


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_turned_upright_as_its_exif_asks(
    kind: str, orientation: int, turn: Image.Transpose | None
) -> None:
    upright = picture(640, 480)
    # Stored as the sensor lay: the opposite of the turn that the reader owes it.
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation

    assert difference(encoded(stored, kind, exif=exif, quality=95), upright) < 3


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 65000), (65000, 3)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_tiny_and_thin_pictures_are_read(kind: str, size: tuple[int, int]) -> None:
    array = decode_image(encoded(Image.new("RGB", size, (10, 200, 30)), kind), SIZE)

    assert array.shape == (SIZE[1], SIZE[0], 3)
    assert np.abs(array - np.array((10, 200, 30), np.int16)).max() <= LOSSY


@pytest.mark.parametrize("size", [(640, 480), (641, 479), (1500, 300)])
def test_a_large_jpeg_decoded_small_looks_like_the_whole_one(size: tuple[int, int]) -> None:
    data = encoded(picture(*size), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        full = image.convert("RGB")

    assert difference(data, full) < 1.5


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("GIF", {}),
    ],
)
def test_a_file_cut_anywhere_is_refused(kind: str, options: dict[str, Any]) -> None:
    whole = encoded(picture(40, 30), kind, **options)
    decode_image(whole, SIZE)

    unrecognised = []
    for length in range(len(whole)):
        # The first bytes alone may not tell what it was going to be.
        if rejection(whole[:length]).reason is not Reason.DAMAGED_IMAGE:
            unrecognised.append(length)
    assert max(unrecognised) < 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_what_follows_an_image_is_ignored(kind: str) -> None:
    whole = encoded(picture(), kind)

    assert (decode_image(whole + bytes(100), SIZE) == decode_image(whole, SIZE)).all()


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"restart_marker_blocks": 1}),
        ("RGB", {"restart_marker_rows": 1}),
        ("L", {}),
        ("CMYK", {}),
    ],
)
@pytest.mark.parametrize("side", [40, 500])
def test_half_a_jpeg_that_was_closed_all_the_same_is_refused(
    mode: str, options: dict[str, Any], side: int
) -> None:
    # Given a writer that ran out of photo and wrote the end mark: Pillow fills in grey
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    whole = encoded(Image.fromarray(noise).convert(mode), "JPEG", **options)
    start = whole.index(b"\xff\xda") + 20
    decode_image(whole, SIZE)

    for share in range(5, 86, 10):
        cut = whole[: start + (len(whole) - start) * share // 100].rstrip(b"\xff")
        assert rejection(cut + b"\xff\xd9").reason is Reason.DAMAGED_IMAGE


def test_a_jpeg_that_stops_between_two_restarts_or_at_a_stray_marker_is_refused() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 80, 3), np.uint8))

    restarting = encoded(noise, "JPEG", restart_marker_rows=1)
    for restart in re.finditer(rb"\xff[\xd0-\xd7]", restarting):
        part = restarting[: restart.start()] + b"\xff\xd9"
        assert rejection(part).reason is Reason.DAMAGED_IMAGE

    plain = encoded(noise, "JPEG")
    middle = (plain.index(b"\xff\xda") + len(plain)) // 2
    stray = plain[:middle].rstrip(b"\xff") + b"\xff\xd3" + plain[middle:]
    assert rejection(stray).reason is Reason.DAMAGED_IMAGE


@pytest.mark.parametrize("grey", [127, 128])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 1}, {"progressive": True}])
def test_a_whole_jpeg_with_a_grey_corner_is_read(
    grey: int, mode: str, options: dict[str, Any]
) -> None:
    image = picture(640, 480)
    image.paste((grey, grey, grey), (0, 200, 640, 480))

    stored = image.convert(mode)
    assert difference(encoded(stored, "JPEG", quality=95, **options), stored) < 4


@pytest.mark.parametrize("size", [(800, 600), (4000, 3000)])
def test_half_a_jpeg_is_never_classified(size: tuple[int, int]) -> None:
    data = encoded(picture(*size), "JPEG", quality=90)

    for share in (0.3, 0.5, 0.9):
        assert rejection(data[: int(len(data) * share)]).reason is Reason.DAMAGED_IMAGE


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "TGA", "PCX", "SGI", "EPS", "PDF"])
def test_kinds_of_files_that_nobody_sends_are_refused(kind: str) -> None:
    assert rejection(encoded(picture(), kind)).reason is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("data", [b"", b"\x00", b"hello", b"<svg/>", b"%PDF-1.7", bytes(10_000)])
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    error = rejection(data)

    assert error.reason is Reason.NOT_AN_IMAGE
    assert "JPEG" in error.detail


@pytest.mark.parametrize("side", [7072, 10_001, 13_000, 20_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    # Given a file of some kilobytes that would be hundreds of megabytes of pixels
    rows = bytes(8_000_000) if side < 20_000 else b""
    data = png(side, side, rows)
    assert len(data) < 10_000

    # When it is read
    tracemalloc.start()
    started = time.monotonic()
    error = rejection(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # Then nothing of it has been decoded
    assert error.reason is Reason.IMAGE_TOO_LARGE
    assert peak < 5_000_000
    assert time.monotonic() - started < 1


def test_any_damage_gives_a_picture_or_a_rejection() -> None:
    chance = random.Random(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        encoded(picture(), "JPEG", exif=exif),
        encoded(picture(), "PNG", exif=exif),
        encoded(picture().quantize(16), "PNG", transparency=0),
        encoded(picture(), "WEBP"),
        encoded(picture(), "BMP"),
        encoded(picture(), "GIF"),
    ]
    for _ in range(1500):
        data = bytearray(chance.choice(files))
        # Mostly in the first bytes: headers are where readers stumble.
        reach = min(len(data), chance.choice([30, 200, 10_000]))
        for _ in range(chance.choice([1, 3, 20])):
            data[chance.randrange(reach)] = chance.randrange(256)
        try:
            assert decode_image(bytes(data), SIZE).shape == (SIZE[1], SIZE[0], 3)
        except MessageError as error:
            assert error.reason in (  # noqa: PT017 - most are rejected, some are read
                Reason.NOT_AN_IMAGE,
                Reason.DAMAGED_IMAGE,
                Reason.IMAGE_TOO_LARGE,
            )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_to_rgb_keeps_the_size(mode: str) -> None:
    image = to_rgb(picture(5, 7).convert(mode))

    assert (image.mode, image.size) == ("RGB", (5, 7))
