"""The class map: both forms are read, and one that cannot be right is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from car_classifier.class_map import CarClass, load_class_map
from car_classifier.errors import ClassMapError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "marcas_coches.json"


def test_makes_models_and_years_are_read_in_the_order_of_the_outputs(path: Path) -> None:
    # Given a file whose entries do not stand in order, and eleven of them: "10" sorts before "2"
    entries: dict[str, Any] = {str(i): {"make": f"Make {i}"} for i in reversed(range(11))}
    entries["2"] = {"make": " Škoda ", "model": "Citigo", "year": 2012, "seats": 4}
    path.write_text(json.dumps(entries), encoding="utf-8")

    classes = load_class_map(path)

    assert [car.make for car in classes[8:]] == ["Make 8", "Make 9", "Make 10"]
    assert classes[2] == CarClass("Škoda", "Citigo", 2012)
    assert classes[0] == CarClass("Make 0", "", None)


def test_the_older_flat_form_is_read(path: Path) -> None:
    path.write_text('{"0": "BMW", "1": "Citroën"}', encoding="utf-8")

    assert load_class_map(path) == [CarClass("BMW"), CarClass("Citroën")]


def test_model_and_year_may_be_null(path: Path) -> None:
    path.write_text('{"0": {"make": "BMW", "model": null, "year": null}}')

    assert load_class_map(path) == [CarClass("BMW")]


@pytest.mark.parametrize(
    ("car", "shown"),
    [
        (CarClass("BMW", "M3 Coupe", 2012), "BMW M3 Coupe 2012"),
        (CarClass("BMW", "M3 Coupe"), "BMW M3 Coupe"),
        (CarClass("BMW"), "BMW"),
    ],
)
def test_a_class_is_shown_as_far_as_it_is_known(car: CarClass, shown: str) -> None:
    assert str(car) == shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "in JSON"),
        ("{", "in JSON"),
        ("[" * 100_000, "in JSON"),
        ('["BMW"]', "expected an object"),
        ("{}", "expected an object"),
        ("null", "expected an object"),
        ('{"1": "BMW", "2": "Audi"}', "keys 0 to 1 for 2 classes, '0' is not there"),
        ('{"0": "BMW", "2": "Audi"}', "'1' is not there"),
        ('{"0": "BMW", "one": "Audi"}', "'1' is not there"),
        ('{"0": "BMW", "01": "Audi"}', "'1' is not there"),
        ('{"0": "BMW", "0": "Audi"}', "'0' stands twice"),
        ('{"0": {"make": "BMW", "make": "Audi"}}', "'make' stands twice"),
        ('{"0": 7}', "class 0: expected a make or an object"),
        ('{"0": ""}', "class 0: expected text in make"),
        ('{"0": "  "}', "class 0: expected text in make"),
        ('{"0": {"model": "M3"}}', "class 0: expected text in make"),
        ('{"0": "BMW", "1": {"make": ["Audi"]}}', "class 1: expected text in make"),
        ('{"0": {"make": "BMW", "model": 3}}', "class 0: expected text in make and model"),
        ('{"0": {"make": "BMW", "year": "2012"}}', "class 0: expected a whole number"),
        ('{"0": {"make": "BMW", "year": 2012.5}}', "class 0: expected a whole number"),
        ('{"0": {"make": "BMW", "year": true}}', "class 0: expected a whole number"),
    ],
)
def test_a_map_that_cannot_be_right_is_refused(path: Path, text: str, reason: str) -> None:
    path.write_text(text)

    with pytest.raises(ClassMapError) as caught:
        load_class_map(path)

    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_a_file_that_is_not_text_is_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\xfd")

    with pytest.raises(ClassMapError, match="in JSON"):
        load_class_map(path)


def test_a_missing_file_and_a_folder_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ClassMapError, match=r"no class map at .* \(--classes\)"):
        load_class_map(path)
    with pytest.raises(ClassMapError, match="expected a class map in JSON"):
        load_class_map(tmp_path)
