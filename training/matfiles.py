"""MATLAB files read with scipy, their cells as plain Python values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io  # type: ignore[import-untyped, unused-ignore]

from training.errors import DamagedFileError, DatasetError


def load_variable(path: Path, name: str) -> np.ndarray[Any, Any]:
    """Return the array called `name` in the .mat file `path`, as plain `loadmat` gives it.

    Raises:
        DatasetError: there is no such file.
        DamagedFileError: it is no MATLAB 5-7.2 file, or has no such variable.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected a MATLAB file with {name!r}")
    try:
        variables = scipy.io.loadmat(path)
    except Exception as error:  # scipy lets whatever its parser trips over through
        raise DamagedFileError(f"{path}: not a readable MATLAB file: {error}") from error
    if name not in variables:
        found = ", ".join(key for key in variables if not key.startswith("__")) or "nothing"
        raise DamagedFileError(f"{path}: expected the variable {name!r}, found {found}")
    return np.asarray(variables[name])


def cell_text(cell: object) -> str:
    """Return the text in a cell (array(['Audi'])); "" for an empty one."""
    while isinstance(cell, np.ndarray):
        if cell.size == 0:
            return ""
        cell = cell.flat[0]
    return str(cell)


def cell_number(cell: object) -> int:
    """Return the whole number in a cell (array([[366]])).

    Raises:
        ValueError: the cell is empty or holds something else.
    """
    text = cell_text(cell)
    number = float(text) if text else float("nan")
    if not number.is_integer():
        raise ValueError(f"expected a whole number, found {text!r}")
    return int(number)


def load_texts(path: Path, name: str) -> list[str]:
    """Return a column or row of text cells as a list; an empty cell is "".

    Raises:
        DatasetError, DamagedFileError: as `load_variable` does.
    """
    return [cell_text(cell) for cell in load_variable(path, name).ravel()]
