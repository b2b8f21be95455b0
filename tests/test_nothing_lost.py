"""Whatever ends, moves or goes away in the middle of the work: every photo is answered.

Where a photo is answered twice, it is one of the last batch that was not committed.
"""

from __future__ import annotations

import json
import signal
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.kafka_services import Broker, RealKafka
from tests.photos import RED, base64_of, colour, message
from tests.scripts import (
    CONSUMER,
    PRODUCER,
    Program,
    Programs,
    answers,
    assert_no_stack_trace,
)
from tests.tampered_consumer import COMMAND
from tests.topics import publish, records

BATCH = 4


@pytest.fixture
def lane(broker: Broker) -> str:
    """A topic of one partition."""
    name = f"lane-{uuid.uuid4().hex[:12]}"
    broker.create_topic(name, partitions=1)
    return name


@pytest.fixture
def kafka_lane(real_kafka: RealKafka) -> str:
    """The same, on real Kafka."""
    name = f"lane-{uuid.uuid4().hex[:12]}"
    real_kafka.create_topic(name, partitions=1)
    return name


def publish_photos(broker: Broker, topic: str, count: int) -> None:
    image = base64_of(colour(RED, side=2))
    values = [message(image_name=f"{number}.png", image_data=image) for number in range(count)]
    publish(broker, topic, [("cam01", value) for value in values])


def options(topic: str, group_id: str, *more: str) -> list[str]:
    shared = ["--json", "--topic", topic, "--group-id", group_id]
    return [*shared, "--batch-size", str(BATCH), "--max-wait-ms", "60000", *more]


def tampered(programs: Programs, broker: Broker, arguments: list[str], **tampering: Any) -> Program:
    return programs.start(broker, *COMMAND, *arguments, TAMPER=json.dumps(tampering))


def times_answered(*consumers: Program) -> Counter[int]:
    return Counter(answer["offset"] for answer in answers(*consumers))


def committed(broker: Broker, topic: str, group_id: str) -> int:
    with KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, group_id=group_id, enable_auto_commit=False
    ) as consumer:
        return consumer.committed(TopicPartition(topic, 0)) or 0


def test_a_consumer_killed_with_a_batch_in_the_model_skips_no_photo(
    broker: Broker, programs: Programs, lane: str, group_id: str
) -> None:
    # Given a batch that is out, and the next ones in the model
    total = 5 * BATCH
    publish_photos(broker, lane, total)
    arguments = options(lane, group_id)
    killed = tampered(programs, broker, arguments, model_seconds=1.5)
    killed.wait_for(lambda: len(killed.out) >= BATCH)
    killed.wait_for_line("In the model", count=2)

    # When the consumer is killed and started again
    killed.stop(signal.SIGKILL)
    done = committed(broker, lane, group_id)
    again = programs.start(broker, CONSUMER, *arguments, "--max-messages", str(total - done))
    assert again.end() == 0, again

    # Then all are answered, and twice only what was out and not committed
    times = times_answered(killed, again)
    assert set(times) == set(range(total))
    twice = sorted(offset for offset, count in times.items() if count > 1)
    assert twice == list(range(done, done + len(twice)))
    assert len(twice) <= BATCH
    assert max(times.values()) <= 2


def test_a_producer_killed_in_the_middle_has_sent_all_that_it_says(
    broker: Broker, programs: Programs, lane: str, tmp_path: Path
) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.png").write_bytes(colour(RED, side=2))
    producer = programs.start(
        broker, PRODUCER, "--topic", lane, "--images", tmp_path, "--interval", "0"
    )
    producer.wait_for_line("Sent: ", count=50)

    producer.stop(signal.SIGKILL)

    said = [line.split()[1] for line in producer.out if line.startswith("Sent: ")]
    found = records(broker, lane, len(said), exactly=False)  # the last may not have been told
    assert [json.loads(one.value)["image_name"] for one in found][: len(said)] == said


def test_a_rebalance_with_a_batch_in_the_model_skips_no_photo(
    real_kafka: RealKafka, programs: Programs, group_id: str, tmp_path: Path
) -> None:
    # Given a consumer with photos of two partitions in the model
    topic = f"shared-{uuid.uuid4().hex[:12]}"
    real_kafka.create_topic(topic, partitions=2)
    image, total = base64_of(colour(RED, side=2)), 10 * BATCH
    cameras = [f"cam{number}" for number in range(16)]
    publish(
        real_kafka,
        topic,
        [(cameras[n % 16], message(image_data=image, image_name=str(n))) for n in range(total)],
    )
    arguments = [*options(topic, group_id), "--max-wait-ms", "100"]
    go_on = tmp_path / "go on"
    first = tampered(programs, real_kafka, arguments, model_waits_for=str(go_on))
    first.wait_for_line("In the model")

    # When another consumer joins
    second = programs.start(real_kafka, CONSUMER, *arguments)
    second.wait_for(lambda: bool(second.out))
    go_on.touch()

    # Then each photo is answered, and twice at most what was given out as the partitions moved
    def names() -> Counter[str]:
        return Counter(answer["image_name"] for answer in answers(first, second))

    first.wait_for(lambda: len(names()) == total)
    assert [first.stop(), second.stop()] == [0, 0]
    assert sum(names().values()) - total <= BATCH
    assert_no_stack_trace(first, second)


def test_photos_of_a_commit_that_fails_come_again(
    real_kafka: RealKafka, programs: Programs, kafka_lane: str, group_id: str
) -> None:
    publish_photos(real_kafka, kafka_lane, 2 * BATCH)
    arguments = options(kafka_lane, group_id, "--max-messages")

    # Given a consumer whose only commit fails
    first = tampered(programs, real_kafka, [*arguments, str(BATCH)], commits_fail=1)
    assert first.end() == 0, first
    assert any("some photos may repeat" in line for line in first.err)
    assert committed(real_kafka, kafka_lane, group_id) == 0

    # When the next one reads, then it reads them too; and a commit that fails stops nobody
    second = tampered(programs, real_kafka, [*arguments, str(2 * BATCH)], commits_fail=1)
    assert second.end() == 0, second
    expected = {offset: 2 if offset < BATCH else 1 for offset in range(2 * BATCH)}
    assert times_answered(first, second) == expected
    assert committed(real_kafka, kafka_lane, group_id) == 2 * BATCH


def test_a_batch_longer_in_the_model_than_the_group_waits_for_polls_is_answered_once(
    real_kafka: RealKafka, programs: Programs, kafka_lane: str, group_id: str
) -> None:
    publish_photos(real_kafka, kafka_lane, 3 * BATCH)

    consumer = tampered(
        programs,
        real_kafka,
        options(kafka_lane, group_id, "--max-messages", str(3 * BATCH)),
        model_seconds=6,
        max_poll_interval_ms=3000,
    )

    assert consumer.end() == 0, consumer
    assert times_answered(consumer) == dict.fromkeys(range(3 * BATCH), 1)
    assert committed(real_kafka, kafka_lane, group_id) == 3 * BATCH
    assert not any("Partitions moved" in line for line in consumer.err)


def test_answers_that_come_while_the_broker_is_away_go_out_when_it_is_back(
    real_kafka: RealKafka, programs: Programs, kafka_lane: str, group_id: str
) -> None:
    # Given photos and poison in the model when the broker goes away
    publish_photos(real_kafka, kafka_lane, BATCH - 1)
    publish(real_kafka, kafka_lane, [("cam01", b"poison")])
    results = f"{kafka_lane}-results"
    consumer = tampered(
        programs,
        real_kafka,
        options(kafka_lane, group_id, "--results-topic", results, "--max-messages", str(BATCH)),
        model_seconds=4,
    )
    consumer.wait_for_line("In the model")
    real_kafka.stop()

    # When it comes back
    try:
        consumer.wait_for_line("has not acknowledged 3 messages for")
    finally:
        real_kafka.start()

    # Then results, dead letter and commit are there, each once
    assert consumer.end() == 0, consumer
    found = records(real_kafka, results, BATCH - 1)
    assert sorted(json.loads(one.value)["offset"] for one in found) == list(range(BATCH - 1))
    (letter,) = records(real_kafka, f"{kafka_lane}.dlq", 1)
    assert letter.value == b"poison"
    assert committed(real_kafka, kafka_lane, group_id) == BATCH
    assert sum("has not acknowledged" in line for line in consumer.err) <= 2  # once for each topic
    assert_no_stack_trace(consumer)


def test_a_model_that_breaks_ends_the_consumer_and_condemns_no_photo(
    real_kafka: RealKafka, programs: Programs, kafka_lane: str, group_id: str
) -> None:
    publish_photos(real_kafka, kafka_lane, BATCH)
    arguments = options(kafka_lane, group_id, "--max-messages", str(BATCH))

    broken = tampered(programs, real_kafka, arguments, model_breaks=True)

    assert broken.end() == 2
    assert broken.out == []
    assert "error: expected a model that answers" in broken.err[-1]
    assert "the device is gone" in broken.err[-1]
    assert committed(real_kafka, kafka_lane, group_id) == 0
    assert not any("Rejected" in line for line in broken.err)
