"""The Grafana dashboard and the alert rules, against a real Prometheus that scrapes the service."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kafka import KafkaProducer
from PIL import Image

from car_classifier.embedded_broker import free_port
from car_classifier.errors import Reason
from tests.conftest import require
from tests.grafana_picture import draw
from tests.kafka_services import Embedded
from tests.models import environment_of, write_light_colour_model
from tests.photos import encoded
from tests.prometheus import (
    CONFIG,
    DASHBOARD,
    Prometheus,
    metric_names,
    missing_prometheus,
    panels,
    running_prometheus,
)
from tests.scripts import CONSUMER, PRODUCER, ROOT, SECONDS, Program

DEPLOY = ROOT / "deploy"
# `make pictures` sets it to the folder where the README's pictures are; it takes two minutes.
PICTURES = os.environ.get("PICTURES")


class Observed(NamedTuple):
    """A service at work, and the Prometheus that watches it."""

    prometheus: Prometheus
    since: float  # on the monotonic clock


@pytest.fixture(scope="module")
def prometheus_programs() -> None:
    require(missing_prometheus(), "prometheus", ci=os.environ.get("CI") == "true")


@pytest.fixture(scope="module")
def observed(
    prometheus_programs: None,  # noqa: ARG001 - looked for before anything is started
    embedded: Embedded,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Observed]:
    """Two cameras, some messages that are no photos, a consumer and Prometheus."""
    folder = tmp_path_factory.mktemp("observed")
    embedded.create_topic(topic := "observed")
    photos = folder / "photos"
    photos.mkdir()
    for name, colour in {"red": (255, 0, 0), "grey": (128, 128, 128)}.items():
        (photos / f"{name}.png").write_bytes(encoded(Image.new("RGB", (20, 20), colour), "PNG"))
    colours = environment_of(*write_light_colour_model(folder), "openvino")
    variables = {
        "KAFKA_TOPIC": topic,
        "KAFKA_GROUP_ID": topic,
        "METRICS_PORT": str(port := free_port()),
        "MIN_CONFIDENCE": "0.5",
        "CUDA_VISIBLE_DEVICES": "-1",
        "CAMERA_IMAGES": str(ROOT / "data" / "imagenes_test" if PICTURES else photos),
        **({} if PICTURES else colours),
    }
    environment = embedded.environment(**variables)
    camera = [PRODUCER, "--interval"]
    with (
        running_prometheus(folder, port) as prometheus,
        Program([CONSUMER], environment) as consumer,
        Program([*camera, "0.25"], environment | {"CAMERA_ID": "cam01"}),
        Program([*camera, "0.4"], environment | {"CAMERA_ID": "cam02"}),
    ):
        consumer.wait_for_line(" -> Make: ", 2)
        started = time.monotonic()
        send_junk(embedded, topic)
        consumer.wait_for_line("Rejected ", 2)
        yield Observed(prometheus, started)
        assert not [line for line in consumer.err if "Traceback" in line], consumer


def send_junk(broker: Embedded, topic: str) -> None:
    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for value in (b"no JSON", b"[]"):
            producer.send(topic, value).get(timeout=SECONDS)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: str(panel["title"]))
def test_every_panel_shows_something(observed: Observed, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        deadline = time.monotonic() + SECONDS
        while not (values := numbers(observed.prometheus.query(target["expr"]))):
            assert time.monotonic() < deadline, target["expr"]
            time.sleep(0.2)
        assert all(value >= 0 for value in values), target["expr"]


def numbers(results: list[Any]) -> list[float]:
    """The values of a query, less those that are none (a rate of nothing by nothing)."""
    values = [float(result["value"][1]) for result in results]
    return [value for value in values if not math.isnan(value)]


def test_every_metric_of_the_dashboard_and_of_the_rules_is_there(observed: Observed) -> None:
    known = set(observed.prometheus.ask("label/__name__/values"))
    named = metric_names(DASHBOARD.read_text()) | metric_names((CONFIG / "rules.yml").read_text())
    assert len(named) > 10
    assert named <= known


def test_the_numbers_are_those_of_the_service(observed: Observed) -> None:
    by_result = observed.prometheus.query("sum by (result) (car_classifier_messages_total)")
    assert {result["metric"]["result"] for result in by_result} == {
        "classified",
        "unknown",
        "rejected",
    }
    dead = observed.prometheus.query("car_classifier_dead_letters_total > 0")
    reasons = {result["metric"]["reason"]: float(result["value"][1]) for result in dead}
    assert reasons == {Reason.NOT_JSON.value: 1, Reason.NOT_AN_OBJECT.value: 1}
    by_camera = observed.prometheus.query("sum by (camera) (car_classifier_messages_total)")
    assert {result["metric"].get("camera", "") for result in by_camera} == {"", "cam01", "cam02"}


def test_prometheus_evaluates_every_rule(observed: Observed) -> None:
    (written,) = yaml.safe_load((CONFIG / "rules.yml").read_text())["groups"]
    deadline = time.monotonic() + SECONDS
    while True:
        (group,) = observed.prometheus.ask("rules")["groups"]
        if all(rule["health"] != "unknown" for rule in group["rules"]):
            break
        assert time.monotonic() < deadline, group
        time.sleep(0.2)
    assert {rule["name"]: rule["health"] for rule in group["rules"]} == {
        rule["alert"]: "ok" for rule in written["rules"]
    }


@pytest.mark.usefixtures("prometheus_programs")
def test_each_alert_is_raised_by_what_it_is_for() -> None:
    command = ["promtool", "test", "rules", str(ROOT / "tests" / "prometheus_rules.yml")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.usefixtures("prometheus_programs")
def test_the_configuration_is_one_that_prometheus_takes() -> None:
    command = ["promtool", "check", "config", str(CONFIG / "prometheus.yml")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_grafana_finds_prometheus_and_the_dashboard_where_compose_mounts_them() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounted = dict(
        volume.split(":")[:2] for volume in services["grafana"]["volumes"] if volume[0] == "."
    )
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "files.yml").read_text())[
        "providers"
    ]
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounted["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert source["url"] == "http://prometheus:9090"
    assert {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]} == {
        source["uid"]
    }


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert max(columns) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.pictures
def test_the_dashboard_is_drawn_for_the_readme(observed: Observed, tmp_path: Path) -> None:
    seconds = 120.0 if PICTURES else 10.0
    while (passed := time.monotonic() - observed.since) < seconds and PICTURES:
        time.sleep(seconds - passed)
    picture = (ROOT / PICTURES if PICTURES else tmp_path) / "monitoring.png"

    draw(observed.prometheus, seconds, picture)

    assert 20_000 < picture.stat().st_size < 250_000
