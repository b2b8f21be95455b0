"""Stop on SIGINT and SIGTERM when the work in hand is done."""

from __future__ import annotations

import signal
import time
from types import FrameType

__all__ = ["StopSignal"]


class StopSignal:
    """Becomes true at the first SIGINT or SIGTERM; a second one ends the program at once."""

    def __init__(self) -> None:
        self._stopped = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        """Whether it is time to stop."""
        return self._stopped

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the signal."""
        until = time.monotonic() + seconds
        while not self._stopped and (left := until - time.monotonic()) > 0:
            time.sleep(min(0.1, left))
