"""What the page asks of the database. Each function is one look: it reads, and changes nothing.

The counts that the consumer keeps by the minute and by the hour are read wherever they answer the
question, and the answers themselves only by an index: so a million of them cost no more than a few.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, Select, and_, cast, func, literal, select

from car_classifier import schema
from dashboard.windows import Window

__all__ = [
    "SEARCHED",
    "CameraSeen",
    "CarCount",
    "Guess",
    "LatestPhoto",
    "Moment",
    "answers",
    "cameras_seen",
    "car_counts",
    "confidence_counts",
    "dead_counts",
    "dead_letters",
    "last_answer",
    "latency_counts",
    "latest_photos",
    "moments",
    "percentile",
]

SEARCHED = 50_000  # newest answers of the window that a search looks through

LatencyCounts = Mapping[int, int]  # bucket of `car_classifier.schema` -> number of photos


@dataclass(frozen=True)
class Guess:
    """A car that a photo may show."""

    make: str
    model: str | None
    year: int | None
    confidence: float  # 0..1


@dataclass(frozen=True)
class LatestPhoto:
    """The last answer of a camera."""

    camera_id: str
    image_name: str
    captured: float  # seconds since 1970, by the camera's clock
    certain: bool
    guesses: list[Guess]  # best first
    jpeg: bytes | None  # None: no thumbnail is kept


@dataclass(frozen=True)
class CarCount:
    """How often a car was the best guess."""

    make: str
    model: str  # "" where the make is all we know
    certain: bool  # whether the confidence reached the threshold
    count: int


@dataclass(frozen=True)
class CameraSeen:
    """When a camera was last heard of."""

    camera_id: str
    last_captured: float  # seconds since 1970, by the camera's clock
    last_predicted: float  # seconds since 1970
    count: int  # answers in the window


@dataclass(frozen=True)
class Moment:
    """A step of the window."""

    start: int  # seconds since 1970
    count: int  # answers
    p50_ms: float | None  # None: no answers
    p95_ms: float | None


def last_answer(connection: Connection) -> float | None:
    """When the newest answer was given, in seconds since 1970; None if there is none."""
    newest: float | None = connection.scalar(select(func.max(schema.predictions.c.predicted)))
    return newest


def latest_photos(connection: Connection, most: int) -> list[LatestPhoto]:
    """The last answer of each of the cameras heard of last, in the order of their names."""
    cameras, predictions, thumbnails = schema.cameras, schema.predictions, schema.thumbnails
    rows = connection.execute(
        select(predictions, thumbnails.c.jpeg)
        .select_from(cameras)
        .join(predictions, _same_message(cameras, predictions))
        .outerjoin(thumbnails, _same_message(cameras, thumbnails))
        .order_by(cameras.c.last_predicted.desc())
        .limit(most)
    )
    photos = [
        LatestPhoto(
            row.camera_id,
            row.image_name,
            row.captured,
            row.certain,
            [
                Guess(guess["make"], guess["model"], guess["year"], guess["confidence"])
                for guess in json.loads(row.top_k)
            ],
            row.jpeg,
        )
        for row in rows
    ]
    return sorted(photos, key=lambda photo: photo.camera_id)


def car_counts(connection: Connection, window: Window, now: float) -> list[CarCount]:
    """How often each car was the best guess, the most frequent first."""
    counts = schema.hour_counts if window.by_hour else schema.minute_counts
    cars = (counts.c.make, counts.c.model, counts.c.certain)
    rows = connection.execute(_summed(counts, window, now, *cars)).all()
    found = [CarCount(make, model, certain, count) for make, model, certain, count in rows]
    return sorted(found, key=lambda car: (-car.count, car.make, car.model))


def confidence_counts(connection: Connection, window: Window, now: float) -> list[int]:
    """Answers by confidence: `CONFIDENCE_BUCKETS` numbers, for equal parts of 0..1."""
    counts = schema.hour_confidence if window.by_hour else schema.minute_confidence
    rows = connection.execute(_summed(counts, window, now, counts.c.bucket))
    found = {row.bucket: row.total for row in rows}
    return [found.get(bucket, 0) for bucket in range(schema.CONFIDENCE_BUCKETS)]


def dead_counts(connection: Connection, window: Window, now: float) -> dict[str, int]:
    """Rejected messages by reason, the most frequent first."""
    counts = schema.hour_dead if window.by_hour else schema.minute_dead
    rows = connection.execute(_summed(counts, window, now, counts.c.reason)).all()
    return {row.reason: row.total for row in sorted(rows, key=lambda row: (-row.total, row.reason))}


def latency_counts(connection: Connection, window: Window, now: float) -> dict[int, dict[int, int]]:
    """Answers by the step in which they were given (its first second) and by bucket of latency."""
    counts = schema.hour_latency if window.by_hour else schema.minute_latency
    period = _period(counts)
    # In the text of the statement: PostgreSQL takes two parameters for two different steps.
    length = literal(window.step, literal_execute=True)
    step = (period - period % length).label("step")
    found: dict[int, dict[int, int]] = defaultdict(dict)
    for start, bucket, count in connection.execute(
        _summed(counts, window, now, step, counts.c.bucket)
    ):
        found[int(start)][bucket] = int(count)
    return dict(found)


def moments(counts: Mapping[int, LatencyCounts], window: Window, now: float) -> list[Moment]:
    """Throughput and latency of each step of the window, those without answers too.

    Args:
        counts: of `latency_counts`.
        window: the same as there.
        now: the same as there.
    """
    starts = range(window.start(now), int(now) + 1, window.step)
    return [
        Moment(
            start,
            sum(buckets.values()),
            percentile(buckets, 0.50),
            percentile(buckets, 0.95),
        )
        for start in starts
        for buckets in [counts.get(start, {})]
    ]


def percentile(counts: LatencyCounts, share: float) -> float | None:
    """The latency in milliseconds that such a share (0..1) of the photos keep below.

    A bucket is 19 % wide; within it the photos are taken to lie evenly.
    """
    total = sum(counts.values())
    if not total:
        return None
    below = 0
    for bucket in sorted(counts):
        if below + counts[bucket] >= share * total:
            break
        below += counts[bucket]
    start = schema.latency_bucket_start_ms(bucket)
    end = schema.latency_bucket_start_ms(bucket + 1)
    return start + (end - start) * (share * total - below) / counts[bucket]


def cameras_seen(connection: Connection, window: Window, now: float, most: int) -> list[CameraSeen]:
    """The cameras, the one heard of last first, with what the window had of them."""
    cameras = schema.cameras
    counts = schema.hour_latency if window.by_hour else schema.minute_latency
    seen = connection.execute(_summed(counts, window, now, counts.c.camera_id))
    found = {row.camera_id: row.total for row in seen}
    rows = connection.execute(select(cameras).order_by(cameras.c.last_predicted.desc()).limit(most))
    return [
        CameraSeen(
            row.camera_id, row.last_captured, row.last_predicted, found.get(row.camera_id, 0)
        )
        for row in rows
    ]


def answers(
    connection: Connection, window: Window, now: float, search: str, most: int
) -> list[Row[Any]]:
    """The newest answers of the window in which every word of a search occurs.

    Words are looked for in camera, image, make and model, in capitals or not, among the newest
    `SEARCHED` answers: so a search takes its time, however many there are.

    Returns:
        Rows of `car_classifier.schema.predictions`, the newest first.
    """
    predictions = schema.predictions
    newest = (
        select(predictions)
        .where(predictions.c.predicted >= window.start(now))
        .order_by(predictions.c.predicted.desc())
    )
    words = search.split()
    if not words:
        return list(connection.execute(newest.limit(most)))
    looked_through = newest.limit(SEARCHED).subquery()
    columns = looked_through.c
    text = columns.camera_id + " " + columns.image_name + " " + columns.make + " " + columns.model
    found = (
        select(looked_through)
        .where(*(text.icontains(word, autoescape=True) for word in words))
        .order_by(columns.predicted.desc())
        .limit(most)
    )
    return list(connection.execute(found))


def dead_letters(connection: Connection, window: Window, now: float, most: int) -> list[Row[Any]]:
    """The newest rejected messages of the window, rows of `car_classifier.schema.dead_letters`."""
    letters = schema.dead_letters
    found = (
        select(letters)
        .where(letters.c.rejected >= window.start(now))
        .order_by(letters.c.rejected.desc())
        .limit(most)
    )
    return list(connection.execute(found))


def _summed(counts: Any, window: Window, now: float, *by: Any) -> Select[Any]:
    """The counts of a table since the window's start, added up."""
    total = cast(func.sum(counts.c.count), BigInteger).label("total")
    return select(*by, total).where(_period(counts) >= window.start(now)).group_by(*by)


def _period(counts: Any) -> Any:
    """The column of a table of counts that says when: the first second of a minute or an hour."""
    return counts.c.minute if "minute" in counts.c else counts.c.hour


def _same_message(one: Any, other: Any) -> Any:
    return and_(
        one.c.topic == other.c.topic,
        one.c.partition == other.c.partition,
        one.c.offset == other.c.offset,
    )
