"""Roundings that an int8 file does not need are dropped on OpenVINO, and no others."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import openvino

from car_classifier.roundings import drop_needless_roundings
from training.export import int8_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
]

SIDE = 16
PHOTOS = np.random.default_rng(3).integers(0, 256, (64, SIDE, SIDE, 3), dtype=np.uint8)

Layers = Callable[[Any], Any]


def int8_file(path: Path, middle: Layers) -> tuple[Any, Path]:
    """Write a classifier with these layers in it as int8; return the float model and the file."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    pixels = keras.Input((SIDE, SIDE, 3))
    tensor = middle(layers.Rescaling(1 / 127.5, offset=-1)(pixels))
    strong = keras.initializers.RandomNormal(stddev=2.0)  # or all classes are equally likely
    shares = layers.Dense(5, activation="softmax", kernel_initializer=strong)
    model = keras.Model(pixels, shares(layers.Flatten()(tensor)))
    random = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):  # a new one does nothing
            layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(int8_model(model, PHOTOS))
    return model, path


def preactivated(tensor: Any) -> Any:
    """A BatchNorm behind a sum, which no convolution can take in; as in ResNet50V2."""
    from keras import layers

    first = layers.Conv2D(8, 3, padding="same")(tensor)
    total = layers.Add()([first, layers.Conv2D(8, 1)(first)])
    return layers.ReLU()(layers.BatchNormalization()(total))


def padded(tensor: Any) -> Any:
    from keras import layers

    return layers.Conv2D(8, 3, strides=2)(layers.ZeroPadding2D(1)(tensor))


def plain(tensor: Any) -> Any:
    from keras import layers

    return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2)(tensor)))


def network(path: Path) -> Any:
    return openvino.Core().read_model(path)


def roundings_by_source(model: Any) -> Counter[str]:
    """What comes before each rounding -> how many."""
    return Counter(
        node.input_value(0).get_node().get_type_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "FakeQuantize"
    )


def answers(model: Any) -> NDArray[np.float32]:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(photo[None].astype(np.float32))[0] for photo in PHOTOS])


def test_a_norm_that_stands_alone_is_computed_in_one_go_and_more_exactly(tmp_path: Path) -> None:
    # Given a norm that the file keeps as a factor and an offset, with a rounding between
    model, path = int8_file(tmp_path / "preactivated.tflite", preactivated)
    before, after = network(path), network(path)
    assert roundings_by_source(before)["Multiply"] == 2  # the norm's, and that of the scaling
    # When
    drop_needless_roundings(after)
    # Then
    assert roundings_by_source(after)["Multiply"] == 0
    exact = np.asarray(model.predict(PHOTOS.astype(np.float32), verbose=0))
    error_before, error_after = (np.abs(answers(one) - exact).mean() for one in (before, after))
    assert error_after < error_before


def test_what_is_rounded_already_is_not_rounded_again_behind_padding(tmp_path: Path) -> None:
    _, path = int8_file(tmp_path / "padded.tflite", padded)
    before, after = network(path), network(path)
    assert roundings_by_source(before)["Pad"] == 1
    drop_needless_roundings(after)
    assert roundings_by_source(after)["Pad"] == 0
    # And the answers are the very same (the scaling before it is another matter).
    lone = network(path)
    (pad,) = [node for node in lone.get_ordered_ops() if node.get_type_name() == "Pad"]
    (rounding,) = [port.get_node() for port in pad.output(0).get_target_inputs()]
    rounding.output(0).replace(rounding.input_value(0))
    np.testing.assert_array_equal(answers(lone), answers(before))


def test_roundings_that_keep_layers_in_8_bits_stay(tmp_path: Path) -> None:
    _, path = int8_file(tmp_path / "plain.tflite", plain)
    before, after = network(path), network(path)
    assert drop_needless_roundings(after) == 0
    assert roundings_by_source(after) == roundings_by_source(before) != Counter()
