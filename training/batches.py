"""Batches of photos and labels, made in threads while the model trains."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.aspect import Aspect, fit
from training.augment import mix_batch, random_view
from training.dataset import LabelledPhoto

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]


class PhotoCache:
    """Decoded photos, kept in memory as long as they fit; the rest is decoded each time."""

    def __init__(
        self, photos: Sequence[LabelledPhoto], longest_side: int, gibibytes: float
    ) -> None:
        """``longest_side`` in pixels: larger photos are kept that small."""
        self.photos = photos
        self._longest_side = longest_side
        self._left = int(gibibytes * 2**30)
        self._kept: dict[int, Image.Image] = {}

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Image.Image:
        """The photo at this position, RGB, cut to its box."""
        kept = self._kept.get(index)
        return self._decode(index) if kept is None else kept

    def fill(self) -> None:
        """Decode every photo once, so that a damaged one is found before hours are spent.

        Raises:
            UnreadablePhotoError: a photo is damaged.
        """
        indices = range(len(self))
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for index, image in zip(indices, pool.map(self._decode, indices), strict=True):
                if sys.stderr.isatty() and (index + 1) % 100 == 0:
                    print(f"\rread {index + 1} of {len(self)} photos", end="", file=sys.stderr)
                size = image.width * image.height * 3
                if self._left >= size:
                    self._left -= size
                    self._kept[index] = image
        if sys.stderr.isatty():
            print(file=sys.stderr)

    def _decode(self, index: int) -> Image.Image:
        image = Image.fromarray(self.photos[index].load())
        image.thumbnail((self._longest_side, self._longest_side), Image.Resampling.LANCZOS)
        return image


class TrainingBatches(keras.utils.PyDataset):
    """One epoch of augmented batches; the same seed and epoch give the same batches again."""

    def __init__(
        self,
        cache: PhotoCache,
        classes: int,
        size: int,
        batch_size: int,
        mix_share: float,
        seed: tuple[int, int],
        aspect: Aspect = "squash",
    ) -> None:
        """``seed`` is (run, epoch); ``mix_share`` the share of batches with mixup or CutMix."""
        super().__init__(workers=2, max_queue_size=6)
        self._cache = cache
        self._labels = np.eye(classes, dtype=np.float32)
        self._size, self._batch_size, self._mix_share = size, batch_size, mix_share
        self._seed, self._aspect = seed, aspect
        self._order = np.random.default_rng(seed).permutation(len(cache))

    def __len__(self) -> int:
        return len(self._order) // self._batch_size

    def __getitem__(self, index: int) -> Batch:
        """Images float32 (N, size, size, 3) in 0-255, labels float32 (N, classes)."""
        rng = np.random.default_rng([*self._seed, index])
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        donors = rng.integers(len(self._cache), size=len(chosen))
        images = np.stack(
            [
                random_view(self._cache[photo], self._cache[donor], self._size, rng, self._aspect)
                for photo, donor in zip(chosen.tolist(), donors.tolist(), strict=True)
            ]
        )
        labels = self._labels[[self._cache.photos[photo].label for photo in chosen]]
        return mix_batch(images, labels, self._mix_share, rng)


def predict(
    model: keras.Model,
    cache: PhotoCache,
    size: int,
    batch_size: int = 32,
    aspect: Aspect = "squash",
) -> NDArray[np.float32]:
    """Class probabilities, float32 (photos, classes), in the cache's order; no augmentation."""
    outputs = []
    for start in range(0, len(cache), batch_size):
        indices = range(start, min(start + batch_size, len(cache)))
        images = np.stack(
            [np.asarray(fit(cache[index], (size, size), aspect), np.float32) for index in indices]
        )
        outputs.append(np.asarray(model.predict_on_batch(images), np.float32))
    return np.concatenate(outputs)
