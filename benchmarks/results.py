"""Where results go: a JSON file with everything, and a table for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.brokers import add_broker_option
from benchmarks.programs import ROOT
from car_classifier.errors import CarClassifierError

__all__ = ["RESULTS", "markdown_table", "run_command", "say", "write_results"]

RESULTS = ROOT / "benchmarks" / "results"


def run_command(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
) -> int:
    """Read a benchmark's command line and run it; return the exit status, 2 for our errors."""
    add_broker_option(parser)
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="FOLDER",
        help="where the results go [benchmarks/results]",
    )
    try:
        return run(parser.parse_args(arguments))
    except CarClassifierError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


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
