"""The model contract: what fulfils it drops in, everything else is refused with the reason."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from keras import layers

from car_classifier.class_map import CarClass, load_class_map
from car_classifier.errors import ClassMapError, ModelError
from car_classifier.model import load_classifier
from tests.models import HEIGHT, WIDTH, colour_model

# Keras on its way to NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLASSES = [CarClass("Ferrari"), CarClass("Jaguar"), CarClass("Bugatti")]


def head(tensor: Any, activation: str | None = "softmax", outputs: int = 3) -> Any:
    """Return what makes class probabilities of an image tensor."""
    pooled = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255.0)(tensor))
    return layers.Dense(outputs, activation=activation)(pooled)


def pixels(*shape: int | None) -> Any:
    return keras.Input(shape or (HEIGHT, WIDTH, 3))


def two_inputs() -> Any:
    image, extra = pixels(), keras.Input((2,))
    return keras.Model([image, extra], layers.Concatenate()([head(image), extra]))


def two_outputs() -> Any:
    image = pixels()
    return keras.Model(image, [head(image), head(image)])


def named_outputs() -> Any:
    image = pixels()
    return keras.Model(image, {"make": head(image)})


def one_input(image: Any, activation: str | None = "softmax") -> Any:
    return keras.Model(image, head(image, activation))


def a_map_of_the_image() -> Any:
    image = pixels()
    return keras.Model(image, layers.Conv2D(3, 1, activation="softmax")(image))


def never_called() -> Any:
    return keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(3)])


def with_a_lambda() -> Any:
    image = pixels()
    return keras.Model(image, head(layers.Lambda(lambda tensor: tensor / 2)(image)))


def with_code_of_its_own() -> Any:
    class Doubled(layers.Layer):
        def call(self, tensor: Any) -> Any:
            return tensor * 2

    image = pixels()
    return keras.Model(image, head(Doubled()(image)))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "colours.keras"
    colour_model().save(path)
    return path


def test_a_model_that_fulfils_the_contract_is_loaded(colours: Path) -> None:
    classifier = load_classifier(colours, CLASSES)

    assert classifier.input_size == (WIDTH, HEIGHT)
    assert classifier.classes == CLASSES


def test_a_model_is_known_by_its_file_and_what_is_in_it(colours: Path) -> None:
    identity = load_classifier(colours, CLASSES).identity

    assert identity.file == colours.name
    assert identity.sha256 == hashlib.sha256(colours.read_bytes()).hexdigest()
    assert identity.runtime == "keras"


@pytest.mark.parametrize("photos", [1, 2, 7])
def test_a_batch_of_any_size_gives_probabilities_in_its_order(colours: Path, photos: int) -> None:
    classifier = load_classifier(colours, CLASSES)
    images = np.zeros((photos, HEIGHT, WIDTH, 3), np.uint8)
    strongest = [number % 3 for number in range(photos)]
    for image, channel in zip(images, strongest, strict=True):
        image[..., channel] = 255

    shares = classifier.predict(images)

    assert (shares.shape, shares.dtype) == ((photos, 3), np.float32)
    assert shares.argmax(axis=1).tolist() == strongest
    assert shares.sum(axis=1) == pytest.approx(np.ones(photos))


def test_dropout_and_the_like_rest(tmp_path: Path) -> None:
    image = pixels()
    keras.Model(image, head(layers.Dropout(0.9)(image))).save(tmp_path / "m.keras")
    classifier = load_classifier(tmp_path / "m.keras", CLASSES)
    photo = np.full((1, HEIGHT, WIDTH, 3), 200, np.uint8)

    assert (classifier.predict(photo) == classifier.predict(photo)).all()


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: one_input(pixels(16, 16, 1)), r"\(None, height, width, 3\), got .*16, 16, 1\)"),
        (lambda: one_input(pixels(None, None, 3)), r"got \(None, None, None, 3\)"),
        (two_inputs, "expected one input"),
        (two_outputs, "expected one output"),
        (named_outputs, "one tensor|one output"),
        (a_map_of_the_image, r"expected one output of shape \(None, classes\)"),
        (never_called, "expected one input"),
        (lambda: one_input(pixels(), None), "expected softmax probabilities that sum to 1"),
        (lambda: one_input(pixels(), "sigmoid"), "expected softmax probabilities that sum to 1"),
        (with_a_lambda, "Lambda"),
        (with_code_of_its_own, "Could not locate class 'Doubled'"),
    ],
    ids=[
        *("grey", "any-size", "two-inputs", "two-outputs", "named-outputs", "image-out", "unbuilt"),
        *("logits", "sigmoid", "lambda", "custom-layer"),
    ],
)
@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_model_of_another_kind_is_refused_with_the_reason(
    tmp_path: Path, build: Callable[[], Any], reason: str
) -> None:
    path = tmp_path / "m.keras"
    build().save(path)

    with pytest.raises(ModelError, match=reason) as caught:
        load_classifier(path, CLASSES)

    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("classes", [2, 4])
def test_a_class_map_of_another_size_is_refused(colours: Path, classes: int) -> None:
    with pytest.raises(ClassMapError, match=f"tells 3 classes apart, .* names {classes}"):
        load_classifier(colours, [CarClass("BMW")] * classes)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model at .*nothing\.keras.*\(--model\)"):
        load_classifier(tmp_path / "nothing.keras", CLASSES)
    with pytest.raises(ModelError, match="no model at"):
        load_classifier(tmp_path, CLASSES)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, colours: Path, share: float) -> None:
    data = colours.read_bytes()
    path = tmp_path / "m.keras"
    path.write_bytes(data[: int(len(data) * share)])

    with pytest.raises(ModelError, match=r"expected a \.keras file, which is a zip archive"):
        load_classifier(path, CLASSES)


def test_a_damaged_file_is_refused(tmp_path: Path, colours: Path) -> None:
    data = bytearray(colours.read_bytes())
    middle = len(data) // 2
    data[middle - 2000 : middle] = bytes(2000)
    path = tmp_path / "m.keras"
    path.write_bytes(data)

    with pytest.raises(ModelError):
        load_classifier(path, CLASSES)


def test_loading_keeps_the_terminal_clean(colours: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_classifier(colours, CLASSES)

    assert capfd.readouterr() == ("", "")


def test_an_older_model_of_163_makes_drops_in(tmp_path: Path) -> None:
    # Given a ResNet50 on raw pixels, as the first version of the project trained it, and a flat map
    backbone = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    pooled = layers.GlobalAveragePooling2D()(backbone.output)
    makes = layers.Dense(163, activation="softmax")(layers.Dropout(0.5)(pooled))
    keras.Model(backbone.input, makes).save(tmp_path / "clasificador_coches_v3.keras")
    flat = {str(number): f"Make {number}" for number in range(163)}
    (tmp_path / "marcas_coches.json").write_text(json.dumps(flat))

    # When both are loaded
    classes = load_class_map(tmp_path / "marcas_coches.json")
    classifier = load_classifier(tmp_path / "clasificador_coches_v3.keras", classes)
    shares = classifier.predict(np.zeros((2, 64, 64, 3), np.uint8))

    # Then it classifies
    assert classifier.input_size == (64, 64)
    assert shares.shape == (2, 163)
    assert classes[162] == CarClass("Make 162")
