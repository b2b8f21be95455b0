"""Photos go onto the topic; one counts as sent when the broker has acknowledged it."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from car_classifier.broker import (
    NO_ENTRY,
    BrokerSettings,
    close_producer,
    raise_if_refused,
    refused,
)
from car_classifier.errors import BrokerError
from car_classifier.messages import CarPhoto
from car_classifier.predictions import printable
from car_classifier.too_large import TOO_LARGE

__all__ = ["PhotoPublisher"]

PATIENCE_SECONDS = 5.0  # without an acknowledgement, before the user is told so
MAX_PENDING_MESSAGES = 32
MAX_PENDING_BYTES = 64 * 2**20


class PhotoPublisher:
    """Sends photos in order and reports each, when it is acknowledged, on stdout.

    Attributes:
        sent: photos acknowledged.
        failed: photos that the broker refused, or that were given up when the program stopped.
    """

    def __init__(
        self,
        producer: KafkaProducer,
        settings: BrokerSettings,
        stopped: Callable[[], bool],
        unsendable: Callable[[CarPhoto], object] = lambda _: None,
    ) -> None:
        """``unsendable`` is told of each photo that the broker would refuse again."""
        self._producer = producer
        self._settings = settings
        self._stopped = stopped
        self._unsendable = unsendable
        self._pending: deque[tuple[CarPhoto, Any]] = deque()
        self._pending_bytes = 0
        self._patience = PATIENCE_SECONDS
        self.sent = 0
        self.failed = 0

    def send(self, photo: CarPhoto) -> None:
        """Hand a photo to the client library; blocks while too many are on their way.

        Raises:
            BrokerError: the broker does not let us in, or not to the topic.
        """
        self.settle(MAX_PENDING_MESSAGES - 1, MAX_PENDING_BYTES)
        value = photo.encode()
        # A name from the command line need not be UTF-8.
        key = photo.camera_id.encode(errors="surrogateescape")
        while True:
            try:
                # The camera as the key keeps its photos on one partition, and so in order.
                future = self._producer.send(self._settings.topic, value, key=key)
                break
            except KafkaTimeoutError:  # the topic's whereabouts are not known yet
                with self._giving_up_when_refused(photo):
                    raise_if_refused(self._settings)
                self._say_waiting(photo)
                if self._stopped():
                    self._give_up(photo, "stopped before the broker answered")
                    return
            except NO_ENTRY as error:
                with self._giving_up_when_refused(photo):
                    raise refused(self._settings, error) from error
            except KafkaError as error:
                self._give_up_for(error, photo)
                return
        self._pending.append((photo, future))
        self._pending_bytes += len(photo.image)

    def settle(self, most_messages: int = 0, most_bytes: int = 0) -> None:
        """Wait until no more than so many photos and bytes lack an acknowledgement.

        Raises:
            BrokerError: as `send` does.
        """
        while self._pending and (
            len(self._pending) > most_messages or self._pending_bytes > most_bytes
        ):
            photo, future = self._pending.popleft()
            self._pending_bytes -= len(photo.image)
            with self._giving_up_when_refused(photo):
                self._await(photo, future)

    def close(self) -> None:
        """Wait for what is on its way, then disconnect."""
        self.settle()
        close_producer(self._producer)

    def _await(self, photo: CarPhoto, future: Any) -> None:
        while True:
            try:
                future.get(timeout=self._patience)
            except KafkaError as error:
                if isinstance(error, NO_ENTRY):
                    raise refused(self._settings, error) from error
                if future.is_done:
                    self._give_up_for(error, photo)
                    return
                raise_if_refused(self._settings)
                self._say_waiting(photo)
                if self._stopped():
                    self._give_up(photo, "stopped before the broker acknowledged it")
                    self._patience = 0.0  # the others have waited as long
                    return
                continue
            self.sent += 1
            name, camera = printable(photo.image_name), printable(photo.camera_id)
            print(f"Sent: {name} from camera {camera}", flush=True)
            return

    @contextlib.contextmanager
    def _giving_up_when_refused(self, photo: CarPhoto) -> Iterator[None]:
        """Whoever refuses this photo takes none of those on their way, either."""
        try:
            yield
        except BrokerError:
            for lost in [photo, *(pending for pending, _ in self._pending)]:
                self._give_up(lost, "the broker refuses us")
            self._pending.clear()
            self._pending_bytes = 0
            raise

    def _say_waiting(self, photo: CarPhoto) -> None:
        print(
            f"Kafka at {self._settings.bootstrap_servers} has not acknowledged "
            f"{printable(photo.image_name)} yet; waiting...",
            file=sys.stderr,
            flush=True,
        )

    def _give_up_for(self, error: KafkaError, photo: CarPhoto) -> None:
        if isinstance(error, TOO_LARGE):
            self._unsendable(photo)
        self._give_up(photo, str(error))

    def _give_up(self, photo: CarPhoto, reason: str) -> None:
        self.failed += 1
        print(f"Not sent: {printable(photo.image_name)}: {reason}", file=sys.stderr, flush=True)
