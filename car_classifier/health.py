"""Whether the classifier service is alive, and whether photos are being answered."""

from __future__ import annotations

import time
from collections.abc import Callable

from car_classifier.consuming import StreamState

__all__ = ["Health"]

# Longer than the longest wait in one turn of the loop (a commit, a probe of the broker) and than a
# large model takes to load; a process that has not turned for so long hangs.
HUNG_SECONDS = 60.0
# A batch that is not delivered by then: the service behind a sink is away.
STUCK_SECONDS = 10.0


class Health:
    """What is heard of the service's loop, for another thread to ask about."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned = clock()
        self._state: StreamState | None = None
        self._model_loaded = False

    def heard_in(self, stopped: Callable[[], bool]) -> Callable[[], bool]:
        """The same function; asking it is a sign of life.

        The loop looks at the stop signal in each of its turns, wherever it has to wait.
        """

        def alive_and_stopped() -> bool:
            self._turned = self._clock()
            return stopped()

        return alive_and_stopped

    def model_loaded(self) -> None:
        """Note that photos can be classified."""
        self._model_loaded = True

    def watch(self, state: StreamState) -> None:
        """Note where to read how the consumer is."""
        self._state = state

    def hung(self) -> str | None:
        """Return what is wrong with the process; None if it is alive."""
        silent = self._clock() - self._turned
        if silent > HUNG_SECONDS:
            return f"the loop has not turned for {silent:.0f} s"
        return None

    def obstacle(self) -> str | None:
        """Return what keeps photos from being answered; None if nothing does."""
        if hung := self.hung():
            return hung
        if not self._model_loaded:
            return "the model is being loaded"
        state = self._state
        if state is None:
            return "Kafka or the database has not answered yet"
        if not state.broker_answers:
            return "Kafka does not answer"
        if not state.partitions:
            return "no partition is assigned: others of the group have them, or the topic is new"
        since = state.waits_since
        if since is not None and self._clock() - since > STUCK_SECONDS:
            return f"answers have waited {self._clock() - since:.0f} s to be delivered"
        return None
