"""Pictures and messages that the tests share, made on the fly."""

from __future__ import annotations

import base64
import io
import json
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

# Plain colours, which `tests.models.colour_model` tells apart; it is not sure of grey.
RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


def picture(width: int = 64, height: int = 48) -> Image.Image:
    """Return a smooth RGB picture, different in each corner, that compresses like a photo."""
    corners = np.array(
        [[(230, 30, 30), (30, 200, 40)], [(40, 40, 220), (240, 240, 200)]], dtype=np.uint8
    )
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colour(rgb: tuple[int, int, int], kind: str = "PNG", side: int = 20) -> bytes:
    """Return a photo that the model of these tests knows."""
    return encoded(Image.new("RGB", (side, side), rgb), kind)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def message(**changes: Any) -> bytes:
    """Return the value of a good message, less the fields given as None, with the others changed.

    Written out instead of encoded by the project, so that a change of the format is noticed.
    """
    fields = {
        "timestamp": 1700000000.5,
        "camera_id": "cam01",
        "image_name": "coche.jpg",
        "image_data": base64.b64encode(encoded(picture())).decode(),
        **changes,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


class Record(NamedTuple):
    """What of kafka-python's ``ConsumerRecord`` the project uses."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = None


def records(*offsets: int, partition: int = 0, value: bytes | None = None) -> list[Record]:
    return [Record("photos", partition, offset, value or message()) for offset in offsets]
