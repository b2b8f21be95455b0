"""Pre-trained weights reach the layers they belong to, and what got none is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.backbones import BACKBONES, build_classifier, reverse_input_channels
from training.errors import WeightsError
from training.pretrained import load_weights


def small_model(classes: int = 3, wider: bool = False) -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="stem_conv")(inputs)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.Conv2D(5 if wider else 4, 1, name="block0_conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(classes, name="classes")(x))


def randomised(model: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    return model


def write(model: Any, path: Path) -> Path:
    if path.suffix == ".keras":
        model.save(path)
    elif path.suffix == ".h5":
        model.save_weights(path)
    else:
        np.savez(
            path,
            **{
                f"{layer.name}/{index}": values
                for layer in model.layers
                for index, values in enumerate(layer.get_weights())
            },
        )
    return path


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5", "w.npz"])
def test_every_layer_gets_its_own_weights(tmp_path: Path, name: str) -> None:
    source = randomised(small_model())
    target = small_model()
    assert load_weights(target, write(source, tmp_path / name)) == []
    for expected, got in zip(source.get_weights(), target.get_weights(), strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5", "w.npz"])
def test_layers_of_other_shapes_stay_and_are_named(tmp_path: Path, name: str) -> None:
    path = write(randomised(small_model(classes=7, wider=True)), tmp_path / name)
    target = small_model()
    before = target.get_layer("classes").get_weights()
    assert load_weights(target, path) == ["block0_conv", "classes"]
    for old, new in zip(before, target.get_layer("classes").get_weights(), strict=True):
        assert np.array_equal(old, new)


def test_more_than_ten_arrays_of_a_layer_keep_their_order(tmp_path: Path) -> None:
    import keras

    cells = [keras.layers.LSTMCell(2) for _ in range(4)]
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.RNN(cells, name="rnn")])
    randomised(model)
    expected = model.get_weights()
    path = write(model, tmp_path / "w.npz")
    assert len(expected) == 12
    randomised(model, seed=1)
    assert load_weights(model, path) == []
    for old, new in zip(expected, model.get_weights(), strict=True):
        assert np.array_equal(old, new)


def test_a_file_for_another_network_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"conv9/0": np.zeros(3)})
    with pytest.raises(WeightsError, match=r"w\.npz: none of its 1 layers .* such as stem_conv"):
        load_weights(small_model(), tmp_path / "w.npz")


@pytest.mark.parametrize("name", ["w.keras", "w.weights.h5", "w.npz"])
@pytest.mark.parametrize("damage", ["missing", "text", "cut"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    if damage == "text":
        path.write_text("no weights")
    if damage == "cut":
        write(small_model(), path)
        path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(WeightsError, match=f"{name}: expected pre-trained weights"):
        load_weights(small_model(), path)


def test_a_convolution_trained_on_bgr_is_made_to_take_rgb() -> None:
    from keras import layers

    convolution = layers.Conv2D(2, 3)
    rgb = np.random.default_rng(0).uniform(size=(1, 5, 5, 3)).astype(np.float32)
    expected = np.asarray(convolution(rgb[..., ::-1]))
    reverse_input_channels(convolution)
    assert np.asarray(convolution(rgb)) == pytest.approx(expected, abs=1e-6)


def test_efficientnet_lite_is_not_quietly_left_without_its_weights() -> None:
    with pytest.raises(WeightsError, match="Keras offers no weights for EfficientNet-Lite"):
        build_classifier(BACKBONES["efficientnet-lite0"], 32, 3, imagenet=True)


def test_weights_that_cannot_be_fetched_are_named_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import keras

    def unreachable(**options: Any) -> None:
        assert options["weights"] == "imagenet"
        raise Exception("URL fetch failure on https://example.org: None")  # as Keras does

    monkeypatch.setattr(keras.applications, "ResNet50V2", unreachable)
    with pytest.raises(WeightsError, match=r"ResNet50V2: URL fetch failure.*--weights FILE"):
        build_classifier(BACKBONES["resnet50v2"], 32, 3, imagenet=True)


def test_efficientnet_lite0_has_the_published_number_of_weights() -> None:
    model = build_classifier(BACKBONES["efficientnet-lite0"], 32, 1000)
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trainable == 4_652_008
    assert model.output_shape == (None, 1000)
