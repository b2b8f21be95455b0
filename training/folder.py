"""A folder of one's own: one folder a class, below train/, val/ and test/ or without them."""

from __future__ import annotations

import os
from pathlib import Path

from training.errors import DatasetError, name_some
from training.listing import SPLITS, ListedPhoto, Listing, numbered, require
from training.names import body_type_of, clean_name, split_class_name, unique_names

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def read_folder(root: Path) -> Listing:
    """List the photos below `root`, whose folders are named like "Audi A4 Sedan 2012".

    Underscores count as spaces. If root's folders are called train, val or test, each holds the
    folders of the classes and gives the split; otherwise photos carry no split. Files that are no
    photos by their suffix are skipped and counted.

    Raises:
        DatasetError: `root` is no folder, mixes split folders with others, or holds no class.
    """
    require(root, what="a folder with one folder a class")
    split_folders = [name for name in _folders(root) if name in SPLITS]
    others = [name for name in _folders(root) if name not in SPLITS]
    if split_folders and others:
        raise DatasetError(
            f"{root}: expected only train, val and test beside {split_folders[0]}, "
            f"found {name_some(others)}"
        )
    places = [(root / split, split) for split in split_folders] or [(root, "")]
    if split_folders and "train" not in split_folders:
        raise DatasetError(f"{root}: expected a train folder beside {', '.join(split_folders)}")
    class_ids = numbered(name for place, _ in places for name in _folders(place))
    if not class_ids:
        raise DatasetError(f"{root}: expected one folder a class, found no folder")
    shown = unique_names(
        {number: clean_name(name.replace("_", " ")) or name for name, number in class_ids.items()}
    )
    make_ids = numbered(split_class_name(name)[0] for name in shown.values())

    listing = Listing()
    for place, split in places:
        for folder_name in _folders(place):
            class_id = class_ids[folder_name]
            make, model, year = split_class_name(shown[class_id])
            for path in _files(place / folder_name):
                key = path.relative_to(root).as_posix()
                if path.suffix.lower() not in PHOTO_SUFFIXES:
                    listing.skip(f"not one of {' '.join(PHOTO_SUFFIXES)}", key)
                    continue
                listing.photos.append(
                    ListedPhoto(
                        path=path,
                        key=key,
                        split=split,
                        class_id=class_id,
                        class_name=shown[class_id],
                        make_id=make_ids[make],
                        make=make,
                        model=model,
                        year=year,
                        body_type=body_type_of(model),
                    )
                )
    return listing


def _folders(place: Path) -> list[str]:
    return sorted(p.name for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    """Return the files below `folder`, at any depth, without hidden ones, in a fixed order."""
    return sorted(
        Path(place) / name
        for place, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    )
