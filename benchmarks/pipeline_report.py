"""What `benchmarks.pipeline` found, as a table and as a plot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_line
from benchmarks.measuring import Latency, Throughput
from benchmarks.results import markdown_table

__all__ = ["Row", "plot", "table"]

_OURS, _NAIVE, _BARE = "#0072B2", "#999999", "#333333"  # to be told apart by every eye
_QUIET, _BUSY = "#56B4E9", "#E69F00"

_HEAD = (
    *("", "photos/s", "x naive", "bare model, photos/s", "share of it", "CPU ms/photo"),
    *("p50 / p95 / p99 ms at {quiet:g}/s", "sustained with the camera beside it, photos/s"),
    "p50 / p95 / p99 ms at {busy:.0%} of that",
    *("start to listening, s", "to the first answer, s", "peak memory, MB"),
)


@dataclass(frozen=True)
class Row:
    """What was measured of one program."""

    name: str
    throughput: Throughput
    bare_photos_per_second: float | None  # of the model alone; None for the naive loop
    sustained_photos_per_second: float  # with the camera at work on the same cores
    latencies: dict[str, Latency]  # "quiet" and "busy"
    peak_memory_mb: float
    start_seconds: float  # from its start to "Consumer listening"
    first_answer_seconds: float  # from its start to its first printed answer

    def as_dict(self, naive: Row | None) -> dict[str, Any]:
        """Everything for JSON, with the ratios that matter."""
        rate, bare = self.throughput.photos_per_second, self.bare_photos_per_second
        return {
            **asdict(self),
            "times_naive": rate / naive.throughput.photos_per_second if naive else None,
            "share_of_bare": rate / bare if bare else None,
        }


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    head = [
        text.format(
            quiet=results["quiet_photos_per_second"], busy=results["busy_share_of_sustained"]
        )
        for text in _HEAD
    ]
    rows = [_cells(row) for row in results["rows"]]
    rows += [
        [f"{name}: {reason}", *["-"] * (len(head) - 1)]
        for name, reason in results["left_out"].items()
    ]
    model, photos = results["model"], results["photos"]
    smallest, mean, largest = photos["kb"]
    return (
        f"{markdown_table(head, rows)}\n"
        f"{model['file']}, {model['classes']} classes; {photos['width']}x{photos['height']} JPEGs "
        f"of {smallest} to {largest} kB, {mean} on average; batches of up to "
        f"{results['batch_size']}. Broker: {results['broker']}, on the same machine.\n\n"
        f"{machine_line(results['machine'])}\n"
    )


def _cells(row: dict[str, Any]) -> list[str]:
    throughput = row["throughput"]
    return [
        row["name"],
        f"{throughput['photos_per_second']:.1f}",
        _or_dash(row["times_naive"], "{:.1f}"),
        _or_dash(row["bare_photos_per_second"], "{:.1f}"),
        _or_dash(row["share_of_bare"], "{:.0%}"),
        f"{throughput['cpu_ms_per_photo']:.1f}",
        _latency(row["latencies"]["quiet"]),
        f"{row['sustained_photos_per_second']:.1f}",
        _latency(row["latencies"]["busy"]),
        f"{row['start_seconds']:.1f}",
        f"{row['first_answer_seconds']:.1f}",
        f"{row['peak_memory_mb']:.0f}",
    ]


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _latency(latency: dict[str, Any]) -> str:
    return " / ".join(f"{latency[name]:.0f}" for name in ("p50_ms", "p95_ms", "p99_ms"))


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw photos a second and latency, side by side, into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = results["rows"]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 2.2 + 0.7 * len(rows)), sharey=True, layout="constrained"
    )
    _draw_rates(left, rows)
    quiet, busy = results["quiet_photos_per_second"], results["busy_share_of_sustained"]
    _draw_latencies(right, rows, f"at {quiet:g} photos/s", f"at {busy:.0%} load")
    left.set_yticks(range(len(rows)), [row["name"] for row in rows])
    left.invert_yaxis()
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, frameon=False)
    machine = results["machine"]
    title = f"{results['model']['file']} on {machine['cores']} cores of {machine['processor']}"
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_rates(axes: Any, rows: list[dict[str, Any]]) -> None:
    """A bar for each program, within an outline for its model alone."""
    rates = [row["throughput"]["photos_per_second"] for row in rows]
    bare = [row["bare_photos_per_second"] or 0.0 for row in rows]
    colours = [_OURS if rate else _NAIVE for rate in bare]
    axes.barh(range(len(rows)), rates, height=0.5, color=colours)
    outlined = [number for number, rate in enumerate(bare) if rate]
    axes.barh(
        outlined,
        [bare[number] for number in outlined],
        height=0.66,
        fill=False,
        edgecolor=_BARE,
        linestyle="--",
        label="the model alone, without Kafka and photos",
    )
    for number, row in enumerate(rows):
        times = row["times_naive"]
        text = f"{rates[number]:.0f}" + (f"  ({times:.1f}x)" if times else "")
        _write_beside(axes, text, max(rates[number], bare[number]), number)
    axes.margins(x=0.25)
    axes.set_title("Photos per second, from Kafka to the printed answer")
    axes.set_xlabel("photos/s (more is better)")


def _draw_latencies(axes: Any, rows: list[dict[str, Any]], quiet: str, busy: str) -> None:
    """Two lines from p50 to p99 for each program, with a point at p95."""
    for kind, label, colour, shift in (
        ("quiet", quiet, _QUIET, -0.15),
        ("busy", busy, _BUSY, 0.15),
    ):
        for number, row in enumerate(rows):
            latency, height = row["latencies"][kind], number + shift
            p50, p95, p99 = (latency[name] for name in ("p50_ms", "p95_ms", "p99_ms"))
            axes.plot(
                *([p50, p99], [height, height]),
                color=colour,
                linewidth=8,
                label=None if number else label,
            )
            axes.plot(p95, height, "o", color="black", markersize=4, linestyle="none")
            _write_beside(axes, f"{p95:.0f}", max(p95, p99), height)
    axes.set_xscale("log")
    axes.set_xticks([power * step for power in (1, 10, 100, 1000) for step in (1, 2, 5)])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    shown = [latency for row in rows for latency in row["latencies"].values()]
    ends = [latency[name] for latency in shown for name in ("p50_ms", "p99_ms")]
    axes.set_xlim(min(ends) / 1.3, max(ends) * 1.5)  # after the ticks, which would widen it
    axes.margins(x=0.15)
    axes.set_title("From sending a photo to its printed answer")
    axes.set_xlabel("ms: p50 to p99, with p95 as a point (less is better)")


def _write_beside(axes: Any, text: str, x: float, y: float) -> None:
    axes.annotate(
        text, (x, y), xytext=(8, 0), textcoords="offset points", va="center", fontsize="small"
    )
