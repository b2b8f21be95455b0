"""Write one CSV manifest from CompCars, Stanford Cars or a folder of photos.

    python -m training.manifest compcars --root DIR --out cars.csv [--split shipped|random]
    python -m training.manifest compcars --root DIR --out sv.csv --surveillance
    python -m training.manifest cars196 --root DIR --out cars.csv
    python -m training.manifest folder --root DIR --out cars.csv

One form for all, one row a photo: image, split (train, val, test), make, model, year, body_type,
viewpoint, box, class_id, class_name. `image` is relative to the manifest where the photo lies below
its folder, absolute otherwise; `box` is "x1 y1 x2 y2" in pixels, 0-based, x2 and y2 outside; what
is not known is empty. Photos that are missing or damaged are left out, named and counted.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from car_classifier.errors import CarClassifierError
from training.cars196 import read_cars196
from training.compcars import read_compcars, read_surveillance
from training.errors import ManifestError, name_some
from training.folder import read_folder
from training.listing import SPLITS, ListedPhoto, Listing
from training.screening import class_at, keep_readable, keep_trained_classes
from training.splits import assign_splits

COLUMNS = (
    "image",
    "split",
    "make",
    "model",
    "year",
    "body_type",
    "viewpoint",
    "box",
    "class_id",
    "class_name",
)
LEVELS = ("model", "make")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after a message about what is wrong with the input."""
    args = _parse(argv)
    try:
        listing = _read(args)
        photos = keep_readable(listing)
        photos = assign_splits(
            photos,
            val_fraction=args.val_fraction,
            test_fraction=args.test_fraction,
            seed=args.seed,
        )
        photos = keep_trained_classes(photos, args.level, listing)
        write_manifest(args.out, photos, args.level)
    except (CarClassifierError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(summary(args.out, photos, args.level, listing), file=sys.stderr)
    return 0


def write_manifest(path: Path, photos: Sequence[ListedPhoto], level: str) -> None:
    """Write the manifest; a file that was there before is replaced only by a complete one.

    Raises:
        ManifestError: it cannot be written (no right to, disk full).
    """
    # The name holds the process id: two runs side by side do not write into each other's file.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        base = path.parent.resolve()
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_row(photo, base, level) for photo in photos)
        unfinished.replace(path)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def summary(path: Path, photos: Sequence[ListedPhoto], level: str, listing: Listing) -> str:
    """Return what was written, what was skipped and why, and what to know, for people."""
    splits = Counter(photo.split for photo in photos)
    counts = ", ".join(f"{split} {splits[split]}" for split in SPLITS)
    classes = len({class_at(photo, level)[0] for photo in photos})
    makes = len({photo.make for photo in photos})
    lines = [f"{path}: {len(photos)} photos ({counts}), {classes} classes, {makes} makes"]
    lines += [
        f"skipped {len(names)}: {reason}: {name_some(names)}"
        for reason, names in listing.skipped.items()
    ]
    lines += [f"warning: {warning}" for warning in listing.warnings]
    return "\n".join(lines)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--root", type=Path, required=True, help="the dataset's folder")
    shared.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    shared.add_argument(
        "--level", choices=LEVELS, default="model", help="what a class is (default: model)"
    )
    shared.add_argument(
        "--val-fraction",
        type=_fraction,
        default=0.1,
        help="share of each class's training photos that becomes val (default: 0.1)",
    )
    shared.add_argument(
        "--test-fraction",
        type=_fraction,
        default=0.1,
        help="share that becomes test where the dataset brings no test split (default: 0.1)",
    )
    shared.add_argument("--seed", type=int, default=0, help="of the splits made here (default: 0)")

    parser = argparse.ArgumentParser(
        prog="python -m training.manifest", description="Write one CSV manifest from a dataset."
    )
    datasets = parser.add_subparsers(dest="dataset", required=True)
    compcars = datasets.add_parser(
        "compcars", parents=[shared], help="CompCars, web or surveillance"
    )
    compcars.add_argument(
        "--split",
        choices=("shipped", "random"),
        default="shipped",
        help="the lists that come with the photos (default), or a new random split of them",
    )
    compcars.add_argument(
        "--surveillance", action="store_true", help="the surveillance photos, not those of the web"
    )
    cars196 = datasets.add_parser(
        "cars196", parents=[shared], help="Stanford Cars, from its devkit"
    )
    cars196.add_argument(
        "--images",
        type=Path,
        help="the training photos' folder (default: ROOT/cars_train or images)",
    )
    cars196.add_argument(
        "--cropped", action="store_true", help="the photos are already cut to their boxes"
    )
    datasets.add_parser("folder", parents=[shared], help="one folder a class")
    return parser.parse_args(argv)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to below 1, got {text}")
    return value


def _read(args: argparse.Namespace) -> Listing:
    """List the photos of the dataset that the command line names."""
    if args.dataset == "cars196":
        return read_cars196(args.root, args.images, cropped=args.cropped)
    if args.dataset == "folder":
        return read_folder(args.root)
    listing = read_surveillance(args.root) if args.surveillance else read_compcars(args.root)
    if args.split == "random":
        listing.photos = [replace(photo, split="") for photo in listing.photos]
        listing.warnings.append(
            "a random split of CompCars puts near-identical photos into train and test: accuracy "
            "on it overstates the shipped split's by 10 to 20 points"
        )
    return listing


def _row(photo: ListedPhoto, base: Path, level: str) -> tuple[str | int, ...]:
    """Return a photo's row, in the order of COLUMNS; `base` is the manifest's folder, resolved."""
    image = Path(os.path.abspath(photo.path))  # noqa: PTH100 - a link's own place, not its aim's
    resolved = photo.path.parent.resolve() / photo.path.name
    if resolved.is_relative_to(base):
        image = resolved.relative_to(base)
    return (
        image.as_posix(),
        photo.split,
        photo.make,
        photo.model,
        photo.year or "",
        photo.body_type,
        photo.viewpoint,
        " ".join(map(str, photo.box)) if photo.box else "",
        *class_at(photo, level),
    )


if __name__ == "__main__":
    sys.exit(main())
