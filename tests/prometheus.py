"""A real Prometheus, with the configuration in deploy/, asked as Grafana asks it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from car_classifier.embedded_broker import LOOPBACK, free_port
from tests.scripts import ROOT, SECONDS

CONFIG = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "car-classifier.json"

_SCRAPE_SECONDS = 1  # instead of the file's, or the tests would wait for it


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.address = f"http://{LOOPBACK}:{port}"

    def ask(self, page: str, **parameters: str | float) -> Any:
        """Return the data of an answer of its HTTP API."""
        url = f"{self.address}/api/v1/{page}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            content = json.load(answer)
        assert content["status"] == "success", content
        return content["data"]

    def query(self, expression: str) -> list[Any]:
        """Return what a panel's query gives now."""
        result: list[Any] = self.ask("query", query=filled_in(expression))["result"]
        return result


@contextlib.contextmanager
def running_prometheus(folder: Path, port_of_consumer: int) -> Iterator[Prometheus]:
    """Prometheus on the configuration in deploy/, with one consumer instead of a name server."""
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{_SCRAPE_SECONDS}s", "evaluation_interval": "1s"}
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"{LOOPBACK}:{port_of_consumer}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(CONFIG / "rules.yml", folder)
    port = free_port()
    command = ["prometheus", f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={LOOPBACK}:{port}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SECONDS
        while not _ready(port):
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline, (folder / "prometheus.log").read_text()
            time.sleep(0.1)
        yield Prometheus(port)
    finally:
        process.kill()
        process.wait()


def panels() -> list[dict[str, Any]]:
    """Return the panels of the Grafana dashboard."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def filled_in(expression: str) -> str:
    """Put in what Grafana does: four scrapes make a rate that survives a missed one."""
    return expression.replace("$__rate_interval", f"{4 * _SCRAPE_SECONDS}s")


def metric_names(text: str) -> set[str]:
    """Return the metrics that queries in a text name."""
    return set(re.findall(r"\b(?:car_classifier|process)_\w+", text))


def missing_prometheus() -> list[str]:
    """Return which of Prometheus' programs are not on this machine."""
    return [program for program in ("prometheus", "promtool") if shutil.which(program) is None]


def _ready(port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(f"http://{LOOPBACK}:{port}/-/ready", timeout=5))
    return False
