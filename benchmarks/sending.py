"""Photos go onto a topic from this process, cheaply, so that what is measured keeps its cores."""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from car_classifier.broker import BrokerSettings, make_producer
from car_classifier.messages import CarPhoto

__all__ = ["PhotoSender", "message"]

CAMERAS = [f"cam{number:02}" for number in range(1, 13)]

_MOST_PENDING = 32
_ACKNOWLEDGED_SECONDS = 60.0
_LOOK_SECONDS = 0.005


def message(timestamp: float, camera: str, name: str, image_base64: bytes) -> bytes:
    """Return what `CarPhoto.encode` does, from an image whose base64 is there already."""
    frame = CarPhoto(timestamp, camera, name, b"").encode()
    assert frame.endswith(b'""}'), frame  # the image comes last
    return frame[:-2] + image_base64 + b'"}'


class PhotoSender:
    """Several cameras in one; a context manager.

    Args:
        settings: broker and topic.
        photos: image files, sent over and over.
        cameras: names, in turn; each is the key of its messages.

    Attributes:
        sent: name of each photo -> when it was sent, in seconds since 1970.
    """

    def __init__(
        self, settings: BrokerSettings, photos: list[bytes], cameras: list[str] = CAMERAS
    ) -> None:
        self.sent: dict[str, float] = {}
        self._topic = settings.topic
        self._cameras = cameras
        self._images = [base64.b64encode(photo) for photo in photos]
        self._producer = make_producer(settings)
        self._pending: deque[Any] = deque()

    def __enter__(self) -> PhotoSender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._producer.close(timeout=5)

    def send_at_once(self, count: int) -> None:
        """Send so many photos as fast as the broker takes them."""
        for _ in range(count):
            self._send()
        self._settle(0)

    def send_steadily(self, rate: float, count: int) -> None:
        """Send so many photos, ``rate`` a second, evenly spaced."""
        start = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            self._send()
        self._settle(0)

    def send_while(self, wanted: Callable[[], bool], count: int) -> None:
        """Send so many photos, each as soon as it is wanted."""
        for _ in range(count):
            while not wanted():
                time.sleep(_LOOK_SECONDS)
            self._send()
        self._settle(0)

    def _send(self) -> None:
        self._settle(_MOST_PENDING - 1)
        number = len(self.sent)
        name = f"photo-{number:06}.jpg"
        camera = self._cameras[number % len(self._cameras)]
        self.sent[name] = time.time()
        value = message(self.sent[name], camera, name, self._images[number % len(self._images)])
        self._pending.append(self._producer.send(self._topic, value, key=camera.encode()))

    def _settle(self, most: int) -> None:
        while len(self._pending) > most:
            self._pending.popleft().get(timeout=_ACKNOWLEDGED_SECONDS)
