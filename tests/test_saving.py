"""Models and class maps are saved whole or not at all, small, and as the service takes them."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_classifier.class_map import CarClass, load_class_map
from car_classifier.model import load_classifier
from tests.models import colour_model
from training import saving
from training.files import replace_file
from training.saving import class_map_text, round_mantissa, save_classifier, save_model

CLASSES = [CarClass("Škoda", "Fabia", 2012), CarClass("Jaguar", "E-Type"), CarClass("Bugatti")]


@contextlib.contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: a write then fails in the kernel."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "x.txt"
    for text in ("old", "new"):
        with replace_file(path) as unfinished:
            unfinished.write_text(text)
            assert not path.exists() or path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(path.parent) == ["x.txt"]


def test_the_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="too large"), disk_full_after(100):  # noqa: SIM117
        with replace_file(path) as unfinished:
            unfinished.write_bytes(bytes(1000))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.bin"]


def test_a_full_disk_leaves_the_old_model_and_the_old_class_map(tmp_path: Path) -> None:
    path = tmp_path / "cars.keras"
    save_classifier(colour_model(), CLASSES, path, path.with_suffix(".classes.json"))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(OSError, match="too large"), disk_full_after(1000):
        save_classifier(
            colour_model(3.0), [*reversed(CLASSES)], path, path.with_suffix(".classes.json")
        )
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_int8_file_of_the_model_before_is_not_left_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "cars.keras"
    path.with_suffix(".tflite").write_bytes(b"of the model before")

    save_classifier(colour_model(), CLASSES, path, path.with_suffix(".classes.json"))

    assert names(tmp_path) == ["cars.classes.json", "cars.keras"]


def test_the_class_map_is_not_replaced_before_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cars.keras"
    save_classifier(colour_model(), CLASSES, path, path.with_suffix(".classes.json"))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_model", fail)
    with pytest.raises(OSError, match="No space left"):
        save_classifier(
            colour_model(), [*reversed(CLASSES)], path, path.with_suffix(".classes.json")
        )
    assert load_class_map(tmp_path / "cars.classes.json") == CLASSES
    assert names(tmp_path) == ["cars.classes.json", "cars.keras"]


def test_the_service_loads_what_is_saved_and_gets_the_same_answers(tmp_path: Path) -> None:
    model = colour_model()
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
    before = np.asarray(model(images.astype(np.float32)))
    save_classifier(model, CLASSES, tmp_path / "cars.keras", tmp_path / "cars.classes.json")
    classes = load_class_map(tmp_path / "cars.classes.json")
    classifier = load_classifier(tmp_path / "cars.keras", classes)
    assert classifier.predict(images) == pytest.approx(before, abs=0.003)


def test_a_saved_model_takes_half_the_room(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512)])
    model.save(tmp_path / "plain.keras")
    save_model(model, tmp_path / "small.keras")
    plain, small = ((tmp_path / f"{n}.keras").stat().st_size for n in ("plain", "small"))
    assert small < 0.6 * plain


def test_a_class_map_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(class_map_text(CLASSES), encoding="utf-8")
    assert load_class_map(path) == CLASSES
    assert '"2": {\n  "make": "Bugatti"\n }' in path.read_text(encoding="utf-8")


@given(st.floats(width=32, min_value=2**-100, max_value=2**100), st.sampled_from([1, -1]))
def test_rounding_moves_a_weight_by_half_a_digit_at_most(value: float, sign: int) -> None:
    weights = np.array([sign * value], np.float32)
    rounded = round_mantissa(weights)
    assert abs(rounded[0] - weights[0]) <= abs(weights[0]) * 2.0**-11
    assert rounded.view(np.uint32)[0] & 0x1FFF == 0
    assert round_mantissa(rounded)[0] == rounded[0]
