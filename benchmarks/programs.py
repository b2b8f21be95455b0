"""A program under measurement: when it printed what, and what it took of the machine.

Processor time and memory come from Linux's /proc, so the benchmarks need Linux.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from benchmarks.errors import BenchmarkError

__all__ = ["ROOT", "Line", "Program"]

ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 20.0


class Line(NamedTuple):
    """A printed line and when it was seen, in seconds since 1970."""

    seen: float
    text: str


class Program:
    """A running Python program; a context manager that leaves no process behind.

    Args:
        arguments: what follows `python` on its command line.
        environment: its environment variables.

    Attributes:
        started: seconds since 1970.
        out: lines of stdout so far.
        err: the same of stderr.
    """

    def __init__(self, arguments: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        self.out: list[Line] = []
        self.err: list[Line] = []
        self._changed = threading.Condition()
        self.started = time.time()
        self._process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, lines), daemon=True)
            for pipe, lines in ((self._process.stdout, self.out), (self._process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()

    def wait_for_out(self, count: int, seconds: float) -> None:
        """Return once stdout has so many lines.

        Raises:
            BenchmarkError: it has not in so many seconds, or the program ended.
        """
        self._wait_for(lambda: len(self.out) >= count, f"{count} lines", seconds)

    def wait_for_err(self, part: str, seconds: float) -> Line:
        """Return the first line of stderr that holds a text, once it is there.

        Raises:
            BenchmarkError: it was not in so many seconds, or the program ended.
        """

        def found() -> Line | None:
            return next((line for line in self.err if part in line.text), None)

        self._wait_for(lambda: found() is not None, repr(part), seconds)
        line = found()
        assert line is not None
        return line

    def end(self, seconds: float) -> int:
        """Wait until it ends and all its output is here; return its exit status.

        Raises:
            BenchmarkError: it did not end in so many seconds.
        """
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{self} did not end in {seconds:.0f} s") from error
        for reader in self._readers:
            reader.join(_STOP_SECONDS)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def cpu_seconds(self) -> float:
        """User and system time of the process so far, all threads together."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        user, system = int(fields[11]), int(fields[12])  # 14 and 15 in `man proc`, from 1
        return (user + system) / os.sysconf("SC_CLK_TCK")

    def peak_memory_mb(self) -> float:
        """The most physical memory it has had at a time, in MB of 1,000,000 bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak, status
        return int(peak[1]) * 1024 / 1e6

    def last_words(self) -> str:
        """The end of what it printed on stderr, for an error message."""
        return "\n".join(line.text for line in self.err[-15:])

    def _wait_for(self, met: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not met():
                left = deadline - time.monotonic()
                if not any(reader.is_alive() for reader in self._readers):
                    raise BenchmarkError(f"{self} ended before {what}:\n{self.last_words()}")
                if left <= 0:
                    raise BenchmarkError(
                        f"{self}: no {what} in {seconds:.0f} s:\n{self.last_words()}"
                    )
                self._changed.wait(min(left, 0.2))

    def _read(self, pipe: IO[str], lines: list[Line]) -> None:
        for text in pipe:
            seen = time.time()
            with self._changed:
                lines.append(Line(seen, text.rstrip("\n")))
                self._changed.notify_all()

    def __str__(self) -> str:
        """The program's name without folders."""
        arguments: Sequence[str] = self._process.args[1:]  # type: ignore[assignment,index]
        return Path(arguments[1] if arguments[0] == "-m" else arguments[0]).name
