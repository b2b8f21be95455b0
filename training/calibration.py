"""Confidence that means what it says: temperature scaling, and the error it leaves.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar


def fit_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int_]) -> float:
    """The temperature T > 0 that makes softmax(logits / T) most likely on photos held out.

    A weak prior holds log T near 0: it weighs as much as a single photo, and keeps a handful of
    photos that are all answered right from asking for certainty.

    Args:
        probabilities: float32 (photos, classes), rows sum to 1; their logarithms serve as logits.
        labels: int (photos,), the right class of each.
    """
    logits = np.log(np.clip(probabilities.astype(np.float64), 1e-12, None))
    rows = np.arange(len(labels))

    def negative_log_posterior(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        likelihoods = scaled[rows, labels] - np.log(np.exp(scaled).sum(axis=1))
        return float(log_temperature**2 - likelihoods.sum())

    found = minimize_scalar(negative_log_posterior, bounds=(-3, 3), method="bounded")
    return float(np.exp(found.x))


def bake_temperature(head: keras.layers.Dense, temperature: float) -> None:
    """Divide a softmax layer's logits by the temperature, by scaling its weights once for all."""
    head.set_weights([weights / temperature for weights in head.get_weights()])


def expected_calibration_error(
    confidences: NDArray[np.float32], correct: NDArray[np.bool_], bins: int = 15
) -> float:
    """Mean distance between confidence and accuracy over equal-width bins, weighted by count.

    ``confidences`` in 0..1 and ``correct``, both (photos,).
    """
    which = np.clip((confidences * bins).astype(int), 0, bins - 1)
    error = 0.0
    for index in range(bins):
        inside = which == index
        if inside.any():
            gap = abs(float(confidences[inside].mean()) - float(correct[inside].mean()))
            error += gap * float(inside.mean())
    return error
