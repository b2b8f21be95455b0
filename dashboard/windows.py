"""How far back the page looks, and in what steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["WINDOWS", "Window"]

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True)
class Window:
    """A stretch of time up to now.

    Attributes:
        label: for people.
        seconds: its length.
        step: seconds that a point of a chart stands for; from an hour on, the counts by the hour
            are read, which are few however many photos there were.
        refresh: seconds between two looks at the database.
    """

    label: str
    seconds: int
    step: int
    refresh: int

    @property
    def by_hour(self) -> bool:
        """Whether its numbers come from the counts by the hour rather than by the minute."""
        return self.step >= HOUR

    def start(self, now: float) -> int:
        """The first second that it covers, at the beginning of a step, in seconds since 1970."""
        return math.floor((now - self.seconds) / self.step + 1) * self.step


WINDOWS = [
    Window("15 min", 15 * MINUTE, MINUTE, refresh=2),
    Window("1 h", HOUR, MINUTE, refresh=2),
    Window("6 h", 6 * HOUR, 5 * MINUTE, refresh=5),
    Window("24 h", DAY, HOUR, refresh=10),
    Window("7 d", 7 * DAY, HOUR, refresh=10),
    Window("30 d", 30 * DAY, 6 * HOUR, refresh=10),
]
