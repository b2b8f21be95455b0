"""The message on the topic: one photo of one camera, as JSON with the image in base64."""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

from car_classifier.errors import MessageError, Reason

__all__ = ["CarPhoto"]

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
        return json.dumps(
            {
                "timestamp": self.timestamp,
                "camera_id": self.camera_id,
                "image_name": self.image_name,
                "image_data": base64.b64encode(self.image).decode("ascii"),
            }
        ).encode()

    @classmethod
    def decode(cls, value: bytes | None) -> CarPhoto:
        """Read a message's value; unknown fields are ignored.

        Raises:
            MessageError: it is no such message; says which part, never shows the whole.
        """
        fields = _json_object(value)
        return cls(
            timestamp=_seconds(fields),
            camera_id=_text(fields, "camera_id"),
            image_name=_text(fields, "image_name"),
            image=_image_bytes(_text(fields, "image_data")),
        )


def _json_object(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise MessageError(Reason.NOT_JSON, "expected JSON, got a message without a value")
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
        # Some encoders break base64 into lines.
        return base64.b64decode(text.translate(_WHITESPACE), validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: letters beyond ASCII
        raise MessageError(
            Reason.BAD_BASE64, f"expected base64 in 'image_data': {error}"
        ) from error
