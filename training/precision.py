"""Number formats: compute in bfloat16 where that is fast."""

from __future__ import annotations

from pathlib import Path

import keras


def set_precision(precision: str, depthwise: bool = False) -> None:
    """Compute convolutions in bfloat16 where that is asked for, or with "auto" where it is fast.

    Args:
        precision: "auto", "float32" or "bfloat16"; weights are float32 in any case.
        depthwise: whether the model has such convolutions. TensorFlow computes them half as fast
            in bfloat16 as in float32 on processors (EfficientNet-Lite0 at 160 px, with AVX-512),
            and on a GPU EfficientNet-Lite2 learnt nothing in it (JAX, 460 batches of 64).
    """
    if precision == "auto":
        precision = "bfloat16" if has_fast_bfloat16() and not depthwise else "float32"
    if precision == "float32":
        return
    if keras.backend.backend() == "tensorflow" and not accelerators():
        import tensorflow as tf  # its own rewrite beats Keras' policy by a tenth on processors

        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    else:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")


def has_fast_bfloat16() -> bool:
    """Whether a GPU is there, or the processor has bfloat16 instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else ""
    return bool(accelerators()) or "avx512_bf16" in flags or "amx_bf16" in flags


def accelerators() -> list[str]:
    """The GPUs that the backend sees."""
    # To ask for GPUs alone is an error on JAX where there is none.
    return [name for name in keras.distribution.list_devices() if name.startswith("gpu")]
