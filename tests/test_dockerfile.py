"""The Dockerfile: its promises, and its steps taken one by one where there is no Docker."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from car_classifier.embedded_broker import LOOPBACK, free_port
from tests.dockerfile import Stage, build, command, ignored, stages, supports_this_python
from tests.kafka_services import Embedded
from tests.scripts import CONSUMER, PRODUCER, ROOT, SECONDS, Program

IMAGES = ["service", "dashboard"]
# TensorFlow and what is for its models alone; the image runs the int8 model on OpenVINO.
LEFT_OUT = {"tensorflow", "keras"}
ADDED = {
    "service": ["accelerator", "metrics", "database"],
    "dashboard": ["database", "dashboard"],
}

# Each image takes half a minute to install and its packages 200 MB to download.
in_ci = pytest.mark.skipif(
    os.environ.get("CI") != "true" or not supports_this_python(),
    reason="the steps of the Dockerfile are taken where CI=true, with Python 3.11 or later",
)


def required(*names: str) -> list[Requirement]:
    """Return what requirements.txt and files in requirements/ ask for."""
    files = [ROOT / "requirements.txt", *(ROOT / "requirements" / f"{name}.txt" for name in names)]
    lines = [line.split("#")[0].strip() for file in files for line in file.read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def installed(image: str) -> dict[str, Version]:
    """Return what the image is made of."""
    text = (ROOT / "requirements" / "container" / f"{image}.txt").read_text()
    pinned = re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    return {name.lower().replace("_", "-"): Version(version) for name, version in pinned}


@pytest.mark.parametrize("image", IMAGES)
def test_the_image_has_what_the_programs_ask_for(image: str) -> None:
    packages = installed(image)
    for requirement in required(*ADDED[image]):
        name = requirement.name.lower().replace("_", "-")
        if name in LEFT_OUT:
            assert name not in packages
        else:
            assert name in packages, f"{name} is missing in requirements/container/{image}.txt"
            assert packages[name] in requirement.specifier, requirement


@pytest.mark.parametrize("image", IMAGES)
def test_everything_in_the_image_has_one_version(image: str) -> None:
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", stages()[image].image)
    file = ROOT / "requirements" / "container" / f"{image}.txt"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(installed(image)) > 5


@pytest.mark.parametrize("image", IMAGES)
def test_it_does_not_run_as_root_and_cannot_change_its_own_code(image: str) -> None:
    stage = stages()[image]
    assert stage.last("USER") == "cars"
    copies = [rest for name, rest in stage.steps if name == "COPY"]
    assert not [copy for copy in copies if "--chown" in copy]
    assert stage.steps.index(("USER", "cars")) > max(
        number for number, (name, _) in enumerate(stage.steps) if name in ("COPY", "RUN")
    )


@pytest.mark.parametrize("image", IMAGES)
def test_a_change_of_the_code_does_not_install_the_packages_again(image: str) -> None:
    steps = stages()[image].steps
    install = next(number for number, (_, rest) in enumerate(steps) if "pip install" in rest)
    before = [rest for name, rest in steps[:install] if name == "COPY"]
    assert before == [f"requirements/container/{image}.txt requirements/container/"]


def test_plain_docker_build_makes_the_service() -> None:
    assert list(stages())[-1] == "service"
    assert command(stages()["service"]) == ["python", CONSUMER]


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        ".venv/bin/python",
        "models/clasificador_coches_v4.keras",
        "tests/scripts.py",
        "car_classifier/__pycache__/model.cpython-311.pyc",
    ],
)
def test_secrets_and_what_is_not_needed_stay_out_of_the_image(path: str) -> None:
    assert ignored(path)


@in_ci
@pytest.mark.timeout(900)
def test_what_its_steps_make_names_cars(embedded: Embedded, tmp_path: Path, group_id: str) -> None:
    service = stages()["service"]
    python = build(service, tmp_path)
    embedded.create_topic(group_id)
    environment = clean(service, embedded, KAFKA_TOPIC=group_id, KAFKA_GROUP_ID=group_id)
    app = tmp_path / "app"

    with Program([PRODUCER, "--once", "--interval", "0"], environment, app, python) as camera:
        assert camera.end() == 0, camera
    options = ["--max-messages", "10", "--metrics-port", str(free_port())]
    options += ["--database", f"sqlite:///{tmp_path}/results.db"]
    with Program([*command(service)[1:], *options], environment, app, python) as consumer:
        assert consumer.end() == 0, consumer

    assert sum(" -> Make: " in line for line in consumer.out) == 10


@in_ci
@pytest.mark.timeout(900)
def test_what_its_steps_make_shows_the_dashboard(embedded: Embedded, tmp_path: Path) -> None:
    dashboard = stages()["dashboard"]
    python = build(dashboard, tmp_path)
    environment = clean(dashboard, embedded, DATABASE_URL=f"sqlite:///{tmp_path}/results.db")
    (program, *arguments) = command(dashboard)
    port = free_port()
    moved = [argument.replace("8501", str(port)) for argument in arguments]

    with Program(["-m", program, *moved], environment, tmp_path / "app", python) as page:
        deadline = time.monotonic() + SECONDS
        while not answers(port):
            assert time.monotonic() < deadline, page
            time.sleep(0.2)


def clean(stage: Stage, broker: Embedded, **more: str) -> dict[str, str]:
    """Return the environment of a container: nothing of the tests' own Python in it."""
    inherited = broker.environment(**stage.environment, **more)
    return {name: value for name, value in inherited.items() if name != "PYTHONPATH"}


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/_stcore/health", timeout=5) as page:
            return bool(page.status == 200)
    except OSError:
        return False
