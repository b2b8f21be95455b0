"""What a benchmark says when it cannot measure."""

from __future__ import annotations

from car_classifier.errors import CarClassifierError


class BenchmarkError(CarClassifierError):
    """A program under measurement failed, or a measurement means nothing."""


class UnavailableError(BenchmarkError):
    """What should be measured is not there: a package, or a model's file."""
