"""From records to answers: in order, in batches, and with bounded work under way."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from car_classifier import classifying
from car_classifier.class_map import CarClass
from car_classifier.classifying import (
    AHEAD,
    IN_MODEL,
    Answers,
    Batching,
    Rejection,
    answer,
    answered_batches,
    decode,
)
from car_classifier.errors import ModelError, Reason
from car_classifier.predictions import Prediction
from tests.photos import Record, encoded, message, picture, records

SECONDS = 20  # until a test that waits for another thread gives up


class StandIn:
    """A model that takes every photo for the first class, and notes the batches it was given."""

    input_size = (24, 16)

    def __init__(self, work: Callable[[int], object] = lambda _: None) -> None:
        self.classes = [CarClass("BMW", "M3 Coupe", 2012), CarClass("Audi")]
        self.batches: list[tuple[int, ...]] = []
        self._work = work
        self._at_work = threading.Semaphore(IN_MODEL)
        self._counting = threading.Lock()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert images.dtype == np.uint8
        assert self._at_work.acquire(blocking=False)  # no more batches at a time than agreed
        with self._counting:
            self.batches.append(images.shape)
            number = len(self.batches)
        try:
            self._work(number)
        finally:
            self._at_work.release()
        return np.tile(np.array([0.75, 0.25], np.float32), (len(images), 1))

    @property
    def sizes(self) -> list[int]:
        return [shape[0] for shape in self.batches]


class FakeStream:
    """Gives the records it was given, as many as are asked for; then nothing."""

    def __init__(self, *fetches: list[Record]) -> None:
        self.fetches = deque(fetches)
        self.asked: list[int] = []
        self.taken = 0
        self.kept_alive = 0
        self.ends = False
        self.moved: set[tuple[str, int]] = set()
        self.on_take: Callable[[int], object] = lambda _: None
        self.on_keep_alive: Callable[[], object] = lambda: None

    def take(self, most: int, wait_ms: int) -> list[Record]:
        self.asked.append(most)
        self.on_take(wait_ms)
        if not self.fetches:
            time.sleep(0.001)
            return []
        fetched = self.fetches.popleft()
        if fetched[most:]:
            self.fetches.appendleft(fetched[most:])
        self.taken += len(fetched[:most])
        return fetched[:most]

    def keep_alive(self) -> None:
        self.kept_alive += 1
        self.on_keep_alive()

    def revoked(self) -> set[tuple[str, int]]:
        moved, self.moved = self.moved, set()
        return moved

    def stopped(self) -> bool:
        return self.ends


def run(
    stream: FakeStream,
    model: StandIn,
    max_messages: int | None = None,
    *,
    batch_size: int = 4,
    max_wait_ms: float = 0.0,
) -> Generator[Answers, None, None]:
    classifier: Any = model
    # Looked up now: a test may have put another in its place.
    return answered_batches(
        stream,
        classifier,
        Batching(batch_size, max_wait_ms),
        max_messages,
        decode=classifying.decode,
    )


def offsets(*batches: Answers) -> list[list[int]]:
    """The offsets of each batch, once in its records and once in its answers."""
    for batch in batches:
        assert [one.source.offset for one in batch.answers] == [
            record.offset for record in batch.records
        ]
    return [[record.offset for record in batch.records] for batch in batches]


def wait_for(event: threading.Event) -> None:
    assert event.wait(SECONDS), "the other thread did not come"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.001)


def threads() -> list[str]:
    return [
        thread.name for thread in threading.enumerate() if thread.name.startswith(("decode", "mod"))
    ]


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four decoding threads wherever the tests run, and no thread left after a test."""
    monkeypatch.setattr(classifying.os, "cpu_count", lambda: 4)
    yield
    assert threads() == []


def answers(*values: bytes | None, **options: Any) -> list[Prediction | Rejection]:
    batch = [Record("photos", 1, offset, value) for offset, value in enumerate(values)]
    classifier: Any = options.pop("classifier", StandIn())
    decoded = [decode(record, classifier.input_size) for record in batch]
    return answer(decoded, classifier, Batching(**options))


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


def test_answers_come_in_the_order_of_the_records_whichever_is_decoded_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given photos of which every second one is decoded before the one that it follows
    later = {offset: threading.Event() for offset in range(1, 12, 2)}

    def decode_backwards(record: Record, size: tuple[int, int], *_: bool) -> Any:
        if record.offset % 2 == 0:
            wait_for(later[record.offset + 1])
        decoded = decode(record, size)
        if record.offset in later:
            later[record.offset].set()
        return decoded

    monkeypatch.setattr(classifying, "decode", decode_backwards)
    stream = FakeStream(records(*range(5)), records(5), records(*range(6, 12)))

    batches = list(run(stream, StandIn(), 12, batch_size=4, max_wait_ms=60_000))

    assert offsets(*batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_rejections_keep_their_places_and_count() -> None:
    stream = FakeStream(records(0), records(1, value=b"?"), records(2), records(3, value=b"?"))
    model = StandIn()

    (batch,) = run(stream, model, 4, batch_size=4, max_wait_ms=60_000)

    assert offsets(batch) == [[0, 1, 2, 3]]
    assert [isinstance(one, Rejection) for one in batch.answers] == [False, True, False, True]
    assert model.sizes == [2]


def test_no_more_than_max_messages_are_fetched() -> None:
    stream = FakeStream(records(*range(30)))

    batches = list(run(stream, StandIn(), 10, batch_size=4, max_wait_ms=60_000))

    assert [len(batch.records) for batch in batches] == [4, 4, 2]
    assert stream.taken == 10


def test_a_lone_photo_waits_for_others_just_as_long_as_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a clock that only waiting for messages moves, and a photo that comes alone
    now = 0.0
    monkeypatch.setattr(
        classifying, "time", SimpleNamespace(monotonic=lambda: now / 1000, time=time.time)
    )
    classified = threading.Event()
    model = StandIn(lambda _: classified.set())
    stream = FakeStream(records(0))

    def wait(wait_ms: int) -> None:
        nonlocal now
        if now > 40:
            wait_for(classified)
        if not stream.fetches:
            assert classified.is_set() == (now > 40)
            now += wait_ms

    stream.on_take = wait
    with contextlib.closing(run(stream, model, batch_size=4, max_wait_ms=40)) as batches:
        assert offsets(next(batches)) == [[0]]


def test_while_the_model_works_its_end_is_waited_for_and_no_message() -> None:
    go_on = threading.Event()
    waits: list[float] = []
    stream = FakeStream(records(0))

    def look(wait_ms: float) -> None:
        waits.append(wait_ms)
        if len(waits) == 5:
            go_on.set()

    stream.on_take = look
    model = StandIn(lambda _: wait_for(go_on))
    with contextlib.closing(run(stream, model, batch_size=1)) as batches:
        assert offsets(next(batches)) == [[0]]

    assert waits[0] == classifying.POLL_MS
    assert len(waits) >= 5
    assert set(waits[1:]) == {0}


def test_a_full_batch_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: 0.0, time=time.time)  # that stands still
    monkeypatch.setattr(classifying, "time", clock)
    stream = FakeStream(records(0, 1, 2), records(3, 4))

    with contextlib.closing(run(stream, StandIn(), batch_size=4, max_wait_ms=10)) as batches:
        assert offsets(next(batches)) == [[0, 1, 2, 3]]


def test_while_a_batch_is_in_the_model_the_next_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = {offset: threading.Event() for offset in range(8)}

    def noted(record: Record, size: tuple[int, int], *_: bool) -> Any:
        result = decode(record, size)
        decoded[record.offset].set()
        return result

    def work(batch: int) -> None:
        if batch == 1:
            for offset in range(4, 8):
                wait_for(decoded[offset])

    monkeypatch.setattr(classifying, "decode", noted)

    batches = list(run(FakeStream(records(*range(8))), StandIn(work), 8))

    assert offsets(*batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_batches_are_in_the_model_together_and_what_comes_meanwhile_gathers() -> None:
    # Given photos that come one by one while the model is busy
    stream = FakeStream(records(0, 1, 2, 3), *(records(offset) for offset in range(4, 7)))
    both_at_work, all_fetched = threading.Barrier(IN_MODEL), threading.Event()
    stream.on_take = lambda _: all_fetched.set() if len(stream.fetches) == 1 else None

    def work(batch: int) -> None:
        if batch <= IN_MODEL:
            both_at_work.wait(SECONDS)
            wait_for(all_fetched)

    model = StandIn(work)

    # When the first batches are done
    batches = list(run(stream, model, 7))

    # Then what has gathered meanwhile is in the model together
    assert offsets(*batches) == [[0, 1, 2, 3], [4], [5, 6]]
    assert sorted(model.sizes[:IN_MODEL]) == [1, 4]


def test_a_slow_model_stops_the_fetching_but_not_the_signs_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given more photos than fit, and a model that is stuck
    monkeypatch.setattr(classifying, "POLL_MS", 1)
    stream = FakeStream(records(*range(100)))
    go_on = threading.Event()
    taken_while_stuck: list[int] = []

    def look() -> None:
        if not go_on.is_set():
            taken_while_stuck.append(stream.taken)
            if len(taken_while_stuck) == 5:
                go_on.set()

    stream.on_keep_alive = look

    # When it goes on
    batches = list(run(stream, StandIn(lambda _: wait_for(go_on)), 100))

    # Then all are answered, and meanwhile no more were fetched than agreed
    assert [offset for batch in offsets(*batches) for offset in batch] == list(range(100))
    assert taken_while_stuck == [4 * (AHEAD + IN_MODEL)] * 5


def test_large_photos_are_fetched_in_smaller_numbers_and_still_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given photos three of which are as much as may be under way
    monkeypatch.setattr(classifying, "MOST_BYTES", 2 * len(message()) + 1)
    stream = FakeStream(*(records(offset) for offset in range(9)))
    most = 0
    answered = 0

    def look(_: int) -> None:
        nonlocal most
        most = max(most, stream.taken - answered)

    stream.on_take = look
    for batch in run(stream, StandIn(), 9, max_wait_ms=60_000):
        answered += len(batch.records)

    assert answered == 9
    assert most <= 2  # when more are asked for


def test_at_a_stop_what_the_model_has_is_finished_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classifying, "POLL_MS", 1)
    stream = FakeStream(records(*range(100)))
    stuck = threading.Event()

    def stopped() -> bool:
        if stream.kept_alive:  # so there is no room for more
            stuck.set()
        return bool(stream.kept_alive)

    stream.stopped = stopped  # type: ignore[method-assign]
    model = StandIn(lambda _: wait_for(stuck))

    batches = list(run(stream, model))

    assert offsets(*batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert model.sizes == [4, 4]


def test_a_stop_while_nothing_comes_ends_at_once() -> None:
    stream = FakeStream()
    stream.on_take = lambda _: setattr(stream, "ends", len(stream.asked) == 3)

    assert list(run(stream, StandIn())) == []
    assert len(stream.asked) == 3


def test_a_model_that_works_no_more_is_the_end_after_what_it_had_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classifying, "IN_MODEL", 1)  # so that the second batch is the second

    def fail_from_now_on(call: int) -> None:
        if call >= 2:
            raise RuntimeError("the device is gone")

    model = StandIn(fail_from_now_on)
    batches = run(FakeStream(records(*range(40))), model)

    assert offsets(next(batches)) == [[0, 1, 2, 3]]
    with pytest.raises(ModelError, match="the device is gone"):
        next(batches)
    assert list(batches) == []
    assert threads() == []


def test_an_error_of_our_own_in_decoding_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Any:
        raise AttributeError

    monkeypatch.setattr(classifying, "decode", broken)

    with pytest.raises(AttributeError):
        next(run(FakeStream(records(0)), StandIn()))


def test_whoever_stops_asking_leaves_no_work_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a decoder that is stuck with the second batch until it is told to end
    stuck = threading.Event()
    begun: list[int] = []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            stuck.set()
            super().shutdown(wait=wait)

    def slow(record: Record, size: tuple[int, int], *_: bool) -> Any:
        begun.append(record.offset)
        if record.offset >= 4:
            wait_for(stuck)
        return decode(record, size)

    monkeypatch.setattr(classifying, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(classifying, "decode", slow)
    batches = run(FakeStream(records(*range(100))), StandIn())
    next(batches)
    wait_until(lambda: len(begun) == 8)  # its four threads are at it

    # When no more is asked for
    batches.close()

    # Then what waited for a thread is dropped, and the threads are gone
    assert sorted(begun) == list(range(8))
    assert threads() == []


def test_what_is_under_way_of_a_partition_that_is_taken_away_is_not_answered() -> None:
    # Given photos of two partitions, in the model and fetched beyond it
    mixed = [*records(0, 1), *records(0, 1, partition=1)] * 3
    numbered = [one._replace(offset=one.offset + 2 * (at // 4)) for at, one in enumerate(mixed)]
    stream = FakeStream(numbered)
    go_on = threading.Event()

    def take_away(_: int) -> None:
        if stream.taken == 12 and not go_on.is_set():
            stream.moved = {("photos", 0)}
            stream.fetches.append(records(*range(2, 9)))  # it comes back: another had 0 and 1
            go_on.set()

    stream.on_take = take_away
    model = StandIn(lambda _: wait_for(go_on))

    # When one partition is taken away
    batches = list(run(stream, model, 13))

    # Then only the other's and what comes afterwards are answered and counted
    assert [(one.partition, one.offset) for batch in batches for one in batch.records] == [
        *((1, offset) for offset in range(6)),
        *((0, offset) for offset in range(2, 9)),
    ]
    offsets(*batches)


def test_a_batch_all_of_which_is_taken_away_is_not_given_out() -> None:
    stream = FakeStream(records(0, 1))
    go_on = threading.Event()

    def take_away(_: int) -> None:
        if stream.taken == 2 and not go_on.is_set():
            stream.moved = {("photos", 0)}
            stream.fetches.append(records(7, 8, 9, partition=1))
            go_on.set()

    stream.on_take = take_away

    batches = list(run(stream, StandIn(lambda _: wait_for(go_on)), 3, batch_size=2))

    # How they are batched is a matter of time on a busy machine.
    assert [offset for batch in offsets(*batches) for offset in batch] == [7, 8, 9]
