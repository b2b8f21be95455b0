"""Both scripts as programs of their own, through a real broker: what a user sees and relies on."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from car_classifier.embedded_broker import LOOPBACK, free_port
from tests.kafka_services import TOPIC, Broker, RealKafka
from tests.photos import BLUE, GREEN, GREY, RED, base64_of, colour, message
from tests.scripts import (
    CONSUMER,
    PRODUCER,
    ROOT,
    SECONDS,
    Program,
    Programs,
    answers,
    assert_no_stack_trace,
    clean_environment,
)
from tests.topics import LARGEST_PHOTO, publish, records

START = ["Loading model and class names...", "Model and classes loaded successfully!"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos; the last one is as large as photos may be."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(colour(RED))
    (folder / "b.JPG").write_bytes(colour(GREEN, "JPEG"))
    (folder / "c.bmp").write_bytes(colour(BLUE, "BMP", 2000).ljust(LARGEST_PHOTO, b"\x00"))
    return folder


def predictions(program: Program) -> list[str]:
    return [line for line in program.out if " -> Make: " in line]


def sent(program: Program) -> list[str]:
    return [line for line in program.out if line.startswith("Sent: ")]


def test_started_before_the_broker_both_wait_and_then_photos_are_named(
    broker: Broker, programs: Programs, photos: Path, group_id: str
) -> None:
    # Given a broker that is not up yet
    broker.stop()
    try:
        consumer = programs.start(broker, CONSUMER, "--group-id", group_id, "--from-latest")
        producer = programs.start(
            broker, PRODUCER, "--once", "--interval", "0", "--images", photos, KAFKA_TOPIC="unused"
        )
        # When both have said that it does not answer, and have not given up
        producer.wait_for_line("does not answer", count=2)
        producer.stop(signal.SIGKILL)
        consumer.wait_for_line("does not answer", count=2)
    finally:
        broker.start()
    consumer.wait_for_line("Consumer listening")
    producer = programs.start(
        broker, PRODUCER, "--once", "--interval", "0", "--images", photos, "--camera-id", "cam07"
    )

    # Then all is as it should be, line by line
    consumer.wait_for(lambda: len(predictions(consumer)) == 3)
    assert producer.end() == 0
    assert consumer.stop() == 0
    assert producer.out == [
        "Producer started. Sending images every 0 seconds...",
        "Sent: a.png from camera cam07",
        "Sent: b.JPG from camera cam07",
        "Sent: c.bmp from camera cam07",
        "Producer stopped. 3 sent, 0 failed.",
    ]
    assert consumer.out[:3] == [*START, f"Consumer listening on topic '{TOPIC}'..."]
    assert [line.rpartition(", Confidence: ")[0] for line in consumer.out[3:]] == [
        "cam07 a.png -> Make: Ferrari, Model: 458 Italia",
        "cam07 b.JPG -> Make: Jaguar, Model: E-Type",
        "cam07 c.bmp -> Make: Bugatti",
    ]
    assert all(line.endswith("%") for line in consumer.out[3:])
    assert_no_stack_trace(consumer, producer)


def test_json_and_rejections_and_unknown_cars(
    broker: Broker, programs: Programs, keras_model: dict[str, str], topic: str, group_id: str
) -> None:
    # Given good messages, a car that the model is not sure of, and poison among them
    red, grey = base64_of(colour(RED)), base64_of(colour(GREY))
    cut = base64_of(colour(RED, "JPEG", 200)[:-40])
    values = [
        message(image_data=red, image_name="first.png", timestamp=time.time()),
        b"not json",
        message(image_data=grey, image_name="grey.png"),
        None,
        message(timestamp=None),
        message(image_data="*"),
        message(image_data=cut),
        b"[" * 50_000,
        message(image_data=red, image_name="汽车 \n.png"),
    ]
    publish(broker, topic, [("cam01", value) for value in values])

    # When a consumer has read just so many messages
    consumer = programs.start(
        broker,
        *(CONSUMER, "--json", "--topic", topic, "--group-id", group_id, "--top-k", "2"),
        *("--min-confidence", "0.9", "--max-messages", str(len(values)), "--batch-size", "4"),
        **{**keras_model, "PYTHONIOENCODING": "ascii"},
    )
    status = consumer.end()

    # Then it ends, stdout is JSON alone, and each rejected message has a line on stderr
    assert status == 0, consumer
    first, unsure, last = answers(consumer)
    assert (first["make"], first["model"], first["year"]) == ("Ferrari", "458 Italia", 2012)
    assert first["confidence"] > 0.9
    assert 0 < first["latency_ms"] < 600_000
    assert (first["topic"], first["offset"]) == (topic, 0)
    assert [len(answer["top_k"]) for answer in (first, unsure, last)] == [2, 2, 2]
    assert (unsure["image_name"], unsure["make"]) == ("grey.png", None)
    assert unsure["confidence"] == pytest.approx(1 / 3, abs=0.02)
    assert (last["image_name"], last["offset"]) == ("汽车 \n.png", 8)

    partition = first["partition"]
    # On Kafka, whoever joins may be there before the news of a topic created this moment.
    notes = [line for line in consumer.err if not line.startswith("No partition is free")]
    assert notes[:3] == [*START, f"Consumer listening on topic '{topic}'..."]
    rejected = [line.split(":", 2)[:2] for line in notes[3:]]
    assert rejected == [
        [f"Rejected {topic}[{partition}]@{offset}", f" {reason}"]
        for offset, reason in [
            (1, "not_json"),
            (3, "not_json"),
            (4, "missing_field"),
            (5, "bad_base64"),
            (6, "damaged_image"),
            (7, "not_json"),
        ]
    ]


def test_a_restarted_consumer_goes_on_where_it_stopped(
    broker: Broker, programs: Programs, topic: str, group_id: str
) -> None:
    # Given more photos than a consumer can classify before the signal reaches it
    total = 3000
    image = base64_of(colour(RED, side=2))
    names = [f"{number:04}.png" for number in range(total)]
    photos = [(f"cam{number % 7}", name) for number, name in enumerate(names)]
    publish(
        broker,
        topic,
        [
            (camera, message(camera_id=camera, image_name=name, image_data=image))
            for camera, name in photos
        ],
    )
    options = (CONSUMER, "--json", "--topic", topic, "--group-id", group_id, "--batch-size", "5")

    # When it is stopped in the middle, and started again
    consumer = programs.start(broker, *options)
    consumer.wait_for(lambda: len(consumer.out) >= 20)
    assert consumer.stop(signal.SIGTERM) == 0
    before = answers(consumer)
    assert 20 <= len(before) < total
    rest = programs.start(broker, *options, "--max-messages", str(total - len(before)))
    assert rest.end() == 0

    # Then each photo has come exactly once, and those of one camera in order
    both = before + answers(rest)
    assert len(both) == total
    assert sorted(answer["image_name"] for answer in both) == names
    for camera in {answer["camera_id"] for answer in both}:
        shown = [answer["image_name"] for answer in both if answer["camera_id"] == camera]
        assert shown == sorted(shown)
    assert_no_stack_trace(consumer, rest)


def test_consumers_of_a_group_share_the_topic_and_take_over(
    broker: Broker, programs: Programs, topic: str, group_id: str
) -> None:
    image = base64_of(colour(GREEN))
    cameras = [f"cam{number}" for number in range(12)]

    def publish_round(name: str) -> None:
        publish(
            broker,
            topic,
            [
                (camera, message(camera_id=camera, image_name=name, image_data=image))
                for camera in cameras
            ],
        )

    def cameras_of(name: str, *consumers: Program) -> list[str]:
        return [one["camera_id"] for one in answers(*consumers) if one["image_name"] == name]

    # Given a new group that is to begin with the next message
    for camera in cameras:  # one by one: tansu sees the end of a topic before its last batch
        early = message(camera_id=camera, image_name="too early", image_data=image)
        publish(broker, topic, [(camera, early)])
    options = (CONSUMER, "--json", "--from-latest", "--topic", topic, "--group-id", group_id)
    first = programs.start(broker, *options)

    # When it says that it listens, then nothing that is sent from there on is missed
    first.wait_for_line("Consumer listening")
    publish_round("alone")
    first.wait_for(lambda: len(cameras_of("alone", first)) >= len(cameras))

    # When another one joins, then both get a part, and each photo goes to one of them
    second = programs.start(broker, *options)
    second.wait_for_line("Consumer listening")
    publish_round("shared")
    second.wait_for(lambda: len(cameras_of("shared", first, second)) >= len(cameras))
    parts = [set(cameras_of("shared", one)) for one in (first, second)]
    assert all(parts)
    assert not parts[0] & parts[1]

    # When one leaves, then the other takes over at once
    assert first.stop(signal.SIGINT) == 0
    publish_round("taken over")
    second.wait_for(lambda: len(cameras_of("taken over", second)) >= len(cameras))
    assert second.stop(signal.SIGINT) == 0
    for name in ("alone", "shared", "taken over"):
        assert sorted(cameras_of(name, first, second)) == sorted(cameras)
    assert cameras_of("too early", first, second) == []
    assert_no_stack_trace(first, second)


def test_a_broker_restarted_in_between_loses_nothing(
    real_kafka: RealKafka, programs: Programs, photos: Path, group_id: str
) -> None:
    # Given both scripts at work on a broker that keeps its messages
    broker, topic = real_kafka, f"restarted-{group_id}"
    broker.create_topic(topic)
    (photos / "c.bmp").unlink()
    consumer = programs.start(broker, CONSUMER, "--json", "--topic", topic, "--group-id", group_id)
    producer = programs.start(
        broker, PRODUCER, "--topic", topic, "--images", photos, "--interval", "0.2"
    )
    consumer.wait_for(lambda: len(consumer.out) >= 3)

    # When the broker goes away, both say so and wait
    broker.stop()
    try:
        producer.wait_for_line("has not acknowledged")
        consumer.wait_for_line("does not answer")
        sent_before = len(sent(producer))
    finally:
        broker.start()

    # Then both go on
    consumer.wait_for_line("answers again")
    producer.wait_for(lambda: len(sent(producer)) >= sent_before + 3)
    assert producer.stop() == 0
    acknowledged = len(sent(producer))
    assert producer.out[-1] == f"Producer stopped. {acknowledged} sent, 0 failed."
    consumer.wait_for(lambda: len(places(consumer)) >= acknowledged)
    assert consumer.stop() == 0
    assert len(places(consumer)) == acknowledged
    # One camera's photos lie on one partition without a gap: nothing was sent twice.
    assert {offset for _, offset in places(consumer)} == set(range(acknowledged))
    assert_no_stack_trace(consumer, producer)


def places(consumer: Program) -> set[tuple[int, int]]:
    return {(answer["partition"], answer["offset"]) for answer in answers(consumer)}


def test_a_producer_without_arguments_prints_the_lines_of_the_readme(
    broker: Broker, tmp_path: Path
) -> None:
    # Given the project with one photo
    shutil.copy(ROOT / PRODUCER, tmp_path)
    shutil.copytree(ROOT / "car_classifier", tmp_path / "car_classifier")
    (tmp_path / "data" / "imagenes_test").mkdir(parents=True)
    (tmp_path / "data" / "imagenes_test" / "coche_bmw.jpg").write_bytes(colour(RED, "JPEG"))

    with Program([tmp_path / PRODUCER], broker.environment(), folder=tmp_path) as producer:
        producer.wait_for_line("Sent: ")

        assert (producer.out, producer.err) == (
            [
                "Producer started. Sending images every 5 seconds...",
                "Sent: coche_bmw.jpg from camera cam01",
            ],
            [],
        )
        # And it ends at once, though it has seconds to sleep
        started = time.monotonic()
        assert producer.stop(signal.SIGINT) == 0
        assert time.monotonic() - started < 4
        assert producer.out[2:] == ["Producer stopped. 1 sent, 0 failed."]


def test_messages_carry_the_files_as_they_are_and_one_camera_keeps_its_order(
    broker: Broker, programs: Programs, photos: Path, topic: str
) -> None:
    for number in range(40):
        (photos / f"d{number:02}.webp").write_bytes(colour(BLUE, "WEBP"))
    (photos / "empty.png").write_bytes(b"")
    options = (PRODUCER, "--once", "--interval", "0", "--topic", topic, "--images", photos)
    started = time.time()

    # When two cameras send the folder, one photo of which cannot be sent
    both = [programs.start(broker, *options, CAMERA_ID=camera) for camera in ("cam01", "ñ 2")]
    for producer in both:
        assert producer.end() == 1
        assert producer.out[-1] == "Producer stopped. 43 sent, 1 failed."
        (complaint,) = producer.err
        assert complaint.endswith("empty.png: the file is empty")

    # Then every message is as documented
    found = records(broker, topic, 86)
    expected = sorted(path.name for path in photos.iterdir() if path.name != "empty.png")
    for camera in ("cam01", "ñ 2"):
        mine = [record for record in found if record.key == camera.encode()]
        assert len({record.partition for record in mine}) == 1
        fields = [json.loads(record.value) for record in mine]
        assert [one["image_name"] for one in fields] == expected
        for one in fields:
            assert set(one) == {"timestamp", "camera_id", "image_name", "image_data"}
            assert one["camera_id"] == camera
            assert started - 1 < one["timestamp"] < time.time() + 1
            file = photos / one["image_name"]
            assert base64.b64decode(one["image_data"]) == file.read_bytes()


def test_a_producer_notices_photos_that_come_and_go(
    broker: Broker, programs: Programs, photos: Path, topic: str
) -> None:
    (photos / "c.bmp").unlink()
    producer = programs.start(
        broker, PRODUCER, "--topic", topic, "--images", photos, "--interval", "0.05"
    )
    producer.wait_for_line("Sent: b.JPG", count=2)

    (photos / "new.png").write_bytes(colour(BLUE))
    producer.wait_for_line("Sent: new.png")
    for path in photos.iterdir():
        path.unlink()
    (photos / "last.png").write_bytes(colour(RED))
    producer.wait_for_line("Sent: last.png", count=2)

    assert producer.stop() == 0
    assert_no_stack_trace(producer)


def test_what_a_producer_cannot_send_is_reported_once_and_skipped(
    broker: Broker, programs: Programs, photos: Path, topic: str
) -> None:
    # Given two photos, and all that can stand in a folder under a photo's name
    (photos / "c.bmp").write_bytes(bytes(LARGEST_PHOTO + 1))
    (photos / "d\n.jpg").write_bytes(b"")
    (photos / "folder.jpg").mkdir()
    os.mkfifo(photos / "pipe.jpg")
    (photos / "link.jpg").symlink_to("vanished.jpg")

    # When a producer has gone round a few times
    producer = programs.start(
        broker, PRODUCER, "--topic", topic, "--images", photos, "--interval", "0.02"
    )
    producer.wait_for_line("Sent: b.JPG", count=4)
    assert producer.stop() == 0

    # Then it has said so of each, once, and gone on; its last line counts
    complaints = [line for line in producer.err if line.startswith("Not sent: ")]
    assert len(complaints) == 5
    for name in ("c.bmp", "d\\n.jpg", "folder.jpg", "pipe.jpg", "link.jpg"):
        assert sum(f"{name}: " in line for line in complaints) == 1
    assert producer.out[-1] == f"Producer stopped. {len(sent(producer))} sent, 5 failed."
    assert_no_stack_trace(producer)


def test_a_photo_that_the_topic_does_not_take_is_reported_once_and_the_others_are_sent(
    real_kafka: RealKafka, programs: Programs, photos: Path
) -> None:
    # Given a topic with a limit of its own, which the client library cannot know
    topic = f"small-{uuid.uuid4().hex[:12]}"
    with KafkaAdminClient(bootstrap_servers=real_kafka.bootstrap_servers) as admin:
        small = {
            "num_partitions": 1,
            "replication_factor": 1,
            "configs": {"max.message.bytes": 5000},
        }
        admin.create_topics({topic: small}, wait_for_metadata=True)
    (photos / "c.bmp").write_bytes(bytes(10_000))

    producer = programs.start(
        real_kafka, PRODUCER, "--topic", topic, "--images", photos, "--interval", "0.02"
    )
    producer.wait_for_line("Sent: b.JPG", count=4)
    assert producer.stop() == 0

    (complaint,) = producer.err
    assert complaint.startswith("Not sent: c.bmp: ")
    assert producer.out[-1] == f"Producer stopped. {len(sent(producer))} sent, 1 failed."


def test_told_to_stop_while_the_broker_is_away_both_end_within_seconds(
    broker: Broker, programs: Programs, photos: Path, topic: str, group_id: str
) -> None:
    # Given a consumer, and a producer with many photos on their way, when the broker goes away
    (photos / "c.bmp").unlink()
    consumer = programs.start(broker, CONSUMER, "--topic", topic, "--group-id", group_id)
    consumer.wait_for_line("Consumer listening")
    producer = programs.start(
        broker, PRODUCER, "--topic", topic, "--images", photos, "--interval", "0"
    )
    producer.wait_for_line("Sent: ", count=10)
    broker.kill()
    try:
        producer.wait_for_line("has not acknowledged")
        started = time.monotonic()
        producer.send_signal(signal.SIGTERM)
        consumer.send_signal(signal.SIGTERM)
        statuses = producer.end(), consumer.end()
        took = time.monotonic() - started
    finally:
        broker.start()

    assert statuses == (0, 0), (producer, consumer)
    assert took < 25
    assert int(producer.out[-1].split()[4]) > 0  # failed
    assert_no_stack_trace(producer, consumer)


def test_a_consumer_whose_reader_has_gone_ends_quietly_and_commits_nothing_unread(
    broker: Broker, programs: Programs, model: dict[str, str], topic: str, group_id: str
) -> None:
    publish(broker, topic, [("cam01", message(image_data=base64_of(colour(RED))))])
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [CONSUMER, "--json", "--topic", topic, "--group-id", group_id]
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=broker.environment(**model),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
    )
    os.close(writing)

    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    again = programs.start(broker, *arguments, "--max-messages", "1")
    assert again.end() == 0
    assert [answer["offset"] for answer in answers(again)] == [0]


def test_what_cannot_work_is_said_in_one_line(keras_model: dict[str, str], tmp_path: Path) -> None:
    def complaint(**variables: str) -> str:
        result = subprocess.run(
            [sys.executable, CONSUMER],
            cwd=ROOT,
            env=clean_environment(**{**keras_model, **variables}),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert (result.returncode, result.stdout) == (2, START[0] + "\n")
        (line,) = result.stderr.splitlines()
        return line

    missing = tmp_path / "missing"
    other_map = tmp_path / "classes.json"
    other_map.write_text('{"0": "BMW"}')

    assert complaint(MODEL_PATH=str(missing)) == (
        f"error: no model at {missing}: expected a .keras file (--model)"
    )
    assert complaint(CLASSES_PATH=str(missing)).startswith(f"error: no class map at {missing}")
    assert "a .keras file, which is a zip archive" in complaint(MODEL_PATH=str(other_map))
    assert complaint(CLASSES_PATH=str(other_map)).endswith("they do not belong together")
    assert "runtime: expected auto, " in complaint(RUNTIME="onnx")
    assert "python -m training.export makes it" in complaint(RUNTIME="litert")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_broker(number: signal.Signals, photos: Path) -> None:
    nobody = f"{LOOPBACK}:{free_port()}"
    options = [PRODUCER, "--images", photos, "--bootstrap-servers", nobody]
    with Program(options, clean_environment()) as producer:
        producer.wait_for_line(f"Kafka at {nobody} does not answer")

        assert producer.stop(number) == 0
        assert producer.out == []
        assert_no_stack_trace(producer)
