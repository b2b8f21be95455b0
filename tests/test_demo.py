"""`make demo`: it counts what it shows, says by its exit status how it went, and tidies up."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from car_classifier import demo
from tests.models import write_colour_model
from tests.scripts import ROOT, SECONDS, Program, clean_environment

PHOTOS = len(list((ROOT / "data" / "imagenes_test").glob("*.jpg")))
DEMO = ["-m", "car_classifier.demo"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    model, classes = write_colour_model(tmp_path_factory.mktemp("model"))
    # A mark by which the processes that it starts are known: they inherit it.
    mark = str(model.parent)
    return clean_environment(
        MODEL_PATH=str(model),
        CLASSES_PATH=str(classes),
        DATABASE_URL=f"sqlite:///{mark}/results.db",
        DEMO_TEST=mark,
    )


def left_running(environment: dict[str, str]) -> list[str]:
    """Return the command lines of all processes that carry the mark."""
    mark = f"DEMO_TEST={environment['DEMO_TEST']}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended meanwhile, or not ours
            continue
    return [command for command in found if command]


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux_only
def test_every_photo_comes_back_and_is_counted(environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, *DEMO],
        cwd=ROOT,
        # The way to log in at another broker is none of this one's business.
        env=environment | {"MIN_CONFIDENCE": "0.1", "KAFKA_SECURITY_PROTOCOL": "SSL"},
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
    )

    lines = result.stdout.splitlines()
    assert result.returncode == 0, result
    assert result.stderr == ""
    assert lines[0].startswith("Started an embedded broker at 127.0.0.1:")
    assert lines[-2] == f"{PHOTOS} sent, {PHOTOS} classified, 0 rejected"
    # And kept, and it says where.
    assert lines[-1] == (
        "The results are kept in the database of DATABASE_URL; to see them: make dashboard"
    )
    with contextlib.closing(sqlite3.connect(f"{environment['DEMO_TEST']}/results.db")) as results:
        assert results.execute("SELECT count(*) FROM predictions").fetchall() == [(PHOTOS,)]
    shown = [line.split(" | ", 1) for line in lines[1:-2]]
    assert {label.strip() for label, _ in shown} == {"consumer", "producer"}
    texts = [text for _, text in shown]
    assert sum(text.startswith("Sent: ") for text in texts) == PHOTOS
    assert sum(" -> Make: " in text for text in texts) == PHOTOS
    # The consumer listens before the producer starts.
    starts = [text for text in texts if "listening" in text or "Producer started" in text]
    assert starts[0].startswith("Consumer listening on topic")
    assert left_running(environment) == []


@linux_only
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_an_interrupted_demo_stops_all_that_it_started(
    environment: dict[str, str], number: signal.Signals, status: int
) -> None:
    with Program(DEMO, environment) as program:
        program.wait_for_line("Loading model")
        assert len(left_running(environment)) == 3  # itself, the broker and the consumer

        assert program.stop(number) == status
        assert "Traceback" not in repr(program)
        assert not any("sent," in line for line in program.out)
    assert left_running(environment) == []


@linux_only
def test_a_consumer_that_fails_fails_the_demo(environment: dict[str, str]) -> None:
    with Program(DEMO, environment | {"MODEL_PATH": "nothing.keras"}) as program:
        assert program.end() == 2
        assert any("no model at nothing.keras" in line for line in program.out)
        assert program.err == ["error: the consumer did not start listening"]
    assert left_running(environment) == []


@pytest.mark.parametrize(
    ("consumer", "producer", "status", "last_line"),
    [
        ("print('c a -> Make: BMW')", "print('Sent: a')", 0, "1 sent, 1 classified, 0 rejected"),
        ("print('Rejected t[0]@0')", "print('Sent: a')", 1, "1 sent, 0 classified, 1 rejected"),
        ("", "print('Sent: a')", 1, "1 sent, 0 classified, 0 rejected"),
        ("time.sleep(60)", "print('Not sent: a')", 1, "0 sent, 0 classified, 0 rejected"),
    ],
    ids=["all-well", "rejected", "consumer-died", "not-sent"],
)
def test_a_photo_that_does_not_come_back_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    consumer: str,
    producer: str,
    status: int,
    last_line: str,
) -> None:
    # Given stand-ins for the two scripts, and one photo
    listening = "import time; print('Consumer listening on topic')"
    (tmp_path / "consumidor_clasificador.py").write_text(f"{listening}\n{consumer}\n")
    (tmp_path / "productor_camara.py").write_text(f"{producer}\n")
    (tmp_path / "a.jpg").write_bytes(b"a photo")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    monkeypatch.setattr(demo, "PHOTOS", tmp_path)

    assert demo.show("127.0.0.1:1") == status

    assert capsys.readouterr().out.splitlines()[-2:] == [
        last_line,
        "The results are kept in predicciones.db; to see them: make dashboard",
    ]


def test_a_kafka_that_is_set_and_answers_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    with demo.broker() as own:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:1, {own}")
        with demo.broker() as used:
            assert used == os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        with demo.broker() as used:
            assert used not in ("127.0.0.1:1", own)

    assert "Kafka at 127.0.0.1:1 does not answer." in capsys.readouterr().out
