"""From records to answers, and the promise: committed is only what is out.

A fake client stands in for what a broker cannot be made to do on demand.
"""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CommitFailedError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    TopicAuthorizationFailedError,
)
from numpy.typing import NDArray

from car_classifier import consuming
from car_classifier.broker import BrokerSettings
from car_classifier.class_map import CarClass
from car_classifier.consuming import PhotoStream, Rejection, classify
from car_classifier.errors import BrokerError, Reason
from car_classifier.predictions import Prediction
from tests.photos import encoded, message, picture


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    value: bytes | None


class StandIn:
    """A model that takes every photo for the first class, and notes the batches it was given."""

    input_size = (24, 16)

    def __init__(self) -> None:
        self.classes = [CarClass("BMW", "M3 Coupe", 2012), CarClass("Audi")]
        self.batches: list[tuple[int, ...]] = []

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert images.dtype == np.uint8
        self.batches.append(images.shape)
        return np.tile(np.array([0.75, 0.25], np.float32), (len(images), 1))


class FakeConsumer:
    """Answers polls and commits with what it was given, in that order; then nothing and success."""

    def __init__(self, polls: tuple[Any, ...] = (), commits: tuple[Any, ...] = ()) -> None:
        self._polls, self._commits = deque(polls), deque(commits)
        self.assigned: set[TopicPartition] = set()
        self.committed: list[dict[TopicPartition, OffsetAndMetadata]] = []
        self.asked: list[int] = []
        self.probes: deque[KafkaError | None] = deque()
        self.positions: list[TopicPartition] = []
        self.listener: Any = None
        self.closed = False
        self.close_error: KafkaError | None = None

    def subscribe(self, topics: list[str], listener: Any) -> None:
        assert topics == ["photos"]
        self.listener = listener

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def position(self, partition: TopicPartition, timeout_ms: int) -> int:
        assert timeout_ms
        self.positions.append(partition)
        return 0

    def poll(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        assert timeout_ms
        self.asked.append(max_records)
        answer = self._polls.popleft() if self._polls else []
        if isinstance(answer, KafkaError):
            raise answer
        if answer == "assigned":
            self.assigned = {TopicPartition("photos", number) for number in range(3)}
            return {}
        polled: dict[TopicPartition, list[Record]] = {}
        for record in answer:
            polled.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        return polled

    def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata], timeout_ms: int) -> None:
        assert timeout_ms
        error = self._commits.popleft() if self._commits else None
        if error:
            raise error
        self.committed.append(offsets)

    def end_offsets(self, partitions: list[TopicPartition], timeout_ms: int) -> None:
        assert partitions
        assert timeout_ms
        error = self.probes.popleft() if self.probes else None
        if error:
            raise error

    def close(self, timeout_ms: int) -> None:
        assert timeout_ms
        self.closed = True
        if self.close_error:
            raise self.close_error


def stream_of(consumer: FakeConsumer, stopped: Callable[[], bool] = lambda: False) -> PhotoStream:
    client: Any = consumer
    return PhotoStream(client, BrokerSettings("broker:1", "photos"), stopped)


def after(polls: int, consumer: FakeConsumer) -> Callable[[], bool]:
    """Return a stop signal that comes after so many polls."""
    return lambda: len(consumer.asked) >= polls


def records(*offsets: int, partition: int = 0, value: bytes | None = None) -> list[Record]:
    return [Record("photos", partition, offset, value or message()) for offset in offsets]


def answers(*values: bytes | None, **options: Any) -> list[Prediction | Rejection]:
    batch = [Record("photos", 1, offset, value) for offset, value in enumerate(values)]
    classifier: Any = options.pop("classifier", StandIn())
    return classify(batch, classifier, **{"top_k": 3, "min_confidence": 0.0, **options})


def test_a_photo_becomes_a_prediction() -> None:
    started = time.time()
    (answer,) = answers(message(timestamp=started - 2))

    assert isinstance(answer, Prediction)
    assert answer.as_line() == ("cam01 coche.jpg -> Make: BMW, Model: M3 Coupe, Confidence: 75.00%")
    assert str(answer.source) == "photos[1]@0"
    assert answer.latency_ms == pytest.approx(2000, abs=500)
    assert len(answer.top_k) == 2  # there are no more classes


def test_only_as_many_guesses_are_kept_as_asked_for() -> None:
    (answer,) = answers(message(), top_k=1)

    assert isinstance(answer, Prediction)
    assert [car.make for car, _ in answer.top_k] == ["BMW"]


@pytest.mark.parametrize(("least", "certain"), [(0.0, True), (0.75, True), (0.751, False)])
def test_below_the_least_confidence_an_answer_is_not_certain(least: float, certain: bool) -> None:
    (answer,) = answers(message(), min_confidence=least)

    assert isinstance(answer, Prediction)
    assert answer.certain is certain


def test_good_and_bad_messages_are_answered_in_their_order_and_together() -> None:
    classifier = StandIn()
    cut = encoded(picture(), "JPEG")[:500]

    given = answers(
        message(image_name="a.jpg"),
        b"not json",
        message(image_name="b.jpg"),
        None,
        message(image_data=None),
        message(image_data="aGVsbG8="),
        message(image_data=base64.b64encode(cut).decode()),
        message(image_name="c.jpg"),
        classifier=classifier,
    )

    shown = [
        answer.error.reason if isinstance(answer, Rejection) else answer.photo.image_name
        for answer in given
    ]
    assert shown == [
        "a.jpg",
        Reason.NOT_JSON,
        "b.jpg",
        Reason.NOT_JSON,
        Reason.MISSING_FIELD,
        Reason.NOT_AN_IMAGE,
        Reason.DAMAGED_IMAGE,
        "c.jpg",
    ]
    assert classifier.batches == [(3, 16, 24, 3)]


def test_a_batch_of_nothing_but_bad_messages_never_meets_the_model() -> None:
    classifier = StandIn()

    assert len(answers(b"", b"[]", classifier=classifier)) == 2
    assert classifier.batches == []


def test_a_rejection_says_where_the_message_lies_and_why() -> None:
    _, answer = answers(message(), message(camera_id=["\n"]))

    assert str(answer) == (
        "Rejected photos[1]@1: bad_field: expected text in 'camera_id', got a list"
    )


def test_batches_are_no_larger_than_asked_for_and_end_in_time() -> None:
    consumer = FakeConsumer(polls=(records(0, 1, 2), [], records(3, 4, 5), records(6)))

    batches = list(stream_of(consumer).batches(batch_size=3, max_messages=7))

    assert [[record.offset for record in batch] for batch in batches] == [
        [0, 1, 2],
        [3, 4, 5],
        [6],
    ]
    assert consumer.asked == [3, 3, 3, 1]  # never fetched: what would have to come again


def test_a_stop_signal_ends_between_batches() -> None:
    consumer = FakeConsumer(polls=(records(0), records(1), records(2)))

    batches = list(stream_of(consumer, stopped=after(2, consumer)).batches(batch_size=9))

    assert len(batches) == 2


def test_what_comes_with_the_partitions_is_not_lost() -> None:
    # Given a broker that gives partitions and a first message at once
    consumer = FakeConsumer(polls=([], records(0), records(1)))
    stream = stream_of(consumer)
    consumer.assigned = set()
    real_poll = consumer.poll

    def poll(timeout_ms: int, max_records: int) -> Any:
        polled = real_poll(timeout_ms, max_records)
        if polled:
            consumer.assigned = {TopicPartition("photos", 0)}
        return polled

    consumer.poll = poll  # type: ignore[method-assign]

    assert stream.wait_for_partitions()
    first, second = stream.batches(batch_size=4, max_messages=2)

    assert [first[0].offset, second[0].offset] == [0, 1]


def test_listening_means_that_every_partition_has_a_place_to_read_from() -> None:
    consumer = FakeConsumer(polls=([], "assigned"))

    assert stream_of(consumer).wait_for_partitions()

    assert set(consumer.positions) == consumer.assigned
    assert len(consumer.positions) == 3


def test_a_stop_before_there_are_partitions_is_noticed() -> None:
    consumer = FakeConsumer()

    assert not stream_of(consumer, stopped=after(2, consumer)).wait_for_partitions()


def test_the_offset_after_the_last_record_of_each_partition_is_committed() -> None:
    consumer = FakeConsumer()

    stream_of(consumer).commit([*records(4, 5, 6), *records(9, partition=2)])

    (offsets,) = consumer.committed
    assert {partition.partition: at.offset for partition, at in offsets.items()} == {0: 7, 2: 10}


@pytest.mark.parametrize("error", [CommitFailedError(), RebalanceInProgressError()])
def test_a_commit_that_fails_in_a_rebalance_is_skipped(
    capsys: pytest.CaptureFixture[str], error: KafkaError
) -> None:
    consumer = FakeConsumer(polls=(records(0), records(1)), commits=(error,))
    stream = stream_of(consumer)

    for batch in stream.batches(batch_size=1, max_messages=2):
        stream.commit(batch)

    assert [max(at.offset for at in offsets.values()) for offsets in consumer.committed] == [2]
    assert capsys.readouterr().err.count("some photos may repeat") == 1


def test_a_commit_is_tried_until_the_broker_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    consumer = FakeConsumer(commits=(KafkaTimeoutError(), KafkaTimeoutError()))

    stream_of(consumer).commit(records(0))

    assert len(consumer.committed) == 1
    assert capsys.readouterr().err == "Kafka at broker:1 takes no commit; trying again\n" * 2


def test_a_stop_while_the_broker_is_away_gives_a_commit_up() -> None:
    consumer = FakeConsumer(commits=(KafkaTimeoutError(),))

    stream_of(consumer, stopped=lambda: True).commit(records(0))

    assert consumer.committed == []


def test_what_the_broker_forbids_is_an_error_not_an_endless_wait() -> None:
    forbidden = TopicAuthorizationFailedError("photos")

    with pytest.raises(BrokerError, match=r"refuses to commit.*photos"):
        stream_of(FakeConsumer(commits=(forbidden,))).commit(records(0))
    with pytest.raises(BrokerError, match=r"broker:1 refuses.*photos"):
        next(stream_of(FakeConsumer(polls=(forbidden,))).batches(batch_size=1))


def test_a_poll_that_fails_for_now_is_repeated() -> None:
    consumer = FakeConsumer(polls=(KafkaTimeoutError(), records(0)))

    (batch,) = stream_of(consumer).batches(batch_size=1, max_messages=1)

    assert batch[0].offset == 0


def test_a_broker_that_goes_and_returns_is_reported_once_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "PROBE_SECONDS", -1)  # ask after every empty poll
    consumer = FakeConsumer(polls=([], [], [], records(0)))
    consumer.probes = deque([None, KafkaTimeoutError(), KafkaTimeoutError()])

    list(stream_of(consumer).batches(batch_size=1, max_messages=1))

    assert capsys.readouterr().err.splitlines() == [
        "Kafka at broker:1 does not answer; waiting...",
        "Kafka at broker:1 answers again",
    ]


def test_a_consumer_without_a_free_partition_says_that_it_waits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    consumer = FakeConsumer()
    stream_of(consumer)

    consumer.listener.on_partitions_assigned([])
    assert capsys.readouterr().err.startswith("No partition is free: ")
    consumer.listener.on_partitions_revoked([])
    consumer.listener.on_partitions_assigned([TopicPartition("photos", 0)])
    assert capsys.readouterr().err == ""


def test_closing_leaves_the_group() -> None:
    consumer = FakeConsumer()

    stream_of(consumer).close()

    assert consumer.closed


def test_closing_while_the_broker_is_away_is_no_error() -> None:
    consumer = FakeConsumer()
    consumer.close_error = KafkaTimeoutError()

    stream_of(consumer).close()

    assert consumer.closed
