"""How many photos wait on Kafka for the consumers, asked beside the page: it never waits for Kafka.

A Kafka that does not answer makes the lag unknown, and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from car_classifier.broker import BrokerSettings, make_consumer

__all__ = ["Lag", "LagMonitor", "consumer_lag"]

FRESH_SECONDS = 3.0  # before Kafka is asked again
STALE_SECONDS = 20.0  # without an answer, before the last one says nothing any more
ANSWER_MS = 5000  # that Kafka has for one question


@dataclass(frozen=True)
class Lag:
    """Photos that wait.

    Attributes:
        partitions: how many, by partition.
    """

    partitions: Mapping[int, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.partitions.values())


def consumer_lag(client: Any, topic: str) -> Lag:
    """Ask Kafka how far the group of a client is behind the end of a topic.

    Args:
        client: a ``KafkaConsumer`` of that group that has not subscribed, and so never joins it.
        topic: the photos' topic.

    Raises:
        KafkaError: it does not answer, or not to us.
    """
    places = [TopicPartition(topic, number) for number in client.partitions_for_topic(topic)]
    if not places:
        return Lag({})
    ends = client.end_offsets(places, timeout_ms=ANSWER_MS)
    starts = client.beginning_offsets(places, timeout_ms=ANSWER_MS)
    lag = {}
    for place in sorted(places):
        committed = client.committed(place, timeout_ms=ANSWER_MS)
        # Messages may have been deleted, by age or size, before the group came to them.
        done = max(starts[place], committed or 0)
        lag[place.partition] = max(0, ends[place] - done)
    return Lag(lag)


class LagMonitor:
    """The lag of a consumer group as it was a few seconds ago at most.

    Args:
        settings: where Kafka is.
        group_id: whose lag.
        make_client: makes what asks; see `consumer_lag`.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        group_id: str,
        make_client: Callable[..., Any] = make_consumer,
    ) -> None:
        self._settings = settings
        self._group_id = group_id
        self._make_client = make_client
        self._client: Any = None
        self._lock = threading.Lock()
        self._asking = False
        self._asked = -FRESH_SECONDS  # on the monotonic clock
        self._found: tuple[float, Lag] | None = None  # when it came, and what

    def latest(self) -> Lag | None:
        """The lag, None while it is unknown; returns at once."""
        with self._lock:
            now = time.monotonic()
            if not self._asking and now - self._asked >= FRESH_SECONDS:
                self._asking, self._asked = True, now
                # A daemon: a Kafka that has vanished must not keep the page's server from ending.
                threading.Thread(target=self._ask, name="lag", daemon=True).start()
            if self._found is None or now - self._found[0] > STALE_SECONDS:
                return None
            return self._found[1]

    def _ask(self) -> None:
        found = None
        try:
            if self._client is None:
                self._client = self._make_client(self._settings, self._group_id, True)
            found = time.monotonic(), consumer_lag(self._client, self._settings.topic)
        except (KafkaError, OSError, ValueError):
            client, self._client = self._client, None  # a new one finds a Kafka that has moved
            if client is not None:
                client.close(timeout_ms=0)
        finally:
            with self._lock:
                self._found, self._asking = found, False
