r"""Make the small, fast int8 file out of a trained model, and prove that it answers the same.

    python -m training.export --model models/cars.keras --classes models/cars.classes.json \
        --manifest cars.csv

writes ``models/cars.tflite``, which the faster runtimes of the service use. Weights and activations
become 8-bit integers, with one scale for each output channel of the weights and ranges measured on
training photos. The last layer and the softmax stay in float32: a confidence in steps of 1/256
would not be calibrated any more.

The file is written only if, on the photos of ``--split``, it loses no more than half a point of
accuracy and contradicts no more than one in a hundred of the model's confident answers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from car_classifier.class_map import load_class_map
from car_classifier.console import checked
from car_classifier.errors import CarClassifierError
from car_classifier.model import load_classifier
from car_classifier.runtimes import KerasRuntime
from training.errors import ExportError
from training.evaluate import add_model_options, answer, load_input
from training.figures import Answers
from training.files import replace_file
from training.matching import read_matched

MAX_TOP1_LOSS = 0.005
MAX_CONTRADICTED = 0.01  # of the confident answers
CONFIDENT = 0.8
CALIBRATION_PHOTOS = 600  # with 200, some draws lose a point of accuracy

Images = NDArray[np.uint8]


def lite_converter(model: Any) -> Any:
    """A ``tf.lite.TFLiteConverter`` of a Keras classifier, for float32 (1, H, W, 3)."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    graph = tf.function(
        lambda images: model(images, training=False), input_signature=[signature]
    ).get_concrete_function()
    # The converter reads variables of its own, and fails on Keras 3's, unless they are constants.
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [convert_variables_to_constants_v2(graph)]
    )


def int8_model(model: Any, calibration: Images) -> bytes:
    """Quantise a Keras classifier after training.

    Args:
        model: input float32 (N, H, W, 3) of RGB 0-255, last layer a softmax.
        calibration: uint8 (photos, H, W, 3); the ranges of all activations are measured on them.

    Returns:
        A LiteRT (TensorFlow Lite) file: float32 (1, H, W, 3) in, float32 (1, classes) out.
    """
    import tensorflow as tf

    def photos() -> Iterator[list[NDArray[np.float32]]]:
        for image in calibration:
            yield [image[None].astype(np.float32)]

    converter = lite_converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = photos
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    quantizer = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=photos,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(
            denylisted_ops=["FULLY_CONNECTED", "SOFTMAX"]
        ),
    )
    return bytes(quantizer.get_nondebug_quantized_model())


def compare(plain: Answers, quantised: Answers) -> dict[str, float]:
    """How an int8 model's answers differ from the float model's on the same photos.

    Returns:
        Top-1 accuracy of both, the share of equal answers, and the share of the float model's
        confident answers that the int8 model contradicts; each 0..1.
    """
    agree = plain.named == quantised.named
    confident = plain.confidences >= CONFIDENT
    return {
        "top1_float": float(plain.correct.mean()),
        "top1_int8": float(quantised.correct.mean()),
        "agreement": float(agree.mean()),
        "contradicted": float((~agree[confident]).mean()) if confident.any() else 0.0,
    }


def export(options: argparse.Namespace) -> dict[str, object]:
    """Convert, compare, write; return the figures of the comparison.

    Raises:
        CarClassifierError: something cannot be used, or the int8 model is not good enough.
        OSError: the file cannot be written; an older one is then what it was.
    """
    classes = load_class_map(options.classes)
    manifest, outputs = read_matched(options.manifest, options.split, classes)
    photos = manifest.split(options.split)
    labels = np.array([outputs[photo.label] for photo in photos])
    plain = load_classifier(options.model, classes)
    train = manifest.split("train")
    shuffled = np.random.default_rng(options.seed).permutation(len(train))
    chosen = shuffled[: options.calibration_photos]
    calibration = np.stack([load_input(train[index], plain.input_size) for index in chosen])
    print(f"quantising with {len(calibration)} photos...", file=sys.stderr, flush=True)
    assert isinstance(plain.runtime, KerasRuntime)  # the default
    data = int8_model(plain.runtime.model, calibration)

    path = options.out or options.model.with_suffix(".tflite")
    with replace_file(path) as unfinished:
        unfinished.write_bytes(data)
        print(f"comparing on {len(photos)} photos...", file=sys.stderr, flush=True)
        quantised = load_classifier(unfinished, classes, "litert")
        figures = compare(
            Answers(answer(plain, photos)[0], labels, classes),
            Answers(answer(quantised, photos)[0], labels, classes),
        )
        _check(path, figures)
    return {
        "n": len(photos),
        **{name: round(value, 4) for name, value in figures.items()},
        "megabytes": round(len(data) / 1e6, 1),
    }


def _check(path: Path, figures: dict[str, float]) -> None:
    loss = figures["top1_float"] - figures["top1_int8"]
    if loss > MAX_TOP1_LOSS or figures["contradicted"] > MAX_CONTRADICTED:
        raise ExportError(
            f"{path}: not written: expected to lose at most {MAX_TOP1_LOSS:.1%} of accuracy and to "
            f"contradict at most {MAX_CONTRADICTED:.0%} of confident answers; it loses {loss:.1%} "
            f"and contradicts {figures['contradicted']:.1%}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after a message about what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_model_options(parser, split="val")
    add("--out", type=Path, help="file to write (default: x.tflite beside x.keras)")
    add(
        "--calibration-photos",
        type=checked(int, minimum=1),
        default=CALIBRATION_PHOTOS,
        metavar="N",
        help="photos of train to measure ranges on (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="draws the calibration photos")
    options = parser.parse_args(arguments)
    try:
        line = export(options)
    except (CarClassifierError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
