"""Tight crops become camera views, seeded, with the car where and as large as it is said to be."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.framing import Placement, frame_photo, main, place_car

SHARES = st.floats(0.05, 0.95)
ASPECTS = st.floats(0.3, 4.0)


@given(ASPECTS, ASPECTS, SHARES, SHARES, st.floats(0, 0.3), st.integers(0, 2**32))
def test_a_car_keeps_its_aspect_its_share_and_its_place(
    car_aspect: float, frame_aspect: float, one: float, other: float, max_cut: float, seed: int
) -> None:
    least, most = sorted((one, other))
    place = place_car(car_aspect, frame_aspect, (least, most), np.random.default_rng(seed), max_cut)
    width, height = place.right - place.left, place.bottom - place.top
    largest = min(car_aspect / frame_aspect, frame_aspect / car_aspect)  # that fits whole
    assert width * height <= min(most, largest) + 1e-9
    assert width * height >= min(least, largest) - 1e-9
    assert width * frame_aspect / height == pytest.approx(car_aspect)
    assert place.left >= -max_cut * width - 1e-9
    assert place.right <= 1 + max_cut * width + 1e-9
    assert place.top >= -max_cut * height - 1e-9
    assert place.bottom <= 1 + max_cut * height + 1e-9


def test_cars_are_off_centre() -> None:
    rng = np.random.default_rng(0)
    places = [place_car(1.5, 16 / 9, (0.35, 0.7), rng) for _ in range(200)]
    centres = np.array([((p.left + p.right) / 2, (p.top + p.bottom) / 2) for p in places])
    assert np.abs(centres.mean(axis=0) - 0.5).max() < 0.03
    assert centres.std(axis=0).min() > 0.05


def test_a_place_in_pixels_is_never_empty() -> None:
    assert Placement(0.5, 0.25, 0.501, 0.2501).pixels(100, 40) == (50, 10, 51, 11)


def plain(colour: tuple[int, int, int], width: int = 60, height: int = 40) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def test_the_car_is_where_it_was_placed() -> None:
    place = Placement(0.25, 0.5, 0.75, 1.0)
    for seed in range(20):
        frame = frame_photo(
            plain((0, 0, 255)), plain((0, 200, 0)), place, (80, 60), np.random.default_rng(seed)
        )
        assert frame.size == (80, 60)
        assert frame.mode == "RGB"
        inner = np.asarray(frame)[34:56, 24:56]
        assert (inner == (0, 0, 255)).all()


def test_nothing_of_the_other_photos_car_shows() -> None:
    donor = plain((0, 200, 0))
    donor.paste((255, 0, 0), (0, 8, 60, 32))  # all but the upper and the lower fifth
    place = Placement(0.1, 0.1, 0.6, 0.6)
    backgrounds = set()
    for seed in range(60):
        frame = frame_photo(plain((0, 0, 255)), donor, place, (80, 60), np.random.default_rng(seed))
        backgrounds.add(frame.getpixel((75, 55)))
        colours = frame.getcolors(80 * 60) or []
        assert (255, 0, 0) not in {colour for _, colour in colours}
    assert (0, 200, 0) in backgrounds  # the donor's border
    assert (0, 0, 255) in backgrounds  # the car's own photo, mirrored
    assert len(backgrounds) > 10  # colours and textures


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = ["image,split,class_id,class_name"]
    for number in range(6):
        plain((10, 20, 250), 90, 60).save(tmp_path / f"{number}.png")
        split = "train" if number == 5 else "test"
        rows.append(f"{number}.png,{split},{number % 2 + 3},{('Audi A4', 'BMW M3')[number % 2]}")
    (tmp_path / "cars.csv").write_text("\n".join(rows))
    return tmp_path / "cars.csv"


def frame(manifest: Path, out: str, *more: str) -> tuple[int, Path]:
    folder = manifest.parent / out
    return main(["--manifest", str(manifest), "--out", str(folder), *more]), folder


def test_a_framed_split_has_its_labels_and_wide_frames(manifest: Path) -> None:
    status, folder = frame(manifest, "framed")
    assert status == 0
    with open(folder / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["class_id"], row["class_name"]) for row in rows] == [
        ("test", "3", "Audi A4"),
        ("test", "4", "BMW M3"),
        ("test", "3", "Audi A4"),
        ("test", "4", "BMW M3"),
        ("test", "3", "Audi A4"),
    ]
    sizes = {Image.open(folder / row["image"]).size for row in rows}
    assert sizes <= {(640, 480), (853, 480)}


def test_the_same_seed_gives_the_same_photos_and_another_one_others(manifest: Path) -> None:
    contents = []
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        _, folder = frame(manifest, out, "--seed", seed)
        contents.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_a_damaged_photo_is_named_and_the_old_manifest_stays(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = frame(manifest, "framed")
    before = (folder / "manifest.csv").read_bytes()
    (manifest.parent / "3.png").write_bytes(b"no picture")
    assert frame(manifest, "framed")[0] == 2
    assert "3.png: not a readable photo" in capsys.readouterr().err
    assert (folder / "manifest.csv").read_bytes() == before
    assert not list(folder.glob("unfinished-*"))


@pytest.mark.parametrize("shares", [("0", "0.5"), ("0.6", "0.5"), ("0.5", "1.1")])
def test_shares_that_mean_nothing_are_refused(manifest: Path, shares: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        frame(manifest, "framed", "--coverage", *shares)
