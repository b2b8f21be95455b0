"""The block of README.md that quotes the benchmark; only `benchmarks.pipeline` writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line
from benchmarks.programs import ROOT
from benchmarks.results import markdown_table

__all__ = ["README", "block", "quoted", "rewrite"]

README = ROOT / "README.md"
_BLOCK = re.compile(r"(<!-- make bench writes this -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def quoted(results: dict[str, Any]) -> str:
    """What people ask for first of the results of `benchmarks.pipeline`, as Markdown."""
    quiet, busy = results["quiet_photos_per_second"], results["busy_share_of_sustained"]
    head = ["", "photos/s", "x naive", f"p95 ms at {quiet:g}/s", f"p95 ms at {busy:.0%} load"]
    head += ["start, s", "memory, MB"]
    rows = [
        [
            row["name"],
            f"{row['throughput']['photos_per_second']:.0f}",
            f"{row['times_naive']:.1f}" if row["times_naive"] else "-",
            *(f"{row['latencies'][kind]['p95_ms']:.0f}" for kind in ("quiet", "busy")),
            f"{row['start_seconds']:.1f}",
            f"{row['peak_memory_mb']:.0f}",
        ]
        for row in results["rows"]
    ]
    model, photos = results["model"], results["photos"]
    return (
        f"{markdown_table(head, rows)}\n"
        f"{model['file']}, {photos['width']}x{photos['height']} JPEGs of {photos['kb'][1]} kB on "
        f"average, {results['broker']} and the camera on the same cores. "
        f"{machine_line(results['machine'])}.\n\n"
        "![Photos per second and latency of each](benchmarks/results/pipeline.png)\n"
    )


def block(readme: Path) -> str:
    """Return what the block holds now."""
    found = _BLOCK.search(readme.read_text(encoding="utf-8"))
    assert found, f"{readme} has lost its marks"
    return found[2]


def rewrite(readme: Path, text: str) -> None:
    """Put a text in the block's place."""
    old = readme.read_text(encoding="utf-8")
    readme.write_text(_BLOCK.sub(lambda found: found[1] + text + found[3], old), encoding="utf-8")
