"""Where results go: a JSON file with everything, and a table for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.programs import ROOT

__all__ = ["add_results_option", "markdown_table", "say", "write_results"]


def add_results_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the folder for results."""
    parser.add_argument(
        "--results",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        metavar="FOLDER",
        help="where the results go [benchmarks/results]",
    )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_results(folder: Path, name: str, data: dict[str, Any], table: str) -> None:
    """Write ``name.json`` and ``name.md``, and show the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n")
    (folder / f"{name}.md").write_text(table)
    print(table)


def say(text: str) -> None:
    """Tell the person who waits what happens; results alone go to stdout."""
    print(text, file=sys.stderr, flush=True)
