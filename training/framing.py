"""Tight crops become camera views: the car covers a part of a wide frame, the rest is background.

The photos of most car sets are cropped to the car; a camera's are not. ``frame_photo`` puts a crop
somewhere into a frame and fills the rest from other sources. Training mixes such views in
(``training.augment``); run as a program, this module writes a fixed, seeded framed copy of a split,
so that accuracy on camera-like views can be reported beside that on the crops:

    python -m training.framing --manifest cars.csv --split test --out framed/
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from car_classifier.errors import CarClassifierError
from training.dataset import LabelledPhoto, Manifest, read_manifest
from training.files import replace_file
from training.listing import SPLITS

FRAME_ASPECTS = (4 / 3, 16 / 9)
FRAME_HEIGHT = 480  # pixels; enough that a car on a third of the frame keeps its details


@dataclass(frozen=True)
class Placement:
    """Where the car lies, as fractions of the frame's width and height (may reach outside 0..1)."""

    left: float
    top: float
    right: float
    bottom: float

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The box (left, top, right, bottom) in a frame of this many pixels; never empty."""
        left, top = round(self.left * width), round(self.top * height)
        return (
            left,
            top,
            max(left + 1, round(self.right * width)),
            max(top + 1, round(self.bottom * height)),
        )


def place_car(
    car_aspect: float,
    frame_aspect: float,
    coverage: tuple[float, float],
    rng: np.random.Generator,
    max_cut: float = 0.0,
) -> Placement:
    """Draw a place for a car of this aspect (width / height) in a frame of that one.

    ``coverage`` is the range of the car's share of the frame's area; where so much does not fit at
    the car's own aspect, the largest that fits is the upper end. ``max_cut`` is the share of the
    car's width and height that may lie outside the frame.
    """
    ratio = car_aspect / frame_aspect  # of the car's relative width to its relative height
    most = min(coverage[1], ratio, 1 / ratio)
    share = rng.uniform(min(coverage[0], most), most)
    width, height = (share * ratio) ** 0.5, (share / ratio) ** 0.5
    left = rng.uniform(-max_cut * width, 1 - width + max_cut * width)
    top = rng.uniform(-max_cut * height, 1 - height + max_cut * height)
    return Placement(left, top, left + width, top + height)


def frame_photo(
    car: Image.Image,
    donor: Image.Image,
    placement: Placement,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Image.Image:
    """Put ``car`` at ``placement`` into an RGB frame of ``size`` (width, height) in pixels.

    ``donor`` is another photo, whose borders may become background; nothing of its middle, where
    its car is, shows.
    """
    box = placement.pixels(*size)
    scaled = car.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR)
    kind = rng.choice(["mirror", "donor", "colour", "texture"], p=[0.35, 0.3, 0.15, 0.2])
    if kind == "mirror":
        frame = _mirrored(scaled, box, size)
        frame = frame.filter(ImageFilter.BoxBlur(rng.uniform(0.01, 0.06) * size[1]))
    elif kind == "donor":
        frame = _border_strip(donor, rng).resize(size, Image.Resampling.BILINEAR)
        frame = frame.filter(ImageFilter.BoxBlur(rng.uniform(0.0, 0.03) * size[1]))
    elif kind == "colour":
        frame = _smooth_field(size, (2, 1), rng)
    else:
        rows, columns = rng.integers(3, 40, 2).tolist()
        frame = _smooth_field(size, (rows, columns), rng)
    frame.paste(scaled, box[:2], _edge_mask(scaled.size, rng))
    return frame


def _mirrored(
    car: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int]
) -> Image.Image:
    """Continue the car's photo over the whole frame by reflecting it at its borders."""
    pixels = np.asarray(car)

    def reflect(count: int, start: int, length: int) -> NDArray[np.int_]:
        position = (np.arange(count) - start) % (2 * length)
        return np.minimum(position, 2 * length - 1 - position)

    rows = reflect(size[1], box[1], pixels.shape[0])
    columns = reflect(size[0], box[0], pixels.shape[1])
    return Image.fromarray(pixels[rows[:, None], columns[None, :]])


def _border_strip(donor: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The upper or lower sixth of a photo: sky, walls, trees or ground, hardly ever the car."""
    width, height = donor.size
    strip = max(1, height // 6)
    top = 0 if rng.random() < 0.6 else height - strip
    return donor.crop((0, top, width, top + strip))


def _smooth_field(
    size: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """A random colour per cell (rows, columns), blended smoothly: a gradient or a texture."""
    base = rng.integers(0, 256, 3)
    spread = int(rng.integers(10, 90))
    colours = np.clip(base + rng.integers(-spread, spread + 1, (*cells, 3)), 0, 255)
    return Image.fromarray(colours.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _edge_mask(size: tuple[int, int], rng: np.random.Generator) -> Image.Image | None:
    """Half of the time a mask that fades the car's photo out at its borders, else none."""
    if rng.random() < 0.5:
        return None
    fade = max(1, round(0.04 * min(size)))
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle((fade, fade, size[0] - 1 - fade, size[1] - 1 - fade), fill=255)
    return mask.filter(ImageFilter.BoxBlur(fade))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a framed copy of one split: photos, and a manifest of the same labels."""
    parser = argparse.ArgumentParser(prog="python -m training.framing", description=main.__doc__)
    add = parser.add_argument
    add("--manifest", type=Path, required=True)
    add("--split", choices=SPLITS, default="test", help="which photos (default: test)")
    add("--out", type=Path, required=True, help="folder to write to")
    add(
        "--coverage",
        type=float,
        nargs=2,
        default=(0.35, 0.70),
        metavar="SHARE",
        help="least and largest share of the frame that the car covers (default: 0.35 0.7)",
    )
    add("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    least, most = options.coverage
    if not 0 < least <= most <= 1:
        parser.error(f"expected 0 < least <= largest <= 1 in --coverage, got {least} {most}")
    try:
        manifest = read_manifest(options.manifest, default_split=options.split)
        count = write_framed(manifest, options.split, options.out, (least, most), options.seed)
    except (CarClassifierError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{count} framed photos written to {options.out}", file=sys.stderr)
    return 0


def camera_view(
    photos: Sequence[LabelledPhoto], index: int, coverage: tuple[float, float], seed: int
) -> Image.Image:
    """Frame one of the photos; the same seed and index give the same view.

    Raises:
        UnreadablePhotoError: a photo is damaged.
    """
    rng = np.random.default_rng([seed, index])
    car = Image.fromarray(photos[index].load())
    donor = Image.fromarray(photos[int(rng.integers(len(photos)))].load())
    aspect = FRAME_ASPECTS[int(rng.integers(len(FRAME_ASPECTS)))]
    placement = place_car(car.width / car.height, aspect, coverage, rng)
    size = (round(FRAME_HEIGHT * aspect), FRAME_HEIGHT)
    return frame_photo(car, donor, placement, size, rng)


def write_framed(
    manifest: Manifest, split: str, folder: Path, coverage: tuple[float, float], seed: int
) -> int:
    """Write a framed copy of each photo of a split, and ``manifest.csv``; return how many.

    Raises:
        EmptySplitError: there is none.
        UnreadablePhotoError: a photo is damaged.
        OSError: something cannot be written.
    """
    photos = manifest.split(split)
    with (
        replace_file(folder / "manifest.csv") as unfinished,
        open(unfinished, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "split", "class_id", "class_name"])
        for index, photo in enumerate(photos):
            name = f"{index:05d}.jpg"
            camera_view(photos, index, coverage, seed).save(folder / name, quality=92)
            class_id = manifest.classes[photo.label].class_id
            writer.writerow([name, split, class_id, photo.class_name])
    return len(photos)


if __name__ == "__main__":
    sys.exit(main())
