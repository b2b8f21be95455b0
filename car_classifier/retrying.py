"""A failure that need not be a photo's fault is tried again, photo by photo, before one is blamed.

A model that runs out of memory on a batch may well take its photos one at a time.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from car_classifier.errors import MessageError, ModelError, Reason
from car_classifier.model import Classifier
from car_classifier.predictions import printable

__all__ = ["ATTEMPTS", "Failure", "decoded_alone", "predict_each"]

ATTEMPTS = 3  # for each photo on its own
PAUSE_SECONDS = 0.2  # before another attempt: memory may have come free

Result = TypeVar("Result")


class Failure(NamedTuple):
    """What became of a photo that failed each time, while the model works on others."""

    error: MessageError
    attempts: int


def predict_each(
    classifier: Classifier, images: Sequence[NDArray[np.uint8]]
) -> list[NDArray[np.float32] | Failure]:
    """Classify photos together, or each on its own where that fails.

    Args:
        classifier: the model.
        images: RGB 0-255, uint8 (height, width, 3) each, in the model's size.

    Returns:
        For each photo float32 (classes,), or what is wrong with it.

    Raises:
        ModelError: a photo has failed, and so does a harmless one: the fault is the model's.
    """
    try:
        return list(classifier.predict(np.stack(images)))
    except Exception as error:  # noqa: BLE001 - runtimes raise what they like
        print(
            f"The model failed on {len(images)} photos together ({_shown(error)}); "
            "trying each on its own",
            file=sys.stderr,
            flush=True,
        )
    return [
        _alone(
            lambda image=image: classifier.predict(image[np.newaxis])[0],  # type: ignore[misc]
            classifier,
            Reason.MODEL_FAILED,
            tried_before=1,
        )
        for image in images
    ]


def decoded_alone(decode: Callable[[], Result], classifier: Classifier) -> Result | Failure:
    """Decode a photo again for which memory did not suffice beside others.

    Raises:
        ModelError: memory does not suffice for a harmless photo either.
        MessageError: what ``decode`` raises, if memory sufficed.
    """
    return _alone(decode, classifier, Reason.OUT_OF_MEMORY, tried_before=1)


def _alone(
    work: Callable[[], Result], classifier: Classifier, reason: Reason, tried_before: int
) -> Result | Failure:
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        gc.collect()
        try:
            return work()
        except MessageError:
            raise
        except Exception as error:  # noqa: BLE001 - runtimes raise what they like
            failed = error
    _prove_works(classifier, failed)
    verdict = MessageError(
        reason, f"failed {tried_before + ATTEMPTS} times, while others pass: {_shown(failed)}"
    )
    verdict.__cause__ = failed
    return Failure(verdict, tried_before + ATTEMPTS)


def _prove_works(classifier: Classifier, failed: Exception) -> None:
    """Classify a plain grey image: a model that cannot do that must not judge photos.

    Raises:
        ModelError: it cannot.
    """
    width, height = classifier.input_size
    try:
        classifier.predict(np.full((1, height, width, 3), 128, np.uint8))
    except Exception as error:
        raise ModelError(
            "expected a model that answers, got one that fails on a plain grey image as on a photo "
            f"({_shown(failed)}): {_shown(error)}"
        ) from error


def _shown(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return printable(" ".join(text.split()), 300)
