"""Whatever lies on the topic becomes a photo or a rejection with a reason, and nothing else."""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_classifier import messages
from car_classifier.errors import MessageError, Reason
from car_classifier.messages import LONGEST_NAME, CarPhoto
from tests.photos import message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
MESSAGE_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "timestamp": JSON | st.floats(0, 4e9),
        "camera_id": JSON | st.text(),
        "image_name": JSON | st.text(),
        "image_data": JSON | st.binary().map(lambda data: base64.b64encode(data).decode()),
        "something": JSON,
    },
)


def rejection(value: bytes | None) -> MessageError:
    with pytest.raises(MessageError) as caught:
        CarPhoto.decode(value)
    return caught.value


def assert_photo_or_rejection(value: bytes) -> None:
    with contextlib.suppress(MessageError):
        photo = CarPhoto.decode(value)
        assert math.isfinite(photo.timestamp)
        assert photo.timestamp >= 0
        assert isinstance(photo.camera_id, str)
        assert isinstance(photo.image_name, str)
        assert isinstance(photo.image, bytes)


@given(st.builds(CarPhoto, st.floats(0, 4e9), st.text(), st.text(), st.binary(max_size=300)))
def test_a_photo_comes_back_as_it_was_sent(photo: CarPhoto) -> None:
    assert CarPhoto.decode(photo.encode()) == photo


def test_the_message_is_the_json_that_is_documented() -> None:
    value = CarPhoto(1.5, "cam01", "coche.jpg", b"\xff\xd8").encode()

    assert json.loads(value) == {
        "timestamp": 1.5,
        "camera_id": "cam01",
        "image_name": "coche.jpg",
        "image_data": "/9g=",
    }


@given(st.binary(max_size=200))
def test_any_bytes_are_a_photo_or_rejected(value: bytes) -> None:
    assert_photo_or_rejection(value)


@given(JSON, st.sampled_from(["utf-8", "utf-16", "utf-32-be"]))
def test_any_json_is_a_photo_or_rejected(content: Any, encoding: str) -> None:
    assert_photo_or_rejection(json.dumps(content).encode(encoding))


@given(MESSAGE_LIKE)
def test_anything_like_a_message_is_a_photo_or_rejected(fields: dict[str, Any]) -> None:
    assert_photo_or_rejection(json.dumps(fields).encode())


@given(st.data())
def test_a_good_message_with_wrong_bytes_is_a_photo_or_rejected(data: st.DataObject) -> None:
    value = bytearray(message(image_data="/9g="))
    for _ in range(data.draw(st.integers(1, 5))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    assert_photo_or_rejection(bytes(value[: data.draw(st.integers(0, len(value)))]))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NOT_JSON),  # a tombstone
        (b"", Reason.NOT_JSON),
        (b"hello", Reason.NOT_JSON),
        (b"\xff\xfe\xfd", Reason.NOT_JSON),
        (message()[:-1], Reason.NOT_JSON),
        (message() + b"x", Reason.NOT_JSON),
        (b"[" * 100_000, Reason.NOT_JSON),
        (b'{"a":' * 100_000, Reason.NOT_JSON),
        (b"[" * 100_000 + b"]" * 100_000, Reason.NOT_JSON),
        (b'{"timestamp": ' + b"9" * 10_000 + b"}", Reason.NOT_JSON),
        (b"[]", Reason.NOT_AN_OBJECT),
        (b"null", Reason.NOT_AN_OBJECT),
        (b"7", Reason.NOT_AN_OBJECT),
        (b'"text"', Reason.NOT_AN_OBJECT),
        (b"{}", Reason.MISSING_FIELD),
        (message(camera_id=7), Reason.BAD_FIELD),
        (message(image_name=["a"]), Reason.BAD_FIELD),
        (message(image_data={"a": 1}), Reason.BAD_FIELD),
        (message(camera_id="c" * (LONGEST_NAME + 1)), Reason.BAD_FIELD),
        (message(image_name="n" * 10**6), Reason.BAD_FIELD),
    ],
)
def test_a_message_of_another_kind_is_rejected(value: bytes | None, reason: Reason) -> None:
    error = rejection(value)

    assert error.reason is reason
    assert str(error).startswith(f"{reason.value}: expected ")
    assert len(str(error)) < 300  # never the message itself


@pytest.mark.parametrize("field", ["timestamp", "camera_id", "image_name", "image_data"])
def test_a_missing_field_is_named(field: str) -> None:
    error = rejection(message(**{field: None}))

    assert error.reason is Reason.MISSING_FIELD
    assert repr(field) in error.detail


@pytest.mark.parametrize(
    "timestamp",
    [
        *(math.nan, math.inf, -math.inf, -1, -0.5, 1e308, 10**400),
        *("1700000000", "", True, [1], {"s": 1}),
        1700000000000,  # milliseconds
    ],
)
def test_a_timestamp_that_is_no_time_is_rejected(timestamp: object) -> None:
    assert rejection(message(timestamp=timestamp)).reason is Reason.BAD_FIELD


@pytest.mark.parametrize("timestamp", [0, 0.25, 1700000000, 1700000000.123])
def test_a_timestamp_is_seconds_whole_or_not(timestamp: float) -> None:
    photo = CarPhoto.decode(message(timestamp=timestamp))

    assert photo.timestamp == timestamp
    assert isinstance(photo.timestamp, float)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_in_any_of_its_encodings_is_read(encoding: str) -> None:
    value = message(camera_id="cámara").decode().encode(encoding)

    assert CarPhoto.decode(value).camera_id == "cámara"


def test_extra_fields_are_ignored_and_the_last_of_two_counts() -> None:
    value = b'{"extra": {"a": [1]}, "camera_id": "first", ' + message(camera_id="last")[1:]

    assert CarPhoto.decode(value).camera_id == "last"


def test_json_of_millions_of_parts_is_refused_before_it_takes_gigabytes() -> None:
    value = b'{"extra": [' + b"[]," * 7_000_000 + b"0]," + message()[1:]

    tracemalloc.start()
    error = rejection(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert error.reason is Reason.NOT_JSON
    assert peak < 1_000_000


def test_names_of_strangers_are_kept_and_can_be_written_anywhere() -> None:
    for name in ("a\nb\x00\x1b[2K\u202e", "<script>alert(1)</script>", "n" * 10_000, "", "汽车🚗"):
        assert CarPhoto.decode(message(camera_id=name, image_name=name)).image_name == name

    # Half a surrogate pair, as in a file name that is not UTF-8: no encoding takes it
    photo = CarPhoto.decode(message(camera_id="cam\udcff", image_name="\ud800.jpg"))
    assert (photo.camera_id, photo.image_name) == ("cam\\udcff", "\\ud800.jpg")


BASE64 = [pytest.param(base64, id="base64")]
with contextlib.suppress(ImportError):
    BASE64.append(pytest.param(importlib.import_module("pybase64"), id="pybase64"))


@pytest.fixture(params=BASE64)
def _base64(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "base64", request.param)


@pytest.mark.usefixtures("_base64")
@pytest.mark.parametrize("line_end", ["\n", "\r\n", " ", "\t\n"])
def test_base64_may_be_broken_into_lines(line_end: str) -> None:
    data = bytes(range(256))
    text = base64.b64encode(data).decode()
    lines = line_end.join(text[i : i + 76] for i in range(0, len(text), 76)) + line_end

    assert CarPhoto.decode(message(image_data=lines)).image == data


@pytest.mark.usefixtures("_base64")
@pytest.mark.parametrize(
    "text",
    [
        *("*", "YQ", "Y", "YQ=", "=YQ=", "YQ==YQ==", "YQ==!", "Y*Q="),
        *("-_-_", "ñandú===", "\ud800", "YQ==\x00", "data:image/jpeg;base64,YQ=="),
    ],
)
def test_base64_with_garbage_is_rejected(text: str) -> None:
    assert rejection(message(image_data=text)).reason is Reason.BAD_BASE64
