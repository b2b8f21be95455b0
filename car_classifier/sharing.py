"""A batch of photos shared out among the processors, each of which runs the model by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ENGINES", "Engine", "SharedOut", "processors"]

# One engine's run of the model: uint8 (N, height, width, 3) -> float32 (N, classes).
Engine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

REST_SECONDS = 0.01  # about what the lone engine takes for a photo on two processors
MOST_ENGINES = 8  # each takes some 50 MB; where there are more processors, engines have several


class SharedOut:
    """Engines of one thread each, instead of one engine of many threads.

    The threads of one engine wait for each other at the end of every layer. These never do, and if
    `predict` is called from two threads, who is done with the first batch goes on with the second.

    Args:
        make_engine: takes the number of threads for an engine of its own. No engine is called from
            two threads at a time.
        most: photos that an engine takes at a time.
        lone: an engine of all processors' threads, for a photo that has them all to itself. It
            answers in half the time and takes a third more of theirs, so it works only after they
            have rested, not where photos come so closely that this would be missed.
    """

    def __init__(
        self, make_engine: Callable[[int], Engine], most: int, lone: Engine | None = None
    ) -> None:
        self._most = most
        self._count = min(processors(), MOST_ENGINES)
        self._idle: SimpleQueue[Engine] = SimpleQueue()
        for _ in range(self._count):
            self._idle.put(make_engine(processors() // self._count))
        self._threads = ThreadPoolExecutor(self._count, "engine")
        self._lone, self._lone_works = lone, Lock()
        self._last_end = 0.0  # on the monotonic clock, in seconds

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities of at least one photo, in their order."""
        if self._lone and len(images) == 1 and self._lone_works.acquire(blocking=False):
            try:
                if self._rested():
                    return self._run_with(self._lone, images)
            finally:
                self._lone_works.release()
        fair_share = -(-len(images) // self._count)
        size = min(fair_share, self._most)
        portions = [images[start : start + size] for start in range(0, len(images), size)]
        if len(portions) == 1:
            return self._run(images)
        return np.concatenate(list(self._threads.map(self._run, portions)))

    def _rested(self) -> bool:
        idle = self._idle.qsize() == self._count
        return idle and time.monotonic() - self._last_end >= REST_SECONDS

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        engine = self._idle.get()
        try:
            return self._run_with(engine, images)
        finally:
            self._idle.put(engine)

    def _run_with(self, engine: Engine, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            return engine(images)
        finally:
            self._last_end = time.monotonic()


def processors() -> int:
    """How many of the machine's processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
