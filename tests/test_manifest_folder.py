"""A folder of one's own becomes a manifest, and a manifest that was there survives a failure."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.dataset_fixtures import make_manifest, write_photo
from training import manifest


def write_classes(root: Path, *names: str, count: int = 10) -> Path:
    for name in names:
        for number in range(count):
            write_photo(root / name / f"{number}.jpg", 16, 16)
    return root


def test_one_folder_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_classes(tmp_path / "cars", "Land_Rover_LR2_SUV_2012", "Škoda Fabia")
    (root / "Škoda Fabia" / "notes.txt").write_text("mine")
    (root / "Škoda Fabia" / ".DS_Store").write_text("hidden")
    write_photo(root / "Škoda Fabia" / "deeper" / "one.PNG", 16, 16)
    status, rows = make_manifest("folder", "--root", root, "--out", tmp_path / "c.csv")
    assert status == 0
    assert {(r["class_id"], r["class_name"], r["make"], r["model"], r["year"]) for r in rows} == {
        ("1", "Land Rover LR2 SUV 2012", "Land Rover", "LR2 SUV", "2012"),
        ("2", "Škoda Fabia", "Škoda", "Fabia", ""),
    }
    assert Counter(row["split"] for row in rows) == {"train": 17, "val": 2, "test": 2}
    assert "skipped 1: not one of .jpg" in capsys.readouterr().err


def test_folders_called_train_val_and_test_are_the_splits(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        write_classes(tmp_path / "cars" / split, "Audi A4", "BMW M3", count=count)
    _, rows = make_manifest("folder", "--root", tmp_path / "cars", "--out", tmp_path / "c.csv")
    assert Counter(row["split"] for row in rows) == {"train": 10, "val": 4, "test": 6}
    assert all(f"/{row['split']}/" in row["image"] for row in rows)


def test_names_that_read_alike_stay_two_classes(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "cars", "Audi A4", "Audi_A4", count=3)
    _, rows = make_manifest("folder", "--root", root, "--out", tmp_path / "c.csv")
    assert {row["class_name"] for row in rows} == {"Audi A4 (1)", "Audi A4 (2)"}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ((), "expected one folder a class, found no folder"),
        (("train/Audi", "validation/Audi"), "expected only train, val and test"),
        (("test/Audi",), "expected a train folder"),
        (("Audi",), "no usable photo"),
    ],
)
def test_what_is_no_dataset_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folders: tuple[str, ...], message: str
) -> None:
    root = tmp_path / "cars"
    root.mkdir()
    for folder in folders:
        (root / folder).mkdir(parents=True)
    assert make_manifest("folder", "--root", root, "--out", tmp_path / "c.csv")[0] == 2
    assert message in capsys.readouterr().err


def test_the_old_manifest_stays_when_the_new_one_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_classes(tmp_path / "cars", "Audi A4")
    out = tmp_path / "c.csv"
    out.write_text("image\nold.jpg\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "_row", full)
    status, rows = make_manifest("folder", "--root", root, "--out", out)
    assert (status, rows) == (2, [{"image": "old.jpg"}])
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("c.csv*")] == ["c.csv"]


@pytest.mark.parametrize("fraction", ["1", "-0.1", "many"])
def test_a_fraction_out_of_range_is_refused(tmp_path: Path, fraction: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        make_manifest(
            "folder", "--root", tmp_path, "--out", tmp_path / "c.csv", "--val-fraction", fraction
        )


def test_no_class_gives_all_its_photos_away(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "cars", "Audi A4", count=1)
    write_classes(root, "BMW M3", "Kia Rio", count=3)
    _, rows = make_manifest(
        "folder", "--root", root, "--out", tmp_path / "c.csv", "--test-fraction", "0.9"
    )
    trained = {row["class_name"] for row in rows if row["split"] == "train"}
    assert trained == {"Audi A4", "BMW M3", "Kia Rio"}
