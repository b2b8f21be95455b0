"""Messages come off the topic in batches, become predictions, and are committed when those are out.

The order is the promise: a message's offset is committed only after its prediction (or its
rejection) has been delivered, so a crash repeats a batch at worst and never skips one.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError

from car_classifier.broker import BrokerSettings
from car_classifier.errors import BrokerError, MessageError
from car_classifier.images import decode_image
from car_classifier.messages import CarPhoto
from car_classifier.model import Classifier
from car_classifier.predictions import Prediction, Source, predict_top_k, printable

__all__ = ["PhotoStream", "Rejection", "classify"]

POLL_MS = 250  # how soon a stop signal is noticed
PROBE_SECONDS = 5.0  # without messages, before the broker is asked whether it is there
PROBE_MS = 3000
COMMIT_MS = 5000


class Rejection:
    """A message that no prediction can be made from: where it lies and why."""

    def __init__(self, source: Source, error: MessageError) -> None:
        self.source = source
        self.error = error

    def __str__(self) -> str:
        return f"Rejected {self.source}: {printable(str(self.error), 300)}"


def classify(
    records: Sequence[Any], classifier: Classifier, top_k: int, min_confidence: float
) -> list[Prediction | Rejection]:
    """Turn Kafka records into answers, in their order; the photos go through the model together.

    Args:
        records: kafka-python's ``ConsumerRecord``s.
        classifier: the model.
        top_k: how many classes each prediction carries.
        min_confidence: 0..1; below it a prediction is not certain.
    """
    photos: list[tuple[Source, CarPhoto]] = []
    images = []
    rejections: dict[Source, Rejection] = {}
    sources = [Source(record.topic, record.partition, record.offset) for record in records]
    for source, record in zip(sources, records, strict=True):
        try:
            photo = CarPhoto.decode(record.value)
            images.append(decode_image(photo.image, classifier.input_size))
            photos.append((source, photo))
        except MessageError as error:
            rejections[source] = Rejection(source, error)
    predictions: dict[Source, Prediction] = {}
    if images:
        probabilities = classifier.predict(np.stack(images))
        now = time.time()
        for (source, photo), shares in zip(photos, probabilities, strict=True):
            best = predict_top_k(shares, classifier.classes, top_k)
            certain = best[0][1] >= min_confidence
            latency_ms = (now - photo.timestamp) * 1000
            predictions[source] = Prediction(photo, source, best, certain, latency_ms)
    return [predictions.get(source) or rejections[source] for source in sources]


class PhotoStream(ConsumerRebalanceListener):
    """The messages of a topic, shared with the other consumers of the group."""

    def __init__(
        self, consumer: KafkaConsumer, settings: BrokerSettings, stopped: Callable[[], bool]
    ) -> None:
        self._consumer = consumer
        self._settings = settings
        self._stopped = stopped
        self._answers = True  # whether the broker did when it was last asked
        self._last_sign = time.monotonic()
        self._early: list[Any] = []  # what came with the partitions
        consumer.subscribe([settings.topic], listener=self)

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Kafka-python's callback; there is nothing to do, since all that is done is committed."""

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Kafka-python's callback."""
        if not assigned:
            _say(
                "No partition is free: other consumers of the group have them, "
                "or the topic is new. Waiting..."
            )

    def wait_for_partitions(self) -> bool:
        """Return true when partitions are assigned, false when it is time to stop before that."""
        while not self._consumer.assignment():
            if self._stopped():
                return False
            self._early = self._poll(max_records=1)
        for partition in self._consumer.assignment():
            # The library looks up later where "latest" is: what is sent until then would be lost.
            with contextlib.suppress(KafkaError):  # the next poll deals with it
                self._consumer.position(partition, timeout_ms=COMMIT_MS)
        return True

    def batches(self, batch_size: int, max_messages: int | None = None) -> Iterator[list[Any]]:
        """Yield records, up to ``batch_size`` at a time, until it is time to stop.

        Raises:
            BrokerError: the broker refuses us; trying again would not help.
        """
        left = max_messages if max_messages is not None else sys.maxsize
        while left > 0 and not self._stopped():
            records, self._early = self._early or self._poll(min(batch_size, left)), []
            if records:
                yield records
                left -= len(records)

    def commit(self, records: Sequence[Any]) -> None:
        """Note on the broker that these records are done.

        While the broker is away this waits and says so. If the partitions have moved to another
        consumer meanwhile, the records stay uncommitted and that one gets them again.
        """
        offsets = {
            TopicPartition(record.topic, record.partition): OffsetAndMetadata(record.offset + 1)
            for record in records
        }
        while True:
            try:
                self._consumer.commit(offsets, timeout_ms=COMMIT_MS)
                return
            except (CommitFailedError, RebalanceInProgressError):
                _say("Partitions moved to another consumer before a commit: some photos may repeat")
                return
            except KafkaError as error:
                if not error.retriable:
                    raise BrokerError(f"Kafka refuses to commit: {error}") from error
                _say(f"Kafka at {self._settings.bootstrap_servers} takes no commit; trying again")
                if self._stopped():
                    return

    def close(self) -> None:
        """Leave the group, so that others take the partitions over at once."""
        with contextlib.suppress(KafkaError):  # the broker is away: it will notice by itself
            self._consumer.close(timeout_ms=COMMIT_MS)

    def _poll(self, max_records: int) -> list[Any]:
        try:
            polled = self._consumer.poll(timeout_ms=POLL_MS, max_records=max_records)
        except KafkaError as error:
            if not error.retriable:
                raise BrokerError(
                    f"Kafka at {self._settings.bootstrap_servers} refuses: {error}"
                ) from error
            polled = {}
        records = [record for part in polled.values() for record in part]
        if records:
            self._last_sign = time.monotonic()
            self._report(True)
        elif time.monotonic() - self._last_sign > PROBE_SECONDS:
            self._probe()
        return records

    def _probe(self) -> None:
        """The client library waits in silence for a broker that is away; people want to know."""
        self._last_sign = time.monotonic()
        partitions = [TopicPartition(self._settings.topic, 0)]
        try:
            self._consumer.end_offsets(partitions, timeout_ms=PROBE_MS)
        except KafkaError as error:
            self._report(not error.retriable)
        else:
            self._report(True)

    def _report(self, answers: bool) -> None:
        if answers != self._answers:
            self._answers = answers
            what = "answers again" if answers else "does not answer; waiting..."
            _say(f"Kafka at {self._settings.bootstrap_servers} {what}")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
