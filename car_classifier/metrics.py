"""What the classifier service counts and times, as Prometheus metrics.

Needs the optional package prometheus-client (requirements/metrics.txt).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from car_classifier.classifying import Answers, Rejection
from car_classifier.consuming import StreamState
from car_classifier.delivery import KeepWaiting
from car_classifier.errors import Reason
from car_classifier.model import Classifier
from car_classifier.predictions import Prediction, printable

__all__ = ["OTHER_CAMERAS", "Metrics", "TimedClassifier"]

# Cameras name themselves, and each name costs memory here and in Prometheus for as long as we run.
MOST_CAMERAS = 100
LONGEST_CAMERA_NAME = 60
OTHER_CAMERAS = "other"

_BATCH_SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128)
_DECODE_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 4)
_INFERENCE_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.25, 0.5, 1, 2, 5, 15)
# From a photo that is answered at once to a stream that lags by an hour.
_END_TO_END_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)


class Metrics:
    """The numbers of one service; also a `Sink`, the last one, that counts what was delivered.

    Attributes:
        registry: what is shown to Prometheus.
    """

    def __init__(self) -> None:
        # Without the time of birth of each series, which would be as many series again.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._messages = Counter(
            "car_classifier_messages",
            "Messages answered: classified, unknown (unsure) or rejected",
            ["camera", "result"],
            registry=self.registry,
        )
        self._dead_letters = Counter(
            "car_classifier_dead_letters",
            "Messages that no prediction can be made from",
            ["reason"],
            registry=self.registry,
        )
        for reason in Reason:  # at 0 from the start: a rate needs a value to begin with
            self._dead_letters.labels(reason.value)
        self._last_photo = Gauge(
            "car_classifier_last_photo_timestamp_seconds",
            "When a photo of this camera was last answered, in seconds since 1970",
            ["camera"],
            registry=self.registry,
        )
        self._batch_size = self._histogram(
            "batch_size", "Photos that went through the model together", _BATCH_SIZES
        )
        self._decode = self._histogram(
            "decode_seconds", "From a message to an image of the model's size", _DECODE_SECONDS
        )
        self._inference = self._histogram(
            "inference_seconds", "The model's time for a batch", _INFERENCE_SECONDS
        )
        self._end_to_end = self._histogram(
            "end_to_end_seconds",
            "From a photo's timestamp to its delivered answer",
            _END_TO_END_SECONDS,
        )
        self._cameras: dict[str, str] = {}  # as they call themselves -> as they are shown

    def deliver(self, batch: Answers, keep_waiting: KeepWaiting) -> bool:  # noqa: ARG002
        """Count a batch that every sink before this one has taken."""
        now = time.time()
        for answer in batch.answers:
            if isinstance(answer, Rejection):
                # Its camera is not known: Prometheus takes an empty label for none.
                self._messages.labels("", "rejected").inc()
                self._dead_letters.labels(answer.error.reason.value).inc()
            else:
                self._count(answer, now)
        return True

    def close(self) -> None:
        """Nothing to let go of."""

    def timed(self, decode: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with a stopwatch."""

        def timed_decode(*arguments: Any) -> Any:
            start = time.perf_counter()
            decoded = decode(*arguments)
            self._decode.observe(time.perf_counter() - start)
            return decoded

        return timed_decode

    def inferred(self, photos: int, seconds: float) -> None:
        """Note a batch that went through the model."""
        self._batch_size.observe(photos)
        self._inference.observe(seconds)

    def model_loaded(self, classifier: Classifier) -> TimedClassifier:
        """Show which model it is; return it with a stopwatch."""
        identity = classifier.identity
        Gauge(
            "car_classifier_model_info",
            "1, for the model that is loaded",
            ["file", "sha256", "runtime"],
            registry=self.registry,
        ).labels(identity.file, identity.sha256, identity.runtime).set(1)
        return TimedClassifier(classifier, self)

    def watch(self, state: StreamState) -> None:
        """Show how far the consumer is behind."""
        self.registry.register(_Lag(state))

    def show_ready(self, ready: Callable[[], bool]) -> None:
        """Show what ``/readyz`` says, too."""
        Gauge(
            "car_classifier_ready",
            "1 while photos are being answered, 0 while something is in the way",
            registry=self.registry,
        ).set_function(ready)

    def _count(self, prediction: Prediction, now: float) -> None:
        camera = self._shown(prediction.photo.camera_id)
        self._messages.labels(camera, "classified" if prediction.certain else "unknown").inc()
        self._last_photo.labels(camera).set(now)
        # A camera's clock may be ahead of ours.
        self._end_to_end.observe(max(0.0, now - prediction.photo.timestamp))

    def _shown(self, camera_id: str) -> str:
        shown = self._cameras.get(camera_id)
        if shown is None:
            if len(self._cameras) >= MOST_CAMERAS:
                return OTHER_CAMERAS
            shown = printable(camera_id, LONGEST_CAMERA_NAME)
            self._cameras[camera_id] = shown
        return shown

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"car_classifier_{name}", what, buckets=buckets, registry=self.registry)


class TimedClassifier(Classifier):
    """A classifier with a stopwatch."""

    def __init__(self, classifier: Classifier, metrics: Metrics) -> None:
        super().__init__(classifier.runtime, classifier.classes)
        self._metrics = metrics

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Classifier`."""
        start = time.perf_counter()
        probabilities = super().predict(images)
        self._metrics.inferred(len(images), time.perf_counter() - start)
        return probabilities


class _Lag(Collector):
    """Reads the lag when it is asked for: a partition that was taken away is not shown any more."""

    def __init__(self, state: StreamState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "car_classifier_lag_messages",
            "Messages of a partition that are not answered yet",
            labels=["partition"],
        )
        for partition, messages in self._state.lag.items():
            lag.add_metric([str(partition)], messages)
        yield lag
