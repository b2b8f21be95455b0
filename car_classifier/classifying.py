"""Messages become answers: decoded and classified in batches, beside the thread that reads Kafka.

While one batch is in the model, the next is being decoded and the one after that is fetched. A lone
photo does not wait for others longer than asked for, and a slow model stops the fetching.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from car_classifier.errors import MessageError
from car_classifier.images import decode_photo
from car_classifier.messages import CarPhoto
from car_classifier.model import Classifier
from car_classifier.predictions import Prediction, Source, predict_top_k, printable
from car_classifier.retrying import Failure, decoded_alone, predict_each

__all__ = ["Answers", "Batching", "Rejection", "answer", "answered_batches", "decode"]

POLL_MS = 250  # for new messages while there is nothing else to do; how soon a stop is noticed
BUSY_POLL_MS = 5  # while the model works: a look at Kafka takes a processor half a millisecond
AHEAD = 2  # batches that may be fetched and decoded beyond those handed to the model
MOST_BYTES = 64 * 2**20  # in messages under way; beyond it none is fetched, whatever their number
IN_MODEL = 2  # batches that the model works on: while one ends, no processor waits for it


@dataclass(frozen=True)
class Rejection:
    """A message that no prediction can be made from: where it lies and why."""

    source: Source
    error: MessageError
    received: float  # seconds since 1970, when the message came off Kafka
    attempts: int = 1  # how often it was tried

    def __str__(self) -> str:
        return f"Rejected {self.source}: {printable(str(self.error), 300)}"


@dataclass(frozen=True)
class Batching:
    """How photos are gathered and what is said about them."""

    batch_size: int = 16  # most photos that go through the model together
    max_wait_ms: float = 5.0  # for others, before a smaller batch goes
    top_k: int = 3  # classes that each prediction carries
    min_confidence: float = 0.0  # 0..1; below it a prediction is not certain
    thumbnails: bool = False  # whether predictions carry a small JPEG of their photo


@dataclass(frozen=True)
class Answers:
    """A batch that is done: its records, to be committed, and their answers, in the same order."""

    records: list[Any]
    answers: list[Prediction | Rejection]


class Stream(Protocol):
    """Where records come from; see `car_classifier.consuming.PhotoStream`."""

    def take(self, most: int, wait_ms: float) -> list[Any]:
        """Return up to so many records, waiting so long for the first."""

    def keep_alive(self) -> None:
        """Fetch nothing, but stay in the group."""

    def revoked(self) -> set[Any]:
        """Return each (topic, partition) taken away since the last call: its records come again."""

    def stopped(self) -> bool:
        """Whether it is time to stop."""


class _Photo(NamedTuple):
    """A message that has become an image for the model."""

    source: Source
    photo: CarPhoto
    received: float  # seconds since 1970
    image: NDArray[np.uint8]  # (height, width, 3)
    thumbnail: bytes | None = None


def decode(record: Any, size: tuple[int, int], with_thumbnail: bool = False) -> _Photo | Rejection:
    """Turn one of kafka-python's ``ConsumerRecord``s into an image of (width, height) ``size``."""
    source = Source(record.topic, record.partition, record.offset)
    received = time.time()
    try:
        photo = CarPhoto.decode(record.value)
        image, thumbnail = decode_photo(photo.image, size, with_thumbnail=with_thumbnail)
        return _Photo(source, photo, received, image, thumbnail)
    except MessageError as error:
        return Rejection(source, error, received)


def answer(
    decoded: Sequence[_Photo | Rejection], classifier: Classifier, batching: Batching
) -> list[Prediction | Rejection]:
    """Classify the photos together, or one by one if that fails; rejections keep their places.

    Raises:
        ModelError: the model itself fails.
    """
    photos = [item for item in decoded if isinstance(item, _Photo)]
    if not photos:
        return [item for item in decoded if isinstance(item, Rejection)]
    probabilities = predict_each(classifier, [photo.image for photo in photos])
    now = time.time()
    answers = zip(photos, probabilities, strict=True)
    return [
        item if isinstance(item, Rejection) else _judged(*next(answers), classifier, batching, now)
        for item in decoded
    ]


def _judged(
    item: _Photo,
    probabilities: NDArray[np.float32] | Failure,
    classifier: Classifier,
    batching: Batching,
    now: float,
) -> Prediction | Rejection:
    if isinstance(probabilities, Failure):
        return Rejection(item.source, probabilities.error, item.received, probabilities.attempts)
    best = predict_top_k(probabilities, classifier.classes, batching.top_k)
    certain = best[0][1] >= batching.min_confidence
    return Prediction(item.photo, item.source, best, certain, item.received, now, item.thumbnail)


@dataclass
class _UnderWay:
    """A record that has been fetched and not been answered yet."""

    record: Any
    arrived: float  # on the monotonic clock, in seconds
    decoded: Future[_Photo | Rejection]
    revoked: bool = False  # its partition was taken away: not ours to answer any more


class _InModel(NamedTuple):
    """A batch that was handed to the model."""

    batch: list[_UnderWay]
    answers: Future[list[Prediction | Rejection]]


def answered_batches(
    stream: Stream,
    classifier: Classifier,
    batching: Batching,
    max_messages: int | None = None,
    *,
    decode: Callable[[Any, tuple[int, int], bool], _Photo | Rejection] = decode,
) -> Generator[Answers, None, None]:
    """Yield batches in the order in which their records came, until it is time to stop.

    At a stop the batches that the model has are finished; what was fetched beyond them is left
    uncommitted and comes again. So does what is under way when its partition is taken away: it is
    not answered here, unless the partition comes back. Closing the generator ends its threads.

    Args:
        stream: the records. Whoever iterates commits a batch before asking for the next.
        classifier: the model; `IN_MODEL` threads of its own call it.
        batching: sizes and limits.
        max_messages: end after so many records.
        decode: how a record becomes an image, in threads of its own.
    """
    left = sys.maxsize if max_messages is None else max_messages
    ahead: deque[_UnderWay] = deque()
    in_model: deque[_InModel] = deque()

    def classify(batch: list[_UnderWay]) -> list[Prediction | Rejection]:
        decoded = [_decoded(item, decode_one, classifier) for item in batch]
        return answer(decoded, classifier, batching)

    def decode_one(record: Any) -> _Photo | Rejection:
        return decode(record, classifier.input_size, batching.thumbnails)

    with _threads(IN_MODEL, "model") as model, _threads(os.cpu_count(), "decode") as decoders:
        while True:
            if _closes(ahead, in_model, batching, more_to_come=left > 0):
                batch = [ahead.popleft() for _ in range(min(batching.batch_size, len(ahead)))]
                in_model.append(_InModel(batch, model.submit(classify, batch)))
                continue
            if in_model and in_model[0].answers.done():
                done = _done(in_model.popleft())
                if done.records:
                    yield done
                continue
            if stream.stopped():
                left = 0
                for item in ahead:
                    item.decoded.cancel()
                ahead.clear()
            if left == 0:
                if not in_model:
                    return
                stream.keep_alive()  # or the group would take the model for a consumer that hangs
                left += _revoke(stream.revoked(), ahead, in_model)
                wait([in_model[0].answers], timeout=POLL_MS / 1000)
                continue
            room = _room(ahead, in_model, batching)
            records: list[Any] = []
            if room > 0:
                records = stream.take(min(room, left), _patience_ms(ahead, in_model, batching))
            else:
                stream.keep_alive()
            left += _revoke(stream.revoked(), ahead, in_model)
            for record in records:
                future = decoders.submit(decode_one, record)
                ahead.append(_UnderWay(record, time.monotonic(), future))
            left -= len(records)
            if in_model and not records:  # whose end is noticed at once
                at_work = [batch.answers for batch in in_model if not batch.answers.done()]
                timeout_ms = BUSY_POLL_MS if room > 0 else POLL_MS
                wait(at_work, timeout_ms / 1000, FIRST_COMPLETED)


@contextlib.contextmanager
def _threads(count: int | None, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool whose waiting work is dropped at the end; what a thread has begun it finishes."""
    pool = ThreadPoolExecutor(count, name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _closes(
    ahead: deque[_UnderWay], in_model: deque[_InModel], batching: Batching, more_to_come: bool
) -> bool:
    """Whether the next batch goes to the model now."""
    at_work = sum(not batch.answers.done() for batch in in_model)
    if not ahead or at_work >= IN_MODEL:
        return False
    if len(ahead) >= batching.batch_size or _room(ahead, in_model, batching) <= 0:
        return True
    return _left_to_wait_ms(ahead, batching) <= 0 or not more_to_come


def _patience_ms(ahead: deque[_UnderWay], in_model: deque[_InModel], batching: Batching) -> float:
    """How long the next look at Kafka may wait for a message."""
    if in_model:
        return 0  # what is waited for then is the model
    return max(0, _left_to_wait_ms(ahead, batching)) if ahead else POLL_MS


def _left_to_wait_ms(ahead: deque[_UnderWay], batching: Batching) -> float:
    """How long the oldest photo still waits for others; 0 or less: no longer."""
    return batching.max_wait_ms - (time.monotonic() - ahead[0].arrived) * 1000


def _decoded(
    item: _UnderWay, decode: Callable[[Any], _Photo | Rejection], classifier: Classifier
) -> _Photo | Rejection:
    """What a decoding thread made of a record; decoded here and alone if memory was short there."""
    try:
        return item.decoded.result()
    except MemoryError:
        received = time.time()
    decoded = decoded_alone(lambda: decode(item.record), classifier)
    if isinstance(decoded, Failure):
        source = Source(item.record.topic, item.record.partition, item.record.offset)
        return Rejection(source, decoded.error, received, decoded.attempts)
    return decoded


def _done(handed: _InModel) -> Answers:
    """What the model says about a batch, without what other consumers will answer."""
    answers = zip(handed.batch, handed.answers.result(), strict=True)
    kept = [(item.record, answer) for item, answer in answers if not item.revoked]
    return Answers([record for record, _ in kept], [answer for _, answer in kept])


def _room(ahead: deque[_UnderWay], in_model: deque[_InModel], batching: Batching) -> int:
    """How many more records may be fetched now."""
    under_way = itertools.chain(ahead, *(handed.batch for handed in in_model))
    if sum(len(item.record.value or b"") for item in under_way) >= MOST_BYTES:
        return 0
    return AHEAD * batching.batch_size - len(ahead)


def _revoke(partitions: set[Any], ahead: deque[_UnderWay], in_model: deque[_InModel]) -> int:
    """Mark what is under way of these partitions as not to be answered; return how many."""
    marked = 0
    for item in itertools.chain(ahead, *(handed.batch for handed in in_model)):
        if not item.revoked and (item.record.topic, item.record.partition) in partitions:
            item.revoked = True
            marked += 1
    return marked
