"""Consumers come, go and are given other partitions: none stands still, and nothing is lost."""

from __future__ import annotations

import time
import uuid

from kafka.admin import KafkaAdminClient

from car_classifier.broker import BrokerSettings, make_consumer
from tests.kafka_services import SESSION_TIMEOUT_MS, RealKafka
from tests.scripts import SECONDS
from tests.topics import publish


def test_a_join_that_outlasts_a_poll_is_not_forgotten(real_kafka: RealKafka, group_id: str) -> None:
    # Given a consumer with short polls that is its group's leader
    topic = f"grows-{uuid.uuid4().hex[:8]}"
    real_kafka.create_topic(topic, partitions=1)
    settings = BrokerSettings(real_kafka.bootstrap_servers, topic, SESSION_TIMEOUT_MS)
    with make_consumer(
        settings, group_id, from_beginning=True, metadata_max_age_ms=500
    ) as consumer:
        consumer.subscribe([topic])
        deadline = time.monotonic() + SECONDS
        for partitions in range(2, 7):
            # When the topic's partitions change, and so it joins anew
            with KafkaAdminClient(bootstrap_servers=real_kafka.bootstrap_servers) as admin:
                admin.create_partitions({topic: partitions})
            while len(consumer.assignment()) < partitions:
                consumer.poll(timeout_ms=2)
                assert time.monotonic() < deadline, "it has forgotten to join"

            # Then it goes on reading
            publish(real_kafka, topic, [("cam01", b"photo")])
            while not consumer.poll(timeout_ms=2):
                assert time.monotonic() < deadline, "it reads nothing any more"
