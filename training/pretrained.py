"""Load pre-trained weights into a model, layer by layer, and say which layers got none."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

from training.errors import WeightsError

WeightsByLayer = dict[str, list[NDArray[np.float32]]]


def load_weights(model: keras.Model, path: Path) -> list[str]:
    """Set every layer of ``model`` that has weights of the same shapes in the file at ``path``.

    The file is a ``.keras`` model, a Keras ``.weights.h5``, or an ``.npz`` keyed
    ``layer name/index in layer.get_weights()``. Layers are paired by their names.

    Returns:
        The names of the layers with weights that found none in the file: they stay as they were.

    Raises:
        WeightsError: the file cannot be read, or nothing in it fits the model.
    """
    try:
        stored = _read(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: expected pre-trained weights: {error}") from error
    layers = [layer for layer in model.layers if layer.weights]
    missing = []
    for layer in layers:
        values = stored.get(layer.name, [])
        if [value.shape for value in values] == [tuple(w.shape) for w in layer.weights]:
            layer.set_weights(values)
        else:
            missing.append(layer.name)
    if len(missing) == len(layers):
        raise WeightsError(
            f"{path}: none of its {len(stored)} layers with weights has the name and shapes of one "
            f"of the model's, such as {missing[0]}"
        )
    return missing


def _read(path: Path) -> WeightsByLayer:
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".keras":
        loaded = keras.models.load_model(path, compile=False)
        return {layer.name: layer.get_weights() for layer in loaded.layers if layer.weights}
    return _read_h5(path)


def _read_npz(path: Path) -> WeightsByLayer:
    with np.load(path, allow_pickle=False) as archive:
        keys = sorted((key.rpartition("/") for key in archive.files), key=lambda key: int(key[2]))
        stored: WeightsByLayer = {}
        for name, _, index in keys:
            stored.setdefault(name, []).append(archive[f"{name}/{index}"])
    return stored


def _read_h5(path: Path) -> WeightsByLayer:
    """Read the groups called ``vars``; their attribute ``name`` is the layer's.

    The group around it has a generated name such as ``conv2d_7``, by which nothing can be paired.
    """
    stored: WeightsByLayer = {}

    def read(place: str, group: h5py.Group | h5py.Dataset) -> None:
        if isinstance(group, h5py.Group) and place.rpartition("/")[2] == "vars" and len(group):
            name = group.attrs.get("name", place.split("/")[-2])
            stored[name] = [group[index][()] for index in sorted(group, key=int)]

    with h5py.File(path, "r") as file:
        file.visititems(read)
    return stored
