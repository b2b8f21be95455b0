"""The project's programs as child processes, watched line by line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.kafka_services import Broker

ROOT = Path(__file__).parent.parent
PRODUCER = "productor_camara.py"
CONSUMER = "consumidor_clasificador.py"

# For a machine that does other work as well; nobody waits so long unless something is broken.
SECONDS = 90.0


class ProgramError(AssertionError):
    """A program ended, or did not do in time what it was watched for."""


class Line(str):
    """A printed line.

    Attributes:
        seen: when it came, in seconds since 1970.
    """

    seen: float

    def __new__(cls, text: str, seen: float) -> Line:
        line = super().__new__(cls, text)
        line.seen = seen
        return line


class Program:
    """A running program; a context manager that leaves no process behind.

    Attributes:
        started: seconds since 1970.
        out: lines of stdout so far, or up to the end.
        err: the same of stderr.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        environment: Mapping[str, str],
        folder: Path = ROOT,
        python: str | Path = sys.executable,
    ) -> None:
        self.out: list[Line] = []
        self.err: list[Line] = []
        self._changed = threading.Condition()
        self.started = time.time()
        self._process = subprocess.Popen(
            [str(python), *map(str, arguments)],
            env=environment,
            cwd=folder,
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
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(5)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_for(self, met: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Return as soon as a condition on the output is met; it is looked at after each line.

        Raises:
            ProgramError: it was not; tells all output.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not met():
                left = deadline - time.monotonic()
                ended = not any(reader.is_alive() for reader in self._readers)
                if left <= 0:
                    raise ProgramError(f"nothing came in {seconds} s: {self}")
                if ended:
                    raise ProgramError(f"ended too early: {self}")
                self._changed.wait(min(left, 0.2))

    def wait_for_line(self, part: str, count: int = 1) -> None:
        """Return as soon as so many lines on stdout or stderr hold a text."""
        self.wait_for(lambda: sum(part in line for line in self.out + self.err) >= count)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return its exit status."""
        self.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait until it has ended and all its output is here; return its exit status."""
        status = self._process.wait(SECONDS)
        for reader in self._readers:
            reader.join(SECONDS)
        return status

    def __repr__(self) -> str:
        lines = ["--- stdout", *self.out, "--- stderr", *self.err]
        return f"{self._process.args!r}, status {self._process.poll()}\n" + "\n".join(lines)

    def _read(self, pipe: IO[str], lines: list[Line]) -> None:
        for text in pipe:
            seen = time.time()
            with self._changed:
                lines.append(Line(text.rstrip("\n"), seen))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


class Programs:
    """Starts programs for a test; all that still run at its end are killed."""

    def __init__(self, model: dict[str, str]) -> None:
        self._model = model
        self._started: list[Program] = []

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._started:
            program.__exit__(None, None, None)

    def start(self, broker: Broker, *arguments: str | Path, **variables: str) -> Program:
        program = Program(arguments, broker.environment(**{**self._model, **variables}))
        self._started.append(program)
        return program


def answers(*consumers: Program) -> list[dict[str, Any]]:
    """Return what consumers with --json have said so far."""
    return [json.loads(line) for consumer in consumers for line in list(consumer.out)]


def assert_no_stack_trace(*started: Program) -> None:
    for program in started:
        text = repr(program)
        assert "Traceback" not in text, text


def clean_environment(**more: str) -> dict[str, str]:
    """Return the tests' environment less what configures the programs, with some of it set."""
    settings: tuple[str, ...] = (
        "KAFKA_",
        "CAMERA_",
        "MODEL_PATH",
        "CLASSES_PATH",
        "BATCH_SIZE",
        "MIN_CONFIDENCE",
    )
    settings += ("DATABASE_URL", "KEEP_DAYS", "RESULTS_TOPIC", "DEAD_LETTER_TOPIC")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    # The tiny models of the tests are for the processor; a graphics card takes seconds to start.
    return inherited | {"CUDA_VISIBLE_DEVICES": "-1"} | more
