"""Small datasets in the true layout of CompCars and Stanford Cars, for tests to read."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from training.manifest import main


def write_photo(path: Path, width: int = 64, height: int = 48) -> Path:
    """Write a photo that JPEG cannot squeeze to nothing, so that a cut file is a damaged one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def cells(texts: Sequence[str], shape: tuple[int, int]) -> np.ndarray:
    """Return text cells as MATLAB stores them; "" is an empty cell."""
    array = np.empty(len(texts), dtype=object)
    for position, text in enumerate(texts):
        array[position] = np.array([text]) if text else np.zeros((0, 0))
    return array.reshape(shape)


def column(texts: Sequence[str]) -> np.ndarray:
    return cells(texts, (len(texts), 1))


def write_text(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def write_label(root: Path, key: str, viewpoint: int, box: str) -> None:
    write_text((root / "data/label" / key).with_suffix(".txt"), f"{viewpoint}\n1\n{box}\n")


def compcars_keys(make: int, model: int, year: str, count: int, first: int = 0) -> list[str]:
    return [f"{make}/{model}/{year}/{make:x}{model:x}{n:04x}.jpg" for n in range(first, count)]


class CompCars:
    """A CompCars of four makes and six models, one of them without a name."""

    makes = ("Audi", "BWM", "SAAB", "Saab")
    models = ("Audi A4L", "BWM 3 Series", "", " Ruiling ", "Ruiling", "丰田Avalon ")

    def __init__(self, root: Path) -> None:
        self.root = root
        misc = root / "data/misc"
        misc.mkdir(parents=True)
        scipy.io.savemat(
            misc / "make_model_name.mat",
            {"make_names": column(self.makes), "model_names": column(self.models)},
        )
        types = ["MPV", "SUV", "sedan", *(f"type {n}" for n in range(4, 13))]
        scipy.io.savemat(misc / "car_type.mat", {"types": cells(types, (1, 12))})
        write_text(
            misc / "attributes.txt",
            "model_id maximum_speed displacement door_number seat_number type\n"
            "1 235 1.8 4 5 3\n2 0 0 0 0 0\n",
        )
        self.lists: dict[str, list[str]] = {"train": [], "test": []}
        for make, model in ((1, 1), (2, 2), (2, 3), (3, 4), (3, 5), (4, 6)):
            keys = compcars_keys(make, model, "2014" if model != 2 else "unknown", 12)
            self.lists["train"] += keys[:10]
            self.lists["test"] += keys[10:]
        for key in self.lists["train"] + self.lists["test"]:
            write_photo(root / "data/image" / key)
            write_label(root, key, 4, "2 3 60 40")
        self.write_lists()

    def write_lists(self, end: str = "\n") -> None:
        folder = self.root / "data/train_test_split/classification"
        for split, keys in self.lists.items():
            write_text(folder / f"{split}.txt", "".join(key + end for key in keys))


class Surveillance:
    """Three classes of surveillance photos, two of them with the same name."""

    def __init__(self, root: Path) -> None:
        self.root = root / "sv_data"
        self.root.mkdir(parents=True)
        rows = np.empty((3, 3), dtype=object)
        for number, (make, model, web_id) in enumerate(
            (
                ("Audi", "Audi A4L", 1),
                ("LAND-ROVER", "Freelander", 716),
                ("Land Rover", "Freelander", 5),
            )
        ):
            rows[number] = [np.array([make]), np.array([model]), np.array([[web_id]], np.uint16)]
        scipy.io.savemat(self.root / "sv_make_model_name.mat", {"sv_make_model_name": rows})
        for split, count in (("train", 6), ("test", 2)):
            keys = [f"{number}/{split}{n}.jpg" for number in (1, 2, 3) for n in range(count)]
            write_text(self.root / f"{split}_surveillance.txt", "\n".join(keys))
            for key in keys:
                write_photo(self.root / "image" / key)


FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


def annotations(rows: Sequence[tuple], fields: Sequence[str] = FIELDS) -> np.ndarray:
    """Return a 1 x N struct array as the devkit's: every number a 1 x 1 array."""
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for position, row in enumerate(rows):
        array[0, position] = tuple(
            np.array([value]) if isinstance(value, str) else np.array([[value]], np.uint16)
            for value in row
        )
    return array


class StanfordCars:
    """Three classes with ten training photos each, five labelled test photos if asked for."""

    names = ("AM General Hummer SUV 2000", "Acura TL Sedan 2012", "Ram C/V Cargo Van Minivan 2012")

    def __init__(self, root: Path, labelled_test: bool = False) -> None:
        self.root = root
        (root / "devkit").mkdir(parents=True)
        scipy.io.savemat(root / "devkit/cars_meta.mat", {"class_names": cells(self.names, (1, 3))})
        self.write_half("cars_train_annos.mat", "cars_train", 30)
        if labelled_test:
            self.write_half("cars_test_annos_withlabels.mat", "cars_test", 15)

    def write_half(self, file: str, folder: str, count: int) -> None:
        rows = [(3, 4, 60, 40, n % 3 + 1, f"{n + 1:05}.jpg") for n in range(count)]
        scipy.io.savemat(self.root / "devkit" / file, {"annotations": annotations(rows)})
        for row in rows:
            write_photo(self.root / folder / row[-1])


def make_manifest(*args: str | Path) -> tuple[int, list[dict[str, str]]]:
    """Run the command; return its exit status and the rows it wrote."""
    words = [str(arg) for arg in args]
    out = Path(words[words.index("--out") + 1])
    status = main(words)
    if not out.is_file():
        return status, []
    with out.open(encoding="utf-8", newline="") as file:
        return status, list(csv.DictReader(file))


def real_data(*parts: str) -> Path:
    """Return a file of the real metadata below CAR_DATA, or skip the test and name the file.

    Without CAR_DATA the folder ../shared/data beside the project is looked at.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("CAR_DATA", default)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real metadata {'/'.join(parts)} is not there; set CAR_DATA to its folder")
    return path
