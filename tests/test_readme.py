"""What the README promises about the command lines is what the programs do."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from car_classifier.errors import Reason
from car_classifier.security import Security

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHARED_OPTIONS = {"--bootstrap-servers": "KAFKA_BOOTSTRAP_SERVERS", "--topic": "KAFKA_TOPIC"}


def documented_options(script: str) -> dict[str, str]:
    """Option -> environment variable ("" for none) of the table under a script's name."""
    section = README.split(f"\n`{script}`:\n", 1)[1].split("\n\n`", 1)[0]
    rows = re.findall(r"^\| (`--[^|]*`) \| ([^|]*)\|", section, re.MULTILINE)
    return {
        option: variable.strip().strip("`")
        for options, variable in rows
        for option in re.findall(r"--[a-z-]+", options)
    }


def offered_options(script: str) -> dict[str, str]:
    """The same, read off the program's own help."""
    text = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200", "PATH": ""},
    ).stdout
    entries = re.findall(r"^  (--[a-z-]+)(.*(?:\n {10,}.*)*)", text, re.MULTILINE)
    return {
        option: found[1] if (found := re.search(r"\[([A-Z][A-Z_]+);", help_text)) else ""
        for option, help_text in entries
    }


@pytest.mark.parametrize("script", ["productor_camara.py", "consumidor_clasificador.py"])
def test_every_option_is_in_the_readme_with_its_environment_variable(script: str) -> None:
    assert documented_options(script) | SHARED_OPTIONS == offered_options(script)


def test_every_setting_for_logging_in_is_in_the_readme() -> None:
    section = README.split("\n## Security\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(KAFKA_[A-Z_]+)`", row)}

    settings = {f"KAFKA_{field.name.upper()}" for field in dataclasses.fields(Security)}
    assert named == settings | {f"{name}_FILE" for name in settings if name.endswith("PASSWORD")}


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (training\.[a-z]+)", README))))
def test_every_training_command_of_the_readme_has_the_options_shown(module: str) -> None:
    commands = re.findall(rf"python -m {module} ((?:[^\n`]*\\\n)*[^\n`]*)", README)
    for command in commands:
        words = command.split("#")[0].split()
        subcommand = [words[0]] if words and words[0].isalnum() else []
        text = subprocess.run(
            [sys.executable, "-m", module, *subcommand, "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
        for option in re.findall(r"--[a-z-]+", command):
            assert option in text


def test_every_reason_for_a_dead_letter_is_in_the_readme() -> None:
    sentence = re.search(r"^Reasons: ([^.]*)\.", README, re.MULTILINE)

    assert sentence
    assert re.findall(r"`([a-z_0-9]+)`", sentence[1]) == [reason.value for reason in Reason]
