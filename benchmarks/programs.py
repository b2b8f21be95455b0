"""A program under measurement: when it printed what, and what it took of the machine.

Processor time and memory come from Linux's /proc, so the benchmarks need Linux.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from benchmarks.errors import BenchmarkError
from tests import scripts
from tests.scripts import ROOT, Line, ProgramError

__all__ = ["ROOT", "Line", "Program"]


class Program(scripts.Program):
    """A running Python program, ended in order at the end of its block."""

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()  # so that it leaves its group, and its partitions are free at once
        finally:
            super().__exit__(kind, error, traceback)

    def wait_for_out(self, count: int, seconds: float) -> None:
        """Return once stdout has so many lines.

        Raises:
            BenchmarkError: it has not in so many seconds, or the program ended.
        """
        self._wait(lambda: len(self.out) >= count, seconds)

    def wait_for_err(self, part: str, seconds: float) -> Line:
        """Return the first line of stderr that holds a text, once it is there.

        Raises:
            BenchmarkError: it was not in so many seconds, or the program ended.
        """
        self._wait(lambda: any(part in line for line in self.err), seconds)
        return next(line for line in self.err if part in line)

    def cpu_seconds(self) -> float:
        """User and system time of the process so far, all threads together."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        user, system = int(fields[11]), int(fields[12])  # 14 and 15 in `man proc`, from 1
        return (user + system) / os.sysconf("SC_CLK_TCK")

    def peak_memory_mb(self) -> float:
        """The most physical memory it has had at a time, in MB of 1,000,000 bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak, status
        return int(peak[1]) * 1024 / 1e6

    def last_words(self) -> str:
        """The end of what it printed on stderr, for an error message."""
        return "\n".join(self.err[-15:])

    def _wait(self, met: Callable[[], bool], seconds: float) -> None:
        try:
            self.wait_for(met, seconds)
        except ProgramError as error:
            what = str(error).partition(":")[0]
            raise BenchmarkError(f"{what}; its last words:\n{self.last_words()}") from error
