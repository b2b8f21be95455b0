"""Dead letters: a message that no prediction can be made from is kept, byte for byte, with the why.

A dead letter has the key, value and headers of its message, followed by headers of ours in the
family that Kafka Connect uses.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from car_classifier.broker import BrokerSettings
from car_classifier.classifying import Answers, Rejection
from car_classifier.delivery import KeepWaiting
from car_classifier.errors import Reason
from car_classifier.outbox import MAX_OUTGOING_BYTES, Headers, Outbox, OutgoingMessage
from car_classifier.predictions import Source

__all__ = ["DeadLetter", "DeadLetters", "create_dead_letter_topic", "dead_letter_topic"]

_PREFIX = "__connect.errors."
_LONGEST_MESSAGE = 1000  # letters
_LONGEST_TRACE = 4000
# A failure here is the model's, all others lie in the message.
_MODEL_REASONS = (Reason.MODEL_FAILED,)


def dead_letter_topic(topic: str) -> str:
    """The topic of a topic's dead letters, unless another is named."""
    return f"{topic}.dlq"


def create_dead_letter_topic(settings: BrokerSettings, topic: str) -> None:
    """Create the topic, with room for the headers, unless it is there.

    Where that is forbidden or fails, the topic is left to the broker or its administrator; sending
    to it will show whether it is there.
    """
    options = {
        "num_partitions": -1,  # as the broker likes it
        "replication_factor": -1,
        "configs": {"max.message.bytes": str(MAX_OUTGOING_BYTES)},
    }
    with (
        contextlib.suppress(KafkaError, OSError),
        contextlib.closing(KafkaAdminClient(**settings.client_options())) as admin,
    ):
        admin.create_topics({topic: options}, wait_for_metadata=True)


class DeadLetters:
    """A sink that sends each rejected message to a topic of its own."""

    def __init__(self, outbox: Outbox, topic: str) -> None:
        self._outbox = outbox
        self._topic = topic

    def deliver(self, batch: Answers, keep_waiting: KeepWaiting) -> bool:
        """Send a batch's rejected messages; see `car_classifier.delivery.Sink`."""
        messages = [
            OutgoingMessage(
                self._topic,
                record.key,
                record.value,
                [*_original_headers(record), *_headers(answer, time.time())],
            )
            for record, answer in zip(batch.records, batch.answers, strict=True)
            if isinstance(answer, Rejection)
        ]
        return self._outbox.send(messages, keep_waiting)

    def close(self) -> None:
        """Nothing to let go: the outbox is its owner's to close."""


def _original_headers(record: Any) -> Headers:
    """A header without a value gets an empty one: the client library sends no other."""
    return [(name, value or b"") for name, value in record.headers]


def _headers(rejection: Rejection, now: float) -> Headers:
    """What is added to a message, in the order of `_NAMES`."""
    error = rejection.error
    cause = error.__cause__ or error
    trace = "".join(traceback.format_exception(error))
    fields = {
        "topic": rejection.source.topic,
        "partition": rejection.source.partition,
        "offset": rejection.source.offset,
        "stage": "TASK_PUT" if error.reason in _MODEL_REASONS else "VALUE_CONVERTER",
        "class.name": "car_classifier.classifying",
        "exception.class.name": f"{type(cause).__module__}.{type(cause).__qualname__}",
        "exception.message": error.detail[:_LONGEST_MESSAGE],
        "exception.stacktrace": trace[-_LONGEST_TRACE:],
        "reason": error.reason.value,
        "attempts": rejection.attempts,
        "timestamp": round(now * 1000),  # in milliseconds, as Kafka's own
    }
    return [
        (_PREFIX + name, str(value).encode(errors="backslashreplace"))
        for name, value in fields.items()
    ]


_OURS = 11  # headers that `_headers` adds


@dataclass(frozen=True)
class DeadLetter:
    """A dead letter as it lies on its topic."""

    source: Source  # of the message that it was
    reason: str
    detail: str
    attempts: int
    time: float  # seconds since 1970, when it was given up
    key: bytes | None
    value: bytes | None
    headers: Headers  # the message's own

    @classmethod
    def read(cls, record: Any) -> DeadLetter | None:
        """Read one of kafka-python's ``ConsumerRecord``s; None if it is no dead letter of ours."""
        ours: Sequence[tuple[str, bytes | None]] = record.headers[-_OURS:]
        fields = {
            name.removeprefix(_PREFIX): (value or b"").decode(errors="backslashreplace")
            for name, value in ours
            if name.startswith(_PREFIX)
        }
        try:
            return cls(
                Source(fields["topic"], int(fields["partition"]), int(fields["offset"])),
                fields["reason"],
                fields["exception.message"],
                int(fields["attempts"]),
                int(fields["timestamp"]) / 1000,
                record.key,
                record.value,
                [(name, value or b"") for name, value in record.headers[:-_OURS]],
            )
        except (KeyError, ValueError):
            return None

    def as_it_was(self, topic: str) -> OutgoingMessage:
        """The message that it was, to go to a topic again."""
        return OutgoingMessage(topic, self.key, self.value, self.headers)
