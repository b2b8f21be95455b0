"""The rows of a manifest's CSV text, and the numbers and boxes in their fields."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.errors import BadRowError, ManifestError, MissingColumnsError
from training.listing import Box


def read_rows(path: Path, default_split: str | None) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, column -> stripped value) for each row of a manifest that is not blank.

    Args:
        path: a CSV file in UTF-8, with a header.
        default_split: the split of all rows where there is no such column; None refuses that.

    Raises:
        ManifestError: there is no such file, or it is no CSV text with at least one row.
        MissingColumnsError: the header lacks a column.
        BadRowError: a row is longer or shorter than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            _check_columns(path, header, default_split)
            count = 0
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(header):
                    raise BadRowError(
                        f"{path}, line {reader.line_num}: expected {len(header)} columns, "
                        f"got {len(fields)}"
                    )
                count += 1
                values = dict(zip(header, (field.strip() for field in fields), strict=True))
                if default_split is not None:
                    values.setdefault("split", default_split)
                yield reader.line_num, values
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: no such manifest; expected a CSV file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path}: not a readable CSV file in UTF-8: {error}") from error
    if not count:
        raise ManifestError(f"{path}: expected at least one photo below the header, found none")


def _check_columns(path: Path, header: Sequence[str], default_split: str | None) -> None:
    absent = [name for name in ("image", "split") if name not in header]
    if default_split is not None and "split" in absent:
        absent.remove("split")
    if "class_name" not in header and "class_id" not in header:
        absent.append("class_name or class_id")
    if absent:
        raise MissingColumnsError(
            f"{path}, line 1: expected the columns {', '.join(absent)} too; "
            f"found {', '.join(header) or 'none'}"
        )


def number_in(values: dict[str, str], column: str, where: str) -> int | None:
    """Return the whole number in a column, None where it is empty; BadRowError if it is none."""
    text = values.get(column, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadRowError(f"{where}: expected a whole number in {column}, got {text!r}")
    return int(text)


def box_in(values: dict[str, str], where: str) -> Box | None:
    """Return the box of a row, None where it is empty; BadRowError if it is none."""
    text = values.get("box", "")
    if not text:
        return None
    try:
        x1, y1, x2, y2 = (int(number) for number in text.split())
    except ValueError as error:
        raise BadRowError(f"{where}: expected a box 'x1 y1 x2 y2', got {text!r}") from error
    if not (0 <= x1 < x2 and 0 <= y1 < y2):
        raise BadRowError(f"{where}: expected a box with 0 <= x1 < x2, 0 <= y1 < y2, got {text!r}")
    return x1, y1, x2, y2
