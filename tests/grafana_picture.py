"""Draws the Grafana dashboard: its own file, and what a real Prometheus answers to its queries.

Grafana itself is not at hand where the tests run, so a picture of it is drawn instead. Panels are
where the file puts them, with its titles, queries, legends and units.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from tests.prometheus import DASHBOARD, Prometheus, filled_in, panels

_COLUMNS = 24  # of Grafana's grid
_INCHES = 0.55  # a column
_ROW_INCHES = 0.32
_INK, _PAPER, _PANEL = "#ccccdc", "#111217", "#181b1f"  # Grafana's dark theme
_COLOURS = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0"]
_UNITS = {"s": " s", "reqps": "/s", "bytes": " MB", "short": ""}


def draw(prometheus: Prometheus, seconds: float, path: Path) -> None:
    """Write a PNG of the last so many seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = panels()
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown)
    width, height = _COLUMNS * _INCHES, rows * _ROW_INCHES
    figure = plt.figure(figsize=(width, height + 0.4), facecolor=_PAPER)
    for panel in shown:
        place = panel["gridPos"]
        left, bottom = place["x"] / _COLUMNS, 1 - (place["y"] + place["h"]) / rows
        scale = height / (height + 0.4)  # the title is above
        box = (left, bottom * scale, place["w"] / _COLUMNS, place["h"] / rows * scale)
        if panel["type"] == "timeseries":
            _draw_lines(figure, panel, box, prometheus, seconds)
        else:
            _draw_values(figure, panel, box, prometheus)
    title = re.search(r'"title": "([^"]+)",\s+"tags"', DASHBOARD.read_text())
    assert title
    figure.text(0.008, 0.985, title[1], color="white", size=14, va="top")
    figure.savefig(path, dpi=75)
    plt.close(figure)


def _draw_lines(
    figure: Any,
    panel: dict[str, Any],
    box: tuple[float, float, float, float],
    prometheus: Prometheus,
    seconds: float,
) -> None:
    left, bottom, width, height = box
    _frame(figure, panel, box)
    axes = figure.add_axes(
        (left + 0.045, bottom + 0.26 * height, width - 0.06, 0.56 * height), facecolor=_PANEL
    )
    now = time.time()
    lines: list[tuple[str, list[float], list[float]]] = []
    for target in panel["targets"]:
        answer = prometheus.ask(
            "query_range",
            query=filled_in(target["expr"]),
            start=now - seconds,
            end=now,
            step=max(1.0, seconds / 150),
        )["result"]
        for series in answer:
            points = [(float(at) - now, float(value)) for at, value in series["values"]]
            kept = [(at, value / _divisor(panel)) for at, value in points if value == value]
            if kept:
                x, y = zip(*kept, strict=True)
                lines.append((_legend(target, series["metric"]), list(x), list(y)))
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    if stacked and len({tuple(x) for _, x, _ in lines}) == 1:
        axes.stackplot(
            lines[0][1], [y for *_, y in lines], colors=_COLOURS, alpha=0.8,
            labels=[name for name, *_ in lines],
        )  # fmt: skip
    else:
        for colour, (name, x, y) in zip(_COLOURS * 9, lines, strict=False):
            axes.plot(x, y, color=colour, label=name, linewidth=1.4)
    axes.set_xlim(-seconds, 0)
    axes.set_ylim(bottom=0)
    axes.tick_params(colors=_INK, labelsize=7, length=0)
    axes.xaxis.set_major_formatter(lambda at, _: f"{at:.0f} s")
    unit = _UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}{unit}")
    axes.grid(color="#2f3237", linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    names = [name for name, *_ in lines]
    if any(names):
        figure.legend(
            *axes.get_legend_handles_labels(),
            loc="lower left", bbox_to_anchor=(left + 0.004, bottom + 0.005), ncols=4,
            fontsize=6.5, frameon=False, labelcolor=_INK, handlelength=1.2, columnspacing=1,
            borderpad=0.2, labelspacing=0.2,
        )  # fmt: skip


def _draw_values(
    figure: Any,
    panel: dict[str, Any],
    box: tuple[float, float, float, float],
    prometheus: Prometheus,
) -> None:
    left, bottom, width, height = box
    _frame(figure, panel, box)
    (target,) = panel["targets"]
    unit = _UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    results = prometheus.query(target["expr"])
    if panel["type"] == "stat":
        (result,) = results
        by_name = panel["options"]["textMode"] == "name"
        decimals = panel["fieldConfig"]["defaults"].get("decimals", 0)
        value = f"{float(result['value'][1]):.{decimals}f}{unit}"
        text = _legend(target, result["metric"]).replace(", ", "\n") if by_name else value
        size = 9 if by_name else 24
        figure.text(
            left + width / 2, bottom + 0.42 * height, text, color=_COLOURS[0], size=size,
            ha="center", va="center",
        )  # fmt: skip
        return
    axes = figure.add_axes(
        (left + 0.06, bottom + 0.12 * height, width - 0.09, 0.7 * height), facecolor=_PANEL
    )
    values = [float(result["value"][1]) for result in results]
    axes.barh([_legend(target, result["metric"]) for result in results], values, color=_COLOURS[0])
    for row, value in enumerate(values):
        axes.text(value, row, f" {value:.1f}{unit}", color=_INK, size=8, va="center")
    axes.set_xlim(0, 1.3 * max(values))
    axes.set_xticks([])
    axes.tick_params(colors=_INK, labelsize=8, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _frame(figure: Any, panel: dict[str, Any], box: tuple[float, float, float, float]) -> None:
    from matplotlib.patches import Rectangle

    left, bottom, width, height = box
    edge = 0.002
    figure.add_artist(
        Rectangle(
            (left + edge, bottom + edge), width - 2 * edge, height - 2 * edge,
            facecolor=_PANEL, edgecolor="#2f3237", zorder=-1, transform=figure.transFigure,
        )
    )  # fmt: skip
    title = panel["title"]
    figure.text(left + 0.007, bottom + height - 0.008, title, color=_INK, size=8.5, va="top")


def _divisor(panel: dict[str, Any]) -> float:
    return 2.0**20 if panel["fieldConfig"]["defaults"]["unit"] == "bytes" else 1.0


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target["legendFormat"])
