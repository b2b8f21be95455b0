"""Photos are shared out among engines, and one that is alone gets all processors."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from car_classifier import sharing
from car_classifier.sharing import SharedOut

WAIT_SECONDS = 10

Calls = list[tuple[str, int]]


class Bench:
    """Engines that note who was called with how many photos; a photo of 9s is held until told."""

    def __init__(self) -> None:
        self.calls: Calls = []
        self.busy = threading.Event()
        self.go_on = threading.Event()

    def engine(self, name: str) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            self.calls.append((name, len(images)))
            if (images == 9).any():
                self.busy.set()
                assert self.go_on.wait(WAIT_SECONDS)
            return images.reshape(len(images), -1)[:, :1].astype(np.float32)

        return run

    def shared_out(self, most: int = 2, with_lone: bool = True) -> SharedOut:
        lone = self.engine("lone") if with_lone else None
        return SharedOut(lambda threads: self.engine(f"{threads} thread"), most, lone)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def rest(self, share: float = 1.0) -> None:
        """Let so much of the time pass after which the processors have rested."""
        self.now += share * sharing.REST_SECONDS + 1e-6


def photos(*values: int) -> NDArray[np.uint8]:
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1)


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "processors", lambda: 2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sharing.time, "monotonic", lambda: clock.now)
    return clock


def test_a_batch_is_shared_out_and_answered_in_order() -> None:
    bench = Bench()
    answers = bench.shared_out().predict(photos(5, 4, 3, 2, 1))
    assert answers.tolist() == [[5], [4], [3], [2], [1]]
    assert sorted(bench.calls) == [("1 thread", 1), ("1 thread", 2), ("1 thread", 2)]


def test_a_photo_that_is_alone_gets_all_processors(clock: Clock) -> None:
    bench = Bench()
    engines = bench.shared_out()
    assert engines.predict(photos(7)).tolist() == [[7]]
    clock.rest()
    assert engines.predict(photos(8)).tolist() == [[8]]
    assert bench.calls == [("lone", 1), ("lone", 1)]


@pytest.mark.parametrize("first", [photos(7), photos(7, 7)], ids=["photo", "batch"])
def test_a_photo_that_follows_closely_gets_one_processor(
    clock: Clock, first: NDArray[np.uint8]
) -> None:
    bench = Bench()
    engines = bench.shared_out(most=1)
    engines.predict(first)
    clock.rest(0.9)
    assert engines.predict(photos(8)).tolist() == [[8]]
    clock.rest(0.9)
    engines.predict(photos(6))
    assert bench.calls[len(first) :] == [("1 thread", 1), ("1 thread", 1)]


def test_without_such_an_engine_it_gets_one() -> None:
    bench = Bench()
    assert bench.shared_out(with_lone=False).predict(photos(7)).tolist() == [[7]]
    assert bench.calls == [("1 thread", 1)]


@pytest.mark.parametrize("first", [photos(9), photos(9, 1, 1)], ids=["photo", "batch"])
def test_a_photo_beside_others_gets_one_processor(first: NDArray[np.uint8]) -> None:
    # Given something that is being worked on
    bench = Bench()
    engines = bench.shared_out(most=3)
    work = threading.Thread(target=engines.predict, args=(first,))
    work.start()
    assert bench.busy.wait(WAIT_SECONDS)
    before = len(bench.calls)
    # When a single photo comes
    answer = engines.predict(photos(6))
    bench.go_on.set()
    work.join()
    # Then it does not fight for the processors with the first
    assert answer.tolist() == [[6]]
    assert ("lone", 1) not in bench.calls[before:]


def test_an_engine_that_failed_is_used_again(clock: Clock) -> None:
    failures = iter([MemoryError])

    def lone(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        for failure in failures:
            raise failure
        return images.reshape(1, 1).astype(np.float32)

    bench = Bench()
    engines = SharedOut(lambda _: bench.engine("1 thread"), 2, lone)
    with pytest.raises(MemoryError):
        engines.predict(photos(3))
    clock.rest()
    assert engines.predict(photos(3)).tolist() == [[3]]
    assert bench.calls == []
