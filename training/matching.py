"""Which output of a model stands for which class of a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from car_classifier.class_map import CarClass
from training.dataset import Level, Manifest, ManifestClass, read_manifest
from training.errors import ClassMismatchError


def read_matched(
    path: Path, split: str, classes: Sequence[CarClass]
) -> tuple[Manifest, dict[int, int]]:
    """Read a manifest whose classes are to be told apart by a model with this class map.

    Args:
        path: the manifest; one without a split column is all of ``split``.
        split: whose classes the model must know; the rest of the manifest may have others.
        classes: what each output of the model stands for.

    Returns:
        The manifest, read at make level where the class map has makes only, and label -> output.

    Raises:
        ManifestError: it cannot be read, or has no photo in the split.
        ClassMismatchError: a photo's class is none of the model's.
    """
    levels: list[Level] = ["model"]
    if not any(car.model or car.year for car in classes):
        levels.append("make")
    for level in levels:
        manifest = read_manifest(path, level=level, default_split=split)
        outputs = match(manifest.classes, classes)
        if all(photo.label in outputs for photo in manifest.split(split)):
            return manifest, outputs
    raise _mismatch(manifest, split, outputs, classes)


def match(cars: Sequence[ManifestClass], classes: Sequence[CarClass]) -> dict[int, int]:
    """Return label -> output for every class of the manifest that the class map has.

    Classes are paired by the name that is shown, or by make, model and year; never by position,
    save where a name stands twice in the class map and the order agrees, or where the manifest has
    no names at all and as many classes as the map.
    """
    if len(cars) == len(classes) and (
        all(car.name == f"class {car.class_id}" for car in cars)
        or all(_plain(str(known)) in _names(car) for car, known in zip(cars, classes, strict=True))
    ):
        return {label: label for label in range(len(cars))}
    shown = [_plain(str(known)) for known in classes]
    count = Counter(shown)
    outputs = {name: output for output, name in enumerate(shown) if count[name] == 1}
    found = (
        (label, next((outputs[name] for name in _names(car) if name in outputs), None))
        for label, car in enumerate(cars)
    )
    return {label: output for label, output in found if output is not None}


def _names(car: ManifestClass) -> tuple[str, str]:
    return _plain(car.name), _plain(str(car))


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _mismatch(
    manifest: Manifest, split: str, outputs: dict[int, int], classes: Sequence[CarClass]
) -> ClassMismatchError:
    unknown = [photo for photo in manifest.split(split) if photo.label not in outputs]
    first = min(unknown, key=lambda photo: photo.label)
    here = f"class {first.label} of the manifest is {first.class_name!r}"
    there = f"{len(classes)} classes"
    if first.label < len(classes):
        there += f", class {first.label} is {str(classes[first.label])!r}"
    count = len({photo.label for photo in unknown})
    return ClassMismatchError(
        f"{manifest.path}, line {first.line}: {here}, which the model's class map does not have "
        f"(it has {there}); so it is with {count} classes and {len(unknown)} photos in {split}"
    )
