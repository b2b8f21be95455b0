"""Backbones to fine-tune, and the classifier built on one of them.

Every classifier takes RGB 0-255, ``(N, H, W, 3)``, whatever its backbone wants inside: the scaling
is a layer of the model, so that nobody who loads the file has to know it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import keras
from keras import layers

from training.efficientnet_lite import efficientnet_lite
from training.errors import WeightsError

BuildFeatures = Callable[[keras.KerasTensor, str | None], keras.KerasTensor]


@dataclass(frozen=True)
class Backbone:
    """How to build one backbone without its top, and how it is fine-tuned.

    ``scale`` and ``offset`` map RGB 0-255 to what the pre-trained weights expect. BatchNorms whose
    names begin with one of ``frozen_norms`` keep their pre-trained statistics for ever, since small
    batches would spoil them. ``bgr_layer`` is the first convolution where Keras' weights take BGR,
    ``depthwise`` whether there are depthwise convolutions.
    """

    build: BuildFeatures
    scale: float = 1.0
    offset: float | tuple[float, ...] = 0.0
    frozen_norms: tuple[str, ...] = ("",)  # "" begins every name: all of them
    bgr_layer: str | None = None
    depthwise: bool = False


def _application(name: str, **options: object) -> BuildFeatures:
    def build(inputs: keras.KerasTensor, weights: str | None) -> keras.KerasTensor:
        make = getattr(keras.applications, name)
        try:
            backbone = make(include_top=False, weights=weights, input_tensor=inputs, **options)
        except Exception as error:
            if weights is None:
                raise
            raise WeightsError(
                f"expected to fetch Keras' ImageNet weights of {name}: {error}; give a file of "
                "weights (--weights FILE) or begin with random ones (--weights none)"
            ) from error
        return backbone.output

    return build


def _efficientnet_lite(width: float, depth: float) -> Backbone:
    def build(inputs: keras.KerasTensor, weights: str | None) -> keras.KerasTensor:
        if weights is not None:
            raise WeightsError(
                "Keras offers no weights for EfficientNet-Lite: give a file of weights "
                "(--weights FILE) or begin with random ones (--weights none)"
            )
        return efficientnet_lite(inputs, width, depth)

    return Backbone(build, scale=1 / 128, offset=-127 / 128, depthwise=True)


BACKBONES: dict[str, Backbone] = {
    # Caffe's means, as keras.applications.resnet.preprocess_input has them, here in RGB order.
    "resnet50": Backbone(
        _application("ResNet50"), offset=(-123.68, -116.779, -103.939), bgr_layer="conv1_conv"
    ),
    "resnet50v2": Backbone(
        _application("ResNet50V2"),
        scale=1 / 127.5,
        offset=-1.0,
        frozen_norms=("conv1", "conv2", "conv3", "conv4"),
    ),
    "efficientnet-lite0": _efficientnet_lite(1.0, 1.0),
    "efficientnet-lite2": _efficientnet_lite(1.1, 1.2),
    "efficientnetv2-b0": Backbone(
        _application("EfficientNetV2B0", include_preprocessing=True), depthwise=True
    ),
}


def build_classifier(
    backbone: Backbone,
    image_size: int | None,
    classes: int,
    dropout: float = 0.0,
    imagenet: bool = False,
) -> keras.Model:
    """Build the whole model: RGB 0-255 ``(N, size, size, 3)`` in, softmax ``(N, classes)`` out.

    Args:
        backbone: one of `BACKBONES`.
        image_size: side in pixels; None leaves it open, for training at several sizes.
        classes: how many.
        dropout: share of the pooled features dropped in training.
        imagenet: start from Keras' ImageNet weights, which it downloads; else from random ones.

    Raises:
        WeightsError: there are no such weights, or they cannot be downloaded.
    """
    inputs = keras.Input((image_size, image_size, 3), name="rgb")
    x = layers.Rescaling(backbone.scale, backbone.offset, name="scale")(inputs)
    x = backbone.build(x, "imagenet" if imagenet else None)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    # float32 whatever the precision of the rest: probabilities near 1 need the digits.
    probabilities = layers.Dense(classes, activation="softmax", dtype="float32", name="classes")(x)
    model = keras.Model(inputs, probabilities)
    if imagenet and backbone.bgr_layer:
        reverse_input_channels(model.get_layer(backbone.bgr_layer))
    return model


def reverse_input_channels(convolution: layers.Conv2D) -> None:
    """Make a first convolution that was trained on BGR take RGB."""
    kernel, *rest = convolution.get_weights()
    convolution.set_weights([kernel[:, :, ::-1, :], *rest])


def train_head(model: keras.Model, untrained: Collection[str]) -> None:
    """Phase one: train the classes' layer and what has no pre-trained weights, freeze the rest."""
    for layer in model.layers:
        layer.trainable = layer.name == "classes" or layer.name in untrained


def train_backbone(
    model: keras.Model, backbone: Backbone, frozen: tuple[str, ...], untrained: Collection[str]
) -> None:
    """Phase two: train all but pre-trained layers ``frozen`` by name, and norms that must stay.

    Args:
        model: made by `build_classifier`.
        backbone: what it was made of.
        frozen: how the names of the layers begin that keep their pre-trained weights.
        untrained: names of layers without pre-trained weights; these are never frozen.
    """
    for layer in model.layers:
        norm = isinstance(layer, layers.BatchNormalization)
        stays = (*frozen, *backbone.frozen_norms) if norm else frozen
        layer.trainable = layer.name in untrained or not layer.name.startswith(stays)
