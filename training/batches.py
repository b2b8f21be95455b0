"""Batches of photos and labels, made in threads or processes while the model trains."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.aspect import Aspect, fit
from training.augment import mix_batch, random_view
from training.dataset import LabelledPhoto

Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]


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


@dataclass(frozen=True)
class EpochPlan:
    """What the batches of one epoch are like; the same plan gives the same batches again."""

    size: int  # of the views, pixels
    batch_size: int
    mix_share: float  # of the batches, with mixup or CutMix
    seed: tuple[int, int]  # (run, epoch)
    aspect: Aspect = "squash"
    views: int = 1  # how often each photo is seen, as another view each time

    def order(self, photos: int) -> NDArray[np.int_]:
        """Indices of the photos in the order in which they are seen."""
        rng = np.random.default_rng(self.seed)
        return np.concatenate([rng.permutation(photos) for _ in range(self.views)])


def make_batch(
    cache: PhotoCache, classes: int, plan: EpochPlan, index: int, chosen: NDArray[np.int_]
) -> Batch:
    """Batch number ``index``, of the ``chosen`` photos: (N,) positions in the cache.

    Returns:
        Images uint8 (N, size, size, 3), RGB; labels float32 (N, classes).
    """
    rng = np.random.default_rng([*plan.seed, index])
    donors = rng.integers(len(cache), size=len(chosen))
    images = np.stack(
        [
            random_view(cache[photo], cache[donor], plan.size, rng, plan.aspect)
            for photo, donor in zip(chosen.tolist(), donors.tolist(), strict=True)
        ]
    )
    labels = np.eye(classes, dtype=np.float32)[[cache.photos[photo].label for photo in chosen]]
    images, labels = mix_batch(images, labels, plan.mix_share, rng)
    return np.rint(images).astype(np.uint8), labels


class BatchMaker:
    """Makes batches in the thread that asks, or in processes of its own.

    Threads share one interpreter, which lets some five of them work at a time: as many as two
    processor cores need, too few for a GPU. The processes end with this object.
    """

    def __init__(self, cache: PhotoCache, classes: int, processes: int = 0) -> None:
        """``processes`` are started at once, before threads of a GPU's driver are in the way.

        ``cache`` should be filled already: they share what it has then.
        """
        self._cache, self._classes = cache, classes
        self._pool: ProcessPoolExecutor | None = None
        if processes:
            method = "fork" if "fork" in get_all_start_methods() else None
            self._pool = ProcessPoolExecutor(
                processes, get_context(method), _remember, (cache, classes)
            )
            self._pool.submit(os.getpid).result()

    def __call__(self, plan: EpochPlan, index: int, chosen: NDArray[np.int_]) -> Batch:
        """A batch as `make_batch` makes it."""
        if self._pool is None:
            return make_batch(self._cache, self._classes, plan, index, chosen)
        return self._pool.submit(_make_batch_here, plan, index, chosen).result()


_known: tuple[PhotoCache, int] | None = None  # in a process of a `BatchMaker`


def _remember(cache: PhotoCache, classes: int) -> None:
    global _known
    _known = (cache, classes)


def _make_batch_here(plan: EpochPlan, index: int, chosen: NDArray[np.int_]) -> Batch:
    assert _known is not None  # `_remember` ran when the process began
    return make_batch(*_known, plan, index, chosen)


class TrainingBatches(keras.utils.PyDataset):
    """One epoch of augmented batches, made ahead while the model trains."""

    def __init__(self, make: BatchMaker, plan: EpochPlan, photos: int) -> None:
        """``photos`` is how many there are to see; what is left of a batch at the end is not."""
        workers = max(2, os.cpu_count() or 1)
        super().__init__(workers=workers, max_queue_size=workers + 4)
        self._make, self._plan = make, plan
        self._order = plan.order(photos)

    def __len__(self) -> int:
        return len(self._order) // self._plan.batch_size

    def __getitem__(self, index: int) -> Batch:
        start = index * self._plan.batch_size
        chosen = self._order[start : start + self._plan.batch_size]
        return self._make(self._plan, index, chosen)


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
