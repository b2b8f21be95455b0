"""Seeded, stratified splits that are the same on every machine."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from training.listing import ListedPhoto


def take_fraction(photos: Sequence[ListedPhoto], fraction: float, seed: int) -> set[str]:
    """Return the keys of about `fraction` of each class's photos.

    A class of three photos or more gives at least one, and no class gives all it has. Photos are
    ordered by a hash of seed and key, not by a random generator, so the choice depends neither on
    the order of the list nor on a library's version, and a new photo moves few of the old ones.

    Args:
        photos: photos of any classes.
        fraction: 0 to 1; 0 takes none.
        seed: another seed, another choice.
    """
    by_class: dict[int, list[str]] = defaultdict(list)
    for photo in photos:
        by_class[photo.class_id].append(photo.key)
    taken: set[str] = set()
    for keys in by_class.values():
        count = min(round(len(keys) * fraction), len(keys) - 1)
        if fraction > 0 and len(keys) >= 3:
            count = max(count, 1)
        taken.update(sorted(keys, key=lambda key: _order(seed, key))[:count])
    return taken


def assign_splits(
    photos: Sequence[ListedPhoto], *, val_fraction: float, test_fraction: float, seed: int
) -> list[ListedPhoto]:
    """Return `photos`, each with a split.

    Photos without one become train and test (`test_fraction`); then, unless the dataset brings a
    val split, `val_fraction` of train becomes val.
    """
    loose = [photo for photo in photos if not photo.split]
    test = take_fraction(loose, test_fraction, seed)
    splits = {photo.key: photo.split or "train" for photo in photos} | dict.fromkeys(test, "test")
    if "val" not in splits.values():
        train = [photo for photo in photos if splits[photo.key] == "train"]
        splits |= dict.fromkeys(take_fraction(train, val_fraction, seed), "val")
    return [replace(photo, split=splits[photo.key]) for photo in photos]


def _order(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()
