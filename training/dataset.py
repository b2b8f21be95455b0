"""Read a manifest (see training.manifest) into labelled photos and the classes they belong to.

The minimal form is enough: `image`, `split` and `class_name` or `class_id`; make, model and year
are then read off the class name. Paths are relative to the manifest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from car_classifier.class_map import CarClass
from training.errors import (
    BadRowError,
    EmptySplitError,
    MissingPhotosError,
    UnknownSplitError,
    UnseenClassError,
    name_some,
)
from training.listing import SPLITS, Box
from training.names import full_name, split_class_name
from training.photos import load_photo
from training.rows import box_in, number_in, read_rows

Level = Literal["model", "make"]


@dataclass(frozen=True, kw_only=True)
class ManifestClass(CarClass):
    """A class as the manifest spells it; at make level the model is ""."""

    name: str
    class_id: int | None  # None at make level or where the manifest has no ids


@dataclass(frozen=True)
class LabelledPhoto:
    """One row of a manifest."""

    image: Path
    split: str  # "train", "val" or "test"
    class_name: str
    label: int  # 0-based position of its class in Manifest.classes
    make: str
    model: str
    year: int | None  # the photo's; its class may span several years
    body_type: str
    viewpoint: str
    box: Box | None
    line: int  # in the manifest, for messages

    def load(self) -> NDArray[np.uint8]:
        """Return its pixels, cut to its box: RGB, uint8 (height, width, 3); see `load_photo`."""
        return load_photo(self.image, self.box)


@dataclass(frozen=True)
class Manifest:
    """Photos in the manifest's order, and classes in label order."""

    path: Path
    photos: list[LabelledPhoto]
    classes: list[ManifestClass]

    def split(self, name: str) -> list[LabelledPhoto]:
        """Return the photos of the split "train", "val" or "test".

        Raises:
            EmptySplitError: there is none.
        """
        photos = [photo for photo in self.photos if photo.split == name]
        if not photos:
            counts = Counter(photo.split for photo in self.photos)
            found = ", ".join(f"{split} {count}" for split, count in counts.items())
            raise EmptySplitError(f"{self.path}: expected photos in split {name!r}, found {found}")
        return photos

    def check_for_training(self) -> list[str]:
        """Check that a model can be trained on train and judged on val and test.

        Returns:
            Warnings for people: classes with a single training photo.

        Raises:
            EmptySplitError: train is empty.
            UnseenClassError: val or test has photos of classes that train has not.
        """
        trained = Counter(photo.label for photo in self.split("train"))
        unseen = [photo for photo in self.photos if photo.label not in trained]
        if unseen:
            names = sorted({f"{photo.class_name!r} ({photo.split})" for photo in unseen})
            raise UnseenClassError(
                f"{self.path}, line {unseen[0].line}: expected every class to have photos in "
                f"train; {len(names)} have none: {name_some(names)}"
            )
        single = [self.classes[label].name for label, count in trained.items() if count == 1]
        if not single:
            return []
        return [f"{self.path}: {len(single)} classes have one training photo: {name_some(single)}"]


@dataclass(frozen=True)
class _Row:
    """A row before its class has a label; `key` is what tells classes apart."""

    line: int
    values: dict[str, str]
    key: int | str
    class_id: int | None
    car: ManifestClass
    make: str
    model: str
    year: int | None
    box: Box | None


def read_manifest(
    path: str | Path, *, level: Level = "model", default_split: str | None = None
) -> Manifest:
    """Read the manifest at `path`.

    Args:
        path: a CSV file in UTF-8, with a header.
        level: "model" takes the manifest's classes as they are, in the order of class_id, or of
            class_name where there are no ids; "make" merges those of a make, in the make's order.
        default_split: the split of every photo of a manifest without a split column; by default
            such a manifest is refused.

    Raises:
        ManifestError: there is no such file, or it is no CSV text with at least one row.
        MissingColumnsError, BadRowError, UnknownSplitError, MissingPhotosError: what the names
            say, with the lines of the first few and how many there are.
    """
    path = Path(path)
    rows = [_parse(path, line, values, level) for line, values in read_rows(path, default_split)]
    _check_splits(path, rows)
    order = _class_order(path, rows)
    labels = {key: label for label, key in enumerate(order)}
    photos = [
        LabelledPhoto(
            image=path.parent / row.values["image"],
            split=row.values["split"],
            class_name=order[row.key].name,
            label=labels[row.key],
            make=row.make,
            model=row.model,
            year=row.year,
            body_type=row.values.get("body_type", ""),
            viewpoint=row.values.get("viewpoint", ""),
            box=row.box,
            line=row.line,
        )
        for row in rows
    ]
    missing = [
        f"{photo.image} (line {photo.line})" for photo in photos if not photo.image.is_file()
    ]
    if missing:
        raise MissingPhotosError(
            f"{path}: {len(missing)} of {len(photos)} photos are not there: {name_some(missing)}"
        )
    return Manifest(path, photos, list(order.values()))


def _parse(path: Path, line: int, values: dict[str, str], level: Level) -> _Row:
    """Read a row's values; raise BadRowError, with its line, for one that means nothing."""
    where = f"{path}, line {line}"
    if not values["image"]:
        raise BadRowError(f"{where}: expected a photo's path in the column image, got nothing")
    class_id = number_in(values, "class_id", where)
    name = values.get("class_name") or (f"class {class_id}" if class_id is not None else "")
    if not name:
        raise BadRowError(f"{where}: expected a class_name or a class_id, got neither")
    if values.get("make"):
        make, model = values["make"], values.get("model", "")
        year = number_in(values, "year", where)
        # The photo's year is part of the class only where the class's name says so.
        class_year = year if name == full_name(make, model, year) else None
    else:
        make, model, class_year = split_class_name(name)
        year = number_in(values, "year", where) or class_year
    if level == "make":
        key: int | str = make
        car = ManifestClass(make=make, name=make, class_id=None)
    else:
        key = name if class_id is None else class_id
        car = ManifestClass(
            make=make,
            model=_model_of_class(name, make, model, class_year),
            year=class_year,
            name=name,
            class_id=class_id,
        )
    return _Row(line, values, key, class_id, car, make, model, year, box_in(values, where))


def _model_of_class(name: str, make: str, model: str, year: int | None) -> str:
    """Return the model as the class's name has it: "Excelle (84)" where two are called Excelle."""
    if name == make:
        return ""
    if name != full_name(make, model, year) and name.startswith(f"{make} "):
        return name[len(make) + 1 :]
    return model


def _check_splits(path: Path, rows: Sequence[_Row]) -> None:
    unknown = [
        f"{row.values['split']!r} (line {row.line})"
        for row in rows
        if row.values["split"] not in SPLITS
    ]
    if unknown:
        raise UnknownSplitError(
            f"{path}: expected the splits {', '.join(SPLITS)}; {len(unknown)} rows have others: "
            f"{name_some(unknown)}"
        )


def _class_order(path: Path, rows: Sequence[_Row]) -> dict[int | str, ManifestClass]:
    """Return key -> class in label order: by id where all rows have one, else by name."""
    classes: dict[int | str, ManifestClass] = {}
    named: dict[str, _Row] = {}
    for row in rows:
        known = classes.setdefault(row.key, row.car)
        if known.name != row.car.name:
            raise BadRowError(
                f"{path}, line {row.line}: expected class_id {row.class_id} to be "
                f"{known.name!r} as before, got {row.car.name!r}"
            )
        first = named.setdefault(row.car.name, row)
        if first.key != row.key:
            raise BadRowError(
                f"{path}, line {row.line}: expected one class_id for {row.car.name!r}, got "
                f"{row.class_id} after {first.class_id} in line {first.line}"
            )
    if all(isinstance(key, int) for key in classes):
        return dict(sorted(classes.items(), key=lambda item: int(item[0])))
    return dict(sorted(classes.items(), key=lambda item: item[1].name))
