"""Answers go to whoever asked for them: a results topic, a database, a dead letter topic, metrics.

A batch is committed only after every sink has taken it; so a crash repeats answers at worst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from car_classifier.classifying import Answers

__all__ = ["KeepWaiting", "Sink", "deliver"]

# Called while a sink waits for its service, several times a second: keeps the consumer in its
# group, and returns false when it is time to stop.
KeepWaiting = Callable[[], bool]


class Sink(Protocol):
    """Takes answers, and keeps them safe."""

    def deliver(self, batch: Answers, keep_waiting: KeepWaiting) -> bool:
        """Return true once the whole batch is safe; it may have been delivered before.

        While the service behind the sink is away this says so, waits and tries again.

        Returns:
            False if ``keep_waiting()`` was, before the batch was safe; then it is not committed.

        Raises:
            CarClassifierError: trying again would not help.
        """

    def close(self) -> None:
        """Let go of the service; what was delivered is safe already."""


def deliver(batch: Answers, sinks: Iterable[Sink], keep_waiting: KeepWaiting) -> bool:
    """Give a batch to each sink in turn; return whether all have it, so that it can be committed.

    Raises:
        CarClassifierError: a sink cannot take it, and trying again would not help.
    """
    return all(sink.deliver(batch, keep_waiting) for sink in sinks)
