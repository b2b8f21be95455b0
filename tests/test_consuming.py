"""Records come off the topic, and what is out is committed.

A fake client stands in for what a broker cannot be made to do on demand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import (
    CommitFailedError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    TopicAuthorizationFailedError,
)

from car_classifier import consuming
from car_classifier.broker import BrokerSettings
from car_classifier.consuming import PhotoStream
from car_classifier.errors import BrokerError
from tests.photos import Record, records


class FakeConsumer:
    """Answers polls and commits with what it was given, in that order; then nothing and success."""

    def __init__(self, polls: tuple[Any, ...] = (), commits: tuple[Any, ...] = ()) -> None:
        self.polls, self._commits = deque(polls), deque(commits)
        self.assigned: set[TopicPartition] = set()
        self.paused: set[TopicPartition] = set()
        self.committed: list[dict[TopicPartition, OffsetAndMetadata]] = []
        self.asked: list[int] = []
        self.probes: deque[KafkaError | None] = deque()
        self.positions: list[TopicPartition] = []
        self.ends: dict[TopicPartition, int] = {}  # what a probe hears
        self.highwaters: dict[TopicPartition, int] = {}  # what came with the messages
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

    def pause(self, *partitions: TopicPartition) -> None:
        assert self.assigned.issuperset(partitions)
        self.paused.update(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        assert self.assigned.issuperset(partitions)
        self.paused.difference_update(partitions)

    def poll(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Record]]:
        assert timeout_ms >= 0
        self.asked.append(max_records)
        answer = self.polls.popleft() if self.polls else []
        if callable(answer):  # what happens in a poll
            answer = answer()
        if isinstance(answer, KafkaError):
            raise answer
        if answer == "assigned":
            self.assigned = {TopicPartition("photos", number) for number in range(3)}
            return {}
        polled: dict[TopicPartition, list[Record]] = {}
        for record in answer:
            partition = TopicPartition(record.topic, record.partition)
            assert partition not in self.paused
            polled.setdefault(partition, []).append(record)
        return polled

    def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata], timeout_ms: int) -> None:
        assert timeout_ms
        error = self._commits.popleft() if self._commits else None
        if error:
            raise error
        self.committed.append(offsets)

    def end_offsets(
        self, partitions: list[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, int]:
        assert partitions
        assert timeout_ms
        error = self.probes.popleft() if self.probes else None
        if error:
            raise error
        return {partition: self.ends[partition] for partition in partitions if self.ends}

    def highwater(self, partition: TopicPartition) -> int | None:
        return self.highwaters.get(partition)

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


def test_no_more_is_taken_than_asked_for() -> None:
    consumer = FakeConsumer(polls=(records(0, 1, 2), []))
    stream = stream_of(consumer)

    assert stream.take(3, wait_ms=1) == records(0, 1, 2)
    assert stream.take(2, wait_ms=1) == []

    assert consumer.asked == [3, 2]


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
    first, second = stream.take(4, wait_ms=1), stream.take(4, wait_ms=1)

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

    for _ in range(2):
        stream.commit(stream.take(1, wait_ms=1))

    assert [max(at.offset for at in offsets.values()) for offsets in consumer.committed] == [2]
    assert capsys.readouterr().err.count("some photos may repeat") == 1


def test_a_commit_is_tried_until_the_broker_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    consumer = FakeConsumer(commits=(KafkaTimeoutError(), KafkaTimeoutError()))

    stream_of(consumer).commit(records(0))

    assert len(consumer.committed) == 1
    assert consumer.asked == [1, 1]  # signs of life to the group in between
    assert capsys.readouterr().err.splitlines() == [
        "Kafka at broker:1 does not answer; waiting...",
        "Kafka at broker:1 answers again",
    ]


def test_a_stop_while_the_broker_is_away_gives_a_commit_up() -> None:
    consumer = FakeConsumer(commits=(KafkaTimeoutError(),))

    stream_of(consumer, stopped=lambda: True).commit(records(0))

    assert consumer.committed == []


def test_what_the_broker_forbids_is_an_error_not_an_endless_wait() -> None:
    forbidden = TopicAuthorizationFailedError("photos")

    with pytest.raises(BrokerError, match=r"broker:1 refuses.*photos"):
        stream_of(FakeConsumer(commits=(forbidden,))).commit(records(0))
    with pytest.raises(BrokerError, match=r"broker:1 refuses.*photos"):
        stream_of(FakeConsumer(polls=(forbidden,))).take(1, wait_ms=1)


def test_a_poll_that_fails_for_now_is_repeated() -> None:
    consumer = FakeConsumer(polls=(KafkaTimeoutError(), records(0)))

    stream = stream_of(consumer)

    assert stream.take(1, wait_ms=1) == []
    assert stream.take(1, wait_ms=1) == records(0)


def test_a_broker_that_goes_and_returns_is_reported_once_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "PROBE_SECONDS", -1)  # ask after every empty poll
    consumer = FakeConsumer(polls=([], [], [], records(0)))
    consumer.probes = deque([None, KafkaTimeoutError(), KafkaTimeoutError()])

    stream = stream_of(consumer)
    while not stream.take(1, wait_ms=1):
        pass

    assert capsys.readouterr().err.splitlines() == [
        "Kafka at broker:1 does not answer; waiting...",
        "Kafka at broker:1 answers again",
    ]


def test_while_there_is_no_room_nothing_is_fetched_but_the_group_sees_a_sign_of_life() -> None:
    consumer = FakeConsumer()
    consumer.assigned = {TopicPartition("photos", 0), TopicPartition("photos", 1)}
    paused_in_poll: list[set[TopicPartition]] = []
    consumer.polls.append(lambda: paused_in_poll.append(set(consumer.paused)) or [])

    stream_of(consumer).keep_alive()

    assert paused_in_poll == [consumer.assigned]
    assert consumer.paused == set()


def test_what_comes_all_the_same_is_taken_first() -> None:
    # Given partitions that are given out anew while nothing is to be fetched
    consumer = FakeConsumer()
    stream = stream_of(consumer)
    old, new = TopicPartition("photos", 0), TopicPartition("photos", 1)
    consumer.assigned = {old}

    def rebalance() -> list[Record]:
        consumer.listener.on_partitions_revoked([old])
        consumer.assigned = {new}
        consumer.listener.on_partitions_assigned([new])
        return records(7, partition=1)

    consumer.polls += [rebalance, records(8, partition=1)]

    # When a record of the new partition comes with them
    stream.keep_alive()

    # Then it waits for its turn
    assert stream.take(1, wait_ms=1) == records(7, partition=1)
    assert stream.take(1, wait_ms=1) == records(8, partition=1)


def test_what_came_early_of_a_partition_that_is_taken_away_is_not_kept() -> None:
    consumer = FakeConsumer()
    stream = stream_of(consumer)
    consumer.polls += [
        lambda: [*records(5), *records(7, partition=1)],
        lambda: consumer.listener.on_partitions_revoked([TopicPartition("photos", 0)]) or [],
    ]

    stream.keep_alive()
    stream.keep_alive()

    assert stream.take(9, wait_ms=1) == records(7, partition=1)


def test_partitions_that_were_taken_away_are_told_once() -> None:
    consumer = FakeConsumer()
    stream = stream_of(consumer)
    partitions = [TopicPartition("photos", number) for number in range(2)]

    consumer.listener.on_partitions_revoked(partitions[:1])
    consumer.listener.on_partitions_lost(partitions[1:])

    assert stream.revoked() == {("photos", 0), ("photos", 1)}
    assert stream.revoked() == set()


def test_a_consumer_without_a_free_partition_says_that_it_waits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    consumer = FakeConsumer()
    stream_of(consumer)

    consumer.listener.on_partitions_assigned([])
    assert capsys.readouterr().err.startswith("No partition is free: ")
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


class TestState:
    """What another thread may read about a stream."""

    def watched(
        self, consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch, *numbers: int
    ) -> PhotoStream:
        monkeypatch.setattr(consuming, "LAG_SECONDS", 0)  # look after every poll
        client: Any = consumer
        stream = PhotoStream(
            client, BrokerSettings("broker:1", "photos"), lambda: False, measure_lag=True
        )
        consumer.assigned = {TopicPartition("photos", number) for number in numbers}
        consumer.listener.on_partitions_assigned(sorted(consumer.assigned))
        return stream

    def test_the_lag_is_what_is_not_committed_yet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Given partitions with messages 10 to 14, with 7 that nobody has fetched, and with none
        consumer = FakeConsumer(polls=(records(10, 11), []))
        stream = self.watched(consumer, monkeypatch, 0, 1, 2)
        first, second, third = sorted(consumer.assigned)
        consumer.highwaters = {first: 15, second: 7, third: 0}

        batch = stream.take(2, wait_ms=1)
        assert stream.state.lag == {0: 5, 1: 7, 2: 0}

        stream.commit(batch)
        stream.take(2, wait_ms=1)
        assert stream.state.lag == {0: 3, 1: 7, 2: 0}

    def test_the_lag_grows_while_nothing_is_fetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(consuming, "PROBE_SECONDS", -1)
        consumer = FakeConsumer()
        stream = self.watched(consumer, monkeypatch, 0)
        consumer.highwaters = dict.fromkeys(consumer.assigned, 3)

        consumer.ends = dict.fromkeys(consumer.assigned, 90)
        stream.keep_alive()

        assert stream.state.lag == {0: 90}

    def test_a_partition_that_was_taken_away_has_no_lag(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        consumer = FakeConsumer()
        stream = self.watched(consumer, monkeypatch, 0, 1)
        first, second = sorted(consumer.assigned)
        consumer.highwaters = {first: 4, second: 4}
        stream.keep_alive()
        assert stream.state.partitions == {first, second}

        consumer.listener.on_partitions_revoked([first])
        consumer.assigned = {second}
        stream.keep_alive()

        assert stream.state.partitions == {second}
        assert stream.state.lag == {1: 4}

    def test_a_partition_that_returns_is_not_behind_by_what_others_did(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        consumer = FakeConsumer()
        stream = self.watched(consumer, monkeypatch, 0)
        (partition,) = consumer.assigned
        consumer.listener.on_partitions_revoked([partition])
        stream.commit(records(3))  # a batch that was under way
        consumer.highwaters = {partition: 20}
        consumer.position = lambda *_, **__: 20  # type: ignore[method-assign]

        consumer.listener.on_partitions_assigned([partition])
        stream.keep_alive()

        assert stream.state.lag == {0: 0}

    def test_nobody_asks_for_the_lag_where_it_is_not_wanted(self) -> None:
        consumer = FakeConsumer()
        stream = stream_of(consumer)
        consumer.assigned = {TopicPartition("photos", 0)}
        consumer.listener.on_partitions_assigned(sorted(consumer.assigned))

        stream.take(1, wait_ms=1)

        assert consumer.positions == []
        assert stream.state.lag == {}

    def test_it_says_since_when_answers_wait_to_be_delivered(self) -> None:
        stream = stream_of(FakeConsumer())
        stream.wait()
        since = stream.state.waits_since
        stream.wait()
        assert stream.state.waits_since == since is not None

        stream.commit(records(0))
        assert stream.state.waits_since is None

    def test_a_commit_that_the_broker_does_not_take_is_a_broker_that_does_not_answer(self) -> None:
        consumer = FakeConsumer(commits=(KafkaTimeoutError(),))
        asked: list[bool] = []

        def stopped() -> bool:
            asked.append(stream.state.broker_answers)
            return False

        stream = stream_of(consumer, stopped)
        stream.commit(records(0))
        assert asked == [False]
