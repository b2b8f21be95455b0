"""Training views are seeded, in range and varied, and mixtures carry the labels of their parts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.photos import picture
from training.aspect import Aspect
from training.augment import jitter_colour, mix_batch, random_view


def view(seed: int, photo: Image.Image | None = None) -> np.ndarray:
    return random_view(photo or picture(), picture(40, 50), 24, np.random.default_rng(seed))


def test_views_have_the_models_form_and_are_seeded() -> None:
    views = [view(seed) for seed in range(50)]
    for pixels in views:
        assert pixels.shape == (24, 24, 3)
        assert pixels.dtype == np.float32
        assert pixels.min() >= 0
        assert pixels.max() <= 255
    assert np.array_equal(view(7), views[7])
    assert len({pixels.tobytes() for pixels in views}) == 50


def test_a_view_leaves_the_photo_as_it_was() -> None:
    photo = picture()
    before = photo.tobytes()
    for seed in range(20):
        view(seed, photo)
    assert photo.tobytes() == before


def test_mirrored_views_are_as_frequent_as_others() -> None:
    photo = Image.new("RGB", (64, 48), (20, 20, 20))
    photo.paste((250, 250, 250), (0, 0, 32, 48))
    brighter_left = [
        float(pixels[:, :12].mean()) > float(pixels[:, 12:].mean())
        for pixels in (view(seed, photo) for seed in range(120))
    ]
    assert 0.3 < np.mean(brighter_left) < 0.7


def test_colours_change_within_their_range() -> None:
    pixels = np.asarray(picture(), np.float32)
    rng = np.random.default_rng(0)
    jittered = [jitter_colour(pixels, rng) for _ in range(60)]
    assert all(image.dtype == np.float32 for image in jittered)
    assert min(image.min() for image in jittered) >= 0
    assert max(image.max() for image in jittered) <= 255
    greys = [image for image in jittered if np.ptp(image, axis=2).max() < 1]
    assert 1 <= len(greys) < 20


def one_colour_each(count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Photo i is filled with i, and of class i."""
    images = np.ones((count, 10, 12, 3), np.float32) * np.arange(count)[:, None, None, None]
    return images.astype(np.float32), np.eye(count, dtype=np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_the_labels_of_a_mixture_are_its_parts_shares_of_the_pixels(seed: int) -> None:
    images, labels = one_colour_each()
    mixed, soft = mix_batch(images, labels, 1.0, np.random.default_rng(seed))
    assert mixed.dtype == soft.dtype == np.float32
    assert soft.sum(axis=1) == pytest.approx(1)
    # A photo's mean is its class, so the mean of a mixture is the mean class of its labels.
    assert mixed.mean(axis=(1, 2, 3)) == pytest.approx(soft @ np.arange(8), abs=1e-4)
    assert np.diag(soft).min() >= 0.5 - 1e-6  # the photo itself stays the larger part
    assert np.array_equal(images, one_colour_each()[0])


def test_some_mixtures_blend_and_some_paste() -> None:
    images, labels = one_colour_each()
    mixtures = [mix_batch(images, labels, 1.0, np.random.default_rng(s))[0] for s in range(20)]
    whole = [bool(np.all(mixed == np.rint(mixed))) for mixed in mixtures]
    assert 4 < sum(whole) < 16


def test_a_share_of_nothing_mixes_nothing() -> None:
    images, labels = one_colour_each()
    for seed in range(20):
        same, unmixed = mix_batch(images, labels, 0.0, np.random.default_rng(seed))
        assert same is images
        assert unmixed is labels


def test_some_views_are_coarse() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    roughness = [
        float(np.abs(np.diff(random_view(photo, photo, 48, rng).mean(axis=2), axis=0)).mean())
        for rng in (np.random.default_rng(seed) for seed in range(150))
    ]
    typical = np.median(roughness)
    assert 5 <= sum(value < 0.6 * typical for value in roughness) <= 75


def test_a_letterboxed_view_is_padded_where_a_squashed_one_is_not() -> None:
    photo = Image.new("RGB", (120, 40), (200, 30, 30))

    def rows_without_red(aspect: Aspect) -> list[int]:
        views = [
            random_view(photo, photo, 24, np.random.default_rng(seed), aspect) for seed in range(20)
        ]
        return [int((np.ptp(pixels, axis=2).max(axis=1) < 30).sum()) for pixels in views]

    assert np.median(rows_without_red("letterbox")) >= 6
    assert np.median(rows_without_red("squash")) == 0
