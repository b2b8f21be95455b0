"""A look at a ``.tflite`` file before a runtime reads it and follows its offsets without a check.

The file is a FlatBuffer: tables that point at each other. A wrong byte among the pointers ends the
runtimes, and us with them, by a segmentation fault. So they are followed here first. Formats:
https://flatbuffers.dev/internals and tensorflow/compiler/mlir/lite/schema/schema.fbs
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

from car_classifier.errors import ModelError

__all__ = ["check_tflite"]

# Of the tables that matter, each field's number -> (its name, what it is): a format of `struct`,
# "text", "table" for one of unknown fields, the name of a table, or a list of one of these.
_TABLES: dict[str, dict[int, tuple[str, Any]]] = {
    "Model": {
        1: ("operator_codes", ["OperatorCode"]),
        2: ("subgraphs", ["SubGraph"]),
        3: ("description", "text"),
        4: ("buffers", ["Buffer"]),
        5: ("metadata_buffer", ["i"]),
        6: ("metadata", ["Metadata"]),
        7: ("signature_defs", ["SignatureDef"]),
    },
    "OperatorCode": {
        0: ("small_code", "b"),
        1: ("custom_code", "text"),
        2: ("version", "i"),
        3: ("code", "i"),
    },
    "SubGraph": {
        0: ("tensors", ["Tensor"]),
        1: ("inputs", ["i"]),
        2: ("outputs", ["i"]),
        3: ("operators", ["Operator"]),
        4: ("name", "text"),
    },
    "Tensor": {
        0: ("shape", ["i"]),
        1: ("type", "b"),
        2: ("buffer", "I"),
        3: ("name", "text"),
        4: ("quantization", "Quantization"),
        6: ("sparsity", "table"),
        7: ("shape_signature", ["i"]),
    },
    "Quantization": {
        0: ("min", ["f"]),
        1: ("max", ["f"]),
        2: ("scale", ["f"]),
        3: ("zero_point", ["q"]),
        5: ("details", "table"),
        6: ("dimension", "i"),
    },
    "Operator": {
        0: ("code", "I"),
        1: ("inputs", ["i"]),
        2: ("outputs", ["i"]),
        4: ("options", "table"),
        5: ("custom_options", ["B"]),
        8: ("intermediates", ["i"]),
        12: ("options_2", "table"),
    },
    "Buffer": {0: ("data", ["B"])},
    "Metadata": {0: ("name", "text"), 1: ("buffer", "I")},
    "SignatureDef": {
        0: ("inputs", ["TensorMap"]),
        1: ("outputs", ["TensorMap"]),
        2: ("key", "text"),
        4: ("subgraph", "I"),
    },
    "TensorMap": {0: ("name", "text"), 1: ("tensor", "I")},
    "table": {},
}
_LONGEST_SHAPE = 8
_LARGEST_TENSOR = 2**31  # elements: more than any runtime can address


def check_tflite(path: Path) -> None:
    """Refuse a file whose parts lie outside of it or do not fit together; takes 0.1 s.

    Raises:
        ModelError: says that it is damaged.
    """
    data = memoryview(path.read_bytes())
    try:
        if bytes(data[4:8]) != b"TFL3":
            raise ValueError("no mark TFL3 at its beginning")
        (root,) = struct.unpack_from("<I", data)
        _check_references(_table(data, root, "Model"))
    except (ValueError, struct.error, KeyError) as error:
        raise ModelError(f"{path}: expected a LiteRT model, got a damaged file: {error}") from error


def _table(data: memoryview, start: int, kind: str) -> dict[str, Any]:
    """Read a table and all below it; a long list of numbers becomes its length only."""
    (to_fields,) = struct.unpack_from("<i", data, start)
    fields_at = start - to_fields
    if fields_at < 0 or fields_at % 2 or start % 4:
        raise ValueError(f"a {kind} outside of it")
    size_of_fields, size = struct.unpack_from("<HH", data, fields_at)
    if size_of_fields < 4 or size < 4 or start + size > len(data):
        raise ValueError(f"a {kind} outside of it")
    if fields_at + size_of_fields > len(data):
        raise ValueError(f"a {kind} outside of it")
    offsets = struct.unpack_from(f"<{(size_of_fields - 4) // 2}H", data, fields_at + 4)
    if any(offset >= size for offset in offsets):
        raise ValueError(f"a field of a {kind} outside of it")
    found: dict[str, Any] = {}
    for number, (name, what) in _TABLES[kind].items():
        if number < len(offsets) and offsets[number]:
            found[name] = _value(data, start + offsets[number], what)
    return found


def _value(data: memoryview, at: int, what: Any) -> Any:
    if isinstance(what, str) and len(what) == 1:
        return struct.unpack_from(f"<{what}", data, at)[0]
    (distance,) = struct.unpack_from("<I", data, at)
    target = at + distance
    if isinstance(what, str) and what != "text":
        return _table(data, target, what)
    element = "B" if what == "text" else what[0]
    (count,) = struct.unpack_from("<I", data, target)
    size = struct.calcsize(f"<{element}") if len(element) == 1 else 4
    first = target + 4
    if first + count * size > len(data) or target % 4 or first % size:
        raise ValueError("a list outside of it")
    if element == "B":
        return count
    if len(element) == 1:
        return struct.unpack_from(f"<{count}{element}", data, first)
    return [_value(data, first + 4 * number, element) for number in range(count)]


def _check_references(model: dict[str, Any]) -> None:
    """Check that each number that stands for another part stands for one that is there."""
    buffers, codes = model["buffers"], model["operator_codes"]
    _within([entry.get("buffer", 0) for entry in model.get("metadata", [])], len(buffers))
    subgraphs = model["subgraphs"]
    for subgraph in subgraphs:
        tensors = subgraph["tensors"]
        for tensor in tensors:
            _within([tensor.get("buffer", 0)], len(buffers))
            _check_tensor(tensor)
        _within(subgraph["inputs"] + subgraph["outputs"], len(tensors))
        for operator in subgraph["operators"]:
            _within([operator.get("code", 0)], len(codes))
            _within(operator.get("inputs", ()), len(tensors), least=-1)  # one that is left out
            _within(operator.get("outputs", ()), len(tensors))
            _within(operator.get("intermediates", ()), len(tensors), least=-1)
    for signature in model.get("signature_defs", []):
        _within([signature.get("subgraph", 0)], len(subgraphs))
        tensors = subgraphs[signature.get("subgraph", 0)]["tensors"]
        named = signature.get("inputs", []) + signature.get("outputs", [])
        _within([entry.get("tensor", 0) for entry in named], len(tensors))


def _check_tensor(tensor: dict[str, Any]) -> None:
    shape = tensor.get("shape", ())
    if (
        len(shape) > _LONGEST_SHAPE
        or min(shape, default=0) < 0
        or math.prod(shape) > _LARGEST_TENSOR
    ):
        raise ValueError(f"a tensor of shape {shape}")
    quantization = tensor.get("quantization", {})
    scales = len(quantization.get("scale", ()))
    if scales != len(quantization.get("zero_point", ())):
        raise ValueError("another number of scales than of zero points")
    dimension = quantization.get("dimension", 0)
    if scales > 1 and not (0 <= dimension < len(shape) and shape[dimension] == scales):
        raise ValueError(f"{scales} scales for a tensor of shape {shape}")


def _within(numbers: Any, end: int, least: int = 0) -> None:
    if not all(least <= number < end for number in numbers):
        raise ValueError("a number of a part that it does not have")
