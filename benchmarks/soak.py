"""A soak: nothing is lost and memory stays flat while consumers are killed and the broker restarts.

Three cameras send photos, and a stranger sends one message in ten that is none. Two consumers share
the work: one runs through, the other is killed every few seconds. Half-way the broker is stopped
and started. In the end each message must have become a prediction or a dead letter, and never both.

Prints one line of JSON; ends with status 1 if something was violated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from benchmarks.brokers import add_broker_option, environment, running_broker, settings_for
from benchmarks.errors import BenchmarkError
from benchmarks.programs import Program
from car_classifier.broker import connect, make_consumer, make_producer
from car_classifier.dead_letters import DeadLetter, dead_letter_topic
from tests.kafka_services import Broker
from tests.models import COLOURS, environment_of, write_light_colour_model
from tests.photos import BLUE, GREEN, RED, base64_of, colour, message

__all__ = ["main"]

CAMERAS = 3
PHOTOS_A_SECOND = 5.0  # of each camera
POISON_SHARE = 0.1  # of all messages
KILL_SECONDS = (2.0, 6.0)  # after its first answer, drawn anew each time
MOST_SILENT_SECONDS = 12.0  # from its start: its partitions may be those that no camera sends to
SETTLED = 0.25  # of the time: by then the survivor has its memory
MOST_GROWTH_MB = 60.0
PATIENCE_SECONDS = 180.0  # for a program to start, and for what is left at the end
GROUP = "soak"
CUT = colour(RED, "JPEG", 200)[:-40]
POISON: list[bytes | None] = [
    *(b"", None, b"not json", b"[]", b"[" * 50_000, bytes(range(256))),
    *(message(timestamp=None), message(timestamp=-1), message(image_data="*")),
    *(message(image_data=base64_of(b"no image")), message(image_data=base64_of(CUT))),
]


class Stranger(threading.Thread):
    """Sends poison at a steady pace until it is told to stop.

    Attributes:
        sent: messages that the broker has acknowledged.
    """

    def __init__(self, broker: Broker, topic: str) -> None:
        super().__init__(name="stranger", daemon=True)
        self._settings, self._topic = settings_for(broker, topic), topic
        self._stopped = threading.Event()
        self.sent = 0

    def run(self) -> None:
        """Send, and wait for each acknowledgement as long as it takes."""
        pause = (1 - POISON_SHARE) / POISON_SHARE / (CAMERAS * PHOTOS_A_SECOND)
        producer = connect(lambda: make_producer(self._settings), self._settings)
        assert producer is not None
        with contextlib.closing(producer):
            while not self._stopped.wait(pause):
                value = POISON[self.sent % len(POISON)]
                self._insist(lambda value=value: producer.send(self._topic, value, key=b"?"))  # type: ignore[misc]
                self.sent += 1

    def stop(self) -> None:
        """Return when the last message is acknowledged."""
        self._stopped.set()
        self.join(PATIENCE_SECONDS)

    def _insist(self, send: Callable[[], Any]) -> None:
        future = None
        while True:
            try:
                future = future or send()
                future.get(timeout=5)
                return
            except KafkaError:
                if future is not None and future.is_done:
                    raise


def soak(minutes: float, broker: Broker, folder: Path, real_model: bool) -> dict[str, Any]:
    """Run for so long; return the figures.

    Raises:
        BenchmarkError: a program ended that should not have, or the work was not done in the end.
    """
    topic, results = f"soak-{uuid.uuid4().hex[:8]}", f"soak-results-{uuid.uuid4().hex[:8]}"
    broker.create_topic(topic)
    variables = environment(broker, topic) | {"CUDA_VISIBLE_DEVICES": "-1"}
    if not real_model:  # one that starts at once, so that there is much to kill
        variables |= environment_of(*write_light_colour_model(folder), "openvino")
    expected = _write_photos(folder / "photos")
    consumer = ["consumidor_clasificador.py", "--json", "--group-id", GROUP]
    consumer += ["--results-topic", results]
    camera = ["productor_camara.py", "--images", str(folder / "photos"), "--shuffle"]
    camera += ["--interval", str(1 / PHOTOS_A_SECOND), "--camera-id"]

    kills = 0
    with contextlib.ExitStack() as stack:
        survivor = stack.enter_context(Program(consumer, variables))
        survivor.wait_for_err("Consumer listening", PATIENCE_SECONDS)
        cameras = [
            stack.enter_context(Program([*camera, f"cam{number}"], variables))
            for number in range(CAMERAS)
        ]
        stranger = Stranger(broker, topic)
        stranger.start()
        began = time.monotonic()
        end, restart_at = began + 60 * minutes, began + 30 * minutes
        settled_mb = 0.0
        while time.monotonic() < end:
            with Program(consumer, variables) as victim:
                _live(victim, end)
                victim.send_signal(signal.SIGKILL)
                kills += 1
            if not settled_mb and time.monotonic() > began + SETTLED * 60 * minutes:
                settled_mb = survivor.peak_memory_mb()
            if time.monotonic() > restart_at:
                restart_at = float("inf")
                broker.restart()
        restarts = int(restart_at == float("inf"))
        for program in cameras:
            program.send_signal(signal.SIGTERM)
        statuses = [program.end() for program in cameras]
        stranger.stop()
        sent = [_sent(program) for program in cameras]
        _wait_until_committed(broker, topic)
        grown_mb = survivor.peak_memory_mb() - settled_mb
    there = _ends(broker, topic)
    figures = _account(
        there,
        [json.loads(one.value) for one in _records(broker, results)],
        [DeadLetter.read(one) for one in _records(broker, dead_letter_topic(topic))],
        None if real_model else expected,
    )
    return {
        "minutes": minutes,
        "sent": sum(sent) + stranger.sent,
        "poison": stranger.sent,
        "camera_failures": sum(map(bool, statuses)),
        "on_topic": sum(there.values()),
        **figures,
        "kills": kills,
        "broker_restarts": restarts,
        "memory_mb": round(settled_mb + grown_mb),
        "memory_grown_mb": round(grown_mb, 1),
    }


def violations(figures: dict[str, Any]) -> list[str]:
    """What of the figures must not be."""
    musts = {
        "sent is on the topic": figures["on_topic"] == figures["sent"],
        "sent = predicted + dead": figures["sent"] == figures["predicted"] + figures["dead"],
        "poison = dead": figures["poison"] == figures["dead"],
        "none missing": figures["missing"] == 0,
        "none both predicted and dead": figures["both"] == 0,
        "none judged wrongly": figures["misjudged"] == 0,
        "cameras ended well": figures["camera_failures"] == 0,
        "memory flat": figures["memory_grown_mb"] <= MOST_GROWTH_MB,
        "something was killed": figures["kills"] > 0 and figures["broker_restarts"] == 1,
    }
    return [must for must, holds in musts.items() if not holds]


def _write_photos(folder: Path) -> dict[str, str]:
    """Write photos of plain colours; return what make each is to be taken for."""
    folder.mkdir()
    expected = {}
    for (name, car), rgb in zip(COLOURS.items(), (RED, GREEN, BLUE), strict=True):
        for kind in ("png", "jpeg", "webp", "bmp"):
            file = folder / f"{name}.{kind}"
            file.write_bytes(colour(rgb, kind.upper(), side=64))
            expected[file.name] = str(car["make"])
    return expected


def _live(victim: Program, end: float) -> None:
    """Let it answer something and live for a few seconds more."""
    silent_until = min(time.monotonic() + MOST_SILENT_SECONDS, end)
    while not victim.out and time.monotonic() < silent_until:
        time.sleep(0.05)
    if victim.out:
        time.sleep(max(0, min(random.uniform(*KILL_SECONDS), end - time.monotonic())))


def _sent(camera: Program) -> int:
    words = camera.out[-1].split()  # Producer stopped. 3 sent, 0 failed.
    if words[:2] != ["Producer", "stopped."]:
        raise BenchmarkError(f"{camera} ended without a count:\n{camera.last_words()}")
    return int(words[2])


@contextlib.contextmanager
def _reader(broker: Broker, topic: str, group: str | None = None) -> Iterator[KafkaConsumer]:
    settings = settings_for(broker, topic)
    consumer = connect(lambda: make_consumer(settings, group, from_beginning=True), settings)
    assert consumer is not None
    with contextlib.closing(consumer):
        yield consumer


def _partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    numbers = consumer.partitions_for_topic(topic) or ()
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def _ends(broker: Broker, topic: str) -> dict[int, int]:
    with _reader(broker, topic) as consumer:
        ends = consumer.end_offsets(_partitions(consumer, topic))
    return {partition.partition: end for partition, end in ends.items()}


def _wait_until_committed(broker: Broker, topic: str) -> None:
    ends = _ends(broker, topic)
    deadline = time.monotonic() + PATIENCE_SECONDS
    with _reader(broker, topic, GROUP) as consumer:
        while time.monotonic() < deadline:
            done = {
                number: consumer.committed(TopicPartition(topic, number)) or 0 for number in ends
            }
            if done == ends:
                return
            time.sleep(0.5)
    raise BenchmarkError(f"committed {done} of {ends} after {PATIENCE_SECONDS:.0f} s")


def _records(broker: Broker, topic: str) -> list[Any]:
    found: list[Any] = []
    with _reader(broker, topic) as consumer:
        partitions = _partitions(consumer, topic)
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning()
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for part in consumer.poll(timeout_ms=500, max_records=500).values():
                found += part
    return found


def _account(
    there: dict[int, int],
    results: list[dict[str, Any]],
    letters: list[DeadLetter | None],
    expected: dict[str, str] | None,
) -> dict[str, Any]:
    """Compare what came out with what is on the topic.

    Args:
        there: how many messages each partition has.
        results: the values on the results topic.
        letters: what is on the dead letter topic.
        expected: make by name of the photo; None if only equal answers to equal photos can be.
    """
    predicted = Counter((one["partition"], one["offset"]) for one in results)
    dead = Counter((one.source.partition, one.source.offset) for one in letters if one)
    everything = {(part, offset) for part, end in there.items() for offset in range(end)}
    if expected is None:
        expected = {one["image_name"]: one["make"] for one in results}
    wrong = [one for one in results if expected.get(one["image_name"]) != one["make"]]
    return {
        "predicted": len(predicted),
        "dead": len(dead),
        "missing": len(everything - set(predicted) - set(dead)),
        "both": len(set(predicted) & set(dead)),
        "misjudged": len(wrong) + len(set(predicted) - everything) + letters.count(None),
        "predicted_again": sum(predicted.values()) - len(predicted),
        "dead_again": sum(dead.values()) - len(dead),
    }


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long [%(default)s]")
    parser.add_argument("--real-model", action="store_true", help="the shipped one, not a tiny one")
    add_broker_option(parser)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder, running_broker(options.broker) as (broker, _):
            if not broker.keeps_messages:
                raise BenchmarkError("a broker that forgets its messages when it is restarted")
            figures = soak(options.minutes, broker, Path(folder), options.real_model)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    violated = violations(figures)
    print(json.dumps(figures | {"violated": violated}))
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
