"""The tables come into being, are brought up to date, and never by two consumers at once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert

from car_classifier import schema
from car_classifier.engine import make_engine
from car_classifier.errors import SettingsError


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return make_engine(f"sqlite:///{tmp_path}/results.db")


def version(engine: Engine) -> int | None:
    with engine.begin() as connection:
        return schema.version_of(connection)


def test_the_tables_are_made_once_and_kept(engine: Engine) -> None:
    assert version(engine) is None
    schema.migrate(engine)
    with engine.begin() as connection:
        connection.execute(insert(schema.minute_dead).values(minute=60, reason="x", count=1))

    schema.migrate(engine)

    assert version(engine) == 1 + len(schema.MIGRATIONS)
    with engine.begin() as connection:
        assert connection.execute(schema.minute_dead.select()).all() == [(60, "x", 1)]


def test_an_older_schema_is_brought_up_to_date_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.migrate(engine)
    step = ["CREATE TABLE later (x INTEGER)", "INSERT INTO later VALUES (7)"]
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, step])

    schema.migrate(engine)
    schema.migrate(engine)

    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT x FROM later").all() == [(7,)]
        assert schema.version_of(connection) == 1 + len(schema.MIGRATIONS)


def test_a_migration_that_fails_leaves_the_older_schema_whole(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema.migrate(engine)
    before = version(engine)
    monkeypatch.setattr(schema, "MIGRATIONS", [["CREATE TABLE later (x INTEGER)", "NONSENSE"]])

    with pytest.raises(Exception, match="NONSENSE"):
        schema.migrate(engine)

    assert version(engine) == before
    with engine.begin() as connection:
        assert not connection.dialect.has_table(connection, "later")


def test_a_newer_schema_is_refused(engine: Engine) -> None:
    schema.migrate(engine)
    with engine.begin() as connection:
        connection.execute(schema.schema_version.update().values(version=99))

    with pytest.raises(SettingsError, match=r"of version 99, this program knows up to \d+"):
        schema.migrate(engine)


@pytest.mark.parametrize(
    ("milliseconds", "bucket"),
    [(-5000.0, 0), (0.0, 0), (0.99, 0), (1.0, 1), (1.5, 3), (2.0, 5), (1000.0, 40), (1e300, 123)],
)
def test_a_latency_has_a_bucket(milliseconds: float, bucket: int) -> None:
    assert schema.latency_bucket(milliseconds) == bucket
    assert bucket == 0 or schema.latency_bucket_start_ms(bucket) <= milliseconds
    last = bucket == schema.LATENCY_BUCKETS - 1
    assert last or milliseconds < schema.latency_bucket_start_ms(bucket + 1)


@pytest.mark.parametrize(
    ("confidence", "bucket"), [(0.0, 0), (0.049, 0), (0.5, 10), (0.9999, 19), (1.0, 19), (1.1, 19)]
)
def test_a_confidence_has_a_bucket(confidence: float, bucket: int) -> None:
    assert schema.confidence_bucket(confidence) == bucket


def test_a_minute_is_its_first_second() -> None:
    assert schema.minute_of(119.99) == 60
    assert schema.minute_of(120.0) == 120
    assert math.floor(schema.minute_of(1.7e9)) % 60 == 0
