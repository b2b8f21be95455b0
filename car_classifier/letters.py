"""The dead letter topic as a whole: what lies there, and what has been sent back already."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import KafkaError

from car_classifier.broker import BrokerSettings, make_consumer, refused
from car_classifier.dead_letters import DeadLetter
from car_classifier.errors import BrokerError
from car_classifier.outbox import OutgoingMessage
from car_classifier.predictions import Source

__all__ = ["Letter", "LetterTopic", "Place"]

POLL_MS = 500
PATIENCE_SECONDS = 60.0  # without any record, while there should be one
CLOSE_MS = 5000
# A message with this header is no dead letter: it says which one has been sent back.
_SENT_BACK = "car_classifier.sent_back"


class Place(NamedTuple):
    """Where a dead letter lies on its own topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}@{self.offset}"


@dataclass(frozen=True)
class Letter:
    """What is known of a dead letter without its content."""

    place: Place
    source: Source  # of the message that it was
    reason: str
    detail: str
    attempts: int
    time: float  # seconds since 1970, when it was given up
    key: bytes | None
    size: int  # of its value, in bytes
    sent_back: bool


class LetterTopic:
    """Reads a dead letter topic, from its beginning to where it ends now.

    Raises:
        KafkaError: no broker answers.
    """

    def __init__(self, settings: BrokerSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._consumer = make_consumer(
            settings, group_id=None, from_beginning=True, allow_auto_create_topics=False
        )

    def scan(self) -> list[Letter]:
        """Return what lies there, in order; nothing, if there is no such topic.

        Raises:
            BrokerError: the broker refuses, or has gone away.
        """
        letters: list[Letter] = []
        sent_back: set[str] = set()
        with self._errors():
            numbers = self._consumer.partitions_for_topic(self._topic)
            if not numbers:
                return []
            partitions = [TopicPartition(self._topic, number) for number in numbers]
            self._consumer.assign(partitions)
            ends = self._consumer.end_offsets(partitions)
            self._consumer.seek_to_beginning()
            while any(self._consumer.position(part) < end for part, end in ends.items()):
                for record in self._poll(max_records=100):
                    notes = [value for name, value in record.headers if name == _SENT_BACK]
                    sent_back.update((note or b"").decode(errors="replace") for note in notes)
                    letter = DeadLetter.read(record)
                    if letter:
                        letters.append(_without_content(letter, record))
        return [
            replace(letter, sent_back=str(letter.place) in sent_back)
            for letter in sorted(letters, key=lambda letter: letter.place)
        ]

    def fetch(self, place: Place) -> DeadLetter:
        """Return the dead letter that lies at a place where `scan` has seen one.

        Raises:
            BrokerError: the broker refuses or has gone away, or the letter is too old to be there.
        """
        partition = TopicPartition(self._topic, place.partition)
        with self._errors():
            self._consumer.assign([partition])
            self._consumer.seek(partition, place.offset)
            (record,) = self._poll(max_records=1)
        letter = DeadLetter.read(record) if record.offset == place.offset else None
        if letter is None:
            raise BrokerError(f"{self._topic} has no dead letter at {place} any more")
        return letter

    def note(self, place: Place) -> OutgoingMessage:
        """The message that marks a letter as sent back."""
        return OutgoingMessage(self._topic, None, b"", [(_SENT_BACK, str(place).encode())])

    def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(KafkaError):
            self._consumer.close(timeout_ms=CLOSE_MS)

    def _poll(self, max_records: int) -> list[Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            polled = self._consumer.poll(timeout_ms=POLL_MS, max_records=max_records)
            if polled:
                return [record for part in polled.values() for record in part]
        raise BrokerError(
            f"Kafka at {self._settings.bootstrap_servers} gives nothing of {self._topic} for "
            f"{PATIENCE_SECONDS:.0f} s"
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise refused(self._settings, error) from error


def _without_content(letter: DeadLetter, record: Any) -> Letter:
    return Letter(
        Place(record.partition, record.offset),
        letter.source,
        letter.reason,
        letter.detail,
        letter.attempts,
        letter.time,
        letter.key,
        len(letter.value or b""),
        sent_back=False,
    )
