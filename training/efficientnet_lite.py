"""EfficientNet-Lite (Liu, 2020): EfficientNet without squeeze-excite and swish.

Made for processors without much of either: ReLU6 and plain convolutions quantise well.
"""

from __future__ import annotations

import math

import keras
from keras import layers

# Repeats, kernel, stride, expansion, filters of each stage (Tan & Le 2019, table 1).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite(inputs: keras.KerasTensor, width: float, depth: float) -> keras.KerasTensor:
    """Build the network up to its last feature map, (N, H / 32, W / 32, 1280).

    Args:
        inputs: RGB, (N, H, W, 3), scaled to about -1 to 1.
        width: how many times as many filters as Lite0.
        depth: how many times as many blocks.
    """
    # Stem and head do not grow with the width.
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem_conv")(inputs)
    x = layers.ReLU(6.0, name="stem_relu")(_norm(x, "stem"))
    index = 0
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(_STAGES):
        fixed = stage in (0, len(_STAGES) - 1)  # Lite does not deepen the first and last stage
        for repeat in range(repeats if fixed else math.ceil(repeats * depth)):
            x = _block(
                x,
                f"block{index}",
                kernel,
                stride if repeat == 0 else 1,
                expansion,
                _round_filters(filters * width),
            )
            index += 1
    x = layers.Conv2D(1280, 1, use_bias=False, name="head_conv")(x)
    return layers.ReLU(6.0, name="head_relu")(_norm(x, "head"))


def _block(
    inputs: keras.KerasTensor, name: str, kernel: int, stride: int, expansion: int, filters: int
) -> keras.KerasTensor:
    """An inverted residual block (Sandler et al. 2018)."""
    x = inputs
    if expansion != 1:
        channels = x.shape[-1] * expansion
        x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_expand_conv")(x)
        x = layers.ReLU(6.0, name=f"{name}_expand_relu")(_norm(x, f"{name}_expand"))
    x = layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}_dw_conv"
    )(x)
    x = layers.ReLU(6.0, name=f"{name}_dw_relu")(_norm(x, f"{name}_dw"))
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = _norm(x, f"{name}_project")
    if stride == 1 and inputs.shape[-1] == filters:
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)


def _round_filters(filters: float, divisor: int = 8) -> int:
    """The nearest multiple of eight, never more than a tenth below."""
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * filters else rounded
