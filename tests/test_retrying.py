"""A failure that need not be the photo's fault is tried again before the photo is blamed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from car_classifier import retrying
from car_classifier.class_map import CarClass
from car_classifier.classifying import Batching, Rejection, answer, answered_batches, decode
from car_classifier.errors import ModelError, Reason
from car_classifier.predictions import Prediction
from tests.photos import BLUE, RED, base64_of, colour, message
from tests.test_classifying import FakeStream, Record, records

Images = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "PAUSE_SECONDS", 0)


class Moody:
    """A model that raises when it is told to, by what it is given."""

    input_size = (24, 16)

    def __init__(self, fails: Callable[[Images], Exception | None]) -> None:
        self.classes = [CarClass("BMW"), CarClass("Audi")]
        self.given: list[Images] = []
        self._fails = fails

    def predict(self, images: Images) -> NDArray[np.float32]:
        self.given.append(images)
        if error := self._fails(images):
            raise error
        return np.tile(np.array([0.75, 0.25], np.float32), (len(images), 1))

    @property
    def sizes(self) -> list[int]:
        return [len(images) for images in self.given]


def is_red(image: Images) -> bool:
    return bool(image[..., 0].mean() > 200 and image[..., 2].mean() < 50)


def photo(rgb: tuple[int, int, int]) -> bytes:
    return message(image_data=base64_of(colour(rgb)))


def answers(model: Moody, *values: bytes) -> list[Prediction | Rejection]:
    classifier: Any = model
    batch = [Record("photos", 0, offset, value) for offset, value in enumerate(values)]
    return answer([decode(one, model.input_size) for one in batch], classifier, Batching())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("OOM when allocating tensor")])
def test_photos_that_fail_together_are_classified_one_by_one(
    capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    model = Moody(lambda images: error if len(images) > 1 else None)

    given = answers(model, photo(RED), b"poison", photo(BLUE))

    assert [type(one) for one in given] == [Prediction, Rejection, Prediction]
    assert model.sizes == [2, 1, 1]
    assert "failed on 2 photos together" in capsys.readouterr().err


def test_a_photo_is_blamed_after_three_attempts_of_its_own() -> None:
    model = Moody(lambda images: ValueError("red!") if any(map(is_red, images)) else None)

    blue, red = answers(model, photo(BLUE), photo(RED))

    assert isinstance(blue, Prediction)
    assert isinstance(red, Rejection)
    assert (red.error.reason, red.attempts) == (Reason.MODEL_FAILED, 4)
    assert "ValueError: red!" in red.error.detail
    # Together; the blue one; three times the red one; and a grey one that shows that it works.
    assert model.sizes == [2, 1, 1, 1, 1, 1]
    assert not is_red(model.given[-1][0])


def test_a_failure_that_passes_costs_nothing_but_time() -> None:
    errors = iter([MemoryError(), MemoryError(), MemoryError()])
    model = Moody(lambda _: next(errors, None))

    (given,) = answers(model, photo(RED))

    assert isinstance(given, Prediction)
    assert model.sizes == [1] * 4


def test_a_model_that_fails_on_everything_is_the_end_and_no_photo_is_blamed() -> None:
    model: Any = Moody(lambda _: RuntimeError("gone"))

    with pytest.raises(ModelError, match=r"plain grey image.*RuntimeError: gone"):
        list(answered_batches(FakeStream(records(0, 1)), model, Batching(), 2))


def test_memory_that_is_short_for_decoding_is_tried_again_alone() -> None:
    # Given memory that suffices for the second attempt at one photo, and never for another
    attempts: dict[int, int] = {}

    def short_of_memory(record: Record, size: tuple[int, int], with_thumbnail: bool) -> Any:
        attempts[record.offset] = attempts.get(record.offset, 0) + 1
        if record.offset == 1 or (record.offset == 0 and attempts[0] == 1):
            raise MemoryError
        return decode(record, size, with_thumbnail)

    model: Any = Moody(lambda _: None)
    stream = FakeStream(records(0, 1, 2))

    batches = list(answered_batches(stream, model, Batching(), 3, decode=short_of_memory))

    first, second, third = [one for batch in batches for one in batch.answers]
    assert isinstance(first, Prediction)
    assert isinstance(third, Prediction)
    assert isinstance(second, Rejection)
    assert (second.error.reason, second.attempts) == (Reason.OUT_OF_MEMORY, 4)
    assert second.source.offset == 1
    assert attempts == {0: 2, 1: 4, 2: 1}
