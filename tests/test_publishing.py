"""A photo counts as sent when the broker has acknowledged it, not before.

A fake client stands in for what a broker cannot be made to do on demand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from car_classifier import publishing
from car_classifier.broker import BrokerSettings
from car_classifier.messages import CarPhoto
from car_classifier.publishing import MAX_PENDING_MESSAGES, PhotoPublisher


class FakeFuture:
    """Acknowledged after so many attempts to wait for it, or failed, or never."""

    def __init__(self, error: KafkaError | None = None, patience: float = 0) -> None:
        self._error = error
        self._patience = patience
        self.waited: list[float] = []
        self.is_done = False

    def get(self, timeout: float) -> None:
        self.waited.append(timeout)
        if len(self.waited) <= self._patience:
            raise KafkaTimeoutError("not yet")
        self.is_done = True
        if self._error:
            raise self._error


class FakeProducer:
    """Answers each `send` with the next of the given futures or errors; by default all is well."""

    def __init__(self, *answers: FakeFuture | KafkaError) -> None:
        self._answers = deque(answers)
        self.sent: list[tuple[str, bytes, bytes]] = []

    def send(self, topic: str, value: bytes, key: bytes) -> FakeFuture:
        answer = self._answers.popleft() if self._answers else FakeFuture()
        if isinstance(answer, KafkaError):
            raise answer
        self.sent.append((topic, value, key))
        return answer

    def close(self, timeout: float) -> None:
        raise KafkaTimeoutError(f"not closed in {timeout} s")


def publisher(
    producer: FakeProducer, stopped: Callable[[], bool] = lambda: False
) -> PhotoPublisher:
    settings = BrokerSettings("broker:1", "photos")
    client: Any = producer
    return PhotoPublisher(client, settings, stopped)


def photo(name: str = "a.jpg", camera: str = "cam01", size: int = 3) -> CarPhoto:
    return CarPhoto(1.5, camera, name, bytes(size))


def test_nothing_is_called_sent_before_the_acknowledgement(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outgoing = publisher(FakeProducer())

    outgoing.send(photo())
    assert capsys.readouterr().out == ""
    assert outgoing.sent == 0

    outgoing.settle()
    assert capsys.readouterr() == ("Sent: a.jpg from camera cam01\n", "")
    assert outgoing.sent == 1


def test_a_message_is_keyed_by_its_camera() -> None:
    producer = FakeProducer()
    publisher(producer).send(photo(camera="cámara"))

    assert producer.sent == [("photos", photo(camera="cámara").encode(), "cámara".encode())]


def test_a_camera_name_that_is_not_utf8_is_sent_all_the_same() -> None:
    producer = FakeProducer()
    publisher(producer).send(photo(camera="cam\udcff"))

    assert producer.sent[0][2] == b"cam\xff"


def test_photos_are_reported_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    outgoing = publisher(FakeProducer(FakeFuture(patience=1)))
    for name in ("a", "b", "c"):
        outgoing.send(photo(name))
    outgoing.settle()

    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["a", "b", "c"]


def test_a_slow_broker_is_waited_for_and_the_user_told(capsys: pytest.CaptureFixture[str]) -> None:
    outgoing = publisher(FakeProducer(FakeFuture(patience=3)))
    outgoing.send(photo())
    outgoing.settle()

    out, err = capsys.readouterr()
    assert out == "Sent: a.jpg from camera cam01\n"
    assert err == "Kafka at broker:1 has not acknowledged a.jpg yet; waiting...\n" * 3
    assert (outgoing.sent, outgoing.failed) == (1, 0)


def test_a_topic_not_found_yet_is_waited_for_with_the_same_photo(
    capsys: pytest.CaptureFixture[str],
) -> None:
    producer = FakeProducer(KafkaTimeoutError("no metadata"), KafkaTimeoutError("no metadata"))
    outgoing = publisher(producer)
    outgoing.send(photo())
    outgoing.settle()

    assert [value for _, value, _ in producer.sent] == [photo().encode()]
    assert capsys.readouterr().err.count("waiting...") == 2
    assert (outgoing.sent, outgoing.failed) == (1, 0)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_photo_that_the_broker_refuses_is_reported_and_the_next_one_sent(
    capsys: pytest.CaptureFixture[str], at_once: bool
) -> None:
    refusal = MessageSizeTooLargeError("too large")
    outgoing = publisher(FakeProducer(refusal if at_once else FakeFuture(refusal)))
    outgoing.send(photo("large\n.jpg"))
    outgoing.send(photo("small.jpg"))
    outgoing.settle()

    out, err = capsys.readouterr()
    assert out == "Sent: small.jpg from camera cam01\n"
    assert len(err.splitlines()) == 1
    assert err.startswith("Not sent: large\\n.jpg: ")
    assert "too large" in err
    assert (outgoing.sent, outgoing.failed) == (1, 1)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MessageSizeTooLargeError("by the client's limit or the broker's"), ["a.jpg"]),
        (RecordListTooLargeError("by the topic's limit"), ["a.jpg"]),
        (CorruptRecordError("on the wire: may do better another time"), []),
    ],
)
def test_a_photo_that_would_be_refused_again_is_told_of(
    error: KafkaError, told: list[str], at_once: bool
) -> None:
    unsendable: list[str] = []
    client: Any = FakeProducer(error if at_once else FakeFuture(error))
    outgoing = PhotoPublisher(
        client,
        BrokerSettings("broker:1", "photos"),
        lambda: False,
        lambda photo: unsendable.append(photo.image_name),
    )
    outgoing.send(photo())
    outgoing.settle()

    assert unsendable == told
    assert outgoing.failed == 1


def test_a_stop_while_the_broker_is_away_gives_up_and_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Given three photos on their way to a broker that never answers
    futures = [FakeFuture(patience=float("inf")) for _ in range(3)]
    outgoing = publisher(FakeProducer(*futures), stopped=lambda: True)
    for name in ("a", "b", "c"):
        outgoing.send(photo(name))

    # When the program is told to stop
    outgoing.settle()

    # Then it waits for the first only: stopping takes seconds, however many are pending
    assert [sum(future.waited) for future in futures[1:]] == [0, 0]
    assert (outgoing.sent, outgoing.failed) == (0, 3)
    assert capsys.readouterr().err.count("Not sent: ") == 3


def test_a_stop_while_the_topic_is_not_found_gives_up(capsys: pytest.CaptureFixture[str]) -> None:
    outgoing = publisher(FakeProducer(KafkaTimeoutError("no metadata")), stopped=lambda: True)
    outgoing.send(photo())

    assert outgoing.failed == 1
    assert "Not sent: a.jpg: stopped" in capsys.readouterr().err


def test_only_so_many_photos_are_on_their_way_at_once() -> None:
    outgoing = publisher(FakeProducer())
    for number in range(MAX_PENDING_MESSAGES + 8):
        outgoing.send(photo(f"{number}.jpg"))

    assert outgoing.sent == 8


def test_only_so_many_bytes_are_on_their_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "MAX_PENDING_BYTES", 400)
    outgoing = publisher(FakeProducer())
    for number in range(8):
        outgoing.send(photo(f"{number}.jpg", size=100))

    assert outgoing.sent == 3  # a fifth is let in when four wait at most


def test_closing_waits_for_what_is_on_its_way_and_is_no_error_while_the_broker_is_away() -> None:
    outgoing = publisher(FakeProducer(FakeFuture(patience=1)))
    outgoing.send(photo())
    outgoing.close()

    assert outgoing.sent == 1
