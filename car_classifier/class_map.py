"""The class map: what each output of the model stands for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from car_classifier.errors import ClassMapError

__all__ = ["CarClass", "load_class_map"]


@dataclass(frozen=True)
class CarClass:
    """A class of cars; a map of makes only leaves the model empty."""

    make: str
    model: str = ""
    year: int | None = None

    def __str__(self) -> str:
        """Make, model and year, as far as they are known."""
        return " ".join(part for part in (self.make, self.model, str(self.year or "")) if part)


def load_class_map(path: Path) -> list[CarClass]:
    """Read a class map; entry i of the list is output i of the model.

    The file is JSON: ``{"0": {"make": "BMW", "model": "M3 Coupe", "year": 2012}, ...}`` with model
    and year optional, or the older flat form ``{"0": "BMW", ...}``.

    Raises:
        ClassMapError: there is no such file, or it is not a map from 0, 1, 2, ... to cars.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_doubles)
    except FileNotFoundError:
        raise ClassMapError(
            f"no class map at {path}: expected the JSON file that belongs to the model (--classes)"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ClassMapError(f"{path}: expected a class map in JSON: {error}") from error
    if not isinstance(entries, dict) or not entries:
        raise ClassMapError(f'{path}: expected an object such as {{"0": {{"make": "BMW"}}}}')
    missing = next((str(i) for i in range(len(entries)) if str(i) not in entries), None)
    if missing is not None:
        raise ClassMapError(
            f"{path}: expected the keys 0 to {len(entries) - 1} for {len(entries)} classes, "
            f"{missing!r} is not there"
        )
    return [_car_class(entries[str(i)], f"{path}, class {i}") for i in range(len(entries))]


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} stands twice")
    return entries


def _car_class(entry: Any, where: str) -> CarClass:
    if isinstance(entry, str):
        entry = {"make": entry}
    if not isinstance(entry, dict):
        raise ClassMapError(f"{where}: expected a make or an object, got {entry!r}")
    make, model, year = entry.get("make"), entry.get("model") or "", entry.get("year")
    if not isinstance(make, str) or not make.strip() or not isinstance(model, str):
        raise ClassMapError(f"{where}: expected text in make and model, got {entry!r}")
    if year is not None and (isinstance(year, bool) or not isinstance(year, int)):
        raise ClassMapError(f"{where}: expected a whole number or nothing in year, got {year!r}")
    return CarClass(make.strip(), model.strip(), year)
