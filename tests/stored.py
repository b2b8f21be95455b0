"""Answers to keep in a database, and what is in one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Table, select

from car_classifier import schema
from car_classifier.class_map import CarClass
from car_classifier.classifying import Answers, Rejection
from car_classifier.engine import make_engine
from car_classifier.errors import MessageError, Reason
from car_classifier.messages import CarPhoto
from car_classifier.model import ModelIdentity
from car_classifier.predictions import Prediction, Source
from tests.photos import Record

MODEL = ModelIdentity("cars.keras", "ab" * 32, "litert")
BMW, AUDI = CarClass("BMW", "M3 Coupe", 2012), CarClass("Audi")
NOW = 1_700_000_030.0  # the 30th second of ...
MINUTE = 1_700_000_000 - 20  # ... this minute


def prediction(
    offset: int, partition: int = 0, camera: str = "cam01", **changes: Any
) -> Prediction:
    """Return an answer that says BMW with 75 %, half a second after the photo was taken."""
    photo = CarPhoto(NOW - 0.5, camera, "coche.jpg", b"not kept")
    answer = Prediction(
        photo,
        Source("photos", partition, offset),
        [(BMW, 0.75), (AUDI, 0.25)],
        True,
        NOW - 0.1,
        NOW,
        b"a small JPEG",
    )
    return replace(answer, **changes)


def rejection(offset: int, partition: int = 0) -> Rejection:
    error = MessageError(Reason.NOT_AN_IMAGE, "expected an image")
    return Rejection(Source("photos", partition, offset), error, NOW)


def batch(*answers: Prediction | Rejection, key: bytes | None = b"cam01") -> Answers:
    """Return a batch as the service delivers it."""
    records = [
        Record(a.source.topic, a.source.partition, a.source.offset, b"12345", key) for a in answers
    ]
    return Answers(records, list(answers))


def rows(url: str, table: Table) -> list[dict[str, Any]]:
    """Return a table, in the order of its key."""
    engine = make_engine(url, writes=False)
    try:
        with engine.begin() as connection:
            found = connection.execute(select(table).order_by(*table.primary_key))
            return [dict(row) for row in found.mappings()]
    finally:
        engine.dispose()


def everything(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return all tables."""
    return {table.name: rows(url, table) for table in schema.metadata.sorted_tables}


def count(url: str, table: Table) -> int:
    """Return the sum of a table of counts."""
    return sum(row["count"] for row in rows(url, table))
