"""What is said about a photo: a line that is safe to print, and JSON that programs can read."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_classifier.class_map import CarClass
from car_classifier.messages import CarPhoto
from car_classifier.predictions import Prediction, Source, predict_top_k, printable

M3 = CarClass("BMW", "M3 Coupe", 2012)
AUDI = CarClass("Audi")


def prediction(
    top_k: list[tuple[CarClass, float]] | None = None,
    *,
    certain: bool = True,
    camera_id: str = "cam01",
    image_name: str = "coche_bmw.jpg",
) -> Prediction:
    photo = CarPhoto(1700000000.5, camera_id, image_name, b"not shown")
    source = Source("taller_camara_stream", 2, 41)
    return Prediction(
        photo,
        source,
        top_k or [(M3, 0.97312), (AUDI, 0.02)],
        certain,
        received=photo.timestamp + 0.002,
        predicted=photo.timestamp + 0.01234,
    )


def test_the_line_is_the_one_that_is_documented() -> None:
    expected = "cam01 coche_bmw.jpg -> Make: BMW, Model: M3 Coupe, Confidence: 97.31%"

    assert prediction().as_line() == expected


def test_a_map_of_makes_gives_a_line_without_a_model() -> None:
    line = prediction([(AUDI, 1.0)]).as_line()

    assert line == "cam01 coche_bmw.jpg -> Make: Audi, Confidence: 100.00%"


def test_an_uncertain_answer_is_unknown_and_still_shows_the_best_guess() -> None:
    line = prediction([(M3, 0.31)], certain=False).as_line()

    assert line == (
        "cam01 coche_bmw.jpg -> Make: unknown (best guess: BMW M3 Coupe 2012), Confidence: 31.00%"
    )


def test_the_json_has_every_field() -> None:
    assert json.loads(prediction().as_json()) == {
        "camera_id": "cam01",
        "image_name": "coche_bmw.jpg",
        "timestamp": 1700000000.5,
        "make": "BMW",
        "model": "M3 Coupe",
        "year": 2012,
        "confidence": 0.97312,
        "top_k": [
            {"make": "BMW", "model": "M3 Coupe", "year": 2012, "confidence": 0.97312},
            {"make": "Audi", "model": None, "year": None, "confidence": 0.02},
        ],
        "latency_ms": 12.3,
        "topic": "taller_camara_stream",
        "partition": 2,
        "offset": 41,
    }


def test_the_json_of_an_uncertain_answer_names_no_car_but_its_guesses() -> None:
    answer = json.loads(prediction(certain=False).as_json())

    assert (answer["make"], answer["model"], answer["year"]) == (None, None, None)
    assert answer["confidence"] == 0.97312
    assert answer["top_k"][0]["make"] == "BMW"


@given(st.text(), st.text(), st.text(min_size=1))
def test_any_name_stays_on_one_printable_line(camera: str, name: str, make: str) -> None:
    answer = prediction([(CarClass(make), 0.5)], camera_id=camera, image_name=name)

    assert answer.as_line().isprintable()
    assert len(answer.as_json().splitlines()) == 1
    assert json.loads(answer.as_json())["image_name"] == name


@pytest.mark.parametrize(
    "name",
    [
        "a\nSent: forged.jpg from camera cam01",
        "a\r\x1b[2K",
        "\x1b]0;title\x07",
        "\x9b31m",  # the same escape in one letter
        "gpj.\u202eexe",  # a bidi override: shown backwards
        "a\u2028b",
        "a\u200bb",
        "\x00",
        "\ud800",
    ],
)
def test_names_cannot_move_the_cursor_or_turn_the_text(name: str) -> None:
    shown = printable(name)

    assert not any(unicodedata.category(letter).startswith("C") for letter in shown)
    assert len(shown.splitlines()) == 1
    assert "\\" in shown  # escaped, not dropped


def test_ordinary_names_are_shown_as_they_are() -> None:
    for name in ("coche bmw.jpg", "Škoda Citroën ñ.jpg", "汽车.png", "<b>.jpg"):
        assert printable(name) == name


def test_long_names_are_cut() -> None:
    shown = printable("x" * 10_000)

    assert len(shown) == 100
    assert shown.endswith("…")
    assert printable("x" * 100) == "x" * 100
    assert len(prediction(camera_id="c" * 10_000, image_name="\n" * 10_000).as_line()) < 600


def test_a_source_says_where_a_message_lies() -> None:
    assert str(Source("taller_camara_stream", 2, 41)) == "taller_camara_stream[2]@41"


def test_the_likeliest_classes_come_first() -> None:
    classes = [CarClass(name) for name in "abcd"]
    shares = np.array([0.1, 0.4, 0.1, 0.4], np.float32)

    best = predict_top_k(shares, classes, 3)

    assert [car.make for car, _ in best] == ["b", "d", "a"]  # the first of equals first
    assert [type(share) for _, share in best] == [float] * 3  # what json takes
    assert len(predict_top_k(shares, classes, 99)) == 4
