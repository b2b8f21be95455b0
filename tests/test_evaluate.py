"""Figures with known answers, classes matched by what they are, and photos seen as served."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from car_classifier.class_map import CarClass
from car_classifier.images import decode_image
from tests.models import HEIGHT, WIDTH, write_colour_model
from training.dataset import LabelledPhoto, ManifestClass, read_manifest
from training.evaluate import load_input, main
from training.figures import (
    Answers,
    ConfusedPair,
    accuracy_at_coverage,
    at_threshold,
    class_figures,
    confused_pairs,
    coverage_curve,
    figures,
)
from training.matching import match
from training.report import write_report

RED, GREEN, BLUE = (250, 5, 5), (5, 250, 5), (5, 5, 250)
FERRARI, JAGUAR, BUGATTI = "Ferrari 458 Italia 2012", "Jaguar E-Type", "Bugatti"


class Garage:
    """A colour model, and a manifest of plain photos to ask it about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model, self.classes = write_colour_model(folder)
        self.manifest = folder / "cars.csv"

    def photo(self, name: str, colour: tuple[int, int, int]) -> str:
        Image.new("RGB", (60, 40), colour).save(self.folder / name)
        return name

    def write(self, header: str, *rows: str) -> None:
        self.manifest.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")

    def evaluate(self, *more: str) -> int:
        options = {"--model": self.model, "--classes": self.classes, "--manifest": self.manifest}
        return main([*(str(word) for option in options.items() for word in option), *more])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Garage:
    garage = Garage(tmp_path_factory.mktemp("garage"))
    for name, colour in (("r.png", RED), ("g.png", GREEN), ("b.png", BLUE)):
        garage.photo(name, colour)
    return garage


@pytest.fixture
def garage(built: Garage) -> Garage:
    built.write(
        "image,split,class_id,class_name",
        f"r.png,test,1,{FERRARI}",
        f"g.png,test,2,{JAGUAR}",
        f"b.png,test,3,{BUGATTI}",
        f"b.png,test,2,{JAGUAR}",
        f"r.png,train,3,{BUGATTI}",
    )
    return built


def measured(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = capfd.readouterr().out.splitlines()
    result: dict[str, Any] = json.loads(line)
    return result


def test_one_json_line_on_stdout_says_it_all(
    garage: Garage, capfd: pytest.CaptureFixture[str]
) -> None:
    assert garage.evaluate() == 0
    line = measured(capfd)
    assert list(line) == [
        *("n", "top1", "top5", "make_top1", "ece", "coverage80_accuracy"),
        *("image_size", "images_per_second"),
    ]
    assert (line["n"], line["top1"], line["top5"], line["make_top1"]) == (4, 0.75, 1.0, 0.75)
    assert line["ece"] == pytest.approx(0.25, abs=0.01)
    assert line["image_size"] == [WIDTH, HEIGHT]
    assert line["images_per_second"] > 0


def test_the_int8_file_is_evaluated_by_its_runtime(
    garage: Garage, capfd: pytest.CaptureFixture[str]
) -> None:
    assert garage.evaluate("--runtime", "litert") == 2
    assert "expected a .tflite file" in capfd.readouterr().err


def test_the_train_split_is_another_one(garage: Garage, capfd: pytest.CaptureFixture[str]) -> None:
    assert garage.evaluate("--split", "train") == 0
    line = measured(capfd)
    assert (line["n"], line["top1"]) == (1, 0.0)


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("image,class_name", [f"b.png,{BUGATTI}", f"r.png,{FERRARI}"]),  # no split, two classes
        ("class_name,image", [f"{JAGUAR.upper()},g.png", "bugatti,b.png"]),
        ("image,class_id,class_name", [f"b.png,7,{BUGATTI}", f"r.png,9,{FERRARI}"]),  # other order
        ("image,make,model,class_name", ["g.png,Jaguar,E-Type,my dream"]),  # by make and model
        ("image,class_id", ["r.png,1", "b.png,3", "g.png,2"]),  # no names: by order, all there
    ],
)
def test_any_manifest_of_these_classes_will_do(
    garage: Garage, capfd: pytest.CaptureFixture[str], header: str, rows: list[str]
) -> None:
    garage.write(header, *rows)
    assert garage.evaluate() == 0
    line = measured(capfd)
    assert (line["n"], line["top1"]) == (len(rows), 1.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [f"r.png,test,1,{FERRARI}", "g.png,test,2,Jaguar XK 2012", "b.png,test,3,Fiat"],
            r"cars\.csv, line 3: class 1 of the manifest is 'Jaguar XK 2012', .* "
            r"class 1 is 'Jaguar E-Type'\); so it is with 2 classes and 2 photos in test",
        ),
        (["r.png,test,1,", "b.png,test,3,"], r"line 2: class 0 of the manifest is 'class 1'"),
    ],
)
def test_a_class_that_the_model_does_not_know_is_named(
    garage: Garage, capfd: pytest.CaptureFixture[str], rows: list[str], message: str
) -> None:
    garage.write("image,split,class_id,class_name", *rows)
    assert garage.evaluate() == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert f"error: {garage.manifest}" in captured.err
    assert re.search(message, captured.err)


def test_classes_of_other_splits_may_be_unknown(
    garage: Garage, capfd: pytest.CaptureFixture[str]
) -> None:
    garage.write("image,split,class_name", f"r.png,test,{FERRARI}", "g.png,train,Fiat Punto")
    assert garage.evaluate() == 0
    assert measured(capfd)["top1"] == 1.0


def test_a_model_of_makes_is_measured_on_makes(
    garage: Garage, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    makes = tmp_path / "makes.json"
    makes.write_text('{"0": "Ferrari", "1": {"make": "Jaguar"}, "2": "Bugatti"}')
    assert garage.evaluate("--classes", str(makes)) == 0
    assert measured(capfd)["make_top1"] == 0.75


def test_a_limit_takes_photos_from_the_whole_split(
    garage: Garage, capfd: pytest.CaptureFixture[str]
) -> None:
    assert garage.evaluate("--limit", "2") == 0
    line = measured(capfd)
    assert (line["n"], line["top1"]) == (2, 0.5)  # the first and the last


def test_a_box_is_cut_out_before_the_photo_is_squashed(
    garage: Garage, capfd: pytest.CaptureFixture[str]
) -> None:
    photo = Image.new("RGB", (60, 40), BLUE)
    photo.paste(RED, (10, 10, 20, 20))
    photo.save(garage.folder / "box.png")
    garage.write("image,class_name,box", f"box.png,{FERRARI},10 10 20 20", f"box.png,{BUGATTI},")
    assert garage.evaluate() == 0
    assert measured(capfd)["top1"] == 1.0


def labelled(path: Path) -> LabelledPhoto:
    return LabelledPhoto(path, "test", "x", 0, "x", "", None, "", "", None, 2)


def test_photos_are_seen_exactly_as_the_service_sees_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (300, 400, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    noise.save(tmp_path / "p.jpg", exif=exif)
    seen = load_input(labelled(tmp_path / "p.jpg"), (30, 20))
    assert np.array_equal(seen, decode_image((tmp_path / "p.jpg").read_bytes(), (30, 20)))


def test_a_letterboxed_photo_keeps_its_aspect(tmp_path: Path) -> None:
    Image.new("RGB", (60, 20), RED).save(tmp_path / "p.png")
    seen = load_input(labelled(tmp_path / "p.png"), (30, 30), "letterbox")
    assert seen.shape == (30, 30, 3)
    assert (seen[10:20] == RED).all()
    assert (seen[:9] == 127).all()
    assert (seen[21:] == 127).all()


def test_aspect_and_flip_are_options(garage: Garage, capfd: pytest.CaptureFixture[str]) -> None:
    assert garage.evaluate("--aspect", "letterbox", "--flip") == 0
    assert measured(capfd)["top1"] == 0.75


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_a_damaged_photo_is_named(
    garage: Garage, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    (garage.folder / "damaged.jpg").write_bytes(content)
    garage.write("image,class_name", f"damaged.jpg,{FERRARI}")
    for more in ([], ["--aspect", "letterbox"]):
        assert garage.evaluate(*more) == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        assert "damaged.jpg: not a readable photo" in captured.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "none.keras"], "none.keras"),
        (["--classes", "none.json"], "none.json"),
        (["--manifest", "none.csv"], "none.csv: no such manifest"),
        (["--split", "val"], "expected photos in split 'val', found test 4, train 1"),
    ],
)
def test_what_is_not_there_is_named(
    garage: Garage, capfd: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert garage.evaluate(*more) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_the_report_is_text_plots_and_a_table_without_photos(
    garage: Garage, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "report"
    assert garage.evaluate("--out", str(out)) == 0
    assert measured(capfd)["n"] == 4
    assert sorted(path.name for path in out.iterdir()) == [
        *("classes.csv", "coverage.png", "reliability.png", "report.md"),
    ]
    text = (out / "report.md").read_text()
    assert "# colours.keras on cars.csv, split test" in text
    assert "| top1 | 0.75 |" in text
    assert "| 0.50 | 100.0% | 75.0% |" in text
    assert f"| {JAGUAR} | {BUGATTI} | 1 | 1 | 0 |" in text
    for plot in ("coverage.png", "reliability.png"):
        assert f"({plot})" in text
        assert Image.open(out / plot).width > 400
    with open(out / "classes.csv", newline="") as file:
        rows = {row.pop("class"): row for row in csv.DictReader(file)}
    assert rows[JAGUAR] == {
        "photos": "2",
        "top1": "0.5",
        "top5": "1.0",
        "named": "1",
        "mistaken_for": BUGATTI,
    }


def test_a_report_of_right_answers_alone_can_be_written(tmp_path: Path) -> None:
    right = Answers(np.eye(2, dtype=np.float32), np.arange(2), [CarClass("A|B"), CarClass("C")])
    write_report(tmp_path, right, "all right", {"n": 2})
    text = (tmp_path / "report.md").read_text()
    assert "None: every answer is right." in text
    assert "| A\\|B | 1 |" in text


ANSWERS = Answers(
    np.array(
        [
            # Audi A3, Audi A4, BMW M3
            [0.70, 0.20, 0.10],  # right
            [0.40, 0.25, 0.35],  # wrong
            [0.30, 0.25, 0.45],  # wrong, but the make is right: 0.55 Audi
            [0.05, 0.05, 0.90],  # right
            [0.10, 0.60, 0.30],  # wrong
        ],
        np.float32,
    ),
    np.array([0, 1, 1, 2, 2]),
    [CarClass("Audi", "A3"), CarClass("audi", "A4"), CarClass("BMW", "M3")],
)


def test_accuracies_have_known_values() -> None:
    values = figures(ANSWERS)
    assert values["top1"] == pytest.approx(0.4)
    assert values["top5"] == 1.0
    assert values["make_top1"] == pytest.approx(0.8)
    assert ANSWERS.in_top(2).tolist() == [True, False, False, True, True]
    # 80 % of five are the four most confident: 0.9 right, 0.7 right, 0.6 wrong, 0.45 wrong.
    assert values["coverage80_accuracy"] == pytest.approx(0.5)


def test_the_coverage_curve_goes_from_the_most_confident_to_all() -> None:
    shares, accuracies = coverage_curve(ANSWERS)
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert accuracies == pytest.approx([1, 1, 2 / 3, 1 / 2, 2 / 5])
    assert accuracy_at_coverage(ANSWERS, 0.01) == 1.0


def test_a_threshold_holds_unsure_answers_back() -> None:
    row = at_threshold(ANSWERS, 0.5)
    assert (row.answered, row.accuracy) == (0.6, pytest.approx(2 / 3))
    assert at_threshold(ANSWERS, 0.95).accuracy is None


def test_confused_pairs_are_counted_both_ways() -> None:
    assert confused_pairs(ANSWERS) == [ConfusedPair(1, 2, 1, 1), ConfusedPair(0, 1, 0, 1)]


def test_classes_without_photos_have_no_figures() -> None:
    some = Answers(ANSWERS.probabilities[:3], ANSWERS.labels[:3], ANSWERS.classes)
    assert [(row.label, row.photos, row.top1, row.named) for row in class_figures(some)] == [
        (0, 1, 1.0, 2),
        (1, 2, 0.0, 0),
    ]


def car(name: str, make: str, model: str = "", class_id: int | None = None) -> ManifestClass:
    return ManifestClass(make=make, model=model, name=name, class_id=class_id)


def test_names_that_stand_twice_are_told_apart_by_an_order_that_agrees() -> None:
    classes = [CarClass("Audi", "A4"), CarClass("Audi", "A4"), CarClass("BMW")]
    twice = [car("Audi A4 (1)", "Audi", "A4"), car("Audi A4 (2)", "Audi", "A4")]
    assert match([*twice, car("BMW", "BMW")], classes) == {0: 0, 1: 1, 2: 2}
    assert match([car("BMW", "BMW"), *twice], classes) == {0: 2}  # never guessed


def test_classes_of_one_name_keep_apart_from_manifest_to_class_map(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "cars.csv").write_text(
        "image,split,make,model,class_id,class_name\n"
        "a.png,train,Buick,Excelle,3,Buick Excelle (3)\n"
        "a.png,train,Buick,Excelle,9,Buick Excelle (9)\n"
    )
    classes = read_manifest(tmp_path / "cars.csv").classes
    assert [str(found) for found in classes] == ["Buick Excelle (3)", "Buick Excelle (9)"]
