"""The command lines: numbers are checked, the environment gives defaults, output never fails."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from car_classifier.broker import BrokerSettings
from car_classifier.console import checked, environment_default, quiet_kafka_log
from car_classifier.errors import SettingsError

ROOT = Path(__file__).parent.parent
OPTIONS = {
    "productor_camara.py": (
        "--bootstrap-servers --topic --images --camera-id --interval --once --shuffle --max-side "
        "KAFKA_BOOTSTRAP_SERVERS KAFKA_TOPIC CAMERA_ID"
    ),
    "consumidor_clasificador.py": (
        "--bootstrap-servers --topic --group-id --model --classes --batch-size --top-k "
        "--min-confidence --from-beginning --from-latest --max-messages --json "
        "KAFKA_BOOTSTRAP_SERVERS KAFKA_TOPIC clasificador-coches"
    ),
}


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-3", 0.001)]
)
def test_a_number_in_range_is_taken(text: str, value: float) -> None:
    assert checked(float, minimum=0, maximum=1)(text) == value


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "inf", "-inf"])
def test_a_number_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected 0 to 1, got {text}"):
        checked(float, minimum=0, maximum=1)(text)


@pytest.mark.parametrize("text", ["inf", "nan", "-1"])
def test_without_an_upper_limit_the_endless_is_still_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected 0 or more, got {text}"):
        checked(float, minimum=0)(text)


def test_the_environment_gives_a_default_unless_it_is_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BATCH_SIZE", "7")
    assert environment_default("BATCH_SIZE", 16) == "7"
    monkeypatch.setenv("BATCH_SIZE", "")
    assert environment_default("BATCH_SIZE", 16) == 16
    monkeypatch.delenv("BATCH_SIZE")
    assert environment_default("BATCH_SIZE", 16) == 16


def test_the_client_library_keeps_its_log_to_itself(capfd: pytest.CaptureFixture[str]) -> None:
    quiet_kafka_log()
    logging.getLogger("kafka.net").error("a stack trace")

    assert capfd.readouterr() == ("", "")


def test_broker_settings_come_from_the_environment() -> None:
    assert BrokerSettings.from_environment({}) == BrokerSettings(
        "localhost:9092", "taller_camara_stream", 45_000
    )
    given = {
        "KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2",
        "KAFKA_TOPIC": "another",
        "KAFKA_SESSION_TIMEOUT_MS": "6000",
    }
    assert BrokerSettings.from_environment(given) == BrokerSettings("a:1,b:2", "another", 6000)
    assert BrokerSettings.from_environment(dict.fromkeys(given, "")) == BrokerSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("KAFKA_SESSION_TIMEOUT_MS", value) for value in ("999", "-1", "6 s", "1e4", "²")),
        *(("KAFKA_TOPIC", value) for value in (" ", "a b", "ñ", "..", "x" * 250, "a\n")),
        *(("KAFKA_BOOTSTRAP_SERVERS", value) for value in (",", " , ")),
    ],
)
def test_broker_settings_that_cannot_be_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="expected"):
        BrokerSettings.from_environment({name: value})


@pytest.mark.parametrize("script", OPTIONS)
def test_help_explains_every_option(script: str) -> None:
    result = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert [word for word in OPTIONS[script].split() if word not in result.stdout] == []


@pytest.mark.parametrize(
    ("script", "arguments", "complaint"),
    [
        ("productor_camara.py", ["--interval", "-1"], "--interval: expected 0 or more, got -1"),
        ("productor_camara.py", ["--interval", "soon"], "invalid float value: 'soon'"),
        ("productor_camara.py", ["--max-side", "3"], "--max-side: expected 16 or more, got 3"),
        ("productor_camara.py", ["--nonsense"], "unrecognized arguments: --nonsense"),
        ("productor_camara.py", ["--topic", "a b"], "error: topic: expected"),
        ("productor_camara.py", ["--bootstrap-servers", ","], "error: bootstrap servers: expected"),
        ("productor_camara.py", ["--bootstrap-servers", "host:x"], "expected host:port"),
        ("productor_camara.py", ["--images", "nowhere"], "error: no folder nowhere: expected"),
        ("productor_camara.py", ["--images", "tests/kafka"], "error: no photo in tests/kafka"),
        ("consumidor_clasificador.py", ["--batch-size", "0"], "expected 1 or more, got 0"),
        ("consumidor_clasificador.py", ["--top-k", "1.5"], "invalid int value: '1.5'"),
        ("consumidor_clasificador.py", ["--min-confidence", "2"], "expected 0 to 1, got 2"),
        ("consumidor_clasificador.py", ["--max-messages", "0"], "expected 1 or more, got 0"),
        (
            "consumidor_clasificador.py",
            ["--from-beginning", "--from-latest"],
            "--from-latest: not allowed with argument --from-beginning",
        ),
        ("consumidor_clasificador.py", ["--topic", "a b"], "error: topic: expected"),
        ("consumidor_clasificador.py", ["--classes", "no.json"], "error: no class map at no.json"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    script: str, arguments: list[str], complaint: str
) -> None:
    result = subprocess.run(
        [sys.executable, script, *arguments], cwd=ROOT, capture_output=True, text=True
    )

    assert result.returncode == 2
    assert complaint in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_wrong_environment_variables_are_refused_like_options() -> None:
    def complaint(**variables: str) -> str:
        result = subprocess.run(
            [sys.executable, "productor_camara.py"],
            env={**os.environ, **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        return result.stderr.splitlines()[-1]

    assert "--interval: expected 0 or more, got -5" in complaint(CAMERA_INTERVAL="-5")
    assert "KAFKA_SESSION_TIMEOUT_MS: expected milliseconds" in complaint(
        KAFKA_SESSION_TIMEOUT_MS="soon"
    )


def test_letters_that_a_terminal_lacks_are_escaped() -> None:
    program = (
        "from car_classifier.console import forgiving_output\nforgiving_output()\nprint('汽车 ñ …')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        cwd=ROOT,
        capture_output=True,
    )

    assert result.stdout == b"\\u6c7d\\u8f66 \xf1 \\u2026\n"
