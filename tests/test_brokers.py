"""What every end-to-end test relies on: both brokers stop, crash and return under one address."""

from __future__ import annotations

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient

from car_classifier.embedded_broker import answers
from tests.kafka_services import TOPIC, Broker


def is_up(broker: Broker) -> bool:
    host, port = broker.bootstrap_servers.split(":")
    return answers(host, int(port))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_broker_returns_with_its_topic_and_what_it_keeps(
    broker: Broker, topic: str, end: str
) -> None:
    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        producer.send(topic, b"a car").get(timeout=10)

    getattr(broker, end)()
    assert not is_up(broker)
    broker.start()

    with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
        assert len(admin.describe_topics([TOPIC])[0]["partitions"]) == 3
    with KafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=10_000 if broker.keeps_messages else 500,
    ) as consumer:
        kept = [message.value for message in [next(consumer, None)] if message]
    assert kept == ([b"a car"] if broker.keeps_messages else [])


def test_a_program_is_pointed_at_the_broker_and_at_nothing_else(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_TOPIC", "another")
    monkeypatch.setenv("CAMERA_ID", "another")

    environment = broker.environment(CAMERA_ID="cam02")

    assert environment["KAFKA_BOOTSTRAP_SERVERS"] == broker.bootstrap_servers
    assert environment["CAMERA_ID"] == "cam02"
    assert "KAFKA_TOPIC" not in environment
    assert "PATH" in environment
