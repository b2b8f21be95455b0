"""Thumbnails: small, in proportion, upright, made on the way of the one decoding."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from car_classifier import classifying
from car_classifier.images import decode_image, decode_photo
from car_classifier.thumbnails import thumbnail
from tests.photos import encoded, picture, records


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(data), formats=["JPEG"])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1280, 720), (320, 180)),
        ((300, 900), (107, 320)),
        ((320, 10), (320, 10)),
        ((64, 48), (64, 48)),
        ((4000, 2), (320, 1)),
    ],
)
def test_the_longest_side_is_320_pixels_at_most(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert opened(thumbnail(picture(*size))).size == expected


def test_a_thumbnail_shows_the_photo() -> None:
    shown = np.asarray(opened(thumbnail(picture(1280, 720))), float)
    assert abs(shown - np.asarray(picture(320, 180), float)).mean() < 4


def test_the_photo_is_turned_upright_and_the_model_sees_the_same_as_without() -> None:
    photo = picture(640, 400)
    exif = photo.getexif()
    exif[0x0112] = 6  # turned by a quarter
    data = encoded(photo, exif=exif)

    image, thumb = decode_photo(data, (224, 224), with_thumbnail=True)

    assert opened(thumb).size == (200, 320)
    assert (image == decode_image(data, (224, 224))).all()
    assert decode_photo(data, (224, 224), with_thumbnail=False)[1] is None


def test_a_photo_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opens: list[Any] = []
    whole = Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **k: opens.append(a) or whole(*a, **k))

    decode_photo(encoded(picture(640, 400)), (224, 224), with_thumbnail=True)

    assert len(opens) == 1


def test_only_who_asks_for_thumbnails_gets_them() -> None:
    [record] = records(0)
    with_one = classifying.decode(record, (24, 16), with_thumbnail=True)
    without = classifying.decode(record, (24, 16))
    assert isinstance(with_one, classifying._Photo)
    assert isinstance(without, classifying._Photo)
    assert opened(with_one.thumbnail).size == (64, 48)
    assert without.thumbnail is None
