"""The soak notices whatever it is there to notice."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.soak import _account, violations
from car_classifier.dead_letters import DeadLetter
from car_classifier.predictions import Source

GOOD = {
    "sent": 10,
    "on_topic": 10,
    "poison": 1,
    "predicted": 9,
    "dead": 1,
    "missing": 0,
    "both": 0,
    "misjudged": 0,
    "predicted_again": 3,
    "camera_failures": 0,
    "kills": 5,
    "broker_restarts": 1,
    "memory_grown_mb": 12.0,
}


def result(offset: int, make: str = "BMW") -> dict[str, Any]:
    return {"partition": 0, "offset": offset, "image_name": "a.png", "make": make}


def letter(offset: int) -> DeadLetter:
    return DeadLetter(Source("soak", 0, offset), "not_json", "", 1, 0.0, None, None, [])


def test_a_run_in_which_all_went_well_violates_nothing() -> None:
    assert violations(GOOD) == []


@pytest.mark.parametrize(
    "change",
    [
        {"on_topic": 11},
        {"predicted": 8},
        {"dead": 2, "predicted": 8},
        {"missing": 1},
        {"both": 1},
        {"misjudged": 1},
        {"camera_failures": 1},
        {"memory_grown_mb": 100.0},
        {"kills": 0},
        {"broker_restarts": 0},
    ],
)
def test_each_violation_is_found(change: dict[str, Any]) -> None:
    assert violations(GOOD | change)


def test_every_message_is_accounted_for() -> None:
    figures = _account({0: 4}, [result(0), result(1)], [letter(2), letter(3)], {"a.png": "BMW"})

    assert set(figures.values()) == {0, 2}
    assert (figures["predicted"], figures["dead"]) == (2, 2)


def test_what_is_missing_repeated_double_or_wrong_is_counted() -> None:
    results = [result(0), result(0), result(1, "Audi"), result(2)]

    figures = _account({0: 6}, results, [letter(2), letter(3), letter(3), None], {"a.png": "BMW"})

    assert figures == {
        "predicted": 3,
        "dead": 2,
        "missing": 2,
        "both": 1,
        "misjudged": 2,  # an Audi, and a dead letter that cannot be read
        "predicted_again": 1,
        "dead_again": 1,
    }
