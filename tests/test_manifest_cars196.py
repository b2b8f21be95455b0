"""Stanford Cars' devkit becomes a manifest; what is wrong with it is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import scipy.io

from tests.dataset_fixtures import (
    FIELDS,
    StanfordCars,
    annotations,
    make_manifest,
    real_data,
)
from training.cars196 import read_cars196


def test_without_labelled_test_annotations_all_splits_come_out_of_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cars = StanfordCars(tmp_path / "cars")
    _, rows = make_manifest(
        "cars196", "--root", cars.root, "--out", tmp_path / "c.csv", "--test-fraction", "0.2"
    )
    assert Counter((row["class_id"], row["split"]) for row in rows) == {
        (class_id, split): count
        for class_id in "123"
        for split, count in (("train", 7), ("val", 1), ("test", 2))
    }
    assert "are not those of the Stanford Cars benchmark" in capsys.readouterr().err


def test_labelled_test_annotations_are_the_test_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cars = StanfordCars(tmp_path / "cars", labelled_test=True)
    _, rows = make_manifest("cars196", "--root", cars.root, "--out", tmp_path / "c.csv")
    assert Counter(row["split"] for row in rows) == {"train": 27, "val": 3, "test": 15}
    assert all(("cars_test" in row["image"]) == (row["split"] == "test") for row in rows)
    assert "benchmark" not in capsys.readouterr().err


def test_a_row_holds_make_model_year_body_type_and_box(tmp_path: Path) -> None:
    cars = StanfordCars(tmp_path / "cars")
    _, rows = make_manifest("cars196", "--root", cars.root, "--out", tmp_path / "cars" / "c.csv")
    row = rows[1]
    assert row | {"split": ""} == {
        "image": "cars_train/00002.jpg",  # relative, for it lies below the manifest's folder
        "split": "",
        "make": "Acura",
        "model": "TL Sedan",
        "year": "2012",
        "body_type": "sedan",
        "viewpoint": "",
        "box": "2 3 60 40",  # 3 4 60 40 in MATLAB
        "class_id": "2",
        "class_name": "Acura TL Sedan 2012",
    }
    assert {row["make"] for row in rows} == {"AM General", "Acura", "Ram"}


def test_cropped_photos_have_no_box(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cars = StanfordCars(tmp_path / "cars")
    boxes = [(300, 200, 900, 500, 1, f"{n + 1:05}.jpg") for n in range(30)]
    scipy.io.savemat(cars.root / "devkit/cars_train_annos.mat", {"annotations": annotations(boxes)})
    command = ("cars196", "--root", cars.root, "--out", tmp_path / "c.csv")
    assert make_manifest(*command) == (2, [])
    assert "30 of 30 boxes reach beyond their photos" in capsys.readouterr().err
    status, rows = make_manifest(*command, "--cropped")
    assert (status, {row["box"] for row in rows}) == (0, {""})


def test_images_names_another_folder_of_photos(tmp_path: Path) -> None:
    cars = StanfordCars(tmp_path / "cars")
    (cars.root / "cars_train").rename(tmp_path / "elsewhere")
    command = ("cars196", "--root", cars.root, "--out", tmp_path / "c.csv")
    assert make_manifest(*command)[0] == 2
    status, rows = make_manifest(*command, "--images", tmp_path / "elsewhere")
    assert (status, len(rows)) == (0, 30)


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        ([(1, 1, 9, 9, 4, "1.jpg")], FIELDS, "annotation 1: expected a class of 1 to 3, got 4"),
        ([(1, 1, 9, 9, 1, "../1.jpg")], FIELDS, "annotation 1: expected a photo's file name"),
        ([("x", 1, 9, 9, 1, "1.jpg")], FIELDS, "annotation 1: could not convert"),
        ([(1, 1, 9, 9, "1.jpg")], FIELDS[:4] + FIELDS[5:], "expected the fields class in"),
    ],
)
def test_damaged_annotations_are_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[tuple],
    fields: tuple[str, ...],
    message: str,
) -> None:
    cars = StanfordCars(tmp_path / "cars")
    scipy.io.savemat(
        cars.root / "devkit/cars_train_annos.mat", {"annotations": annotations(rows, fields)}
    )
    status, _ = make_manifest("cars196", "--root", cars.root, "--out", tmp_path / "c.csv")
    err = capsys.readouterr().err
    assert status == 2
    assert message in err
    assert "cars_train_annos.mat" in err


def test_a_wrong_root_says_what_was_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_manifest("cars196", "--root", tmp_path, "--out", tmp_path / "c.csv")[0] == 2
    assert "missing: cars_meta.mat, cars_train_annos.mat" in capsys.readouterr().err


def test_the_real_devkit_is_read_right() -> None:
    listing = read_cars196(real_data("cars196", "devkit", "cars_meta.mat").parents[1])
    assert len(listing.photos) == 8144
    assert len({photo.class_name for photo in listing.photos}) == 196
    assert len({photo.make for photo in listing.photos}) == 49
    first = listing.photos[0]
    assert (first.key, first.class_id, first.class_name) == (
        "train/00001.jpg",
        14,
        "Audi TTS Coupe 2012",
    )
    assert first.box == (38, 115, 569, 375)
    assert (first.make, first.model, first.year) == ("Audi", "TTS Coupe", 2012)
    assert all(photo.year for photo in listing.photos)
