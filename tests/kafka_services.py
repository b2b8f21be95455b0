"""The brokers that the end-to-end tests run on: the embedded one, and real Kafka with ZooKeeper.

Real Kafka is Apache's, on Java, configured from docker-compose.yml. Moved are only the addresses it
listens on (to free loopback ports) and its folders; its start, its health checks and the creation
of the topic are docker-compose.yml's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kafka.admin import KafkaAdminClient

from car_classifier.embedded_broker import LOOPBACK, EmbeddedBroker, free_port
from tests.compose import kafka_properties, listeners, load_compose, zookeeper_properties

# Kafka refuses shorter ones, and tansu holds a group's first join for half of it.
SESSION_TIMEOUT_MS = 6000

# What docker-compose.yml creates.
TOPIC = "taller_camara_stream"

# A folder with the jars, for machines that cannot reach Maven Central.
JARS_VARIABLE = "KAFKA_TEST_JARS"
POM = Path(__file__).parent / "kafka" / "pom.xml"
LOG_SETTINGS = POM.with_name("log4j.properties")

_START_SECONDS = 90.0
_STOP_SECONDS = 30.0
_DOWNLOAD_SECONDS = 900.0
# Quick to start and small; the images' own options are for servers.
_JVM_OPTIONS = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]


class Broker(ABC):
    """A broker that a test talks to, and may stop and start again under the same address.

    Attributes:
        name: `embedded` or `kafka`.
        bootstrap_servers: `host:port` for clients.
        keeps_messages: whether messages and offsets are still there after a restart.
    """

    name: str
    bootstrap_servers: str
    keeps_messages: bool

    @abstractmethod
    def start(self) -> None:
        """Start it and return once it takes clients."""

    @abstractmethod
    def stop(self) -> None:
        """Shut it down in order."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, as a crash would."""

    def restart(self) -> None:
        """Shut it down in order and start it again."""
        self.stop()
        self.start()

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment for a program that is to use this broker.

        The tests' own environment, less what would configure the program behind the test's back.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("KAFKA_") and name != "CAMERA_ID"
        }
        return {
            **inherited,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            **more,
        }

    def admin(self) -> KafkaAdminClient:
        """Return a client that may do everything."""
        return KafkaAdminClient(bootstrap_servers=self.bootstrap_servers)

    def create_topic(self, name: str, partitions: int = 3) -> None:
        """Create a topic and return once it is there."""
        with self.admin() as admin:
            admin.create_topics(
                {name: {"num_partitions": partitions, "replication_factor": 1}},
                wait_for_metadata=True,
            )


class Embedded(Broker):
    """The broker of `make demo`, in memory."""

    name = "embedded"
    keeps_messages = False

    def __init__(self) -> None:
        self._broker = EmbeddedBroker()
        self.bootstrap_servers = self._broker.bootstrap_servers

    def start(self) -> None:
        self._broker.start()
        self.create_topic(TOPIC)  # it forgets its topics with its messages

    def stop(self) -> None:
        self._broker.stop()

    def kill(self) -> None:
        self._broker.kill()


class RealKafka(Broker):
    """Kafka and its ZooKeeper; within `running`, start, stop and kill are Kafka's alone.

    Args:
        jars: the folder `kafka_jars` returned.
        folder: an empty folder for data, settings and logs.
        changes: properties of Kafka that replace those of docker-compose.yml.
    """

    name = "kafka"
    keeps_messages = True

    def __init__(self, jars: Path, folder: Path, changes: Mapping[str, str] | None = None) -> None:
        services = load_compose()["services"]
        zookeeper = zookeeper_properties(services["zookeeper"]["environment"])
        kafka = kafka_properties(services["kafka"]["environment"])
        self.settings = dict(kafka)  # as the container would see them

        # Where each port inside the containers has gone on this machine.
        self._moved = {int(zookeeper["clientPort"]): free_port()}
        self._moved |= {port: free_port() for _, port in listeners(kafka["listeners"]).values()}

        zookeeper |= {
            "clientPort": str(self._moved[int(zookeeper["clientPort"])]),
            "clientPortAddress": LOOPBACK,
            "dataDir": str(folder / "zookeeper-data"),
            "dataLogDir": str(folder / "zookeeper-log"),
        }
        kafka |= {
            "zookeeper.connect": self.local(kafka["zookeeper.connect"]),
            "listeners": self.local(kafka["listeners"]),
            "advertised.listeners": self.local(kafka["advertised.listeners"]),
            "log.dirs": str(folder / "kafka-data"),
            **(changes or {}),
        }
        self._jars = jars
        self._zookeeper = _JavaService(
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            jars,
            _write_properties(folder / "zookeeper.properties", zookeeper),
            healthy=lambda: self.is_healthy("zookeeper"),
        )
        self._kafka = _JavaService(
            "kafka.Kafka",
            jars,
            _write_properties(folder / "server.properties", kafka),
            healthy=lambda: self.is_healthy("kafka"),
        )
        # The address that the file gives to programs on the host.
        host_port = int(services["kafka"]["ports"][0].split(":")[-1])
        announced = {
            port: f"{host}:{port}"
            for host, port in listeners(kafka["advertised.listeners"]).values()
        }
        self.bootstrap_servers = announced.pop(self._moved[host_port])
        # And the one for other containers.
        (self.internal_servers,) = announced.values()

    @contextlib.contextmanager
    def running(self) -> Iterator[RealKafka]:
        """Start ZooKeeper and Kafka and create the topic; stop both at the end."""
        try:
            self._zookeeper.start()
            self._kafka.start()
            self.create_topic_as_compose_does()
            yield self
        finally:
            self._kafka.stop()
            self._zookeeper.kill()  # it has nothing to put in order

    def start(self) -> None:
        self._kafka.start()
        # Healthy means that it takes connections; it hears of its topics a moment later.
        with self.admin() as admin:
            while admin.describe_topics([TOPIC])[0]["error_code"] != 0:
                time.sleep(0.05)

    def stop(self) -> None:
        self._kafka.stop()

    def kill(self) -> None:
        self._kafka.kill()

    def create_topic_as_compose_does(self) -> None:
        """Run the command of the one-shot service `create-topic`."""
        tool, *arguments = load_compose()["services"]["create-topic"]["command"]
        assert tool == "kafka-topics", tool
        main_class = "org.apache.kafka.tools.TopicCommand"
        command = [*_java(self._jars), main_class, *map(self.local, arguments)]
        subprocess.run(command, check=True, timeout=_START_SECONDS, capture_output=True)

    def is_healthy(self, service: str) -> bool:
        """Run a service's health check against the moved ports."""
        kind, *command = load_compose()["services"][service]["healthcheck"]["test"]
        assert kind == "CMD", kind
        result = subprocess.run(
            [re.sub(r"(?<=/localhost/)\d+", self._moved_port, part) for part in command],
            capture_output=True,
        )
        return result.returncode == 0

    def local(self, text: str) -> str:
        """Replace each `host:port` by its address here. `localhost` stays: clients resolve it."""

        def moved(match: re.Match[str]) -> str:
            host = "localhost" if match["host"] == "localhost" else LOOPBACK
            return f"{host}:{self._moved[int(match['port'])]}"

        return re.sub(r"(?P<host>[\w.]+):(?P<port>\d+)", moved, text)

    def _moved_port(self, match: re.Match[str]) -> str:
        return str(self._moved[int(match.group())])


class _JavaService:
    """One Java server, started as `restart: unless-stopped` does: again, if it ends by itself."""

    def __init__(
        self, main_class: str, jars: Path, settings: Path, healthy: Callable[[], bool]
    ) -> None:
        self._command = [*_java(jars), main_class, str(settings)]
        self._log = settings.with_suffix(".log")
        self._healthy = healthy
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return once its health check passes.

        Raises:
            RuntimeError: it was not healthy within 90 seconds; with the end of its log.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                self._launch()
            if self._healthy():
                return
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(
            f"{self._command[-2]} was not healthy after {_START_SECONDS:.0f} s:\n"
            + self._log.read_text(errors="replace")[-4000:]
        )

    def stop(self) -> None:
        """Ask the server to end, and wait until it has."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the server at once. Harmless if it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops us in order
            )


def missing_tools(which: Callable[[str], str | None] = shutil.which) -> list[str]:
    """Return which of the programs that real Kafka needs are not on this machine."""
    tools = ["java"] if JARS_VARIABLE in os.environ else ["java", "mvn"]
    return [tool for tool in tools if which(tool) is None]


def kafka_jars() -> Path:
    """Return the folder with Apache Kafka's jars, filled by Maven the first time.

    Raises:
        RuntimeError: Maven could not fetch them; with what it printed.
    """
    given = os.environ.get(JARS_VARIABLE)
    if given:
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "car-classifier"
    # Another pom, another folder: a changed version is never mixed with an old one.
    jars = cache / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if not jars.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run side by side fetch them once
            if not jars.is_dir():
                _fetch(jars)
    return jars


def _fetch(jars: Path) -> None:
    with tempfile.TemporaryDirectory(dir=jars.parent) as unfinished:
        command = ["mvn", "--quiet", "--batch-mode", "--file", str(POM)]
        command += ["dependency:copy-dependencies", "-DincludeScope=runtime"]
        command += [f"-DoutputDirectory={unfinished}/jars"]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, cwd=unfinished
        )
        if result.returncode != 0:
            raise RuntimeError(f"Maven could not fetch Apache Kafka:\n{result.stdout}")
        Path(unfinished, "jars").rename(jars)


def _java(jars: Path) -> list[str]:
    log_settings = f"-Dlog4j.configuration={LOG_SETTINGS.as_uri()}"
    return ["java", *_JVM_OPTIONS, log_settings, "-cp", f"{jars}/*"]


def _write_properties(path: Path, properties: Mapping[str, str]) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in sorted(properties.items())))
    return path
