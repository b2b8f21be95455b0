"""`--metrics-port` as an operator uses it: over HTTP, from the running service."""

from __future__ import annotations

import base64
import hashlib
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from car_classifier.embedded_broker import LOOPBACK, free_port
from car_classifier.errors import SettingsError
from car_classifier.monitoring import Monitor
from tests.kafka_services import Broker, Embedded
from tests.photos import encoded, message
from tests.scripts import CONSUMER, SECONDS, Program

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def consumer(
    embedded: Embedded, model: dict[str, str], port: int, group_id: str
) -> Iterator[Program]:
    """The service on a topic of its own, asked for metrics; `group_id` names the topic, too."""
    embedded.create_topic(group_id)
    arguments = [CONSUMER, "--topic", group_id, "--group-id", group_id, "--min-confidence", "0.5"]
    environment = embedded.environment(**model, METRICS_PORT=str(port))
    with Program(arguments, environment) as program:
        yield program


def get(port: int, page: str) -> tuple[int, str]:
    """Return the status and the text of a page."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{page}", timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(port: int) -> Samples:
    status, text = get(port, "/metrics")
    assert status == 200
    return {
        (sample.name.removeprefix("car_classifier_"), frozenset(sample.labels.items())): (
            sample.value
        )
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def sample(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def wait_until(met: Callable[[], bool], what: str, program: Program) -> None:
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline, f"{what}: {program}"
        time.sleep(0.1)


def is_ready(port: int) -> bool:
    return get(port, "/readyz") == (200, "ok\n")


def photo(camera: str, rgb: tuple[int, int, int]) -> bytes:
    image = base64.b64encode(encoded(Image.new("RGB", (20, 20), rgb), "PNG")).decode()
    return message(timestamp=time.time(), camera_id=camera, image_data=image)


def send(broker: Broker, topic: str, *values: bytes) -> None:
    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for value in values:
            producer.send(topic, value, partition=0).get(timeout=SECONDS)


def test_what_is_scraped_is_what_happened(
    embedded: Embedded, consumer: Program, port: int, group_id: str, model: dict[str, str]
) -> None:
    # Given the service, and messages of two cameras, one photo that it is not sure of, one that is
    # none
    send(
        embedded,
        group_id,
        photo("cam01", (255, 0, 0)),
        photo("cam01", (128, 128, 128)),
        photo("cam02", (0, 0, 255)),
        b"no JSON",
    )
    consumer.wait_for_line(" -> Make: ", 3)
    consumer.wait_for_line("Rejected ", 1)

    # When it is scraped, a moment later
    wait_until(lambda: sample(scrape(port), "lag_messages", partition="0") == 0, "lag", consumer)
    samples = scrape(port)

    # Then
    assert sample(samples, "messages_total", camera="cam01", result="classified") == 1
    assert sample(samples, "messages_total", camera="cam01", result="unknown") == 1
    assert sample(samples, "messages_total", camera="cam02", result="classified") == 1
    assert sample(samples, "messages_total", camera="", result="rejected") == 1
    assert sample(samples, "dead_letters_total", reason="not_json") == 1
    assert sample(samples, "dead_letters_total", reason="bad_base64") == 0
    assert sample(samples, "batch_size_sum") == 3
    assert sample(samples, "decode_seconds_count") == 4
    assert sample(samples, "end_to_end_seconds_count") == 3
    assert sample(samples, "ready") == 1
    inference = sample(samples, "inference_seconds_sum")
    assert inference is not None
    assert 0 < inference < SECONDS
    file = Path(model["MODEL_PATH"])
    identity = {
        "file": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "runtime": "openvino",
    }
    assert sample(samples, "model_info", **identity) == 1
    assert {name for name, _ in samples} >= {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
    }
    assert not [name for name, _ in samples if name.endswith("_created")]

    # And there is nothing else on this port
    assert get(port, "/")[0] == 404
    assert consumer.stop() == 0


def test_the_service_is_ready_while_photos_are_answered_and_says_why_it_is_not(
    embedded: Embedded, consumer: Program, port: int, group_id: str
) -> None:
    wait_until(lambda: bool(consumer.out), "start", consumer)
    assert get(port, "/healthz") == (200, "ok\n")  # alive before the model is there
    wait_until(lambda: is_ready(port), "ready", consumer)
    consumer.wait_for_line("Consumer listening")

    embedded.stop()
    try:
        wait_until(lambda: not is_ready(port), "not ready", consumer)
        assert get(port, "/readyz") == (503, "Kafka does not answer\n")
        assert get(port, "/healthz") == (200, "ok\n")
        assert sample(scrape(port), "ready") == 0
    finally:
        embedded.start()
        embedded.create_topic(group_id)

    wait_until(lambda: is_ready(port), "ready again", consumer)
    assert sample(scrape(port), "ready") == 1


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(
    embedded: Embedded, model: dict[str, str]
) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [CONSUMER, "--metrics-port", str(port)]
        with Program(arguments, embedded.environment(**model)) as program:
            assert program.end() == 2
    assert program.out == []
    assert program.err == [
        f"error: cannot listen on {LOOPBACK}:{port} for metrics: Address already in use "
        "(--metrics-port, --metrics-host)"
    ]


def test_without_the_package_the_error_names_what_to_install(
    embedded: Embedded, model: dict[str, str], port: int, tmp_path: Path
) -> None:
    # A module of that name that says what Python says when there is none.
    (tmp_path / "prometheus_client.py").write_text(
        "raise ModuleNotFoundError(name='prometheus_client')"
    )
    environment = embedded.environment(**model, PYTHONPATH=str(tmp_path))
    with Program([CONSUMER, "--metrics-port", str(port)], environment) as program:
        assert program.end() == 2
    assert program.err == [
        "error: prometheus_client is not installed: pip install -r requirements/metrics.txt"
    ]


def test_it_listens_on_loopback_only_unless_told_otherwise(consumer: Program, port: int) -> None:
    wait_until(lambda: bool(consumer.out), "start", consumer)
    # Connections of this process to any address of this machine but 127.0.0.1 are refused.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_the_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1:"):
        Monitor("192.0.2.1", free_port())


def test_a_client_that_says_nothing_keeps_nobody_waiting(port: int) -> None:
    with Monitor(LOOPBACK, port), socket.create_connection((LOOPBACK, port)):
        assert get(port, "/healthz") == (200, "ok\n")


def test_the_port_is_free_again_afterwards(port: int) -> None:
    for _ in range(2):
        with Monitor(LOOPBACK, port):
            assert get(port, "/readyz") == (503, "the model is being loaded\n")
