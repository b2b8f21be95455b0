"""Training computes in bfloat16 where it is fast, and only there unless it is asked for."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from training import precision
from training.backbones import BACKBONES

CPU, GPU = "bfloat16 of oneDNN", "mixed_bfloat16"


def chosen(
    monkeypatch: pytest.MonkeyPatch, asked: str, backbone: str, *, fast: bool, gpus: list[str]
) -> list[str]:
    """What `set_precision` switches on for a backbone on such a machine."""
    switched: list[str] = []
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda: fast)
    monkeypatch.setattr(precision, "accelerators", lambda: gpus)
    options = tf.config.optimizer
    monkeypatch.setattr(options, "set_experimental_options", lambda _: switched.append(CPU))
    monkeypatch.setattr(keras.mixed_precision, "set_global_policy", switched.append)
    precision.set_precision(asked, BACKBONES[backbone].depthwise)
    return switched


@pytest.mark.parametrize(
    ("asked", "backbone", "fast", "gpus", "expected"),
    [
        ("auto", "resnet50v2", True, [], [CPU]),
        ("auto", "resnet50v2", False, [], []),
        ("auto", "efficientnet-lite0", True, [], []),  # depthwise convolutions
        ("auto", "efficientnetv2-b0", True, [], []),
        ("auto", "efficientnet-lite0", True, ["gpu:0"], []),
        ("auto", "resnet50v2", True, ["gpu:0"], [GPU]),
        ("bfloat16", "efficientnet-lite0", True, [], [CPU]),
        ("bfloat16", "resnet50v2", False, [], [CPU]),
        ("float32", "resnet50v2", True, ["gpu:0"], []),
    ],
)
def test_what_is_computed_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    backbone: str,
    fast: bool,
    gpus: list[str],
    expected: list[str],
) -> None:
    assert chosen(monkeypatch, asked, backbone, fast=fast, gpus=gpus) == expected
