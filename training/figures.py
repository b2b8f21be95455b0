"""What a model's answers are worth: accuracy, confidence, and what is taken for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from car_classifier.class_map import CarClass
from training.calibration import expected_calibration_error

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """A model's answers to photos whose class is known.

    Attributes:
        probabilities: float32 (photos, classes), rows sum to 1.
        labels: int (photos,), the right class of each.
        classes: what each column stands for.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int_]
    classes: Sequence[CarClass]

    @property
    def named(self) -> NDArray[np.int_]:
        """The most probable class of each photo, int (photos,)."""
        best: NDArray[np.int_] = self.probabilities.argmax(axis=1)
        return best

    @property
    def confidences(self) -> NDArray[np.float32]:
        """The probability of that class, (photos,) in 0..1."""
        highest: NDArray[np.float32] = self.probabilities.max(axis=1)
        return highest

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether it is the right one, (photos,)."""
        right: NDArray[np.bool_] = self.named == self.labels
        return right

    def in_top(self, count: int) -> NDArray[np.bool_]:
        """Whether the right class is among the ``count`` most probable ones, (photos,)."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        right: NDArray[np.bool_] = (best == self.labels[:, None]).any(axis=1)
        return right

    def makes_correct(self) -> NDArray[np.bool_]:
        """Whether the make with the largest sum of probabilities is the right one, (photos,)."""
        spelt = [car.make.casefold() for car in self.classes]
        makes = {make: index for index, make in enumerate(dict.fromkeys(spelt))}
        make_of = np.array([makes[make] for make in spelt])
        sums = self.probabilities @ np.eye(len(makes), dtype=np.float32)[make_of]
        right: NDArray[np.bool_] = sums.argmax(axis=1) == make_of[self.labels]
        return right


def figures(answers: Answers) -> dict[str, float]:
    """The figures of a model, each 0..1: accuracies and the calibration error."""
    return {
        "top1": float(answers.correct.mean()),
        "top5": float(answers.in_top(5).mean()),
        "make_top1": float(answers.makes_correct().mean()),
        "ece": expected_calibration_error(answers.confidences, answers.correct),
        "coverage80_accuracy": accuracy_at_coverage(answers, 0.8),
    }


def accuracy_at_coverage(answers: Answers, share: float) -> float:
    """The accuracy on the most confident ``share`` (0..1) of the photos, at least one."""
    count = max(1, round(share * len(answers.labels)))
    _, accuracies = coverage_curve(answers)
    return float(accuracies[count - 1])


def coverage_curve(answers: Answers) -> tuple[Floats, Floats]:
    """Accuracy on the 1, 2, ... all most confident photos: (shares, accuracies), each (photos,)."""
    order = np.argsort(-answers.confidences, kind="stable")
    counts = np.arange(1, len(order) + 1)
    return counts / len(order), np.cumsum(answers.correct[order]) / counts


@dataclass(frozen=True)
class AtThreshold:
    """What is answered where answers below a confidence are held back."""

    threshold: float
    answered: float  # share of the photos, 0..1
    accuracy: float | None  # on these; None if there are none


def at_threshold(answers: Answers, threshold: float) -> AtThreshold:
    """Hold back answers whose confidence is below ``threshold``."""
    kept = answers.confidences >= threshold
    accuracy = float(answers.correct[kept].mean()) if kept.any() else None
    return AtThreshold(threshold, float(kept.mean()), accuracy)


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes, and how often one is taken for the other."""

    first: int
    second: int
    first_as_second: int
    second_as_first: int

    @property
    def count(self) -> int:
        """How often in all."""
        return self.first_as_second + self.second_as_first


def confused_pairs(answers: Answers) -> list[ConfusedPair]:
    """Return all pairs that were confused, the most confused ones first."""
    wrong = Counter(
        (int(label), int(named))
        for label, named in zip(answers.labels, answers.named, strict=True)
        if label != named
    )
    pairs = {(min(pair), max(pair)) for pair in wrong}
    found = [ConfusedPair(a, b, wrong[a, b], wrong[b, a]) for a, b in sorted(pairs)]
    return sorted(found, key=lambda pair: -pair.count)


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is recognised."""

    label: int
    photos: int
    top1: float
    top5: float
    named: int  # photos of any class that were taken for it
    mistaken_for: int | None  # the class that its photos are most often taken for instead


def class_figures(answers: Answers) -> list[ClassFigures]:
    """Return the figures of every class that has photos, in label order."""
    correct, top5, named = answers.correct, answers.in_top(5), answers.named
    rows = []
    for label in np.unique(answers.labels).tolist():
        own = answers.labels == label
        wrong = Counter(named[own & ~correct].tolist()).most_common(1)
        rows.append(
            ClassFigures(
                label,
                int(own.sum()),
                float(correct[own].mean()),
                float(top5[own].mean()),
                int((named == label).sum()),
                wrong[0][0] if wrong else None,
            )
        )
    return rows
