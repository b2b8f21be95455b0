"""Answers become rows, and rows become counts by the minute and by the hour."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from car_classifier.class_map import CarClass
from car_classifier.classifying import Answers, Rejection
from car_classifier.model import ModelIdentity
from car_classifier.predictions import Prediction, Source
from car_classifier.schema import (
    LONGEST_TEXT,
    confidence_bucket,
    hour_of,
    latency_bucket,
    minute_of,
)

__all__ = ["Key", "Row", "Rows", "key_of", "latest_photos", "prediction_counts", "rejection_counts"]

Key = tuple[str, int, int]  # topic, partition, offset
Row = dict[str, Any]

LONGEST_DETAIL = 1000  # letters
# What PostgreSQL takes in no text: NUL, and halves of letters that UTF-16 writes in two.
_REFUSED = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Rows:
    """What a batch adds to the tables; each list in the order of its keys.

    All consumers write in this order, so that two with the same messages wait for each other
    instead of for ever.
    """

    predictions: list[Row]
    dead_letters: list[Row]
    thumbnails: dict[Key, bytes]

    @classmethod
    def of(cls, batch: Answers, model: ModelIdentity) -> Rows:
        """Read the answers of a batch."""
        predictions: dict[Key, Row] = {}  # by key: a message that is there twice is one
        dead_letters: dict[Key, Row] = {}
        thumbnails: dict[Key, bytes] = {}
        for record, answer in zip(batch.records, batch.answers, strict=True):
            if isinstance(answer, Rejection):
                row = _rejection(answer, record)
                dead_letters[key_of(row)] = row
                continue
            row = _prediction(answer, model)
            predictions[key_of(row)] = row
            if answer.thumbnail is not None:
                thumbnails[key_of(row)] = answer.thumbnail
        return cls(_in_order(predictions), _in_order(dead_letters), thumbnails)


def key_of(row: Row) -> Key:
    """Where on Kafka a row's message lies."""
    return row["topic"], row["partition"], row["offset"]


def prediction_counts(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """What these predictions add to the tables of counts, by the table's name."""
    counts: dict[str, Counter[tuple[tuple[str, Any], ...]]] = defaultdict(Counter)
    for row in rows:
        minute = ("minute", minute_of(row["predicted"]))
        hour = ("hour", hour_of(row["predicted"]))
        camera = ("camera_id", row["camera_id"])
        car = [(name, row[name]) for name in ("make", "model", "certain")]
        confidence = ("bucket", confidence_bucket(row["confidence"]))
        latency = ("bucket", latency_bucket(row["latency_ms"]))
        counts["minute_counts"][(minute, camera, *car)] += 1
        counts["minute_confidence"][(minute, confidence)] += 1
        counts["minute_latency"][(minute, camera, latency)] += 1
        counts["hour_counts"][(hour, *car)] += 1
        counts["hour_confidence"][(hour, confidence)] += 1
        counts["hour_latency"][(hour, camera, latency)] += 1
    return {name: _counted(counter) for name, counter in counts.items()}


def rejection_counts(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """What these dead letters add to the tables of their counts, by the table's name."""
    counts: dict[str, Counter[tuple[tuple[str, Any], ...]]] = defaultdict(Counter)
    for row in rows:
        reason = ("reason", row["reason"])
        counts["minute_dead"][(("minute", minute_of(row["rejected"])), reason)] += 1
        counts["hour_dead"][(("hour", hour_of(row["rejected"])), reason)] += 1
    return {name: _counted(counter) for name, counter in counts.items()}


def latest_photos(rows: Iterable[Row]) -> list[Row]:
    """The latest of these photos for each camera, as rows of `cameras`, in order."""
    latest: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row["predicted"], row["offset"])):
        latest[row["camera_id"]] = {
            "camera_id": row["camera_id"],
            "last_captured": row["captured"],
            "last_predicted": row["predicted"],
            **_place(row["topic"], row["partition"], row["offset"]),
        }
    return [latest[camera] for camera in sorted(latest)]


def _in_order(rows: dict[Key, Row]) -> list[Row]:
    return [rows[key] for key in sorted(rows)]


def _counted(counter: Counter[tuple[tuple[str, Any], ...]]) -> list[Row]:
    return [dict(key) | {"count": count} for key, count in sorted(counter.items())]


def _place(topic: str, partition: int, offset: int) -> Row:
    return {"topic": topic, "partition": partition, "offset": offset}


def _source(source: Source) -> Row:
    return _place(source.topic, source.partition, source.offset)


def _prediction(answer: Prediction, model: ModelIdentity) -> Row:
    best, confidence = answer.top_k[0]
    return {
        **_source(answer.source),
        "captured": answer.photo.timestamp,
        "received": answer.received,
        "predicted": answer.predicted,
        "camera_id": _text(answer.photo.camera_id),
        "image_name": _text(answer.photo.image_name),
        **_names(best),
        "certain": answer.certain,
        "confidence": _finite(confidence),
        "top_k": json.dumps(
            [
                {**_names(car), "model": _text(car.model) or None, "confidence": _finite(share)}
                for car, share in answer.top_k
            ]
        ),
        "latency_ms": answer.latency_ms,
        "model_file": _text(model.file),
        "model_sha256": model.sha256,
    }


def _rejection(answer: Rejection, record: Any) -> Row:
    key: bytes | None = record.key
    return {
        **_source(answer.source),
        "rejected": answer.received,
        "camera_key": None if key is None else _text(key.decode(errors="replace")),
        "reason": answer.error.reason.value,
        "detail": _text(answer.error.detail, LONGEST_DETAIL),
        "attempts": answer.attempts,
        "size": len(record.value or b""),
    }


def _names(car: CarClass) -> Row:
    return {"make": _text(car.make), "model": _text(car.model), "year": car.year}


def _text(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text from strangers as every database takes it."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return _REFUSED.sub("\ufffd", text)


def _finite(share: float) -> float:
    """A model that computes nonsense is not sure of anything; and JSON knows no NaN."""
    return round(share, 6) if math.isfinite(share) else 0.0
