"""What is rejected is kept: verbatim, with the why, and acknowledged before it is committed."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, NamedTuple

import pytest
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.errors import KafkaError

from car_classifier.broker import BrokerSettings
from car_classifier.classifying import Answers, Rejection
from car_classifier.dead_letters import DeadLetter, DeadLetters, create_dead_letter_topic
from car_classifier.errors import MessageError, Reason
from car_classifier.header_names import HeaderName, accept_any_header_name
from car_classifier.outbox import MAX_OUTGOING_BYTES, OutgoingMessage, open_outbox
from car_classifier.predictions import Source
from tests.kafka_services import TOPIC, Broker, RealKafka
from tests.photos import RED, base64_of, colour, message
from tests.scripts import CONSUMER, Programs, answers, assert_no_stack_trace
from tests.topics import publish, records

CONNECT = "__connect.errors."


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Outgoing:
    """An outbox that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[OutgoingMessage] = []

    def send(self, messages: Any, keep_waiting: Any) -> bool:
        self.sent += messages
        return bool(keep_waiting())


def rejected(record: Record, error: MessageError, attempts: int = 1) -> Rejection:
    return Rejection(Source(record.topic, record.partition, record.offset), error, 1.0, attempts)


def dead_letter_of(record: Record, error: MessageError, attempts: int = 1) -> OutgoingMessage:
    outgoing: Any = Outgoing()
    batch = Answers([record], [rejected(record, error, attempts)])
    assert DeadLetters(outgoing, "photos.dlq").deliver(batch, lambda: True)
    (sent,) = outgoing.sent
    return sent


def test_a_dead_letter_says_where_from_why_when_and_after_how_many_attempts() -> None:
    record = Record("photos", 2, 41, b"cam01", b"not json", [("trace", b"1")])
    before = time.time()

    letter = dead_letter_of(record, MessageError(Reason.NOT_JSON, "expected JSON"), attempts=4)

    assert letter[:3] == ("photos.dlq", b"cam01", b"not json")
    assert letter.headers[0] == ("trace", b"1")
    added = dict(letter.headers[1:])
    assert before - 1 < int(added.pop(CONNECT + "timestamp")) / 1000 < time.time() + 1
    assert b"MessageError" in added.pop(CONNECT + "exception.stacktrace")
    assert {name.removeprefix(CONNECT): value.decode() for name, value in added.items()} == {
        "topic": "photos",
        "partition": "2",
        "offset": "41",
        "stage": "VALUE_CONVERTER",
        "class.name": "car_classifier.classifying",
        "exception.class.name": "car_classifier.errors.MessageError",
        "exception.message": "expected JSON",
        "reason": "not_json",
        "attempts": "4",
    }


def test_a_dead_letter_is_read_back_as_it_was_written() -> None:
    # Given a message that was a dead letter before, with headers of that name already
    record = Record(
        "photos", 0, 7, None, b"\xff", [(CONNECT + "reason", b"older"), ("empty", None)]
    )

    letter = dead_letter_of(record, MessageError(Reason.BAD_FIELD, "half a letter: \ud800"))
    read = DeadLetter.read(Record("photos.dlq", 0, 0, *letter[1:]))

    assert read is not None
    assert (read.source, read.reason) == (Source("photos", 0, 7), "bad_field")
    assert (read.key, read.value) == (None, b"\xff")
    assert read.headers == [(CONNECT + "reason", b"older"), ("empty", b"")]


def test_a_message_that_is_no_dead_letter_is_not_taken_for_one() -> None:
    strange: list[tuple[str, bytes | None]] = [(CONNECT + "topic", None)]

    assert DeadLetter.read(Record("photos.dlq", 0, 0, None, b"", [])) is None
    assert DeadLetter.read(Record("photos.dlq", 0, 0, None, b"", strange)) is None


def test_the_headers_stay_small_whatever_the_error_says() -> None:
    record = Record("photos", 0, 0, None, b"", [])

    letter = dead_letter_of(record, MessageError(Reason.BAD_FIELD, "x" * 1_000_000))

    assert sum(len(name) + len(value) for name, value in letter.headers) < 10_000


def test_predictions_are_no_dead_letters() -> None:
    outgoing: Any = Outgoing()
    prediction: Any = object()

    DeadLetters(outgoing, "photos.dlq").deliver(
        Answers([Record("photos", 0, 0, None, None, [])], [prediction]), lambda: True
    )

    assert outgoing.sent == []


def test_whatever_is_rejected_lies_verbatim_on_the_dead_letter_topic(
    broker: Broker, programs: Programs, topic: str, group_id: str
) -> None:
    # Given good photos, and poison with and without key, value and headers
    good = message(image_data=base64_of(colour(RED)))
    poison: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = [
        (b"cam01", b"not json", [("trace", b"\x00\xff")]),
        (None, b"[]", []),
        (b"\xff\x00", None, [("empty", b""), ("empty", b"twice")]),
        (b"", b"", []),
    ]
    if broker.name == "kafka":  # tansu stores neither of these
        poison.append((None, None, [("only", b"headers")]))
        poison.append((None, b"not json", [(HeaderName("\udcff\udcfe"), b"no UTF-8"), ("é", b"1")]))
    settings = BrokerSettings(broker.bootstrap_servers, topic)
    outbox = open_outbox(settings)
    publish(broker, topic, [("cam01", good)])
    outbox.send([OutgoingMessage(topic, *one) for one in poison], lambda: True)
    outbox.close()
    publish(broker, topic, [("cam01", good)])

    # When the consumer has read them
    total = len(poison) + 2
    consumer = programs.start(
        broker,
        *(CONSUMER, "--json", "--topic", topic, "--group-id", group_id),
        *("--max-messages", str(total)),
    )
    assert consumer.end() == 0, consumer
    assert len(answers(consumer)) == 2
    assert_no_stack_trace(consumer)

    # Then each is there as it came
    accept_any_header_name()  # for this test's own consumer
    letters = [DeadLetter.read(record) for record in records(broker, f"{topic}.dlq", len(poison))]
    found = {(one.key, one.value, tuple(one.headers)) for one in letters if one}
    assert found == {(key, value, tuple(headers)) for key, value, headers in poison}
    assert {one.reason for one in letters if one} == {"not_json", "not_an_object"}
    assert len({one.source for one in letters if one}) == len(poison)


def test_the_largest_message_that_the_topic_takes_becomes_a_dead_letter(
    real_kafka: RealKafka, programs: Programs, group_id: str
) -> None:
    # Given a message up to the last byte that Kafka takes, of headers too
    topic = f"largest-{uuid.uuid4().hex[:8]}"
    real_kafka.create_topic(topic, partitions=1)
    limit = int(real_kafka.settings["message.max.bytes"])
    outbox = open_outbox(BrokerSettings(real_kafka.bootstrap_servers, topic))
    value = bytes(limit - 150_000)
    headers = [("large", bytes(149_800))]
    assert outbox.send([OutgoingMessage(topic, b"cam01", value, headers)], lambda: True)
    outbox.close()

    # When it is rejected
    consumer = programs.start(
        real_kafka,
        *(CONSUMER, "--topic", topic, "--group-id", group_id, "--max-messages", "1"),
    )
    assert consumer.end() == 0, consumer

    # Then it has gone where it belongs, whole
    (record,) = records(real_kafka, f"{topic}.dlq", 1)
    letter = DeadLetter.read(record)
    assert letter is not None
    assert letter.value == value
    assert letter.headers == headers


def test_the_dead_letter_topic_has_room_for_the_headers(real_kafka: RealKafka) -> None:
    settings = BrokerSettings(real_kafka.bootstrap_servers)
    name = f"{TOPIC}-{uuid.uuid4().hex[:8]}.dlq"

    for _ in range(2):  # the second time it is there
        create_dead_letter_topic(settings, name)

    with KafkaAdminClient(bootstrap_servers=real_kafka.bootstrap_servers) as admin:
        configs = admin.describe_configs([ConfigResource("TOPIC", name)], config_filter="all")
    assert configs["topic"][name]["max.message.bytes"]["value"] == str(MAX_OUTGOING_BYTES)


def test_a_dead_letter_topic_that_cannot_be_created_is_left_to_the_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise KafkaError("not allowed")

    monkeypatch.setattr("car_classifier.dead_letters.KafkaAdminClient", refuse)

    create_dead_letter_topic(BrokerSettings(), "photos.dlq")


def test_results_carry_what_they_are_traced_back_by(
    broker: Broker, programs: Programs, topic: str, group_id: str
) -> None:
    # Given photos of two cameras and poison
    red = base64_of(colour(RED))
    messages = [(f"cam{n % 2}", message(camera_id=f"cam{n % 2}", image_data=red)) for n in range(5)]
    publish(broker, topic, [*messages, ("cam0", b"poison")])
    results = f"{topic}-results"

    # When they are classified with a results topic
    started = time.time()
    consumer = programs.start(
        broker,
        *(CONSUMER, "--json", "--topic", topic, "--group-id", group_id, "--max-messages", "6"),
        *("--results-topic", results),
    )
    assert consumer.end() == 0, consumer

    # Then what was said is on the topic too, keyed by camera, with model and times
    found = records(broker, results, 5)
    fields = [json.loads(record.value) for record in found]
    assert [record.key.decode() for record in found] == [one["camera_id"] for one in fields]
    for one in fields:
        assert started - 1 < one.pop("received") <= one.pop("predicted") < time.time() + 1
        assert one.pop("captured") == one["timestamp"]
        assert one.pop("model_file") == "colours.tflite"
        assert len(one.pop("model_sha256")) == 64
    in_order = sorted(fields, key=lambda one: (one["partition"], one["offset"]))
    said = sorted(answers(consumer), key=lambda one: (one["partition"], one["offset"]))
    assert in_order == said
