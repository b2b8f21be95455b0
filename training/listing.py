"""What a dataset's reader hands over: its photos, and what it left out and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from training.errors import DatasetError, name_some

Box = tuple[int, int, int, int]
"""The car's box: x1, y1, x2, y2 in pixels, 0-based, x2 and y2 outside (half-open)."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ListedPhoto:
    """One photo of a dataset, labelled; `class_id` and `make_id` are the dataset's own ids."""

    path: Path
    key: str  # the photo's name inside its dataset: the same on every machine
    split: str  # one of SPLITS, or "" while no split is assigned
    class_id: int
    class_name: str
    make_id: int
    make: str
    model: str
    year: int | None = None
    body_type: str = ""
    viewpoint: str = ""
    box: Box | None = None


@dataclass
class Listing:
    """Photos of a dataset, what was skipped (reason -> names) and what the user should know."""

    photos: list[ListedPhoto] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def skip(self, reason: str, name: str) -> None:
        """Note that `name` is left out because of `reason`."""
        self.skipped.setdefault(reason, []).append(name)


def fit_box(box: Box, width: int, height: int) -> Box | None:
    """Return `box` cut to a photo of `width` x `height` pixels, None if nothing of it remains."""
    x1, y1, x2, y2 = box
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Return an id, from 1, for each distinct name, in sorted order."""
    return {name: number for number, name in enumerate(sorted(set(names)), start=1)}


def require(root: Path, *needed: str, what: str) -> None:
    """Check that `root` is a folder that holds the files and folders `needed`.

    Raises:
        DatasetError: it is not; the message says what was expected where.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected {what}")
    absent = [name for name in needed if not (root / name).exists()]
    if absent:
        raise DatasetError(f"{root}: expected {what}; missing: {name_some(absent, 5)}")
