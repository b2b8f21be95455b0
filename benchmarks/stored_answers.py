"""A database filled as a busy service leaves it, without the days of waiting."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Table

from benchmarks.programs import ROOT
from car_classifier import schema
from car_classifier.class_map import load_class_map
from car_classifier.errors import Reason

__all__ = ["fill"]

CLASSES = ROOT / "models" / "marcas_coches.json"
CAMERAS = [f"cam{number:02d}" for number in range(1, 9)]
TOPIC = "taller_camara_stream"
THRESHOLD = 0.5  # of confidence
DEAD_SHARE = 0.01  # messages rejected for each answer
CHUNK = 10_000  # rows an insert

Row = dict[str, Any]


def fill(
    engine: Engine,
    rows: int,
    since: float,
    until: float,
    cameras: Sequence[str] = CAMERAS,
) -> None:
    """Create the tables and put so many answers in, given between ``since`` and ``until``.

    Some cars are much more common than others, as on a road. The same arguments give the same rows.

    Args:
        engine: an empty database.
        rows: how many answers; of dead letters there are `DEAD_SHARE` times as many.
        since: seconds since 1970.
        until: seconds since 1970.
        cameras: their names.
    """
    schema.migrate(engine)
    counts: dict[Table, Counter[tuple[Any, ...]]] = defaultdict(Counter)
    latest: dict[str, Row] = {}
    chunk: list[Row] = []
    with engine.begin() as connection:
        for row in _answers(rows, since, until, cameras):
            minute, hour = schema.minute_of(row["predicted"]), schema.hour_of(row["predicted"])
            camera = row["camera_id"]
            car = (row["make"], row["model"], row["certain"])
            confidence = schema.confidence_bucket(row["confidence"])
            latency = schema.latency_bucket(row["latency_ms"])
            counts[schema.minute_counts][(minute, camera, *car)] += 1
            counts[schema.minute_confidence][minute, confidence] += 1
            counts[schema.minute_latency][minute, camera, latency] += 1
            counts[schema.hour_counts][(hour, *car)] += 1
            counts[schema.hour_confidence][hour, confidence] += 1
            counts[schema.hour_latency][hour, camera, latency] += 1
            latest[camera] = row
            chunk.append(row)
            if len(chunk) == CHUNK:
                connection.execute(schema.predictions.insert(), chunk)
                chunk.clear()
        if chunk:
            connection.execute(schema.predictions.insert(), chunk)
        for table, count in counts.items():
            _insert_counts(connection, table, count)
        connection.execute(schema.cameras.insert(), [_camera(row) for row in latest.values()])
        _fill_dead_letters(connection, round(rows * DEAD_SHARE), since, until, cameras)


def _answers(rows: int, since: float, until: float, cameras: Sequence[str]) -> Iterator[Row]:
    chance = random.Random(rows)
    classes = load_class_map(CLASSES)
    chance.shuffle(classes)
    cars = chance.choices(classes, [1 / (rank + 5) for rank in range(len(classes))], k=rows)
    times = sorted(chance.uniform(since, until) for _ in range(rows))
    for number, (car, predicted) in enumerate(zip(cars, times, strict=True)):
        confidence = chance.betavariate(4, 1)
        latency_ms = chance.lognormvariate(4, 0.5)
        others = [car, *chance.sample(classes, 2)]
        yield {
            "topic": TOPIC,
            "partition": number % 3,
            "offset": number // 3,
            "captured": predicted - latency_ms / 1000,
            "received": predicted - latency_ms / 2000,
            "predicted": predicted,
            "camera_id": chance.choice(cameras),
            "image_name": f"photo-{number:07d}.jpg",
            "make": car.make,
            "model": car.model,
            "year": car.year,
            "certain": confidence >= THRESHOLD,
            "confidence": confidence,
            "top_k": json.dumps(
                [
                    {"make": other.make, "model": other.model, "year": other.year}
                    | {"confidence": share}
                    for other, share in zip(
                        others,
                        (confidence, (1 - confidence) / 2, (1 - confidence) / 4),
                        strict=True,
                    )
                ]
            ),
            "latency_ms": latency_ms,
            "model_file": "clasificador_coches_v4.tflite",
            "model_sha256": "0" * 64,
        }


def _camera(row: Row) -> Row:
    place = {name: row[name] for name in ("camera_id", "topic", "partition", "offset")}
    return place | {"last_captured": row["captured"], "last_predicted": row["predicted"]}


def _fill_dead_letters(
    connection: Connection, rows: int, since: float, until: float, cameras: Sequence[str]
) -> None:
    chance = random.Random(rows)
    reasons = [reason.value for reason in Reason]
    letters: list[Row] = [
        {
            "topic": TOPIC,
            "partition": number % 3,
            "offset": 10**9 + number,
            "rejected": since + (until - since) * (number + 1) / rows,
            "camera_key": chance.choice(cameras),
            "reason": chance.choice(reasons),
            "detail": "expected a photo, got something else",
            "attempts": 1,
            "size": chance.randrange(10**6),
        }
        for number in range(rows)
    ]
    if letters:
        connection.execute(schema.dead_letters.insert(), letters)
        for table, period_of in (
            (schema.minute_dead, schema.minute_of),
            (schema.hour_dead, schema.hour_of),
        ):
            dead = Counter((period_of(row["rejected"]), row["reason"]) for row in letters)
            _insert_counts(connection, table, dead)


def _insert_counts(connection: Connection, table: Table, counts: Counter[tuple[Any, ...]]) -> None:
    names = [column.name for column in table.primary_key]
    rows = [dict(zip(names, key, strict=True)) | {"count": count} for key, count in counts.items()]
    for first in range(0, len(rows), CHUNK):
        connection.execute(table.insert(), rows[first : first + CHUNK])
