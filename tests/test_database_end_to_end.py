"""`--database` as an operator uses it: with the real script, a real broker and real outages."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from car_classifier import schema
from tests.kafka_services import Embedded
from tests.photos import base64_of, encoded, message
from tests.postgres import PASSWORD, Postgres
from tests.scripts import CONSUMER, SECONDS, Programs, assert_no_stack_trace
from tests.stored import count, everything, rows
from tests.topics import publish

# The service, killed as by a power cut between keeping a batch and committing it.
KILLED_BEFORE_COMMIT = [
    "-c",
    """
import os, signal, sys
import consumidor_clasificador as service
service.PhotoStream.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(service.main())
""",
]


@pytest.fixture
def broker(embedded: Embedded) -> Embedded:
    """What these tests are about is on the other side: one broker will do."""
    return embedded


def photo(number: int) -> tuple[str, bytes]:
    """Return the key and the value of a message."""
    picture = base64_of(encoded(Image.new("RGB", (640, 360), (255, 0, 0))))
    camera = f"cam{number % 3}"
    name = f"coche{number}.jpg"
    value = message(
        camera_id=camera, image_name=name, image_data=picture, timestamp=time.time() - 1
    )
    return camera, value


NO_PHOTO = ("cam0", b"{}")


def arguments(topic: str, group_id: str, *more: str) -> list[Any]:
    return [CONSUMER, "--topic", topic, "--group-id", group_id, "--json", *more]


def kept(url: str) -> int:
    return len(rows(url, schema.predictions)) + len(rows(url, schema.dead_letters))


def wait_for(url: str, messages: int) -> None:
    deadline = time.monotonic() + SECONDS
    while kept(url) < messages:
        assert time.monotonic() < deadline, f"{kept(url)} of {messages} kept"
        time.sleep(0.1)


def test_every_answer_is_in_the_database_and_a_second_reading_changes_nothing(
    embedded: Embedded, programs: Programs, topic: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/results.db"

    # Given photos and something else on the topic
    publish(embedded, topic, [*(photo(number) for number in range(20)), NO_PHOTO])

    # When the service has read them
    reading = arguments(topic, f"{topic}-a", "--max-messages", "21")
    service = programs.start(embedded, *reading, DATABASE_URL=url)
    assert service.end() == 0, service

    # Then each is kept once, with the picture and the model's name
    found = rows(url, schema.predictions)
    assert {row["image_name"] for row in found} == {f"coche{number}.jpg" for number in range(20)}
    assert {row["make"] for row in found} == {"Ferrari"}
    assert {row["model_file"] for row in found} == {"colours.tflite"}
    assert all(len(row["model_sha256"]) == 64 for row in found)
    assert all(row["captured"] < row["received"] <= row["predicted"] for row in found)
    pictures = rows(url, schema.thumbnails)
    assert len(pictures) == 20
    assert all(row["jpeg"].startswith(b"\xff\xd8\xff") for row in pictures)
    [dead] = rows(url, schema.dead_letters)
    assert (dead["camera_key"], dead["reason"], dead["size"]) == ("cam0", "missing_field", 2)
    cameras = [row["camera_id"] for row in rows(url, schema.cameras)]
    assert cameras == ["cam0", "cam1", "cam2"]

    # And when another group reads the topic again, nothing changes
    before = everything(url)
    again = arguments(topic, f"{topic}-b", "--max-messages", "21", "--database", url)
    service = programs.start(embedded, *again)
    assert service.end() == 0, service
    assert everything(url) == before
    assert_no_stack_trace(service)


def test_killed_between_keeping_and_committing_a_batch_nothing_is_kept_twice(
    embedded: Embedded, programs: Programs, topic: str, group_id: str, postgres: Postgres
) -> None:
    # Given a service that was killed when its batch was kept and not committed
    url = postgres.new_database()
    publish(embedded, topic, [*(photo(number) for number in range(12)), NO_PHOTO])
    rest = arguments(topic, group_id, "--batch-size", "4")
    killed = programs.start(embedded, *KILLED_BEFORE_COMMIT, *rest[1:], DATABASE_URL=url)
    assert killed.end() == -signal.SIGKILL, killed
    first = kept(url)
    assert 1 <= first <= 4

    # When it is started again
    service = programs.start(embedded, *rest, DATABASE_URL=url)
    # Then it answers the killed batch once more, and that changes nothing
    service.wait_for(lambda: len(service.out) >= 12)
    wait_for(url, 13)
    assert service.stop() == 0, service
    assert len(service.out) == 12
    assert len(rows(url, schema.predictions)) == 12
    for table in (schema.minute_counts, schema.minute_confidence, schema.minute_latency):
        assert count(url, table) == 12
    assert count(url, schema.minute_dead) == 1


def test_while_the_server_is_away_photos_wait_and_then_all_are_kept(
    embedded: Embedded, programs: Programs, topic: str, group_id: str, postgres: Postgres
) -> None:
    # Given a service that keeps results
    url = postgres.new_database()
    service = programs.start(embedded, *arguments(topic, group_id), DATABASE_URL=url)
    service.wait_for_line("Consumer listening")
    publish(embedded, topic, [photo(number) for number in range(5)])
    wait_for(url, 5)

    # When the server crashes while photos come in
    postgres.kill()
    try:
        publish(embedded, topic, [photo(number) for number in range(5, 10)])
        service.wait_for_line("takes no results (")
        publish(embedded, topic, [photo(number) for number in range(10, 15)])
        time.sleep(
            6
        )  # longer than the session: a consumer that shows no sign of life is thrown out
    finally:
        postgres.start()

    # Then the service goes on by itself, and has kept its place in the group
    wait_for(url, 15)
    service.wait_for_line("takes results again")
    assert service.stop() == 0, service
    assert len(rows(url, schema.predictions)) == count(url, schema.minute_counts) == 15
    said = "\n".join(service.err)
    assert said.count("takes no results") == said.count("takes results again") == 1
    assert "Partitions moved" not in said
    assert PASSWORD not in said
    assert "tests:***@" in said
    assert_no_stack_trace(service)


def test_stopped_while_the_database_is_locked_the_photo_comes_again(
    embedded: Embedded, programs: Programs, topic: str, group_id: str, tmp_path: Path
) -> None:
    # Given a database that another program has locked
    url = f"sqlite:///{tmp_path}/results.db"
    service = programs.start(embedded, *arguments(topic, group_id), DATABASE_URL=url)
    service.wait_for_line("Consumer listening")
    with contextlib.closing(sqlite3.connect(tmp_path / "results.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        publish(embedded, topic, [photo(0)])
        service.wait_for_line("takes no results (database is locked); waiting...")

        # When the service is stopped, it ends
        assert service.stop() == 0, service
        other.rollback()
    assert kept(url) == 0

    # Then the photo is not lost
    last = arguments(topic, group_id, "--max-messages", "1")
    assert programs.start(embedded, *last, DATABASE_URL=url).end() == 0
    assert kept(url) == 1
