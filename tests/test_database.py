"""Results are kept once, on SQLite and PostgreSQL, whatever comes and whoever is away."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from car_classifier import database, forgetting, schema
from car_classifier.class_map import CarClass
from car_classifier.database import DAY, DatabaseSink
from car_classifier.engine import make_engine, shown
from car_classifier.errors import DatabaseError, SettingsError
from car_classifier.messages import CarPhoto
from car_classifier.outlets import open_database
from tests.postgres import PASSWORD, Postgres
from tests.scripts import ROOT, SECONDS, clean_environment
from tests.stored import (
    AUDI,
    BMW,
    MINUTE,
    MODEL,
    NOW,
    batch,
    count,
    everything,
    prediction,
    rejection,
    rows,
)

PLACE = {"topic": "photos", "partition": 0}

# Each has every answer once.
ANSWER_COUNTS = [
    *(schema.minute_counts, schema.minute_confidence, schema.minute_latency),
    *(schema.hour_counts, schema.hour_confidence, schema.hour_latency),
]


def go_on() -> bool:
    return True


@contextlib.contextmanager
def opened(url: str, keep_days: float | None = None) -> Iterator[DatabaseSink]:
    with contextlib.closing(DatabaseSink(url, MODEL, keep_days)) as sink:
        assert sink.connect(lambda: False)
        yield sink


@pytest.fixture
def sink(database_url: str) -> Iterator[DatabaseSink]:
    with opened(database_url) as sink:
        yield sink


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_prediction_is_kept_with_all_that_is_known(sink: DatabaseSink, database_url: str) -> None:
    assert sink.deliver(batch(prediction(7)), go_on)

    [row] = rows(database_url, schema.predictions)
    assert json.loads(row.pop("top_k")) == [
        {"make": "BMW", "model": "M3 Coupe", "year": 2012, "confidence": 0.75},
        {"make": "Audi", "model": None, "year": None, "confidence": 0.25},
    ]
    assert row == {
        **PLACE,
        "offset": 7,
        "captured": NOW - 0.5,
        "received": NOW - 0.1,
        "predicted": NOW,
        "camera_id": "cam01",
        "image_name": "coche.jpg",
        "make": "BMW",
        "model": "M3 Coupe",
        "year": 2012,
        "certain": True,
        "confidence": 0.75,
        "latency_ms": 500.0,
        "model_file": "cars.keras",
        "model_sha256": "ab" * 32,
    }
    assert rows(database_url, schema.thumbnails) == [
        {**PLACE, "offset": 7, "jpeg": b"a small JPEG"}
    ]


def test_an_unsure_answer_is_kept_with_its_best_guess(
    sink: DatabaseSink, database_url: str
) -> None:
    unsure = prediction(0, certain=False, top_k=[(AUDI, 0.2)], thumbnail=None)

    sink.deliver(batch(unsure), go_on)

    [row] = rows(database_url, schema.predictions)
    assert (row["make"], row["model"], row["year"], row["certain"]) == ("Audi", "", None, False)
    assert rows(database_url, schema.thumbnails) == []


def test_a_dead_letter_is_listed_with_its_reason(sink: DatabaseSink, database_url: str) -> None:
    assert sink.deliver(batch(rejection(3), key=b"cam\xff"), go_on)
    assert sink.deliver(batch(rejection(4), key=None), go_on)

    first, second = rows(database_url, schema.dead_letters)
    assert first == {
        **PLACE,
        "offset": 3,
        "rejected": NOW,
        "camera_key": "cam\ufffd",
        "reason": "not_an_image",
        "detail": "expected an image",
        "attempts": 1,
        "size": 5,
    }
    assert second["camera_key"] is None
    assert rows(database_url, schema.minute_dead) == [
        {"minute": MINUTE, "reason": "not_an_image", "count": 2}
    ]


def test_answers_are_counted_by_the_minute(sink: DatabaseSink, database_url: str) -> None:
    sink.deliver(batch(prediction(0), prediction(1, camera="cam02"), prediction(2)), go_on)
    sink.deliver(batch(prediction(3), prediction(4, certain=False, predicted=NOW + 60)), go_on)

    bmw = {"make": "BMW", "model": "M3 Coupe"}
    assert rows(database_url, schema.minute_counts) == [
        {"minute": MINUTE, "camera_id": "cam01", **bmw, "certain": True, "count": 3},
        {"minute": MINUTE, "camera_id": "cam02", **bmw, "certain": True, "count": 1},
        {"minute": MINUTE + 60, "camera_id": "cam01", **bmw, "certain": False, "count": 1},
    ]
    assert rows(database_url, schema.minute_confidence) == [
        {"minute": MINUTE, "bucket": 15, "count": 4},
        {"minute": MINUTE + 60, "bucket": 15, "count": 1},
    ]
    half_a_second, a_minute = schema.latency_bucket(500), schema.latency_bucket(60_500)
    assert rows(database_url, schema.minute_latency) == [
        {"minute": MINUTE, "camera_id": "cam01", "bucket": half_a_second, "count": 3},
        {"minute": MINUTE, "camera_id": "cam02", "bucket": half_a_second, "count": 1},
        {"minute": MINUTE + 60, "camera_id": "cam01", "bucket": a_minute, "count": 1},
    ]


def test_answers_are_counted_by_the_hour(sink: DatabaseSink, database_url: str) -> None:
    hour = MINUTE // 3600 * 3600
    sink.deliver(batch(prediction(0), prediction(1, camera="cam02"), rejection(2)), go_on)
    sink.deliver(batch(prediction(3, predicted=NOW + 60), rejection(4)), go_on)
    sink.deliver(batch(prediction(5, certain=False, predicted=NOW + 3600)), go_on)

    bmw = {"make": "BMW", "model": "M3 Coupe"}
    assert rows(database_url, schema.hour_counts) == [
        {"hour": hour, **bmw, "certain": True, "count": 3},
        {"hour": hour + 3600, **bmw, "certain": False, "count": 1},
    ]
    assert rows(database_url, schema.hour_confidence) == [
        {"hour": hour, "bucket": 15, "count": 3},
        {"hour": hour + 3600, "bucket": 15, "count": 1},
    ]
    assert [row["count"] for row in rows(database_url, schema.hour_latency)] == [1, 1, 1, 1]
    assert rows(database_url, schema.hour_dead) == [
        {"hour": hour, "reason": "not_an_image", "count": 2}
    ]


def test_a_camera_is_listed_with_its_latest_photo(sink: DatabaseSink, database_url: str) -> None:
    sink.deliver(batch(prediction(5), prediction(6), prediction(0, 1, "cam02")), go_on)
    sink.deliver(batch(prediction(4, predicted=NOW - 30)), go_on)  # older, and late
    [cam01, cam02] = rows(database_url, schema.cameras)
    assert cam01 == {
        "camera_id": "cam01",
        "last_captured": NOW - 0.5,
        "last_predicted": NOW,
        **PLACE,
        "offset": 6,
    }
    assert (cam02["camera_id"], cam02["partition"], cam02["offset"]) == ("cam02", 1, 0)

    sink.deliver(batch(prediction(7, predicted=NOW + 1)), go_on)

    assert rows(database_url, schema.cameras)[0]["offset"] == 7


def test_a_redelivered_batch_changes_nothing(sink: DatabaseSink, database_url: str) -> None:
    first = batch(prediction(0), rejection(1), prediction(2))
    sink.deliver(first, go_on)
    kept = everything(database_url)

    # Again, as after a crash before the commit: answered anew, at another time.
    later = NOW + 120
    again = batch(prediction(0, predicted=later), rejection(1), prediction(2, predicted=later))
    sink.deliver(first, go_on)
    sink.deliver(again, go_on)

    assert everything(database_url) == kept


def test_of_a_batch_that_is_partly_known_the_new_part_is_kept_and_counted(
    sink: DatabaseSink, database_url: str
) -> None:
    sink.deliver(batch(prediction(0), prediction(1), rejection(2)), go_on)

    sink.deliver(batch(prediction(1), rejection(2), prediction(3), rejection(4)), go_on)

    assert [row["offset"] for row in rows(database_url, schema.predictions)] == [0, 1, 3]
    assert len(rows(database_url, schema.thumbnails)) == 3
    for table in ANSWER_COUNTS:
        assert count(database_url, table) == 3
    assert count(database_url, schema.minute_dead) == count(database_url, schema.hour_dead) == 2


def test_a_message_that_is_twice_in_a_batch_counts_once(
    sink: DatabaseSink, database_url: str
) -> None:
    sink.deliver(batch(prediction(0), prediction(0), rejection(1), rejection(1)), go_on)

    assert [count(database_url, table) for table in ANSWER_COUNTS] == [1] * 6
    assert count(database_url, schema.minute_dead) == count(database_url, schema.hour_dead) == 1


@pytest.mark.parametrize(
    "name",
    [
        "a\0b",
        "half \ud83d of a letter",
        "x" * 100_000,
        "\U0001f697" * 5000,
        "<script>alert(1)</script>",
        "'; DROP TABLE predictions; --",
        "%s %(x)s :x ? {}",
        "",
    ],
    ids=["nul", "surrogate", "long", "long-utf8", "html", "sql", "placeholders", "empty"],
)
def test_a_name_from_a_stranger_spoils_no_batch(
    sink: DatabaseSink, database_url: str, name: str
) -> None:
    photo = CarPhoto(NOW, name, name, b"")
    odd = prediction(0, photo=photo, top_k=[(CarClass(name or "-", name, 2012), 0.5)])

    key = name.encode(errors="replace")
    assert sink.deliver(batch(odd, prediction(1), rejection(2), key=key), go_on)

    strange, ordinary = rows(database_url, schema.predictions)
    assert ordinary["camera_id"] == "cam01"
    assert len(strange["camera_id"]) <= schema.LONGEST_TEXT
    assert strange["camera_id"][:3] == name.replace("\0", "\ufffd")[:3]
    assert len(rows(database_url, schema.cameras)) == 2


def test_a_model_that_answers_nonsense_spoils_no_batch(
    sink: DatabaseSink, database_url: str
) -> None:
    nonsense = [(BMW, float("nan")), (AUDI, float("inf"))]
    assert sink.deliver(batch(prediction(0, top_k=nonsense, certain=False)), go_on)

    [row] = rows(database_url, schema.predictions)
    assert row["confidence"] == 0
    assert [guess["confidence"] for guess in json.loads(row["top_k"])] == [0, 0]


def test_two_consumers_with_the_same_messages_keep_and_count_each_once(database_url: str) -> None:
    cameras = [f"cam{number}" for number in range(5)]
    answers = [prediction(offset, offset % 3, cameras[offset % 5]) for offset in range(400)]
    batches = [answers[start : start + 10] for start in range(0, 400, 10)]

    def deliver(order: list[Any]) -> None:
        with opened(database_url) as sink:
            for some in order:
                assert sink.deliver(batch(*some), go_on)

    backwards = [some[::-1] for some in batches]
    with ThreadPoolExecutor() as pool:
        list(pool.map(deliver, [batches, backwards]))

    assert len(rows(database_url, schema.predictions)) == 400
    for table in ANSWER_COUNTS:
        assert count(database_url, table) == 400


def test_two_consumers_that_start_at_once_do_not_collide(database_url: str) -> None:
    together = threading.Barrier(4)

    def start(_: int) -> bool:
        together.wait(SECONDS)
        with opened(database_url):
            return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [True] * 4
    assert rows(database_url, schema.schema_version) == [{"version": 1 + len(schema.MIGRATIONS)}]


def test_transactions_that_got_in_each_others_way_are_tried_again_in_silence(
    postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres.new_database()
    with opened(url) as sink:
        failures = iter(["40P01", "40001"])

        @event.listens_for(sink._engine, "commit")
        def fail(connection: Any) -> None:
            if state := next(failures, None):
                connection.exec_driver_sql(
                    f"DO $$ BEGIN RAISE EXCEPTION 'collision' USING ERRCODE = '{state}'; END $$"
                )

        assert sink.deliver(batch(prediction(0)), go_on)

    assert count(url, schema.minute_counts) == 1
    assert capsys.readouterr().err == ""


def test_old_results_are_deleted_from_every_table_in_portions(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "PORTION", 4)
    monkeypatch.setattr(database, "FORGET_MORE_SECONDS", 0.0)
    now = time.time()
    old, new = now - 3 * DAY, now - DAY
    with opened(database_url) as sink:
        for offset in range(10):
            aged = [prediction(offset, 0, f"old{offset}", predicted=old + 60 * offset)]
            aged += [prediction(offset, 1, "new", predicted=new)]
            sink.deliver(batch(*aged), go_on)
        sink.deliver(batch(rejection(50)), go_on)  # NOW is years ago

    with opened(database_url, keep_days=2) as sink:
        portions = []
        for offset in range(100, 105):
            sink.deliver(batch(prediction(offset, 1, "new", predicted=now)), go_on)
            portions.append(len(rows(database_url, schema.predictions)) - 10 - len(portions) - 1)

    assert portions == [6, 2, 0, 0, 0]
    left = everything(database_url)
    assert {row["partition"] for row in left["predictions"]} == {1}
    assert {row["partition"] for row in left["thumbnails"]} == {1}
    assert len(left["thumbnails"]) == len(left["predictions"]) == 15
    assert [row["camera_id"] for row in left["cameras"]] == ["new"]
    assert left["dead_letters"] == left["minute_dead"] == left["hour_dead"] == []
    for table in ANSWER_COUNTS:
        assert count(database_url, table) == 15


def test_without_keep_days_nothing_is_deleted(sink: DatabaseSink, database_url: str) -> None:
    sink.deliver(batch(prediction(0, predicted=60.0)), go_on)
    sink.deliver(batch(prediction(1)), go_on)

    assert len(rows(database_url, schema.predictions)) == 2


def test_a_killed_server_is_waited_for_and_nothing_is_lost(
    postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres.new_database()
    waited = []

    def keep_waiting() -> bool:
        waited.append(1)
        return True

    def deliver() -> None:
        for offset in range(0, 400, 4):
            answers = [prediction(each) for each in range(offset, offset + 4)]
            assert sink.deliver(batch(*answers), keep_waiting)
            time.sleep(0.01)

    with opened(url) as sink, ThreadPoolExecutor(1) as pool:
        delivered = pool.submit(deliver)
        wait_until(lambda: count(url, schema.minute_counts) >= 40)
        postgres.kill()
        try:
            wait_until(lambda: len(waited) > 5)
        finally:
            postgres.start()
        delivered.result(SECONDS)

    assert len(rows(url, schema.predictions)) == 400
    assert count(url, schema.minute_counts) == 400
    away, back = capsys.readouterr().err.splitlines()
    assert away.startswith("Database postgresql+psycopg://tests:***@127.0.0.1:")
    assert "takes no results (" in away
    assert away.endswith("; waiting...")
    assert back.endswith(" takes results again")


def test_a_server_that_is_not_up_yet_is_waited_for(
    postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    url = postgres.new_database()
    postgres.kill()
    try:
        with ThreadPoolExecutor(1) as pool, contextlib.closing(DatabaseSink(url, MODEL)) as sink:
            said = []
            connected = pool.submit(sink.connect, lambda: False)
            wait_until(lambda: bool(said.append(capsys.readouterr().err) or "".join(said)))
            assert "takes no results" in "".join(said)
            postgres.start()
            assert connected.result(SECONDS)
    finally:
        postgres.kill()
        postgres.start()


def test_a_locked_file_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    with opened(url) as sink, contextlib.closing(sqlite3.connect(tmp_path / "results.db")) as other:
        other.execute("BEGIN IMMEDIATE")

        def keep_waiting() -> bool:
            other.rollback()
            return True

        assert sink.deliver(batch(prediction(0)), keep_waiting)

    assert count(url, schema.minute_counts) == 1
    away, back = capsys.readouterr().err.splitlines()
    assert "takes no results (database is locked); waiting..." in away
    assert back.endswith("takes results again")


def test_a_full_disk_is_waited_for_and_the_batch_kept_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    pages = [60]
    with opened(url) as sink:

        @event.listens_for(sink._engine, "connect")
        def limit(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages[0]}")

        sink._engine.dispose()
        large = [prediction(offset, thumbnail=b"x" * 10_000) for offset in range(40)]

        def keep_waiting() -> bool:
            assert rows(url, schema.predictions) == []
            pages[0] = 10_000
            return True

        assert sink.deliver(batch(*large), keep_waiting)

    assert len(rows(url, schema.thumbnails)) == count(url, schema.minute_counts) == 40
    assert "takes no results (database or disk is full)" in capsys.readouterr().err


def test_what_sqlite_has_taken_survives_a_power_cut(tmp_path: Path) -> None:
    with make_engine(f"sqlite:///{tmp_path}/results.db").begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_a_stop_ends_the_waiting_and_keeps_nothing_of_the_batch(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    with opened(url) as sink:
        with contextlib.closing(sqlite3.connect(tmp_path / "results.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            assert not sink.deliver(batch(prediction(0)), lambda: False)
            other.rollback()
        assert rows(url, schema.predictions) == []


def test_a_file_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    with opened(url) as sink:
        assert sink.deliver(batch(prediction(0)), go_on)
        for file in tmp_path.glob("results.db*"):
            file.unlink()

        assert sink.deliver(batch(prediction(1)), go_on)
        assert sink.deliver(batch(prediction(2)), go_on)

    assert [row["offset"] for row in rows(url, schema.predictions)] == [1, 2]


def test_tables_that_are_gone_after_an_outage_are_made_again(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    with opened(url) as sink:
        other = sqlite3.connect(tmp_path / "results.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        def keep_waiting() -> bool:
            if other.in_transaction:
                for table in schema.metadata.tables:
                    other.execute(f"DROP TABLE {table}")
                other.execute("COMMIT")
            return True

        assert sink.deliver(batch(prediction(0)), keep_waiting)
        other.close()
    assert count(url, schema.minute_counts) == 1


def test_a_table_that_refuses_a_row_ends_the_service_with_the_reason(postgres: Postgres) -> None:
    url = postgres.new_database()
    with opened(url) as sink:
        with make_engine(url).begin() as connection:
            connection.exec_driver_sql("DROP TABLE minute_counts")
        with pytest.raises(DatabaseError, match='refuses results: relation "minute_counts"') as e:
            sink.deliver(batch(prediction(0)), go_on)
    assert PASSWORD not in str(e.value)
    assert rows(url, schema.predictions) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("predicciones.db", "got no URL of that form"),
        ("postgresql://u:s3cret@host:port/x", "got no URL of that form"),
        ("mysql://u:s3cret@host/x", "got one of 'mysql'"),
        ("sqlite+aiosqlite:///x.db", "got one of 'sqlite"),
        ("sqlite://", "got no file's name"),
        ("sqlite:////nowhere/x.db", "unable to open database file"),
        ("postgresql://u:s3cret@no-such-host.invalid/x", "no-such-host.invalid"),
    ],
)
def test_a_wrong_url_is_refused_with_what_was_expected(url: str, message: str) -> None:
    with pytest.raises(SettingsError) as refused, opened(url):
        pass
    assert message in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, and longer than its header " * 10)
    with pytest.raises(SettingsError, match="file is not a database"):
        DatabaseSink(f"sqlite:///{tmp_path}/notes.txt", MODEL).connect(lambda: False)


def test_a_wrong_password_or_database_is_refused_and_no_password_shown(postgres: Postgres) -> None:
    for url, message in [
        (postgres.url("postgres", "wr0ng"), "password authentication failed"),
        (postgres.url("nothing"), 'database "nothing" does not exist'),
    ]:
        with pytest.raises(SettingsError, match=message) as refused:
            DatabaseSink(url, MODEL).connect(lambda: False)
        assert "tests:***@" in str(refused.value)
        assert "wr0ng" not in str(refused.value)
        assert PASSWORD not in str(refused.value)


def test_a_newer_schema_is_refused_at_start(database_url: str) -> None:
    with opened(database_url):
        pass
    with make_engine(database_url).begin() as connection:
        connection.execute(schema.schema_version.update().values(version=99))

    with pytest.raises(SettingsError, match="version 99"):
        DatabaseSink(database_url, MODEL).connect(lambda: False)


def test_a_password_in_the_query_is_not_shown_either() -> None:
    engine = make_engine("postgresql://host/x?user=u&password=s3cret")
    assert "s3cret" not in shown(engine)
    assert "user=u" in shown(engine)


@pytest.mark.parametrize("package", ["sqlalchemy", "psycopg"])
def test_a_missing_package_is_named_with_what_to_install(tmp_path: Path, package: str) -> None:
    (tmp_path / f"{package}.py").write_text(
        f"raise ModuleNotFoundError('No module named {package}', name='{package}')"
    )
    code = """
import argparse, sys
from car_classifier import outlets
class Known:
    identity = None
try:
    outlets.open_database(argparse.Namespace(database=sys.argv[1], keep_days=None), Known())
except outlets.SettingsError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, "postgresql://host/x"],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert result.stdout == (
        f"{package} is not installed: pip install -r requirements/database.txt\n"
    ), result


def test_keep_days_without_a_database_is_refused() -> None:
    options = argparse.Namespace(database=None, keep_days=3)
    nothing: Any = None
    with pytest.raises(SettingsError, match="--keep-days: expected --database, too"):
        open_database(options, nothing)
