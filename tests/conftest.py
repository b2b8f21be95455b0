"""Fixtures that the tests share: brokers, and a topic and a group of a test's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chromium import Browser, missing_chromium
from tests.kafka_services import Broker, Embedded, RealKafka, kafka_jars, missing_tools
from tests.models import environment_of, write_colour_model, write_light_colour_model
from tests.postgres import Postgres, missing_postgres
from tests.scripts import Programs
from tests.secure_kafka import SecureKafka


@pytest.fixture(scope="session")
def embedded() -> Iterator[Embedded]:
    """The embedded broker, with the topic of docker-compose.yml."""
    broker = Embedded()
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    """ZooKeeper and Kafka from docker-compose.yml; skipped by name without Java and Maven."""
    require_real_kafka(missing_tools(), ci=os.environ.get("CI") == "true")
    with RealKafka(kafka_jars(), tmp_path_factory.mktemp("kafka")).running() as kafka:
        yield kafka


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """Real Kafka with SASL and TLS, and a user named camera."""
    require_real_kafka(missing_tools(), ci=os.environ.get("CI") == "true")
    with SecureKafka(kafka_jars(), tmp_path_factory.mktemp("secure-kafka")).running() as kafka:
        kafka.add_user("camera")
        yield kafka


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; skipped by name where Debian's package is not installed."""
    require(missing_postgres(), "postgresql", ci=os.environ.get("CI") == "true")
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser; skipped by name where Debian's packages are not installed."""
    require(missing_chromium(), "chromium chromium-driver", ci=os.environ.get("CI") == "true")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    try:
        yield browser
    finally:
        browser.driver.quit()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/results.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="session", params=["embedded", "real_kafka"], ids=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each broker in turn. A test that stops it starts it again."""
    running: Broker = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def topic(broker: Broker) -> str:
    """A new topic of 3 partitions."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    broker.create_topic(name)
    return name


@pytest.fixture
def group_id() -> str:
    """The name of a consumer group that nobody has used."""
    return f"group-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what points the consumer at a model that starts and answers at once."""
    return environment_of(*write_light_colour_model(tmp_path_factory.mktemp("model")), "openvino")


@pytest.fixture(scope="session")
def keras_model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same model on Keras: TensorFlow takes seconds to start."""
    return environment_of(*write_colour_model(tmp_path_factory.mktemp("keras-model")), "keras")


@pytest.fixture
def programs(model: dict[str, str]) -> Iterator[Programs]:
    with Programs(model) as started:
        yield started


def require_real_kafka(missing: list[str], *, ci: bool) -> None:
    """Skip the test where real Kafka cannot run; fail where it has to; see `require`."""
    require(missing, "openjdk-17-jre-headless maven", ci=ci)


def require(missing: list[str], packages: str, *, ci: bool) -> None:
    """Skip the test where a service cannot run; fail where it has to.

    Args:
        missing: the programs that are not installed.
        packages: Debian's, that they are in.
        ci: whether this is the run that decides, where a skip would hide a failure.
    """
    if not missing:
        return
    reason = (
        f"this needs {' and '.join(missing)}, not found here (Debian: apt-get install {packages})"
    )
    if ci:
        pytest.fail(reason)
    pytest.skip(reason)
