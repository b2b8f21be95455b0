"""Answers as a CSV file that a spreadsheet can open without harm."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

__all__ = ["as_csv"]

# A spreadsheet takes text that begins so for a formula, and runs it.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def as_csv(rows: Iterable[Any], columns: Sequence[str], times: Sequence[str]) -> bytes:
    """Rows as UTF-8 with a header, for spreadsheets and programs.

    Args:
        rows: of the database.
        columns: their names, in the file's order.
        times: those of them that are seconds since 1970; they become ISO 8601 in UTC.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(
            [
                _utc(row._mapping[name]) if name in times else _harmless(row._mapping[name])
                for name in columns
            ]
        )
    return text.getvalue().encode("utf-8-sig")  # without its mark Excel takes it for Latin-1


def _utc(seconds: float) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, OSError, ValueError):  # a camera may send any number
        return str(seconds)
    return moment.isoformat(timespec="milliseconds")


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return "'" + value
    return value
