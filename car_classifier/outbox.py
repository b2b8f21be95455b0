"""Messages that must arrive: what goes out beside the predictions on stdout waits for its acks.

The results topic and the dead letters share one producer, and with it one connection.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.serializer import Serializer

from car_classifier.broker import BrokerSettings, check_topic, close_producer, make_producer
from car_classifier.errors import BrokerError, SettingsError

__all__ = [
    "MAX_OUTGOING_BYTES",
    "Headers",
    "Outbox",
    "OutgoingMessage",
    "check_topics",
    "open_outbox",
]

# A message of the largest size becomes a dead letter with its headers: 1 MiB more than it was.
MAX_OUTGOING_BYTES = 22 * 2**20
WAIT_SECONDS = 0.25  # for an acknowledgement, between two signs of life to the consumer's group
PATIENCE_SECONDS = 3.0  # without an acknowledgement, before the user is told so

Headers = list[tuple[str, bytes]]


class OutgoingMessage(NamedTuple):
    """A message on its way; key and value may both be absent."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class _Content(NamedTuple):
    """Bytes or none. The client library refuses a message that has neither key nor value itself."""

    content: bytes | None


class _Unwrap(Serializer):
    def serialize(self, _topic: str, _headers: Headers, data: _Content) -> bytes | None:
        return data.content


def check_topics(settings: BrokerSettings, **outgoing: str | None) -> None:
    """Check the names of the topics that are sent to; what goes out must not come in again.

    Raises:
        SettingsError: no name that Kafka allows, or two topics with one name.
    """
    taken = {settings.topic: "topic"}
    for name, topic in outgoing.items():
        if topic is None:
            continue
        what = name.replace("_", " ")
        check_topic(what, topic)
        if topic in taken:
            raise SettingsError(f"{what}: expected another topic than the {taken[topic]}'s")
        taken[topic] = what


def open_outbox(settings: BrokerSettings) -> Outbox:
    """Connect an outbox.

    Raises:
        KafkaError: no broker answers.
    """
    producer = make_producer(
        settings,
        max_request_size=MAX_OUTGOING_BYTES,
        max_block_ms=int(WAIT_SECONDS * 1000),
        key_serializer=_Unwrap(),
        value_serializer=_Unwrap(),
    )
    return Outbox(producer, settings)


class Outbox:
    """Sends messages together and returns when each is acknowledged.

    Args:
        producer: one that `open_outbox` has made.
        settings: names the broker in what is said while it is away.
    """

    def __init__(self, producer: KafkaProducer, settings: BrokerSettings) -> None:
        self._producer = producer
        self._settings = settings

    def send(self, messages: Iterable[OutgoingMessage], keep_waiting: Callable[[], bool]) -> bool:
        """Send messages; while the broker is away say so once, wait and go on.

        Args:
            messages: they may be sent again by a later call, if this one returns false.
            keep_waiting: called several times a second while there is something to wait for.

        Returns:
            False if ``keep_waiting()`` was, before all were acknowledged.

        Raises:
            BrokerError: the broker refuses a message; trying again would not help.
        """
        to_send = deque(messages)
        on_their_way: deque[tuple[OutgoingMessage, Any]] = deque()
        began, said = time.monotonic(), False
        while to_send or on_their_way:
            try:
                while to_send:
                    on_their_way.append((to_send[0], self._hand_over(to_send[0])))
                    to_send.popleft()
                message, future = on_their_way[0]
                future.get(timeout=WAIT_SECONDS)
            except KafkaError as error:
                if to_send:  # this one cannot even be handed over
                    failed = to_send[0]
                elif future.is_done:
                    failed = message
                    to_send.append(on_their_way.popleft()[0])
                else:
                    failed = None
                if failed and not error.retriable:
                    raise self._refusal(failed, error) from error
            else:
                on_their_way.popleft()
                continue
            if not said and time.monotonic() - began > PATIENCE_SECONDS:
                said = True
                waiting = [*to_send, *(message for message, _ in on_their_way)]
                topics = ", ".join(sorted({message.topic for message in waiting}))
                number = f"{len(waiting)} message{'s' if len(waiting) > 1 else ''}"
                self._say(f"has not acknowledged {number} for {topics}; waiting...")
            if not keep_waiting():
                return False
        if said:
            self._say("acknowledges again")
        return True

    def close(self) -> None:
        """Disconnect; what is acknowledged is safe already."""
        close_producer(self._producer)

    def _hand_over(self, message: OutgoingMessage) -> Any:
        return self._producer.send(
            message.topic,
            key=_Content(message.key),
            value=_Content(message.value),
            headers=message.headers,
        )

    def _refusal(self, message: OutgoingMessage, error: KafkaError) -> BrokerError:
        size = len(message.key or b"") + len(message.value or b"")
        return BrokerError(
            f"Kafka at {self._settings.bootstrap_servers} refuses a message of {size} bytes for "
            f"topic {message.topic}: {error or type(error).__name__}"
        )

    def _say(self, what: str) -> None:
        print(f"Kafka at {self._settings.bootstrap_servers} {what}", file=sys.stderr, flush=True)
