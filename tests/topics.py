"""Messages put on a topic and read off it by tests, without the project's own code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaConsumer, KafkaProducer

from tests.kafka_services import Broker
from tests.scripts import SECONDS

LARGEST_PHOTO = 15 * 2**20


def publish(broker: Broker, topic: str, messages: Sequence[tuple[str, bytes | None]]) -> None:
    """Send keys and values, and return when all are acknowledged."""
    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        sent = [producer.send(topic, value, key=key.encode()) for key, value in messages]
        for future in sent:
            future.get(timeout=SECONDS)


def records(broker: Broker, topic: str, count: int, *, exactly: bool = True) -> list[Any]:
    """Return the messages of a topic: so many, or at least so many."""
    found: list[Any] = []
    with KafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=2 * LARGEST_PHOTO,
    ) as consumer:
        deadline = time.monotonic() + SECONDS
        while len(found) < count and time.monotonic() < deadline:
            for part in consumer.poll(timeout_ms=500).values():
                found += part
    assert len(found) == count or (len(found) > count and not exactly)
    return found
