"""What is sent beside the predictions arrives, however long the broker is away."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
)

from car_classifier import outbox
from car_classifier.broker import BrokerSettings
from car_classifier.errors import BrokerError, SettingsError
from car_classifier.outbox import Outbox, OutgoingMessage, check_topics


class Future:
    """Resolves to what it was given, the last of which stays: None is an acknowledgement."""

    def __init__(self, *outcomes: KafkaError | None) -> None:
        self._outcomes = deque(outcomes)
        self.is_done = False

    def get(self, timeout: float) -> None:
        assert 0 < timeout < 1
        outcome = self._outcomes.popleft() if len(self._outcomes) > 1 else self._outcomes[0]
        self.is_done = not isinstance(outcome, KafkaTimeoutError)
        if outcome:
            raise outcome


class Producer:
    """Answers each `send` with what it was given; then acknowledges."""

    def __init__(self, *answers: Future | KafkaError) -> None:
        self._answers = deque(answers)
        self.sent: list[bytes] = []
        self.close_error: KafkaError | None = None

    def send(self, topic: str, key: Any, value: Any, headers: Any) -> Future:
        assert (topic, key.content, headers) == ("results", None, [])
        answer = self._answers.popleft() if self._answers else Future(None)
        if isinstance(answer, KafkaError):
            raise answer
        self.sent.append(value.content)
        return answer

    def close(self, timeout: float) -> None:
        assert timeout
        if self.close_error:
            raise self.close_error


def send(producer: Producer, values: list[bytes], patience: int = 100) -> bool:
    client: Any = producer
    messages = [OutgoingMessage("results", None, value, []) for value in values]
    waits = iter(range(patience))
    return Outbox(client, BrokerSettings("broker:1")).send(
        messages, lambda: next(waits, None) is not None
    )


def test_messages_are_on_their_way_together_and_in_order() -> None:
    producer = Producer()

    assert send(producer, [b"1", b"2", b"3"])

    assert producer.sent == [b"1", b"2", b"3"]


def test_nothing_to_send_is_sent() -> None:
    assert send(Producer(), [], patience=0)


def test_while_the_broker_is_away_it_waits_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outbox, "PATIENCE_SECONDS", -1)
    away = KafkaTimeoutError("away")
    producer = Producer(away, away, Future(away, away, None))

    assert send(producer, [b"1", b"2"])

    assert producer.sent == [b"1", b"2"]  # each once: the library itself tries again
    assert capsys.readouterr().err.splitlines() == [
        "Kafka at broker:1 has not acknowledged 2 messages for results; waiting...",
        "Kafka at broker:1 acknowledges again",
    ]


def test_told_to_stop_it_gives_up_and_says_that_not_all_arrived() -> None:
    assert not send(Producer(Future(KafkaTimeoutError())), [b"1"], patience=3)
    assert not send(Producer(*[KafkaTimeoutError()] * 9), [b"1"], patience=3)


def test_a_message_that_failed_for_now_is_sent_again() -> None:
    producer = Producer(Future(NotLeaderForPartitionError()))

    assert send(producer, [b"1", b"2"])

    assert producer.sent == [b"1", b"2", b"1"]


@pytest.mark.parametrize("early", [True, False])
def test_what_the_broker_refuses_for_good_is_an_error_that_names_the_topic(early: bool) -> None:
    refusal = MessageSizeTooLargeError("too large")

    with pytest.raises(BrokerError, match=r"3 bytes for topic results: .*too large"):
        send(Producer(refusal if early else Future(refusal)), [b"123"])


def test_closing_while_the_broker_is_away_is_no_error_then_nor_when_the_program_ends() -> None:
    producer: Any = Producer()
    producer.close_error = KafkaTimeoutError()

    Outbox(producer, BrokerSettings()).close()
    producer.close(timeout=1)


def test_what_goes_out_must_not_come_in_again() -> None:
    settings = BrokerSettings(topic="photos")

    check_topics(settings, results_topic=None, dead_letter_topic="photos.dlq")
    with pytest.raises(SettingsError, match="results topic: expected another topic"):
        check_topics(settings, results_topic="photos", dead_letter_topic="photos.dlq")
    with pytest.raises(SettingsError, match=r"dead letter topic: .* results topic"):
        check_topics(settings, results_topic="same", dead_letter_topic="same")
    with pytest.raises(SettingsError, match="results topic: expected 1 to 249 letters"):
        check_topics(settings, results_topic="what?", dead_letter_topic="photos.dlq")
