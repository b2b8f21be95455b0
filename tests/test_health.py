"""Alive means that the loop turns; ready means that photos are being answered, or else why not."""

from __future__ import annotations

import pytest
from kafka import TopicPartition

from car_classifier.consuming import StreamState
from car_classifier.health import HUNG_SECONDS, STUCK_SECONDS, Health

PARTITIONS = frozenset({TopicPartition("photos", 0)})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state() -> StreamState:
    return StreamState(partitions=PARTITIONS)


@pytest.fixture
def health(clock: Clock, state: StreamState) -> Health:
    """Of a service that listens."""
    health = Health(clock)
    health.model_loaded()
    health.watch(state)
    return health


def test_a_service_that_listens_is_ready(health: Health) -> None:
    assert health.hung() is None
    assert health.obstacle() is None


def test_a_service_that_starts_is_alive_and_says_what_it_waits_for(clock: Clock) -> None:
    health = Health(clock)
    assert health.obstacle() == "the model is being loaded"
    health.model_loaded()
    assert health.obstacle() == "Kafka or the database has not answered yet"
    state = StreamState()
    health.watch(state)
    assert str(health.obstacle()).startswith("no partition is assigned")
    assert health.hung() is None


def test_a_loop_that_turns_no_more_is_not_alive(health: Health, clock: Clock) -> None:
    stopped = health.heard_in(lambda: False)
    clock.now += HUNG_SECONDS + 1
    assert health.hung() == "the loop has not turned for 61 s"
    assert health.obstacle() == health.hung()

    assert stopped() is False
    assert health.hung() is None


def test_a_stop_signal_passes_through(health: Health) -> None:
    assert health.heard_in(lambda: True)() is True


def test_a_broker_that_is_away_is_in_the_way(health: Health, state: StreamState) -> None:
    state.broker_answers = False
    assert health.obstacle() == "Kafka does not answer"
    assert health.hung() is None


def test_answers_that_nobody_takes_are_in_the_way(
    health: Health, state: StreamState, clock: Clock
) -> None:
    state.waits_since = clock.now
    assert health.obstacle() is None  # a database may take a moment

    stopped = health.heard_in(lambda: False)
    clock.now += STUCK_SECONDS + 1
    stopped()
    assert health.obstacle() == "answers have waited 11 s to be delivered"
    state.waits_since = None
    assert health.obstacle() is None
