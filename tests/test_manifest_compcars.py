"""CompCars, with every quirk of its layout, becomes a manifest; what is wrong with it is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import scipy.io

from tests.dataset_fixtures import (
    CompCars,
    Surveillance,
    column,
    compcars_keys,
    make_manifest,
    real_data,
    write_label,
    write_photo,
    write_text,
)
from training.compcars import read_surveillance
from training.dataset import read_manifest
from training.matfiles import cell_number, cell_text, load_variable


@pytest.fixture
def compcars(tmp_path: Path) -> CompCars:
    return CompCars(tmp_path / "CompCars {1}")


def test_the_shipped_split_is_kept_and_val_comes_out_of_train(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    assert status == 0
    assert Counter(row["split"] for row in rows) == {"train": 54, "val": 6, "test": 12}
    tested = {row["image"].split("data/image/")[1] for row in rows if row["split"] == "test"}
    assert tested == set(compcars.lists["test"])
    assert Counter(row["class_id"] for row in rows if row["split"] == "val") == dict.fromkeys(
        "123456", 1
    )
    assert "72 photos (train 54, val 6, test 12), 6 classes, 4 makes" in capsys.readouterr().err


def test_a_row_holds_all_that_compcars_knows(compcars: CompCars, tmp_path: Path) -> None:
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    assert next(row for row in rows if row["class_id"] == "1") | {"image": "", "split": ""} == {
        "image": "",
        "split": "",
        "make": "Audi",
        "model": "A4L",
        "year": "2014",
        "body_type": "sedan",
        "viewpoint": "front-side",
        "box": "1 2 60 40",  # "2 3 60 40", 1-based and inclusive
        "class_id": "1",
        "class_name": "Audi A4L",
    }
    bmw = next(row for row in rows if row["class_id"] == "2")
    assert (bmw["year"], bmw["body_type"], bmw["class_name"]) == ("", "", "BMW 3 Series")


def test_ids_are_the_keys_and_shared_names_are_told_apart(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    names = {row["class_id"]: row["class_name"] for row in rows}
    assert names == {
        "1": "Audi A4L",
        "2": "BMW 3 Series",
        "3": "BMW model 3",
        "4": "Saab Ruiling (4)",
        "5": "Saab Ruiling (5)",
        "6": "Saab Avalon",
    }
    assert {row["make"] for row in rows} == {"Audi", "BMW", "Saab (3)", "Saab (4)"}
    assert "1 models have no name" in capsys.readouterr().err


def test_make_level_has_makes_for_classes(compcars: CompCars, tmp_path: Path) -> None:
    out = tmp_path / "c.csv"
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", out, "--level", "make")
    assert {(row["class_id"], row["class_name"]) for row in rows} == {
        ("1", "Audi"),
        ("2", "BMW"),
        ("3", "Saab (3)"),
        ("4", "Saab (4)"),
    }
    assert [car.model for car in read_manifest(out).classes] == [""] * 4


def test_missing_and_damaged_photos_are_named_and_counted(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = compcars.root / "data/image"
    gone, cut, text = compcars.lists["train"][:3]
    (image / gone).unlink()
    (image / cut).write_bytes((image / cut).read_bytes()[:1500])
    (image / text).write_text("not a photo")
    status, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    err = capsys.readouterr().err
    assert status == 0
    assert len(rows) == 69
    assert "skipped 1: photo missing" in err
    assert gone in err
    assert "skipped 2: photo unreadable" in err
    assert cut in err
    assert text in err


def test_photos_of_a_class_without_training_photos_are_skipped(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compcars.lists["train"] = [k for k in compcars.lists["train"] if not k.startswith("1/")]
    compcars.write_lists()
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    assert "1" not in {row["class_id"] for row in rows}
    assert "skipped 2: its class has no photo in train: Audi A4L" in capsys.readouterr().err
    read_manifest(tmp_path / "c.csv").check_for_training()


def test_a_class_with_one_training_photo_is_a_warning(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audi = [key for key in compcars.lists["train"] if key.startswith("1/")]
    compcars.lists["train"] = [key for key in compcars.lists["train"] if key not in audi[1:]]
    compcars.write_lists()
    make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    assert "warning: 1 classes have one training photo: Audi A4L" in capsys.readouterr().err


def test_blank_lines_spaces_and_line_ends_of_windows_do_no_harm(
    compcars: CompCars, tmp_path: Path
) -> None:
    compcars.write_lists(end="  \r\n\r\n")
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    assert len(rows) == 72


def test_a_photo_listed_twice_counts_once_and_never_in_train_and_test(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = compcars.lists["test"][0]
    compcars.lists["train"] += [compcars.lists["train"][0], both]
    compcars.write_lists()
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    assert [row["split"] for row in rows if row["image"].endswith(both)] == ["test"]
    assert len(rows) == 72
    err = capsys.readouterr().err
    assert "skipped 1: listed twice" in err
    assert "skipped 1: listed in train and in test" in err


@pytest.mark.parametrize("label", [None, "", "4\n1\n1 2 3\n", "9\n1\n1 2 3 4\n", "x\n1\n1 2 3 4"])
def test_a_photo_without_a_usable_label_file_has_no_box(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str | None
) -> None:
    key = compcars.lists["test"][0]
    path = (compcars.root / "data/label" / key).with_suffix(".txt")
    path.unlink()
    if label is not None:
        write_text(path, label)
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    row = next(row for row in rows if row["image"].endswith(key))
    assert (row["box"], row["viewpoint"]) == ("", "")
    assert f"1 photos have no readable label file, thus no box and no viewpoint: first {key}" in (
        capsys.readouterr().err
    )


def test_uncertain_viewpoints_are_empty_and_boxes_end_at_the_photo(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = compcars.lists["test"][0]
    write_label(compcars.root, key, -1, "1 1 70 48")
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    row = next(row for row in rows if row["image"].endswith(key))
    assert (row["box"], row["viewpoint"]) == ("0 0 64 48", "")
    assert "1 boxes reached beyond their photos" in capsys.readouterr().err


def test_a_random_split_warns_that_it_overstates(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compcars", "--root", compcars.root, "--split", "random", "--test-fraction", "0.25")
    _, rows = make_manifest(*command, "--out", tmp_path / "a.csv")
    assert "warning: a random split of CompCars" in capsys.readouterr().err
    tested = {row["image"].split("data/image/")[1] for row in rows if row["split"] == "test"}
    assert len(tested) == 18
    assert tested != set(compcars.lists["test"])
    assert set(Counter(row["class_id"] for row in rows if row["split"] == "test").values()) == {3}
    _, again = make_manifest(*command, "--out", tmp_path / "b.csv")
    _, other = make_manifest(*command, "--out", tmp_path / "c.csv", "--seed", "1")
    assert again == rows
    assert other != rows


def test_the_split_depends_on_no_order(compcars: CompCars, tmp_path: Path) -> None:
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "a.csv")
    compcars.lists["train"].reverse()
    compcars.write_lists()
    _, turned = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "b.csv")
    assert {(r["image"], r["split"]) for r in rows} == {(r["image"], r["split"]) for r in turned}


def test_ids_beyond_the_names_are_shown_as_ids(compcars: CompCars, tmp_path: Path) -> None:
    keys = compcars_keys(9, 99, "2010", 3)
    for key in keys:
        write_photo(compcars.root / "data/image" / key)
    compcars.lists["train"] += keys
    compcars.write_lists()
    _, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    assert {row["class_name"] for row in rows if row["class_id"] == "99"} == {"make 9 model 99"}


MISC = "data/misc/"
LISTS = "data/train_test_split/classification/"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (MISC + "make_model_name.mat", None, "no such file"),
        (MISC + "make_model_name.mat", "text", "not a readable MATLAB file"),
        (MISC + "car_type.mat", "", "not a readable MATLAB file"),
        (MISC + "attributes.txt", None, "cannot be read"),
        (MISC + "attributes.txt", "header\n1 2 3\n", "line 2: expected six numbers"),
        (MISC + "attributes.txt", "header\n\n1 1 1 1 1 13\n", "line 3: expected a type of 0 to 12"),
        (LISTS + "train.txt", None, "cannot be read"),
        (LISTS + "train.txt", "1/1/2014/a.jpg\n1/1/b.jpg\n", "line 2: expected <make_id>/"),
        (LISTS + "train.txt", "1/1/../a.jpg\n", "line 1: expected <make_id>/"),
        (LISTS + "test.txt", "\udcff\udcfe", "expected UTF-8 text"),
        (LISTS + "train.txt", "", "the train split is empty"),
    ],
)
def test_a_missing_or_damaged_file_is_named(
    compcars: CompCars,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    content: str | None,
    message: str,
) -> None:
    path = compcars.root / file
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    status, rows = make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")
    err = capsys.readouterr().err
    assert (status, rows) == (2, [])
    assert err.startswith("error: ")
    assert message in err
    assert "split is empty" in message or path.name in err
    assert "Traceback" not in err


def test_a_mat_file_without_the_variable_names_what_it_has(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = compcars.root / MISC / "make_model_name.mat"
    scipy.io.savemat(file, {"other": column(["Audi"])})
    assert make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")[0] == 2
    assert "expected the variable 'make_names', found other" in capsys.readouterr().err


@pytest.mark.usefixtures("compcars")
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "no such folder; expected CompCars' root folder"),
        (".", "missing: data/misc, data/image"),
        ("CompCars {1}/data", "this is CompCars' data folder; give the folder that holds it"),
    ],
)
def test_a_wrong_root_says_what_was_expected(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    place: str,
    message: str,
) -> None:
    assert (
        make_manifest("compcars", "--root", tmp_path / place, "--out", tmp_path / "c.csv")[0] == 2
    )
    assert message in capsys.readouterr().err


def test_no_photo_at_all_is_an_error_that_says_why(
    compcars: CompCars, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in compcars.lists["train"] + compcars.lists["test"]:
        (compcars.root / "data/image" / key).unlink()
    assert make_manifest("compcars", "--root", compcars.root, "--out", tmp_path / "c.csv")[0] == 2
    assert "no usable photo: photo missing: " in capsys.readouterr().err


def test_surveillance_photos_have_their_own_classes_and_lists(
    compcars: CompCars, tmp_path: Path
) -> None:
    Surveillance(compcars.root)
    out = tmp_path / "sv.csv"
    status, rows = make_manifest(
        "compcars", "--surveillance", "--root", compcars.root, "--out", out
    )
    assert status == 0
    assert Counter(row["split"] for row in rows) == {"train": 15, "val": 3, "test": 6}
    assert {row["class_id"]: row["class_name"] for row in rows} == {
        "1": "Audi A4L",
        "2": "Land Rover Freelander (2)",
        "3": "Land Rover Freelander (3)",
    }
    assert {row["body_type"] for row in rows if row["class_id"] == "1"} == {"sedan"}
    assert {(row["viewpoint"], row["box"], row["year"]) for row in rows} == {("front", "", "")}


def test_surveillance_works_without_the_web_photos_and_counts_unknown_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixture = Surveillance(tmp_path / "cars")
    write_text(fixture.root / "test_surveillance.txt", "1/test0.jpg\n4/x.jpg\n")
    out = tmp_path / "sv.csv"
    status, rows = make_manifest(
        "compcars", "--surveillance", "--root", tmp_path / "cars", "--out", out, "--level", "make"
    )
    assert status == 0
    assert {row["class_name"] for row in rows} == {"Audi", "Land Rover"}
    assert "skipped 1: class id beyond the 3 of" in capsys.readouterr().err


def test_the_real_surveillance_metadata_is_read_right(tmp_path: Path) -> None:
    names = real_data("compcars_meta", "sv_make_model_name.mat")
    lines = real_data("compcars_meta", "test_surveillance_head.txt").read_text()
    data = tmp_path / "sv_data"
    (data / "image").mkdir(parents=True)
    (data / "sv_make_model_name.mat").write_bytes(names.read_bytes())
    write_text(data / "test_surveillance.txt", lines)
    write_text(data / "train_surveillance.txt", "281/a.jpg\n")
    listing = read_surveillance(tmp_path)
    assert len(listing.photos) == len(lines.split()) + 1 == 401
    assert listing.photos[0].class_name == "Besturn X80"
    assert listing.skipped == {}
    table = load_variable(names, "sv_make_model_name")
    assert table.shape == (281, 3)
    assert [cell_text(table[0, 0]), cell_number(table[0, 2])] == ["Besturn", 366]
