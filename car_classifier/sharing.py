"""A batch of photos shared out among the processors, each of which runs the model by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_ENGINES", "Engine", "SharedOut", "processors"]

# One engine's run of the model: uint8 (N, height, width, 3) -> float32 (N, classes).
Engine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

MOST_ENGINES = 8  # each takes some 50 MB; where there are more processors, engines have several


class SharedOut:
    """Engines of one thread each, instead of one engine of many threads.

    The threads of one engine wait for each other at the end of every layer. These never do, and if
    `predict` is called from two threads, who is done with the first batch goes on with the second.

    Args:
        make_engine: takes the number of threads for an engine of its own. No engine is called from
            two threads at a time.
        most: photos that an engine takes at a time.
        lone: an engine of all processors' threads, for a photo that has them all to itself.
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

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities of at least one photo, in their order."""
        if self._lone and len(images) == 1 and self._lone_works.acquire(blocking=False):
            try:
                if self._idle.qsize() == self._count:
                    return self._lone(images)
            finally:
                self._lone_works.release()
        fair_share = -(-len(images) // self._count)
        size = min(fair_share, self._most)
        portions = [images[start : start + size] for start in range(0, len(images), size)]
        if len(portions) == 1:
            return self._run(images)
        return np.concatenate(list(self._threads.map(self._run, portions)))

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        engine = self._idle.get()
        try:
            return engine(images)
        finally:
            self._idle.put(engine)


def processors() -> int:
    """How many of the machine's processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
