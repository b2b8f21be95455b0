"""Messages become answers: decoded and classified in batches, beside the thread that reads Kafka.

While one batch is in the model, the next is being decoded and the one after that is fetched. A lone
photo does not wait for others longer than asked for, and a slow model stops the fetching.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from car_classifier.errors import MessageError
from car_classifier.images import decode_image
from car_classifier.messages import CarPhoto
from car_classifier.model import Classifier
from car_classifier.predictions import Prediction, Source, predict_top_k, printable

__all__ = ["Answers", "Batching", "Rejection", "answer", "answered_batches", "decode"]

POLL_MS = 250  # for new messages while there is nothing else to do; how soon a stop is noticed
BUSY_POLL_MS = 2  # while photos are under way; how soon their answers are noticed
AHEAD = 2  # batches that may be fetched and decoded beyond those handed to the model
AHEAD_BYTES = 64 * 2**20  # and their messages' size, whatever their number
IN_MODEL = 2  # batches handed to the model: one that it works on, one that is ready


@dataclass(frozen=True)
class Rejection:
    """A message that no prediction can be made from: where it lies and why."""

    source: Source
    error: MessageError

    def __str__(self) -> str:
        return f"Rejected {self.source}: {printable(str(self.error), 300)}"


@dataclass(frozen=True)
class Batching:
    """How photos are gathered and what is said about them."""

    batch_size: int = 16  # most photos that go through the model together
    max_wait_ms: float = 10.0  # for others, before a smaller batch goes
    top_k: int = 3  # classes that each prediction carries
    min_confidence: float = 0.0  # 0..1; below it a prediction is not certain


@dataclass(frozen=True)
class Answers:
    """A batch that is done: its records, to be committed, and their answers, in the same order."""

    records: list[Any]
    answers: list[Prediction | Rejection]


class Stream(Protocol):
    """Where records come from; see `car_classifier.consuming.PhotoStream`."""

    def take(self, most: int, wait_ms: int) -> list[Any]:
        """Return up to so many records, waiting so long for the first."""

    def keep_alive(self) -> None:
        """Fetch nothing, but stay in the group."""

    def stopped(self) -> bool:
        """Whether it is time to stop."""


class _Photo(NamedTuple):
    """A message that has become an image for the model."""

    source: Source
    photo: CarPhoto
    image: NDArray[np.uint8]  # (height, width, 3)


def decode(record: Any, size: tuple[int, int]) -> _Photo | Rejection:
    """Turn one of kafka-python's ``ConsumerRecord``s into an image of (width, height) ``size``."""
    source = Source(record.topic, record.partition, record.offset)
    try:
        photo = CarPhoto.decode(record.value)
        return _Photo(source, photo, decode_image(photo.image, size))
    except MessageError as error:
        return Rejection(source, error)


def answer(
    decoded: Sequence[_Photo | Rejection], classifier: Classifier, batching: Batching
) -> list[Prediction | Rejection]:
    """Classify the photos together; rejections stay in their places."""
    photos = [item for item in decoded if isinstance(item, _Photo)]
    if not photos:
        return [item for item in decoded if isinstance(item, Rejection)]
    probabilities = classifier.predict(np.stack([photo.image for photo in photos]))
    now = time.time()
    answers = zip(photos, probabilities, strict=True)
    return [
        item
        if isinstance(item, Rejection)
        else _prediction(*next(answers), classifier, batching, now)
        for item in decoded
    ]


def _prediction(
    item: _Photo,
    probabilities: NDArray[np.float32],
    classifier: Classifier,
    batching: Batching,
    now: float,
) -> Prediction:
    best = predict_top_k(probabilities, classifier.classes, batching.top_k)
    certain = best[0][1] >= batching.min_confidence
    latency_ms = (now - item.photo.timestamp) * 1000
    return Prediction(item.photo, item.source, best, certain, latency_ms)


class _Decoding(NamedTuple):
    """A record on its way to a batch."""

    record: Any
    arrived: float  # on the monotonic clock, in seconds
    decoded: Future[_Photo | Rejection]


def answered_batches(
    stream: Stream, classifier: Classifier, batching: Batching, max_messages: int | None = None
) -> Iterator[Answers]:
    """Yield batches in the order in which their records came, until it is time to stop.

    At a stop the batches that the model has are finished; what was fetched beyond them is left
    uncommitted and comes again.

    Args:
        stream: the records.
        classifier: the model; one thread of its own calls it.
        batching: sizes and limits.
        max_messages: end after so many records.
    """
    left = sys.maxsize if max_messages is None else max_messages
    decoding: deque[_Decoding] = deque()
    in_model: deque[tuple[list[Any], Future[list[Prediction | Rejection]]]] = deque()

    def classify(batch: list[_Decoding]) -> list[Prediction | Rejection]:
        return answer([item.decoded.result() for item in batch], classifier, batching)

    with (
        ThreadPoolExecutor(os.cpu_count(), "decode") as decoders,
        ThreadPoolExecutor(1, "model") as model,
    ):
        while True:
            if in_model and in_model[0][1].done():
                records, answers = in_model.popleft()
                yield Answers(records, answers.result())
                continue
            if _closes(decoding, len(in_model), batching, more_to_come=left > 0):
                batch = [decoding.popleft() for _ in range(min(batching.batch_size, len(decoding)))]
                in_model.append(([item.record for item in batch], model.submit(classify, batch)))
                continue
            if stream.stopped():
                left = 0
                for item in decoding:
                    item.decoded.cancel()
                decoding.clear()
            if left == 0:
                if not in_model and not decoding:
                    return
                wait([future for _, future in in_model], timeout=BUSY_POLL_MS / 1000)
                continue
            room = _room(decoding, batching)
            if room == 0:
                stream.keep_alive()
                wait([future for _, future in in_model], timeout=POLL_MS / 1000)
                continue
            busy = bool(in_model or decoding)
            for record in stream.take(min(room, left), BUSY_POLL_MS if busy else POLL_MS):
                future = decoders.submit(decode, record, classifier.input_size)
                decoding.append(_Decoding(record, time.monotonic(), future))
                left -= 1


def _closes(
    decoding: deque[_Decoding], in_model: int, batching: Batching, more_to_come: bool
) -> bool:
    """Whether the next batch goes to the model now."""
    if not decoding or in_model >= IN_MODEL:
        return False
    if len(decoding) >= batching.batch_size:
        return True
    if in_model:  # the model is busy: others may join meanwhile
        return False
    waited_ms = (time.monotonic() - decoding[0].arrived) * 1000
    return waited_ms >= batching.max_wait_ms or not more_to_come


def _room(decoding: deque[_Decoding], batching: Batching) -> int:
    """How many more records may be fetched now."""
    if sum(len(item.record.value or b"") for item in decoding) >= AHEAD_BYTES:
        return 0
    return AHEAD * batching.batch_size - len(decoding)
