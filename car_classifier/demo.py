"""The whole way of a photo, shown once: broker, consumer and producer, started and stopped.

``make demo`` runs it. It uses the Kafka at ``KAFKA_BOOTSTRAP_SERVERS`` if that is set and answers,
else a broker of its own on a free loopback port.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from car_classifier.broker import BrokerSettings
from car_classifier.camera import PhotoFolder
from car_classifier.embedded_broker import EmbeddedBroker, answers
from car_classifier.errors import BrokerError, CarClassifierError

ROOT = Path(__file__).parent.parent
PHOTOS = ROOT / "data" / "imagenes_test"
START_SECONDS = 120  # TensorFlow on a slow disk
CLASSIFY_SECONDS = 120
# The model is asked for an answer only where it is sure enough; see models/README.md.
MIN_CONFIDENCE = 0.5
RESULTS = "predicciones.db"  # a SQLite file in the project's folder


class Script:
    """One of the two scripts as a child process; its output is shown with a label in front."""

    def __init__(self, label: str, arguments: list[str], environment: dict[str, str]) -> None:
        self._label = label
        self._changed = threading.Condition()
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-u", *arguments],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Out of the terminal's group: Ctrl-C comes to the demo, which stops them in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._show, daemon=True)
        self._reader.start()

    def _show(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"{self._label:>8} | {line}", end="", flush=True)
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def count(self, *parts: str) -> int:
        """How many lines so far contain one of the parts."""
        return sum(any(part in line for part in parts) for line in self.lines)

    def wait_for(self, count: int, *parts: str, seconds: float) -> bool:
        """Wait until so many lines contain one of the parts; false if that never came."""
        until = time.monotonic() + seconds
        with self._changed:
            while self.count(*parts) < count:
                left = until - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    break
                self._changed.wait(min(left, 0.5))
            return self.count(*parts) >= count

    def wait(self, seconds: float) -> int:
        """Wait for the script's end; return its exit status."""
        status = self._process.wait(seconds)
        self._reader.join(seconds)
        return status

    def stop(self) -> None:
        """End the script, gently first."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(15)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)


@contextlib.contextmanager
def running(label: str, arguments: list[str], environment: dict[str, str]) -> Iterator[Script]:
    """A script that is stopped when the block ends, however it ends."""
    script = Script(label, arguments, environment)
    try:
        yield script
    finally:
        script.stop()


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """The address of the broker that is there, or of one that lives as long as the block."""
    address = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if address and _answers(address):
        print(f"Using Kafka at {address}.", flush=True)
        yield address
        return
    if address:
        print(f"Kafka at {address} does not answer.", flush=True)
    with EmbeddedBroker() as embedded:
        print(
            f"Started an embedded broker at {embedded.bootstrap_servers}: a stand-in for Kafka, "
            "for this demo only.",
            flush=True,
        )
        yield embedded.bootstrap_servers


def _answers(addresses: str) -> bool:
    """Whether one of the brokers of a comma-separated list of host:port does."""
    pairs = [address.strip().rpartition(":") for address in addresses.split(",")]
    return any(port.isdigit() and answers(host, int(port)) for host, _, port in pairs)


def show(bootstrap_servers: str) -> int:
    """Send the photos, wait for their answers, count them; return the exit status."""
    # A topic and a group of its own: whatever else is on that broker stays untouched.
    name = f"{BrokerSettings().topic}_demo_{uuid.uuid4().hex[:8]}"
    inherited = dict(os.environ)
    if bootstrap_servers != inherited.get("KAFKA_BOOTSTRAP_SERVERS"):
        login = ("KAFKA_SECURITY_", "KAFKA_SASL_", "KAFKA_SSL_")  # meant for another broker
        inherited = {name: inherited[name] for name in inherited if not name.startswith(login)}
    environment = inherited | {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA_TOPIC": name,
        "KAFKA_GROUP_ID": name,
        "KAFKA_SESSION_TIMEOUT_MS": "6000",
        "MIN_CONFIDENCE": os.environ.get("MIN_CONFIDENCE") or str(MIN_CONFIDENCE),
        "DATABASE_URL": os.environ.get("DATABASE_URL") or f"sqlite:///{RESULTS}",
    }
    photos = len(list(PhotoFolder(PHOTOS).round()))
    consumer_command = ["consumidor_clasificador.py", "--max-messages", str(photos)]
    producer_command = ["productor_camara.py", "--once", "--interval", "0"]
    with running("consumer", consumer_command, environment) as consumer:
        if not consumer.wait_for(1, "Consumer listening", seconds=START_SECONDS):
            raise BrokerError("the consumer did not start listening")
        with running("producer", producer_command, environment) as producer:
            producer.wait(CLASSIFY_SECONDS)
        sent = producer.count("Sent: ")
        consumer.wait_for(sent, " -> Make: ", "Rejected ", seconds=CLASSIFY_SECONDS)
        classified, rejected = consumer.count(" -> Make: "), consumer.count("Rejected ")
    print(f"{sent} sent, {classified} classified, {rejected} rejected", flush=True)
    place = "the database of DATABASE_URL" if os.environ.get("DATABASE_URL") else RESULTS
    print(f"The results are kept in {place}; to see them: make dashboard", flush=True)
    return 0 if sent == photos == classified else 1


def main() -> int:
    """Run the demo; return the exit status, 0 if every photo came back with an answer."""
    # Both leave every block in order; a shell's background job would otherwise ignore Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with broker() as bootstrap_servers:
            return show(bootstrap_servers)
    except (CarClassifierError, ImportError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; all that was started has been stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
