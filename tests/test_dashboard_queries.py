"""What the dashboard reads is what the consumer has kept, on both databases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete
from sqlalchemy.exc import SQLAlchemyError

from car_classifier import schema
from car_classifier.class_map import CarClass
from car_classifier.database import DatabaseSink
from car_classifier.engine import make_engine
from dashboard import queries
from dashboard.queries import CameraSeen, CarCount, Guess, percentile
from dashboard.reading import NoResultsError, open_engine, reading
from dashboard.windows import WINDOWS, Window
from tests.stored import AUDI, BMW, MODEL, NOW, batch, prediction, rejection

QUARTER, HOUR, DAY = (next(w for w in WINDOWS if w.label == x) for x in ("15 min", "1 h", "24 h"))
BY_MINUTE_AND_BY_HOUR = pytest.mark.parametrize("window", [HOUR, DAY], ids=["minutes", "hours"])


@pytest.fixture
def sink(database_url: str) -> Iterator[DatabaseSink]:
    sink = DatabaseSink(database_url, MODEL)
    assert sink.connect(lambda: False)
    yield sink
    sink.close()


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    schema.migrate(make_engine(database_url))
    engine = open_engine(database_url)
    with reading(engine) as connection:
        connection.rollback()  # what is kept from now on is to be seen
        yield connection
    engine.dispose()


def keep(sink: DatabaseSink, *answers: Any) -> None:
    assert sink.deliver(batch(*answers), lambda: True)


def test_the_latest_photo_of_each_camera_comes_with_its_guesses_and_its_thumbnail(
    sink: DatabaseSink, connection: Connection
) -> None:
    keep(sink, prediction(1, 0, "b"), prediction(2, 0, "a", predicted=NOW - 5, thumbnail=None))
    keep(sink, prediction(3, 0, "b", predicted=NOW + 1, thumbnail=b"newer", certain=False))

    first, second = queries.latest_photos(connection, most=10)

    assert (first.camera_id, first.certain, first.jpeg) == ("a", True, None)
    assert (second.camera_id, second.certain, second.jpeg) == ("b", False, b"newer")
    assert second.guesses == [
        Guess("BMW", "M3 Coupe", 2012, 0.75),
        Guess("Audi", None, None, 0.25),
    ]
    assert second.captured == NOW - 0.5


def test_of_many_cameras_those_heard_of_last_are_shown_in_the_order_of_their_names(
    sink: DatabaseSink, connection: Connection
) -> None:
    late = {"d": 4, "a": 3, "c": 2, "b": 1}
    keep(sink, *(prediction(n, 0, camera, predicted=NOW + n) for camera, n in late.items()))

    shown = queries.latest_photos(connection, most=3)

    assert [photo.camera_id for photo in shown] == ["a", "c", "d"]


@BY_MINUTE_AND_BY_HOUR
def test_cars_are_counted_within_the_window(
    sink: DatabaseSink, connection: Connection, window: Window
) -> None:
    audi = [(AUDI, 0.4), (BMW, 0.3)]
    keep(sink, prediction(1), prediction(2, 0, "cam02"), prediction(3, top_k=audi, certain=False))
    keep(sink, prediction(4, predicted=window.start(NOW) - 1), prediction(5, predicted=NOW - 60))

    assert queries.car_counts(connection, window, NOW) == [
        CarCount("BMW", "M3 Coupe", True, 3),
        CarCount("Audi", "", False, 1),
    ]


@BY_MINUTE_AND_BY_HOUR
def test_confidence_is_counted_in_equal_parts(
    sink: DatabaseSink, connection: Connection, window: Window
) -> None:
    keep(sink, *(prediction(n, top_k=[(BMW, share)]) for n, share in enumerate([0, 0.07, 0.09, 1])))

    counts = queries.confidence_counts(connection, window, NOW)

    assert counts == [1, 2, *[0] * 17, 1]


@BY_MINUTE_AND_BY_HOUR
def test_rejected_messages_are_counted_by_reason(
    sink: DatabaseSink, connection: Connection, window: Window
) -> None:
    keep(sink, rejection(1), rejection(2), prediction(3))

    assert queries.dead_counts(connection, window, NOW) == {"not_an_image": 2}
    assert queries.dead_counts(connection, window, NOW + 2 * window.seconds) == {}


@BY_MINUTE_AND_BY_HOUR
def test_each_step_has_its_photos_and_their_latency(
    sink: DatabaseSink, connection: Connection, window: Window
) -> None:
    earlier = NOW - 2 * window.step
    keep(sink, prediction(1, predicted=NOW), prediction(2, predicted=NOW), prediction(3))
    keep(sink, prediction(4, 0, "cam02", predicted=earlier), prediction(5, predicted=earlier))

    counts = queries.latency_counts(connection, window, NOW)
    found = queries.moments(counts, window, NOW)

    assert [moment.start for moment in found] == [
        window.start(NOW) + n * window.step for n in range(window.seconds // window.step)
    ]
    assert [moment.count for moment in found][-3:] == [2, 0, 3]
    assert sum(moment.count for moment in found) == 5
    assert found[-1].start <= NOW < found[-1].start + window.step
    assert found[-1].p50_ms == pytest.approx(500, rel=0.2)
    assert found[-2].p50_ms is None


@BY_MINUTE_AND_BY_HOUR
def test_cameras_are_listed_with_what_the_window_had_of_them(
    sink: DatabaseSink, connection: Connection, window: Window
) -> None:
    old = window.start(NOW) - 5.0
    keep(sink, prediction(1, 0, "a"), prediction(2, 0, "a"), prediction(3, 0, "b", predicted=old))

    assert queries.cameras_seen(connection, window, NOW, most=10) == [
        CameraSeen("a", NOW - 0.5, NOW, 2),
        CameraSeen("b", NOW - 0.5, old, 0),
    ]
    assert len(queries.cameras_seen(connection, window, NOW, most=1)) == 1


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", [3, 2, 1]),
        ("bmw", [3, 1]),
        ("  M3  GATE ", [3]),
        ("audi gate", []),
        ("%", []),
        ("_", []),
        ("' OR 1=1 --", []),
    ],
)
def test_a_search_finds_answers_in_which_every_word_occurs(
    sink: DatabaseSink, connection: Connection, search: str, found: list[int]
) -> None:
    keep(sink, prediction(1, predicted=NOW - 2), prediction(3, 0, "Gate"))
    keep(sink, prediction(2, predicted=NOW - 1, top_k=[(AUDI, 0.9)]))
    keep(sink, prediction(9, predicted=NOW - 2 * HOUR.seconds))

    rows = queries.answers(connection, HOUR, NOW, search, most=10)

    assert [row.offset for row in rows] == found


def test_a_search_looks_through_the_newest_only(
    sink: DatabaseSink, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "SEARCHED", 2)
    keep(sink, *(prediction(n, predicted=NOW - 10 + n) for n in range(4)))

    assert [row.offset for row in queries.answers(connection, HOUR, NOW, "bmw", 9)] == [3, 2]
    assert len(queries.answers(connection, HOUR, NOW, "", 9)) == 4
    assert len(queries.answers(connection, HOUR, NOW, "", 3)) == 3


def test_dead_letters_come_newest_first_with_their_reason(
    sink: DatabaseSink, connection: Connection
) -> None:
    keep(sink, rejection(1), rejection(2, 1))

    rows = queries.dead_letters(connection, HOUR, NOW, most=10)

    assert {(row.partition, row.offset) for row in rows} == {(0, 1), (1, 2)}
    assert rows[0].reason == "not_an_image"
    assert queries.dead_letters(connection, QUARTER, NOW + 3600, most=10) == []


def test_an_empty_database_has_nothing_to_show(connection: Connection) -> None:
    assert queries.last_answer(connection) is None
    assert queries.latest_photos(connection, most=10) == []
    for window in WINDOWS:
        assert queries.car_counts(connection, window, NOW) == []
        assert sum(queries.confidence_counts(connection, window, NOW)) == 0
        counts = queries.latency_counts(connection, window, NOW)
        assert {moment.count for moment in queries.moments(counts, window, NOW)} == {0}


def test_the_page_cannot_change_the_database(connection: Connection) -> None:
    with pytest.raises(SQLAlchemyError, match=r"readonly|read-only"):
        connection.execute(delete(schema.predictions))


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "results.db"
    with (
        pytest.raises(NoResultsError, match="no database"),
        reading(open_engine(f"sqlite:///{file}")),
    ):
        pass
    assert not file.exists()


def test_a_database_without_tables_or_with_those_of_another_release_is_named(
    tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "empty.db").touch()
    empty = open_engine(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(NoResultsError, match="has no results yet"), reading(empty):
        pass

    sink = DatabaseSink(database_url, MODEL)
    assert sink.connect(lambda: False)
    with sink._engine.begin() as connection:
        connection.execute(schema.schema_version.update().values(version=99))
    sink.close()
    with (
        pytest.raises(NoResultsError, match="version 99"),
        reading(open_engine(database_url)),
    ):
        pass


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    engine = open_engine("postgresql://me:secret@127.0.0.1:1/cars")
    with pytest.raises(NoResultsError, match="does not answer") as error, reading(engine):
        pass
    assert "secret" not in str(error.value)


def test_percentiles_of_buckets_are_near_those_of_the_photos() -> None:
    chance = random.Random(1)
    latencies = sorted(chance.lognormvariate(4, 1) for _ in range(5000))
    buckets: dict[int, int] = {}
    for latency in latencies:
        bucket = schema.latency_bucket(latency)
        buckets[bucket] = buckets.get(bucket, 0) + 1

    for share in (0.01, 0.5, 0.95, 1.0):
        exact = latencies[min(len(latencies) - 1, int(share * len(latencies)))]
        assert percentile(buckets, share) == pytest.approx(exact, rel=0.19)
    assert percentile({}, 0.5) is None


def test_a_window_starts_with_a_step_and_ends_with_the_one_of_now() -> None:
    for window in WINDOWS:
        for now in (NOW, float(window.step * 10), window.step * 10 - 0.001):
            start = window.start(now)
            assert start % window.step == 0
            assert start + window.seconds - window.step <= now < start + window.seconds


def test_a_car_of_which_only_the_make_is_known_is_counted_by_it(
    sink: DatabaseSink, connection: Connection
) -> None:
    keep(sink, prediction(1, top_k=[(CarClass("Tesla"), 0.9)]))

    assert queries.car_counts(connection, HOUR, NOW) == [CarCount("Tesla", "", True, 1)]
    assert queries.answers(connection, HOUR, NOW, "tesla", 5)[0].year is None
