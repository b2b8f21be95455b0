r"""Measure a model on the photos of a manifest, on the very way that the service takes.

    python -m training.evaluate --model models/cars.keras --classes models/cars.classes.json \
        --manifest cars.csv --split test --out report/

prints one JSON line: how many photos (n), the share of right answers (top1), of right ones among
the five best (top5) and of right makes (make_top1), the calibration error (ece, 15 bins), the
accuracy on the 80 % most confident photos (coverage80_accuracy), the model's input in pixels
(image_size) and its speed in batches (images_per_second, without decoding). With --out it writes a
report with plots. The manifest needs the columns image and class_name or class_id.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from car_classifier.class_map import load_class_map
from car_classifier.console import checked
from car_classifier.errors import CarClassifierError, MessageError
from car_classifier.images import decode_image
from car_classifier.model import Classifier, load_classifier
from car_classifier.runtimes import RUNTIMES
from training.aspect import ASPECTS, Aspect, fit
from training.dataset import LabelledPhoto
from training.errors import UnreadablePhotoError
from training.figures import Answers, figures
from training.listing import SPLITS
from training.matching import read_matched
from training.report import write_report

BATCH_SIZE = 32

Images = NDArray[np.uint8]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after a message about what is wrong."""
    options = _parse(arguments)
    try:
        line = evaluate(options)
    except (CarClassifierError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(line))
    return 0


def evaluate(options: argparse.Namespace) -> dict[str, object]:
    """Answer the photos, write the report if one is asked for, return the figures.

    Raises:
        CarClassifierError: model, class map, manifest or a photo cannot be used together.
        OSError: the report cannot be written.
    """
    classes = load_class_map(options.classes)
    manifest, outputs = read_matched(options.manifest, options.split, classes)
    photos = manifest.split(options.split)
    if options.limit and options.limit < len(photos):  # spread over the manifest
        chosen = np.linspace(0, len(photos) - 1, options.limit).round().astype(int)
        photos = [photos[index] for index in chosen]
    classifier = load_classifier(options.model, classes, options.runtime)
    probabilities, rate = answer(classifier, photos, aspect=options.aspect, flip=options.flip)
    labels = np.array([outputs[photo.label] for photo in photos])
    answers = Answers(probabilities, labels, classes)
    width, height = classifier.input_size
    line: dict[str, object] = {
        "n": len(photos),
        **{name: round(value, 4) for name, value in figures(answers).items()},
        "image_size": width if width == height else [width, height],
        "images_per_second": round(rate, 1),
    }
    if options.out:
        title = f"{classifier.runtime.path.name} on {options.manifest.name}, split {options.split}"
        write_report(options.out, answers, title, line)
        print(f"report written to {options.out}", file=sys.stderr)
    return line


def answer(
    classifier: Classifier,
    photos: Sequence[LabelledPhoto],
    *,
    aspect: Aspect = "squash",
    flip: bool = False,
) -> tuple[NDArray[np.float32], float]:
    """Classify photos in batches.

    Args:
        classifier: the service's.
        photos: at least one.
        aspect: how they become the model's square; the service squashes.
        flip: average the answers to each photo and to its mirror image.

    Returns:
        Probabilities, float32 (photos, classes), and how many images a second the model answered,
        the first batch left out where there are more.

    Raises:
        UnreadablePhotoError: a photo is damaged.
    """
    load = partial(load_input, size=classifier.input_size, aspect=aspect)
    results: list[NDArray[np.float32]] = []
    timed: list[tuple[int, float]] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(photos), BATCH_SIZE):
            images = np.stack(list(pool.map(load, photos[start : start + BATCH_SIZE])))
            views = [images, images[:, :, ::-1]] if flip else [images]
            began = time.monotonic()
            results.append(np.mean([classifier.predict(view) for view in views], axis=0))
            timed.append((len(views) * len(images), time.monotonic() - began))
            if sys.stderr.isatty():
                done = start + len(images)
                print(f"\r{done} of {len(photos)} photos", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    # The first batch of a size is slower: memory is laid out and kernels are chosen.
    steady = timed[1:] or timed
    rate = sum(count for count, _ in steady) / max(sum(spent for _, spent in steady), 1e-9)
    return np.concatenate(results), rate


def load_input(photo: LabelledPhoto, size: tuple[int, int], aspect: Aspect = "squash") -> Images:
    """Read a photo as the model gets it.

    Args:
        photo: it is cut to its box, if it has one.
        size: (width, height) in pixels.
        aspect: "letterbox" keeps its aspect and pads with grey, instead of squashing it.

    Returns:
        RGB 0-255, uint8 (height, width, 3).

    Raises:
        UnreadablePhotoError: it is damaged.
    """
    if photo.box is None and aspect == "squash":
        try:
            return decode_image(photo.image.read_bytes(), size)
        except (OSError, MessageError) as error:
            raise UnreadablePhotoError(f"{photo.image}: not a readable photo: {error}") from error
    return np.asarray(fit(Image.fromarray(photo.load()), size, aspect))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_model_options(parser, split="test")
    add("--out", type=Path, help="folder for the report")
    add(
        "--aspect",
        choices=ASPECTS,
        default="squash",
        help="squash photos as the service does (default), or pad them, to compare",
    )
    add(
        "--runtime",
        choices=tuple(RUNTIMES),
        default="keras",
        help="what runs the model: litert and openvino take the int8 file beside it "
        "(default: %(default)s)",
    )
    add("--flip", action="store_true", help="average over each photo and its mirror image")
    add(
        "--limit",
        type=checked(int, minimum=1),
        help="use only so many photos, spread over the split",
    )
    return parser.parse_args(arguments)


def add_model_options(parser: argparse.ArgumentParser, split: str) -> None:
    """Add the options that name a model and photos to ask it about, of ``split`` by default."""
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the model file that the service would load")
    add("--classes", type=Path, required=True, help="its class map (JSON)")
    add("--manifest", type=Path, required=True, help="CSV of photos and their classes")
    add("--split", choices=SPLITS, default=split, help="which photos (default: %(default)s)")


if __name__ == "__main__":
    sys.exit(main())
