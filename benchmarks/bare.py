"""The bare model: batches of noise through a runtime, with no Kafka and no photos around it.

python -m benchmarks.bare --runtime litert --model m.keras --classes c.json --seconds 5
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from car_classifier.class_map import load_class_map
from car_classifier.errors import CarClassifierError
from car_classifier.model import load_classifier
from car_classifier.runtimes import RUNTIMES

_WARM_UP_BATCHES = 3


def photos_per_second(options: argparse.Namespace) -> float:
    """Run the model for the time asked for and return its rate."""
    classifier = load_classifier(options.model, load_class_map(options.classes), options.runtime)
    width, height = classifier.input_size
    shape = (options.batch_size, height, width, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for _ in range(_WARM_UP_BATCHES):
        classifier.predict(batch)
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < options.seconds or not done:
        classifier.predict(batch)
        done += len(batch)
    return done / passed


def main() -> int:
    """Print the rate; return the exit status, 2 for what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--classes", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    try:
        print(photos_per_second(parser.parse_args()))
    except CarClassifierError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
