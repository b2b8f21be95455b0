"""Dead letters are listed, sent back to the stream once, and written to files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from car_classifier.broker import BrokerSettings
from car_classifier.classifying import Answers, Rejection
from car_classifier.dead_letters import DeadLetters
from car_classifier.errors import MessageError, Reason
from car_classifier.outbox import open_outbox
from car_classifier.predictions import Source
from tests.kafka_services import Broker
from tests.scripts import ROOT, SECONDS
from tests.test_dead_letters import Record
from tests.topics import records

EVIL = "\n\x1b[2J<script>"
LETTERS = [
    (Record("?", 0, 3, b"cam01", b"not json", [("trace", b"1")]), Reason.NOT_JSON, "expected JSON"),
    (Record("?", 0, 4, EVIL.encode(), b"[]", []), Reason.NOT_AN_OBJECT, EVIL),
    (Record("?", 1, 9, None, b"\xff" * 3000, []), Reason.MODEL_FAILED, "failed 4 times"),
    (Record("?", 1, 10, b"cam02", None, []), Reason.NOT_JSON, "expected JSON"),
]


@pytest.fixture
def letters(broker: Broker, topic: str) -> str:
    """A topic whose dead letters are those above; all in one partition, in their order."""
    broker.create_topic(f"{topic}.dlq", partitions=1)
    given = [(record._replace(topic=topic), reason, text) for record, reason, text in LETTERS]
    answers: list[Any] = [
        Rejection(Source(one.topic, one.partition, one.offset), MessageError(reason, text), 1.0)
        for one, reason, text in given
    ]
    outbox = open_outbox(BrokerSettings(broker.bootstrap_servers, topic))
    batch = Answers([record for record, _, _ in given], answers)
    assert DeadLetters(outbox, f"{topic}.dlq").deliver(batch, lambda: True)
    outbox.close()
    return topic


def replay(broker: Broker, topic: str, *options: str | Path) -> tuple[int, list[str], str]:
    """Return its exit status, the lines of stdout, and stderr."""
    result = subprocess.run(
        [sys.executable, "-m", "car_classifier.replay", "--topic", topic, *map(str, options)],
        cwd=ROOT,
        env=broker.environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert "Traceback" not in result.stderr
    return result.returncode, result.stdout.splitlines(), result.stderr


def test_dead_letters_are_listed_by_reason_and_names_are_shown_safely(
    broker: Broker, letters: str
) -> None:
    status, lines, _ = replay(broker, letters)

    assert status == 0
    assert lines[0] == f"{letters}.dlq: 4 dead letters, 0 of them sent back"
    assert [line for line in lines[1:] if not line.startswith(" ")] == [
        "not_json: 2",
        "not_an_object: 1",
        "model_failed: 1",
    ]
    assert re.fullmatch(
        rf"  0@0 from {letters}\[0\]@3, \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC, cam01, 8 bytes, "
        "attempts: 1: expected JSON",
        lines[2],
    )
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 8

    _, lines, _ = replay(broker, letters, "--reason", "not_json", "--show", "1")
    assert [line.strip() for line in lines[1:]][::2] == ["not_json: 2", "... and 1 more"]


def test_chosen_letters_go_back_as_they_were_and_only_once(broker: Broker, letters: str) -> None:
    # When those of a reason are sent back, and then all
    status, lines, _ = replay(broker, letters, "--send", "--reason", "not_json")
    assert (status, lines[-1]) == (0, "2 sent back, 0 left alone, 0 given up")
    status, lines, _ = replay(broker, letters, "--send", "--all")
    assert (status, lines[-1]) == (0, "2 sent back, 2 left alone, 0 given up")
    status, lines, _ = replay(broker, letters, "--send", "--at", "0@1")
    assert (status, lines) == (0, ["0 sent back, 1 left alone, 0 given up"])

    # Then each lies on the stream once, key, value and headers as it came first
    found = records(broker, letters, len(LETTERS))
    assert {(one.key, one.value, tuple(one.headers)) for one in found} == {
        (one.key, one.value, tuple(one.headers)) for one, _, _ in LETTERS
    }
    _, lines, _ = replay(broker, letters)
    assert lines[0] == f"{letters}.dlq: 4 dead letters, 4 of them sent back"


def test_a_letter_is_written_to_a_file_but_never_over_one(
    broker: Broker, letters: str, tmp_path: Path
) -> None:
    file = tmp_path / "letter"

    status, lines, _ = replay(broker, letters, "--dump", file, "--at", "0@2")

    assert (status, lines) == (0, [f"0@2: 3000 bytes written to {file}"])
    assert file.read_bytes() == b"\xff" * 3000
    for options, complaint in [
        (["--dump", file, "--at", "0@0"], "File exists"),
        (["--dump", tmp_path / "b", "--at", "0@3"], "came without a value"),
        (["--dump", tmp_path / "b", "--all"], "expected one dead letter, 4 are chosen"),
        (["--dump", tmp_path / "b", "--at", "0@99"], "no dead letter lies at 0@99"),
        (["--send"], "expected --reason, --at or --all"),
        (["--send", "--at", "x"], "expected PARTITION@OFFSET"),
    ]:
        status, lines, errors = replay(broker, letters, *options)
        assert (status, lines) == (2, [])
        assert complaint in errors
    assert not (tmp_path / "b").exists()


def test_a_stream_without_dead_letters_has_an_empty_list(broker: Broker, topic: str) -> None:
    assert replay(broker, topic)[:2] == (
        0,
        [f"{topic}.dlq: 0 dead letters, 0 of them sent back"],
    )
