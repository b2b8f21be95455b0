"""What the service counts: right, with few series whatever cameras call themselves, and cheaply."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from car_classifier.class_map import CarClass
from car_classifier.classifying import Answers, Rejection, decode
from car_classifier.consuming import StreamState
from car_classifier.errors import MessageError, Reason
from car_classifier.messages import CarPhoto
from car_classifier.metrics import MOST_CAMERAS, OTHER_CAMERAS, Metrics
from car_classifier.model import Classifier
from car_classifier.predictions import Prediction, Source
from tests.photos import records

SOURCE = Source("photos", 0, 0)
BMW = CarClass("BMW", "M3", 2012)


def prediction(camera: str = "cam01", certain: bool = True, age: float = 0.3) -> Prediction:
    now = time.time()
    photo = CarPhoto(now - age, camera, "coche.jpg", b"")
    return Prediction(photo, SOURCE, [(BMW, 0.9)], certain, now, now)


def rejection(reason: Reason = Reason.NOT_JSON) -> Rejection:
    return Rejection(SOURCE, MessageError(reason, "as it is"), time.time())


def deliver(metrics: Metrics, *answers: Prediction | Rejection) -> None:
    assert metrics.deliver(Answers([None] * len(answers), list(answers)), lambda: True)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"car_classifier_{name}", labels)


def cameras(metrics: Metrics) -> set[str]:
    return {
        sample.labels["camera"]
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "car_classifier_messages_total"
    }


def test_messages_are_counted_by_camera_and_result() -> None:
    metrics = Metrics()

    deliver(metrics, prediction("a"), prediction("a"), prediction("b", certain=False), rejection())

    assert value(metrics, "messages_total", camera="a", result="classified") == 2
    assert value(metrics, "messages_total", camera="b", result="unknown") == 1
    assert value(metrics, "messages_total", camera="", result="rejected") == 1
    assert value(metrics, "end_to_end_seconds_count") == 3
    assert value(metrics, "end_to_end_seconds_bucket", le="0.2") == 0
    assert value(metrics, "end_to_end_seconds_bucket", le="1.0") == 3
    seen = value(metrics, "last_photo_timestamp_seconds", camera="a")
    assert seen == pytest.approx(time.time(), abs=60)


def test_every_reason_is_there_before_it_happens() -> None:
    metrics = Metrics()

    deliver(metrics, rejection(Reason.DAMAGED_IMAGE), rejection(Reason.DAMAGED_IMAGE))

    counts = {
        reason: value(metrics, "dead_letters_total", reason=reason.value) for reason in Reason
    }
    assert counts == dict.fromkeys(Reason, 0) | {Reason.DAMAGED_IMAGE: 2}


def test_strangers_cannot_make_series_without_end() -> None:
    metrics = Metrics()

    for number in range(3 * MOST_CAMERAS):
        deliver(metrics, prediction(f"cam{number}"))

    assert len(cameras(metrics)) == MOST_CAMERAS + 1
    assert value(metrics, "messages_total", camera=OTHER_CAMERAS, result="classified") == (
        2 * MOST_CAMERAS
    )
    deliver(metrics, prediction("cam0"))  # those that were first are still told apart
    assert value(metrics, "messages_total", camera="cam0", result="classified") == 2


@pytest.mark.parametrize("name", ["", 'a"\n\\{}', "\x00\x1b[31m", "\ud800", "ñ" * 10_000, "<b>"])
def test_any_name_of_a_camera_can_be_scraped(name: str) -> None:
    from prometheus_client import generate_latest
    from prometheus_client.parser import text_string_to_metric_families

    metrics = Metrics()
    deliver(metrics, prediction(name))

    text = generate_latest(metrics.registry).decode()
    (shown,) = [
        sample.labels["camera"]
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
        if sample.name == "car_classifier_messages_total"
    ]
    assert len(shown) <= 60
    assert shown.isprintable()


def test_a_camera_whose_clock_is_ahead_takes_no_negative_time() -> None:
    metrics = Metrics()
    deliver(metrics, prediction(age=-3600))
    assert value(metrics, "end_to_end_seconds_sum") == 0


def test_the_model_is_shown_and_timed(tmp_path: Path) -> None:
    file = tmp_path / "cars.tflite"
    file.write_bytes(b"a model")

    class Runtime:
        name, path = "litert", file
        input_shape, output_shape = (None, 16, 24, 3), (None, 2)

        def predict(self, images: Any) -> Any:
            time.sleep(0.05)
            return np.full((len(images), 2), 0.5, np.float32)

    metrics = Metrics()
    classifier = metrics.model_loaded(Classifier(Runtime(), [BMW, BMW]))

    assert classifier.predict(np.zeros((3, 16, 24, 3), np.uint8)).shape == (3, 2)
    assert classifier.input_size == (24, 16)
    identity = classifier.identity
    labels = {"file": "cars.tflite", "sha256": identity.sha256, "runtime": "litert"}
    assert value(metrics, "model_info", **labels) == 1
    assert value(metrics, "batch_size_sum") == 3
    assert value(metrics, "inference_seconds_count") == 1
    inference = value(metrics, "inference_seconds_sum")
    assert inference is not None
    assert 0.05 <= inference < 5


def test_decoding_is_timed_and_says_the_same() -> None:
    metrics = Metrics()
    (record,) = records(7)

    timed = metrics.timed(decode)(record, (24, 16))

    assert timed.source == decode(record, (24, 16)).source
    assert value(metrics, "decode_seconds_count") == 1


def test_only_the_partitions_that_we_have_show_a_lag() -> None:
    state = StreamState()
    metrics = Metrics()
    metrics.watch(state)
    assert value(metrics, "lag_messages", partition="0") is None

    state.lag = {0: 12, 2: 0}
    assert value(metrics, "lag_messages", partition="0") == 12
    state.lag = {2: 1}
    assert value(metrics, "lag_messages", partition="0") is None
    assert value(metrics, "lag_messages", partition="2") == 1


def test_counting_costs_less_than_a_hundredth_of_a_photo() -> None:
    metrics = Metrics()
    batch = Answers([None] * 16, [prediction(f"cam{number % 4}") for number in range(16)])
    decode_nothing = metrics.timed(lambda: None)

    def microseconds_a_photo() -> float:
        start = time.thread_time()
        for _ in range(50):
            for _ in range(16):
                decode_nothing()
            metrics.inferred(16, 0.08)
            metrics.deliver(batch, lambda: True)
        return (time.thread_time() - start) / (50 * 16) * 1e6

    # A photo costs 5 ms of processor time and more, on the fastest runtime (see README).
    assert min(microseconds_a_photo() for _ in range(5)) < 50
