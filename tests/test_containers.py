"""docker-compose.yml's profiles: what they promise, and each service run as the file says.

There is no Docker here. The file is read by a real Compose (the oldest kind that is still about)
and by the schema of the newest; commands and health checks are run on this machine, against real
Kafka and real PostgreSQL, with the containers' names replaced by where those listen.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from car_classifier.embedded_broker import LOOPBACK, free_port
from tests.compose import COMPOSE_FILE, load_compose
from tests.conftest import require
from tests.dockerfile import command as default_command
from tests.dockerfile import stages
from tests.kafka_services import RealKafka
from tests.postgres import Postgres
from tests.prometheus import CONFIG, missing_prometheus
from tests.scripts import ROOT, SECONDS, Program

EXAMPLE = ROOT / "deploy" / "app.env.example"
PLAIN = {"zookeeper", "kafka", "create-topic"}
APP = {"producer", "consumer", "postgres", "dashboard"}
MONITORING = {"prometheus", "grafana"}
SETTINGS = {
    "POSTGRES_PASSWORD": "0c7f9a",
    "CAMERA_ID": "gate",
    "CAMERA_INTERVAL": "0.5",
    "MODEL_PATH": "models/clasificador_coches_ligero.tflite",
    "MIN_CONFIDENCE": "0.25",
}


def of_profile(name: str | None) -> set[str]:
    services = load_compose()["services"].items()
    return {
        service for service, content in services if content.get("profiles") == (name and [name])
    }


@pytest.fixture(scope="session")
def compose_program() -> str:
    missing = [] if shutil.which("docker-compose") else ["docker-compose"]
    require(missing, "docker-compose", ci=os.environ.get("CI") == "true")
    return "docker-compose"


def read_by_compose(program: str, folder: Path, settings: dict[str, str]) -> dict[str, Any]:
    """Return the file as Compose understands it, with `.env` as given."""
    shutil.copy(COMPOSE_FILE, folder)
    if settings:
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (folder / ".env").write_text("".join(lines))
    variables = re.findall(r"\$\{(\w+)", COMPOSE_FILE.read_text())
    inherited = {name: value for name, value in os.environ.items() if name not in variables}
    done = subprocess.run(
        [program, "--profile", "app", "--profile", "monitoring", "config"],
        cwd=folder,
        env=inherited,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARN" not in done.stderr, done.stderr
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    return document


class TestFile:
    def test_plain_up_starts_kafka_and_nothing_else(self) -> None:
        assert of_profile(None) == PLAIN
        assert of_profile("app") == APP
        assert of_profile("monitoring") == MONITORING

    def test_the_oldest_compose_reads_it_without_an_environment_file(
        self, compose_program: str, tmp_path: Path
    ) -> None:
        services = read_by_compose(compose_program, tmp_path, {})["services"]
        assert set(services) == PLAIN | APP | MONITORING
        # Then the database does not start, and says that it needs a password.
        assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == ""

    def test_the_schema_of_the_newest_compose_allows_it(self) -> None:
        check = [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
        ]
        done = subprocess.run([*check, str(COMPOSE_FILE)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout

    def test_the_example_names_every_variable(self) -> None:
        used = set(re.findall(r"\$\{(\w+)", COMPOSE_FILE.read_text()))
        explained = set(re.findall(r"^(\w+)=", EXAMPLE.read_text(), re.MULTILINE))
        assert used == explained == set(SETTINGS)

    def test_no_password_is_in_the_file_and_git_never_sees_it(self) -> None:
        text = COMPOSE_FILE.read_text()
        assert re.findall(r"PASSWORD: (.*)", text) == ["${POSTGRES_PASSWORD:-}"]
        assert set(re.findall(r"//cars:(.*)@", text)) == {"${POSTGRES_PASSWORD:-}"}
        assert re.search(r"^POSTGRES_PASSWORD=$", EXAMPLE.read_text(), re.MULTILINE)
        assert ".env" in (ROOT / ".gitignore").read_text().splitlines()

    def test_consumers_can_be_scaled(self) -> None:
        consumer = load_compose()["services"]["consumer"]
        assert not {"container_name", "ports", "hostname"} & set(consumer)

    @pytest.mark.parametrize("name", sorted(APP | MONITORING))
    def test_a_service_comes_back_and_is_bounded(self, name: str) -> None:
        service = load_compose()["services"][name]
        assert service["restart"] == "unless-stopped"
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
        assert "no-new-privileges:true" in service["security_opt"]
        assert "healthcheck" in service or name == "producer"
        assert ":latest" not in service["image"]

    def test_every_folder_that_is_mounted_exists(self) -> None:
        for service in load_compose()["services"].values():
            for volume in service.get("volumes", []):
                source, _, *options = volume.split(":")
                if source.startswith("."):
                    assert (ROOT / source).is_dir(), volume
                    assert options == ["ro"]

    def test_prometheus_asks_the_consumers_where_they_listen(self) -> None:
        port = load_compose()["services"]["consumer"]["environment"]["METRICS_PORT"]
        (job,) = yaml.safe_load((CONFIG / "prometheus.yml").read_text())["scrape_configs"]
        (name_server,) = job["dns_sd_configs"]
        assert name_server["names"] == ["consumer"]
        assert name_server["port"] == port
        assert ("EXPOSE", str(port)) in stages()["service"].steps

    def test_the_dashboard_is_started_as_its_image_starts_it(self) -> None:
        services = load_compose()["services"]
        assert services["dashboard"]["command"] == default_command(stages()["dashboard"])
        assert services["consumer"]["command"] == default_command(stages()["service"])


@dataclass
class Machine:
    """This machine in place of the containers: what each name and port stands for."""

    services: dict[str, Any]
    kafka: RealKafka
    postgres: Postgres
    topic: str  # of a test's own: other tests leave messages on the one of docker-compose.yml

    def __post_init__(self) -> None:
        database = self.postgres.url("cars", SETTINGS["POSTGRES_PASSWORD"])
        self.database_url = database.replace("tests:", "cars:")
        self.database_port = database.split(":")[-1].split("/")[0]
        self._ports = {port: str(free_port()) for port in ("9108", "8501", "9090")}
        self._ports["5432"] = self.database_port

    def port(self, inside: str) -> int:
        return int(self._ports[inside])

    def local(self, text: str) -> str:
        """Replace the names and ports inside the containers."""
        text = re.sub(r"kafka:\d+", lambda found: self.kafka.local(found[0]), text)
        text = text.replace("@postgres:", f"@{LOOPBACK}:")
        return re.sub(r"\b(?:9108|8501|9090|5432)\b", lambda port: self._ports[port[0]], text)

    def start(self, name: str) -> Program:
        """Run a service's command in its environment, with the Python of the tests."""
        service = self.services[name]
        stage = stages()["dashboard" if name == "dashboard" else "service"]
        variables = {key: self.local(str(value)) for key, value in service["environment"].items()}
        program, *arguments = map(self.local, service["command"])
        if program != "python":
            arguments = ["-m", program, *arguments]
        environment = self.kafka.environment(**stage.environment)
        del environment["KAFKA_BOOTSTRAP_SERVERS"]  # the file's own counts
        own = {"KAFKA_TOPIC": self.topic, "KAFKA_GROUP_ID": self.topic}
        return Program(arguments, environment | variables | own)

    def healthy(self, name: str, **moved: str) -> bool:
        """Run a service's health check; `moved` replaces more of it."""
        check = self.services[name]["healthcheck"]
        kind, *command = check["test"]
        assert kind == "CMD"
        words = [self.local(word) for word in command]
        for old, new in moved.items():
            words = [word.replace(old, new) for word in words]
        words[0] = sys.executable if words[0] == "python" else words[0]
        seconds = int(check["timeout"].rstrip("s"))
        try:
            done = subprocess.run(words, capture_output=True, timeout=10 * seconds)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def wait_until_healthy(self, name: str, program: Program) -> None:
        deadline = time.monotonic() + SECONDS
        while not self.healthy(name):
            assert time.monotonic() < deadline, program
            time.sleep(0.5)

    def rows(self) -> int:
        with psycopg.connect(self.database_url) as link:
            (count,) = link.execute("SELECT count(*) FROM predictions").fetchone() or (0,)
        return int(count)


@pytest.fixture(scope="module")
def machine(
    compose_program: str,
    real_kafka: RealKafka,
    postgres: Postgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("compose")
    services = read_by_compose(compose_program, folder, SETTINGS)["services"]
    database = services["postgres"]["environment"]
    assert database["POSTGRES_PASSWORD"] == SETTINGS["POSTGRES_PASSWORD"]
    # What the image does with these three variables when its volume is new.
    user, name = database["POSTGRES_USER"], database["POSTGRES_DB"]
    postgres.execute(
        f"CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{SETTINGS['POSTGRES_PASSWORD']}'"
    )
    postgres.execute(f"CREATE DATABASE {name} OWNER {user}")
    real_kafka.create_topic(topic := "containers")
    yield Machine(services, real_kafka, postgres, topic)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
    postgres.execute(f"DROP ROLE {user}")


class TestServices:
    def test_postgres_is_healthy_while_it_answers(self, machine: Machine) -> None:
        assert machine.healthy("postgres")
        assert not machine.healthy("postgres", **{machine.database_port: str(free_port())})

    def test_a_photo_goes_from_the_camera_to_the_database_and_the_dashboard(
        self, machine: Machine
    ) -> None:
        with machine.start("consumer") as consumer:
            assert not machine.healthy("consumer")  # it loads the model
            machine.wait_until_healthy("consumer", consumer)
            with machine.start("producer") as camera, machine.start("dashboard") as page:
                consumer.wait_for_line("gate coche_", 3)
                machine.wait_until_healthy("dashboard", page)
                assert camera.out[0] == "Producer started. Sending images every 0.5 seconds..."
                assert camera.stop() == 0
            while machine.rows() < 3:
                consumer.wait_for_line("gate coche_", machine.rows() + 1)
            metrics = f"http://{LOOPBACK}:{machine.port('9108')}/metrics"
            with urllib.request.urlopen(metrics, timeout=SECONDS) as answer:
                assert 'camera="gate"' in answer.read().decode()
            assert consumer.stop() == 0
        assert not machine.healthy("consumer")

    def test_prometheus_starts_and_is_healthy(self, machine: Machine, tmp_path: Path) -> None:
        require(missing_prometheus(), "prometheus", ci=os.environ.get("CI") == "true")
        service = machine.services["prometheus"]
        mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in service["volumes"]}
        assert Path(mounted["/etc/prometheus"]).name == CONFIG.name
        arguments = [
            word.replace("=/etc/prometheus", f"={CONFIG}").replace("=/prometheus", f"={tmp_path}")
            for word in service["command"]
        ]
        listen = f"--web.listen-address={LOOPBACK}:{machine.port('9090')}"
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(["prometheus", *arguments, listen], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + SECONDS
            while not machine.healthy("prometheus"):
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
        assert not machine.healthy("prometheus")
