"""Temperatures and calibration errors with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training.calibration import bake_temperature, expected_calibration_error, fit_temperature


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoilt_the_probabilities_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    honest = softmax(logits).astype(np.float64)
    labels = np.array([rng.choice(5, p=row / row.sum()) for row in honest])
    spoilt = softmax(logits * temperature)
    assert fit_temperature(spoilt, labels) == pytest.approx(temperature, rel=0.07)


def test_a_few_right_answers_do_not_make_a_model_certain() -> None:
    probabilities = np.full((6, 3), 0.2, np.float32)
    probabilities[:, 0] = 0.6
    assert fit_temperature(probabilities, np.zeros(6, int)) > 0.3


def test_impossible_answers_give_a_finite_temperature() -> None:
    certain = np.eye(3, dtype=np.float32)
    assert np.isfinite(fit_temperature(certain, np.array([1, 2, 0])))


def test_a_baked_temperature_divides_the_logits() -> None:
    import keras

    head = keras.layers.Dense(4, activation="softmax")
    features = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    before = np.log(np.asarray(head(features)).astype(np.float64))
    bake_temperature(head, 2.0)
    assert np.asarray(head(features)) == pytest.approx(softmax(before / 2.0), abs=1e-6)


def test_the_calibration_error_is_the_mean_gap_weighted_by_count() -> None:
    confidences = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55], np.float32)
    correct = np.array([True, True, True, False, True, False])
    # Bins of 0.2: four photos at 0.95 of which 0.75 are right, two at 0.55 of which 0.5 are.
    expected = (4 * 0.2 + 2 * 0.05) / 6
    assert expected_calibration_error(confidences, correct, bins=5) == pytest.approx(expected)


def test_full_confidence_in_right_answers_is_no_error() -> None:
    assert expected_calibration_error(np.ones(3, np.float32), np.ones(3, bool)) == 0
