"""A manifest is read into labelled photos, and a bad one is refused with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.dataset_fixtures import CompCars, StanfordCars, make_manifest, real_data, write_photo
from training.dataset import read_manifest
from training.errors import (
    BadRowError,
    EmptySplitError,
    ManifestError,
    MissingColumnsError,
    MissingPhotosError,
    TrainingError,
    UnknownSplitError,
    UnreadablePhotoError,
    UnseenClassError,
)
from training.photos import load_photo

MINIMAL = "image,split,class_id,class_name\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcd":
        write_photo(tmp_path / f"{name}.jpg")
    return tmp_path


def manifest(folder: Path, text: str) -> Path:
    path = folder / "cars.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_minimal_form_is_enough(folder: Path) -> None:
    text = "a.jpg,train,10,Acura TL Sedan 2012\nb.jpg,test,2,Land Rover LR2 SUV 2012\n"
    cars = read_manifest(manifest(folder, MINIMAL + text))
    assert [car.name for car in cars.classes] == ["Land Rover LR2 SUV 2012", "Acura TL Sedan 2012"]
    assert [(car.make, car.model, car.year, car.class_id) for car in cars.classes] == [
        ("Land Rover", "LR2 SUV", 2012, 2),
        ("Acura", "TL Sedan", 2012, 10),
    ]
    (photo,) = cars.split("train")
    assert photo.image == folder / "a.jpg"
    assert (photo.label, photo.class_name, photo.box, photo.line) == (
        1,
        "Acura TL Sedan 2012",
        None,
        2,
    )
    assert (photo.make, photo.model, photo.year) == ("Acura", "TL Sedan", 2012)


def test_classes_without_ids_are_in_the_order_of_their_names(folder: Path) -> None:
    cars = read_manifest(
        manifest(folder, "class_name,split,image\nBMW M3,train,a.jpg\nAudi A4,train,b.jpg\n")
    )
    assert [car.name for car in cars.classes] == ["Audi A4", "BMW M3"]
    assert [photo.label for photo in cars.photos] == [1, 0]


def test_ids_alone_name_the_classes(folder: Path) -> None:
    cars = read_manifest(manifest(folder, "image,split,class_id\na.jpg,test,7\n"))
    assert [(car.name, car.class_id) for car in cars.classes] == [("class 7", 7)]


def test_make_level_merges_the_models_of_a_make(folder: Path) -> None:
    text = "a.jpg,train,1,BMW X5\nb.jpg,train,2,Audi A4 2012\nc.jpg,val,3,BMW M3\n"
    cars = read_manifest(manifest(folder, MINIMAL + text), level="make")
    assert [(car.name, car.make, car.model, car.year) for car in cars.classes] == [
        ("Audi", "Audi", "", None),
        ("BMW", "BMW", "", None),
    ]
    assert [photo.label for photo in cars.photos] == [1, 0, 1]
    assert cars.check_for_training() == [
        f"{cars.path}: 2 classes have one training photo: BMW, Audi"
    ]


def test_a_photos_year_is_its_class_year_only_where_the_class_name_says_so(folder: Path) -> None:
    text = (
        "image,split,make,model,year,class_name,box\n"
        "a.jpg,train,Peugeot,2008,2008,Peugeot 2008,\n"
        "b.jpg,train,Audi,A4,2012,Audi A4 2012,1 2 30 40\n"
    )
    audi, peugeot = read_manifest(manifest(folder, text)).classes
    assert (audi.model, audi.year) == ("A4", 2012)
    assert (peugeot.model, peugeot.year) == ("2008", None)


def test_what_the_command_writes_is_what_is_read(tmp_path: Path) -> None:
    cars = StanfordCars(tmp_path / "cars")
    make_manifest("cars196", "--root", cars.root, "--out", tmp_path / "c.csv")
    read = read_manifest(tmp_path / "c.csv")
    assert [car.name for car in read.classes] == list(StanfordCars.names)
    assert read.photos[0].load().shape == (37, 58, 3)
    assert read.check_for_training() == []
    CompCars(tmp_path / "comp")
    make_manifest("compcars", "--root", tmp_path / "comp", "--out", tmp_path / "comp" / "c.csv")
    by_make = read_manifest(tmp_path / "comp" / "c.csv", level="make")
    assert [car.name for car in by_make.classes] == ["Audi", "BMW", "Saab (3)", "Saab (4)"]


def test_a_manifest_without_splits_needs_to_be_told_one(folder: Path) -> None:
    path = manifest(folder, "image,class_name\na.jpg,Audi A4\n")
    with pytest.raises(MissingColumnsError, match="line 1: expected the columns split too"):
        read_manifest(path)
    assert len(read_manifest(path, default_split="test").split("test")) == 1


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", MissingColumnsError, "expected the columns image, split, class_name or class_id"),
        (MINIMAL, ManifestError, "expected at least one photo"),
        ("image,class_id\na.jpg,1\n", MissingColumnsError, "line 1: expected the columns split"),
        (MINIMAL + "a.jpg,train,1\n", BadRowError, "line 2: expected 4 columns, got 3"),
        (MINIMAL + "\na.jpg,train,x,Audi\n", BadRowError, "line 3: expected a whole number in"),
        (MINIMAL + ",train,1,Audi\n", BadRowError, "line 2: expected a photo's path"),
        (MINIMAL + "a.jpg,train,,\n", BadRowError, "line 2: expected a class_name or a class_id"),
        (
            MINIMAL + "a.jpg,train,1,Audi\nb.jpg,train,1,BMW\n",
            BadRowError,
            "line 3: expected class_id 1 to be 'Audi' as before, got 'BMW'",
        ),
        (
            MINIMAL + "a.jpg,train,1,Audi\nb.jpg,train,2,Audi\n",
            BadRowError,
            "line 3: expected one class_id for 'Audi', got 2 after 1 in line 2",
        ),
        (
            MINIMAL + "a.jpg,dev,1,Audi\nb.jpg,,1,Audi\n",
            UnknownSplitError,
            r"expected the splits train, val, test; 2 rows have others: 'dev' \(line 2\), ''",
        ),
        (
            MINIMAL + "a.jpg,train,1,Audi\n" + "".join(f"{n}.jpg,val,1,Audi\n" for n in range(5)),
            MissingPhotosError,
            r"5 of 6 photos are not there: .*0.jpg \(line 3\), .* and 2 more",
        ),
        (
            "image,split,class_name,box\na.jpg,train,Audi,1 2 3\n",
            BadRowError,
            "line 2: expected a box 'x1 y1 x2 y2', got '1 2 3'",
        ),
        (
            "image,split,class_name,box\na.jpg,train,Audi,5 2 5 9\n",
            BadRowError,
            "line 2: expected a box with 0 <= x1 < x2",
        ),
    ],
)
def test_a_bad_manifest_is_refused_with_file_and_line(
    folder: Path, text: str, error: type[TrainingError], message: str
) -> None:
    path = manifest(folder, text)
    with pytest.raises(error, match=message) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


def test_a_manifest_that_is_not_there_or_no_text_is_refused(folder: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(folder / "none.csv")
    with pytest.raises(ManifestError, match="not a readable CSV file"):
        read_manifest(folder)
    with pytest.raises(ManifestError, match="not a readable CSV file"):
        read_manifest(folder / "a.jpg")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from('a.jpg,train\n"\r\0 1é')))
def test_any_text_is_read_or_refused(folder: Path, text: str) -> None:
    path = folder / "cars.csv"
    path.write_text(MINIMAL + text, encoding="utf-8", newline="")
    named = None
    try:
        read_manifest(path)
    except ManifestError as error:
        named = str(error)
    assert named is None or str(path) in named


def test_a_class_that_train_never_had_is_named(folder: Path) -> None:
    text = "a.jpg,train,1,Audi A4\nb.jpg,train,1,Audi A4\nc.jpg,test,2,BMW M3\n"
    cars = read_manifest(manifest(folder, MINIMAL + text))
    with pytest.raises(UnseenClassError, match=r"line 4: .* 1 have none: 'BMW M3' \(test\)"):
        cars.check_for_training()


def test_an_empty_split_is_named_with_what_there_is(folder: Path) -> None:
    cars = read_manifest(manifest(folder, MINIMAL + "a.jpg,test,1,Audi A4\n"))
    with pytest.raises(EmptySplitError, match="expected photos in split 'val', found test 1"):
        cars.split("val")
    with pytest.raises(EmptySplitError, match="'train'"):
        cars.check_for_training()


def test_a_photo_is_cut_to_its_box_and_stands_upright(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:20, 30:50] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise, to look at it
    Image.fromarray(pixels).save(tmp_path / "p.png", exif=exif)
    shown = load_photo(tmp_path / "p.png", (30, 10, 50, 20))
    assert shown.shape == (20, 10, 3)
    assert shown.dtype == np.uint8
    assert shown.min() == 255
    assert load_photo(tmp_path / "p.png").shape == (60, 40, 3)
    assert load_photo(tmp_path / "p.png", (50, 30, 90, 90)).shape == (10, 10, 3)


def test_a_grey_photo_has_three_channels(tmp_path: Path) -> None:
    Image.new("L", (8, 6), 7).save(tmp_path / "g.png")
    assert load_photo(tmp_path / "g.png").shape == (6, 8, 3)


def test_an_unreadable_photo_is_named(folder: Path) -> None:
    whole = (folder / "a.jpg").read_bytes()
    for damaged in (b"", b"text", whole[:1500]):
        (folder / "a.jpg").write_bytes(damaged)
        with pytest.raises(UnreadablePhotoError, match=r"a\.jpg: not a readable photo"):
            load_photo(folder / "a.jpg")
    with pytest.raises(UnreadablePhotoError, match="lies outside of its 64 x 48 pixels"):
        load_photo(folder / "b.jpg", (64, 0, 70, 10))


def test_the_real_manifest_is_read_right() -> None:
    cars = read_manifest(real_data("cars196", "manifest.csv"))
    assert len(cars.classes) == 196
    assert [len(cars.split(split)) for split in ("train", "val", "test")] == [5896, 644, 785]
    assert [car.class_id for car in cars.classes] == list(range(1, 197))
    assert cars.check_for_training() == []
    assert len(read_manifest(cars.path, level="make").classes) == 49
