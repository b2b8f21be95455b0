"""The benchmarks run, and measure what they say; how fast things are is not a test's business."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import pipeline, producer, scaling
from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Throughput, answer_times, image_name
from benchmarks.photos import benchmark_photos
from benchmarks.pipeline import NAIVE
from benchmarks.programs import ROOT, Line
from benchmarks.readme import README, block, quoted, rewrite
from benchmarks.results import RESULTS
from benchmarks.sending import message
from car_classifier.messages import CarPhoto
from tests.models import write_colour_model


def numbers(value: Any) -> Iterator[float]:
    """Every number in a row of results."""
    if isinstance(value, dict):
        for part in value.values():
            yield from numbers(part)
    elif isinstance(value, (int, float)):
        yield value


def results(folder: Path, name: str) -> Any:
    """Return what a benchmark wrote; it names no folder of this machine."""
    text = (folder / f"{name}.json").read_text() + (folder / f"{name}.md").read_text()
    assert str(ROOT) not in text
    assert str(folder) not in text
    written = json.loads((folder / f"{name}.json").read_text())
    assert written["machine"]["cores"] >= 1
    assert written["broker"].startswith("embedded")
    return written


def test_photos_are_what_the_results_say_of_them() -> None:
    photos = benchmark_photos(6)

    assert len(set(photos)) == 6
    for photo in photos:
        assert 100_000 <= len(photo) <= 200_000
        with Image.open(io.BytesIO(photo)) as image:
            assert (image.format, image.size) == ("JPEG", (1280, 720))
    assert benchmark_photos(2) == photos[:2]  # the same in every run


def test_messages_are_those_of_the_camera() -> None:
    photo = CarPhoto(1700000000.5, "cam01", "a.jpg", b"any bytes")

    assert message(1700000000.5, "cam01", "a.jpg", base64.b64encode(b"any bytes")) == photo.encode()


def test_a_latency_is_from_sending_to_seeing() -> None:
    answers = [
        Line('{"image_name": "a.jpg", "confidence": 1}', seen=12.5),
        Line("b.jpg -> {'make': 'BMW'}, Confidence: 90.00%", seen=13.0),
    ]

    assert answer_times(answers, {"b.jpg": 12.0, "a.jpg": 12.25}) == [0.25, 1.0]


def test_a_photo_answered_twice_is_no_measurement() -> None:
    twice = [Line("a.jpg -> BMW", seen=1.0), Line("a.jpg -> BMW", seen=2.0)]

    with pytest.raises(BenchmarkError, match="2 photos, got 1"):
        answer_times(twice, {"a.jpg": 0.0, "b.jpg": 0.5})
    assert image_name(twice[0]) == "a.jpg"


def test_two_measurements_count_by_their_photos() -> None:
    both = Throughput(10, 5.0, 100.0).and_again(Throughput(30, 10.0, 60.0))

    assert both == Throughput(40, 8.0, 70.0)  # in 2 and 3 seconds


def test_pipeline_measures_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    model, classes = write_colour_model(tmp_path)  # no .tflite file beside it
    arguments = ["--model", str(model), "--classes", str(classes), "--broker", "embedded"]
    arguments += ["--photos", "160", "--seconds", "0.5", "--bare-seconds", "0.2"]
    arguments += ["--runtimes", "litert", "keras", "--results", str(tmp_path / "results")]

    assert pipeline.main(arguments) == 0

    written = results(tmp_path / "results", "pipeline")
    naive, keras, kept = written["rows"]
    assert [naive["name"], keras["name"]] == [NAIVE, "ours, keras"]
    assert kept["name"] == "ours, keras, kept in SQLite"
    assert naive["bare_photos_per_second"] is None
    assert naive["times_naive"] == 1
    assert naive["throughput"]["photos"] > 160 / 5  # it was measured twice
    assert all(number > 0 for row in written["rows"] for number in numbers(row))
    for row in written["rows"]:
        for latency in row["latencies"].values():
            assert latency["p50_ms"] <= latency["p95_ms"] <= latency["p99_ms"]
    assert "no model at colours.tflite" in written["left_out"]["ours, litert"]
    assert "no model at colours.tflite" in (tmp_path / "results" / "pipeline.md").read_text()
    with Image.open(tmp_path / "results" / "pipeline.png") as plot:
        assert plot.width > 1000


def test_the_readme_quotes_the_results_that_are_kept_here() -> None:
    kept = RESULTS / "pipeline.json"
    expected = "Not measured yet with this model.\n"
    if kept.exists():
        expected = quoted(json.loads(kept.read_text()))

    assert block(README) == expected


def test_only_the_block_of_the_readme_is_rewritten(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- make bench writes this -->\nold\n<!-- end -->\nz\n")

    rewrite(readme, r"10 \1 photos" + "\n")

    assert readme.read_text() == (
        "a\n<!-- make bench writes this -->\n10 \\1 photos\n<!-- end -->\nz\n"
    )


def test_producer_counts_acknowledged_photos(tmp_path: Path) -> None:
    arguments = ["--photos", "60", "--broker", "embedded", "--results", str(tmp_path)]

    assert producer.main(arguments) == 0

    written = results(tmp_path, "producer")
    assert written["photos_per_second"] > 0
    assert 0.1 < written["megabytes_per_second"] / written["photos_per_second"] < 0.2
    assert written["peak_memory_mb"] > 10


def test_consumers_share_the_photos_of_a_topic(tmp_path: Path) -> None:
    arguments = ["--consumers", "2", "--photos", "64", "--ms-per-photo", "10"]
    arguments += ["--broker", "embedded", "--results", str(tmp_path)]

    assert scaling.main(arguments) == 0

    (two,) = results(tmp_path, "scaling")["rows"]
    assert two["photos_answered_by_each"] == [32, 32]
    assert 0 < two["photos_per_second"] < 1.2 * two["at_best"]
    assert (tmp_path / "scaling.png").stat().st_size > 0


def test_cameras_of_the_scaling_benchmark_have_a_partition_each() -> None:
    cameras = scaling.evenly_spread_cameras(8)

    assert len(set(cameras)) == 8
    assert all(re.fullmatch(r"cam\d+", camera) for camera in cameras)
