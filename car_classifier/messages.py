"""The message on the topic: one photo of one camera, as JSON with the image in base64.

What strangers may send, and what becomes of it:

- JSON in UTF-8, UTF-16 or UTF-32, with a byte order mark or without, is read. Fields we do not know
  are ignored; of a field that is there twice the last one counts.
- JSON that is nested without end, or of more than `MOST_PARTS` parts, is refused: it would take
  gigabytes.
- A time is a finite number of seconds from 1970 to the year 9999. Absent, negative, NaN, infinite
  ones and text are refused.
- Names may hold anything, up to `LONGEST_NAME` letters; whoever shows them uses
  `car_classifier.predictions.printable`. What no encoding can hold (half a surrogate pair) becomes
  an escape, so that every sink can take the name.
- Base64 is of the standard alphabet and padded; white space in it is ignored.
"""

from __future__ import annotations

import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

from car_classifier.errors import MessageError, Reason

try:  # thirty times faster, and as strict: requirements/accelerator.txt
    import pybase64 as base64
except ImportError:
    import base64  # type: ignore[no-redef]

__all__ = ["CarPhoto"]

# Both names, escaped in JSON, fit a message of 1 MiB: what brokers take if nobody says otherwise.
LONGEST_NAME = 32_768
MOST_PARTS = 100_000
_LARGE = 2**20  # bytes; a smaller message cannot have parts enough to do harm

_YEAR_10000 = 253_402_300_800  # in seconds; beyond it are milliseconds, taken for seconds
_WHITESPACE = str.maketrans("", "", " \t\r\n")


@dataclass(frozen=True)
class CarPhoto:
    """One photo as a camera sends it."""

    timestamp: float  # seconds since 1970, when the photo was taken
    camera_id: str
    image_name: str  # file name without a folder
    image: bytes  # the image file's bytes: JPEG, PNG, ...

    def encode(self) -> bytes:
        """Return the message's value: JSON in UTF-8, a third larger than the image."""
        fields = {
            "timestamp": self.timestamp,
            "camera_id": self.camera_id,
            "image_name": self.image_name,
        }
        # Base64 has nothing to escape, and looking for it takes longer than all the rest.
        head = json.dumps(fields)[:-1].encode()
        return b'%b, "image_data": "%b"}' % (head, base64.b64encode(self.image))

    @classmethod
    def decode(cls, value: bytes | None) -> CarPhoto:
        """Read a message's value; unknown fields are ignored.

        Raises:
            MessageError: it is no such message; says which part, never shows the whole.
        """
        fields = _json_object(value)
        return cls(
            timestamp=_seconds(fields),
            camera_id=_name(fields, "camera_id"),
            image_name=_name(fields, "image_name"),
            image=_image_bytes(_text(fields, "image_data")),
        )


def _json_object(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise MessageError(Reason.NOT_JSON, "expected JSON, got a message without a value")
    if len(value) > _LARGE and (parts := value.count(b",")) > MOST_PARTS:
        raise MessageError(
            Reason.NOT_JSON, f"expected JSON of at most {MOST_PARTS} parts, got {parts}"
        )
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested without end
        raise MessageError(Reason.NOT_JSON, f"expected JSON: {error}") from error
    if not isinstance(fields, dict):
        raise MessageError(
            Reason.NOT_AN_OBJECT, f"expected a JSON object, got a {type(fields).__name__}"
        )
    return fields


def _field(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise MessageError(Reason.MISSING_FIELD, f"expected the field {name!r}")
    return fields[name]


def _text(fields: dict[str, Any], name: str) -> str:
    text = _field(fields, name)
    if not isinstance(text, str):
        raise MessageError(
            Reason.BAD_FIELD, f"expected text in {name!r}, got a {type(text).__name__}"
        )
    return text


def _name(fields: dict[str, Any], name: str) -> str:
    text = _text(fields, name)
    if len(text) > LONGEST_NAME:
        raise MessageError(
            Reason.BAD_FIELD,
            f"expected at most {LONGEST_NAME} letters in {name!r}, got {len(text)}",
        )
    return text.encode(errors="backslashreplace").decode()


def _seconds(fields: dict[str, Any]) -> float:
    value = _field(fields, "timestamp")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MessageError(
            Reason.BAD_FIELD, f"expected seconds in 'timestamp', got a {type(value).__name__}"
        )
    try:
        seconds = float(value)
    except OverflowError:  # an integer of hundreds of digits
        seconds = math.inf
    if not 0 <= seconds < _YEAR_10000:  # nor NaN
        raise MessageError(
            Reason.BAD_FIELD, f"expected seconds since 1970 in 'timestamp', got {seconds}"
        )
    return seconds


def _image_bytes(text: str) -> bytes:
    try:
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:  # some encoders break base64 into lines
            return base64.b64decode(text.translate(_WHITESPACE), validate=True)
    except ValueError as error:  # binascii.Error is one, and letters beyond ASCII are
        raise MessageError(
            Reason.BAD_BASE64, f"expected base64 in 'image_data': {error}"
        ) from error
