"""The int8 file answers like the model it was made of, or it is not written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from car_classifier.class_map import CarClass, load_class_map
from car_classifier.model import load_classifier
from tests.tiny_cars import draw_car, train_tiny, write_cars
from training import export, manifest
from training.aspect import fit
from training.export import compare
from training.figures import Answers


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A manifest of easy cars, and a model that tells them apart."""
    root = tmp_path_factory.mktemp("export")
    cars, model = root / "cars.csv", root / "cars.keras"
    shares = ["--val-fraction", "0.2", "--test-fraction", "0.2"]
    photos = str(write_cars(root / "photos"))
    assert manifest.main(["folder", "--root", photos, "--out", str(cars), *shares]) == 0
    assert train_tiny(["--manifest", str(cars), "--out", str(model), "--epochs", "16"]) == 0
    return cars, model


def words(trained: tuple[Path, Path], out: Path) -> list[str]:
    cars, model = trained
    classes = model.with_suffix(".classes.json")
    return [
        *("--model", str(model), "--classes", str(classes)),
        *("--manifest", str(cars), "--out", str(out)),
    ]


def test_the_int8_file_answers_like_the_model(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cars.tflite"
    capsys.readouterr()

    assert export.main(words(trained, out)) == 0

    figures = json.loads(capsys.readouterr().out)
    assert figures["n"] == 9
    assert figures["agreement"] == 1.0
    classes = load_class_map(trained[1].with_suffix(".classes.json"))
    plain = load_classifier(trained[1], classes)
    quantised = load_classifier(out, classes, "litert")
    images = np.stack(
        [np.asarray(fit(draw_car((220, 30, 30), seed), (32, 32))) for seed in range(11)]
    )
    difference = np.abs(plain.predict(images) - quantised.predict(images))
    assert difference.max() < 0.05
    # In steps of 1/256 a confidence would not be calibrated any more.
    assert len(np.unique(quantised.predict(images))) > 20


def test_ranges_are_measured_on_as_many_photos_as_asked_for(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated: list[int] = []
    int8_model = export.int8_model

    def counted(model: Any, calibration: Any) -> bytes:
        calibrated.append(len(calibration))
        return int8_model(model, calibration)

    monkeypatch.setattr(export, "int8_model", counted)
    few = [*words(trained, tmp_path / "cars.tflite"), "--calibration-photos", "20"]

    assert export.main(few) == 0
    assert calibrated == [20]


def test_a_file_that_answers_otherwise_is_not_written(
    trained: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "cars.tflite"
    out.write_bytes(b"the one before")
    # Calibrated on black photos, all activations are clipped to what these give.
    monkeypatch.setattr(export, "load_input", lambda *_: np.zeros((32, 32, 3), np.uint8))

    assert export.main(words(trained, out)) == 2

    assert "not written: expected to lose at most 0.5%" in capsys.readouterr().err
    assert out.read_bytes() == b"the one before"
    assert [path.name for path in tmp_path.iterdir()] == ["cars.tflite"]


def test_only_confident_answers_count_as_contradicted() -> None:
    classes = [CarClass("Audi"), CarClass("BMW")]
    labels = np.array([0, 0, 1, 1])
    plain = Answers(np.float32([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8]]), labels, classes)
    other = Answers(np.float32([[0.1, 0.9], [0.4, 0.6], [0.1, 0.9], [0.2, 0.8]]), labels, classes)

    figures = compare(plain, other)

    assert figures["agreement"] == 0.5
    assert figures["contradicted"] == pytest.approx(1 / 3)
    assert figures["top1_float"] == 1.0
    assert figures["top1_int8"] == 0.5
