"""Which photos of a listing go into the manifest: those on disk, whole, and of trained classes."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from training.errors import DatasetError, UnreadablePhotoError, name_some
from training.listing import ListedPhoto, Listing, fit_box
from training.photos import photo_size

# A handful of boxes of Stanford Cars reach past their photo; more than this means other photos.
MOST_BOXES_THAT_MAY_NOT_FIT = 0.05


def keep_readable(listing: Listing) -> list[ListedPhoto]:
    """Return the photos that are on disk and decode, boxes cut to them; note the rest as skipped.

    Raises:
        DatasetError: no photo is left, or the boxes belong to other photos.
    """
    progress = sys.stderr.isatty()
    kept: list[ListedPhoto] = []
    boxes = misfits = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # Pillow decodes without the GIL
        sizes = pool.map(_size_or_reason, listing.photos)
        for number, (photo, size) in enumerate(zip(listing.photos, sizes, strict=True), start=1):
            if progress and number % 500 == 0:
                print(f"\rread {number} of {len(listing.photos)} photos", end="", file=sys.stderr)
            if isinstance(size, str):
                listing.skip(size, str(photo.path))
                continue
            if photo.box is not None:
                fitted = fit_box(photo.box, *size)
                boxes += 1
                misfits += fitted != photo.box
                photo = replace(photo, box=fitted)
            kept.append(photo)
    if progress:
        print(file=sys.stderr)
    if not kept:
        reasons = "; ".join(f"{r}: {name_some(names)}" for r, names in listing.skipped.items())
        raise DatasetError(f"no usable photo: {reasons or 'the lists name none'}")
    if misfits > boxes * MOST_BOXES_THAT_MAY_NOT_FIT and misfits > 1:
        raise DatasetError(
            f"{misfits} of {boxes} boxes reach beyond their photos, which are thus not the ones "
            "that were annotated; for photos that are cut to their boxes (cars196) use --cropped"
        )
    if misfits:
        listing.warnings.append(f"{misfits} boxes reached beyond their photos and were cut to them")
    return kept


def class_at(photo: ListedPhoto, level: str) -> tuple[int, str]:
    """Return (class id, class name) of a photo at the level "model" or "make"."""
    if level == "make":
        return photo.make_id, photo.make
    return photo.class_id, photo.class_name


def keep_trained_classes(
    photos: Sequence[ListedPhoto], level: str, listing: Listing
) -> list[ListedPhoto]:
    """Return `photos` without those of classes that have none in train; note what goes.

    Raises:
        DatasetError: train is empty.
    """
    train = Counter(class_at(photo, level)[0] for photo in photos if photo.split == "train")
    if not train:
        raise DatasetError("the train split is empty: no class could be learnt")
    kept = []
    for photo in photos:
        class_id, name = class_at(photo, level)
        if class_id in train:
            kept.append(photo)
        else:
            listing.skip(f"its class has no photo in train: {name}", photo.key)
    names = dict(class_at(photo, level) for photo in kept)
    single = [names[class_id] for class_id, count in train.items() if count == 1]
    if single:
        listing.warnings.append(
            f"{len(single)} classes have one training photo: {name_some(single)}"
        )
    return kept


def _size_or_reason(photo: ListedPhoto) -> tuple[int, int] | str:
    """Return the photo's (width, height), or why it has to be skipped."""
    if not photo.path.is_file():
        return "photo missing"
    try:
        return photo_size(photo.path)
    except UnreadablePhotoError:
        return "photo unreadable"
