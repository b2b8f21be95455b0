"""A report on a model's answers that people read: report.md, plots and a table of the classes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from training.figures import (
    Answers,
    at_threshold,
    class_figures,
    confused_pairs,
    coverage_curve,
)
from training.files import replace_file

BINS = 15  # of the reliability diagram, as of the calibration error
THRESHOLDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MOST_PAIRS = 30
CLASS_COLUMNS = ("class", "photos", "top1", "top5", "named", "mistaken_for")


def write_report(folder: Path, answers: Answers, title: str, summary: Mapping[str, object]) -> None:
    """Write report.md, coverage.png, reliability.png and classes.csv; no photos.

    Args:
        folder: made if it is not there; files of an older report are replaced.
        answers: the model's.
        title: what was measured on what.
        summary: names and values for the table at the top.

    Raises:
        OSError: something cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _plot_coverage(folder / "coverage.png", answers)
    _plot_reliability(folder / "reliability.png", answers)
    rows = _class_rows(answers)
    with (
        replace_file(folder / "classes.csv") as unfinished,
        open(unfinished, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CLASS_COLUMNS)
        writer.writerows(rows)
    with replace_file(folder / "report.md") as unfinished:
        unfinished.write_text(_markdown(answers, title, summary, rows), encoding="utf-8")


def _markdown(
    answers: Answers,
    title: str,
    summary: Mapping[str, object],
    class_rows: Sequence[Sequence[object]],
) -> str:
    pairs = confused_pairs(answers)
    names = [str(car) for car in answers.classes]
    thresholds = [at_threshold(answers, threshold) for threshold in THRESHOLDS]
    parts = [
        f"# {title}",
        _table(("figure", "value"), summary.items()),
        "## Confidence threshold",
        "What becomes of the answers if those below a confidence are held back as unknown.",
        _table(
            ("threshold", "share answered", "accuracy of these"),
            (
                (f"{row.threshold:.2f}", _percent(row.answered), _percent(row.accuracy))
                for row in thresholds
            ),
        ),
        "![Accuracy against the share of photos answered](coverage.png)",
        "## Calibration",
        "Where the model says 80 %, it should be right in 80 of 100 cases.",
        "![Accuracy against confidence](reliability.png)",
        "## Most confused classes",
        _table(
            ("class", "other class", "confused", "class taken for other", "other taken for class"),
            (
                (
                    names[pair.first],
                    names[pair.second],
                    pair.count,
                    pair.first_as_second,
                    pair.second_as_first,
                )
                for pair in pairs[:MOST_PAIRS]
            ),
        )
        if pairs
        else "None: every answer is right.",
        "## Classes",
        "Hardest first; `named` counts the photos of any class that were taken for it. "
        "The same table, for programs: [classes.csv](classes.csv).",
        _table(CLASS_COLUMNS, sorted(class_rows, key=lambda row: (row[2], row[3]))),
    ]
    return "\n\n".join(parts) + "\n"


def _class_rows(answers: Answers) -> list[tuple[str, int, float, float, int, str]]:
    names = [str(car) for car in answers.classes]
    return [
        (
            names[row.label],
            row.photos,
            round(row.top1, 4),
            round(row.top5, 4),
            row.named,
            "" if row.mistaken_for is None else names[row.mistaken_for],
        )
        for row in class_figures(answers)
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _plot_coverage(path: Path, answers: Answers) -> None:
    from matplotlib.figure import Figure

    shares, accuracies = coverage_curve(answers)
    confidences = np.sort(answers.confidences)[::-1]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.plot(shares, accuracies, label="accuracy of the answered photos")
    axis.plot(shares, confidences, linestyle="--", label="confidence threshold")
    axis.axvline(0.8, color="grey", linewidth=0.8)
    axis.set(xlabel="share of photos answered, most confident first", xlim=(0, 1), ylim=(0, 1.02))
    axis.legend(loc="lower left")
    axis.grid(alpha=0.3)
    with replace_file(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


def _plot_reliability(path: Path, answers: Answers) -> None:
    from matplotlib.figure import Figure

    edges = np.linspace(0, 1, BINS + 1)
    which = np.clip((answers.confidences * BINS).astype(int), 0, BINS - 1)
    counts = np.bincount(which, minlength=BINS)
    right = np.bincount(which, weights=answers.correct, minlength=BINS)
    accuracies = np.divide(right, counts, out=np.zeros(BINS), where=counts > 0)
    figure = Figure(figsize=(5.5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.bar(edges[:-1], accuracies, 1 / BINS, align="edge", edgecolor="white")
    upper.plot((0, 1), (0, 1), color="black", linestyle="--", label="perfectly calibrated")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left")
    lower.bar(edges[:-1], counts, 1 / BINS, align="edge", edgecolor="white", color="grey")
    lower.set(xlabel="confidence", ylabel="photos")
    for axis in (upper, lower):
        axis.grid(alpha=0.3)
    with replace_file(path) as unfinished:
        figure.savefig(unfinished, dpi=110)
