"""Our consumer with a stand-in for the model, which sleeps: a machine of its own for each consumer.

python -m benchmarks.standin 40 --json    (40 ms a photo, then the consumer's own options)
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import consumidor_clasificador
from car_classifier.class_map import CarClass
from car_classifier.model import Classifier

CLASSES = [CarClass("Stand-in")]


class SleepingRuntime:
    """A runtime that takes its time, and none of the processor's."""

    name = "sleeping"
    path = Path("none")
    input_shape = (None, 224, 224, 3)
    output_shape = (None, len(CLASSES))

    def __init__(self, seconds_per_photo: float) -> None:
        self._seconds_per_photo = seconds_per_photo
        self._engine = threading.Lock()  # one: the service hands over two batches at a time

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Sleep, then be certain."""
        with self._engine:
            time.sleep(len(images) * self._seconds_per_photo)
        return np.ones((len(images), len(CLASSES)), np.float32)


def main() -> int:
    """Run the consumer's own command line; return its exit status."""
    classifier = Classifier(SleepingRuntime(float(sys.argv.pop(1)) / 1000), CLASSES)
    with (
        patch.object(consumidor_clasificador, "load_class_map", lambda *_: CLASSES),
        patch.object(consumidor_clasificador, "load_classifier", lambda *_: classifier),
    ):
        return consumidor_clasificador.main()


if __name__ == "__main__":
    sys.exit(main())
