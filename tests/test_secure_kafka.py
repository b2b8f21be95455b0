"""Real Kafka with SASL and TLS: who may comes in, who may not is told why, and nobody hangs."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from kafka.admin import ResourceType

from car_classifier.broker import BrokerSettings, connect, make_producer, raise_if_refused
from car_classifier.errors import BrokerError
from tests.certificates import Authority
from tests.scripts import CONSUMER, PRODUCER, Program
from tests.secure_kafka import PASSWORD, PLAIN_PASSWORD, SecureKafka


@pytest.fixture
def topic(secure_kafka: SecureKafka) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    secure_kafka.create_topic(name)
    return name


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The certificate of a CA that has not signed the broker's."""
    return str(Authority(tmp_path_factory.mktemp("stranger"), "stranger").file)


def said(program: Program) -> str:
    """The last line of a program that ends with status 2, as it should, and without more ado."""
    assert program.end() == 2, program
    lines = "\n".join(program.out + program.err)
    assert "Traceback" not in lines
    assert PASSWORD not in lines
    assert PLAIN_PASSWORD not in lines
    return program.err[-1]


def test_photos_pass_by_every_mechanism_until_the_login_is_withdrawn(
    secure_kafka: SecureKafka, topic: str, model: dict[str, str], tmp_path: Path
) -> None:
    # Given a camera and a classifier that log in in ways of their own
    password_file = tmp_path / "password"
    password_file.write_text(f"{PASSWORD}\n")
    plain = secure_kafka.login(mechanism="PLAIN", password=PLAIN_PASSWORD)
    secure_kafka.add_user("night")
    night = secure_kafka.login("night", "SCRAM-SHA-256", "")
    night["KAFKA_SASL_PASSWORD_FILE"] = str(password_file)
    environment = secure_kafka.environment(KAFKA_TOPIC=topic, **model)
    with (
        Program([CONSUMER], environment | secure_kafka.login("night")) as consumer,
        Program([PRODUCER, "--once", "--interval", "0"], environment | plain) as producer,
        Program([PRODUCER, "--interval", "0.5"], environment | night) as night_producer,
    ):
        # Then the photos are answered
        assert producer.end() == 0, producer
        night_producer.wait_for_line("Sent: ")
        consumer.wait_for_line(" -> Make: ", 11)

        # When one of the logins is withdrawn
        secure_kafka.remove_user("night")

        # Then those who used it end, and say why
        for program in (consumer, night_producer):
            assert f"{secure_kafka.bootstrap_servers} refuses the login of 'night'" in said(program)


def test_who_may_not_come_in_is_told_why(
    secure_kafka: SecureKafka, topic: str, model: dict[str, str], stranger: str
) -> None:
    login = secure_kafka.login()
    port = secure_kafka.bootstrap_servers.split(":")[1]
    attempts: list[tuple[str, Mapping[str, str], str]] = [
        (PRODUCER, login | {"KAFKA_SASL_PASSWORD": "wrong"}, "refuses the login of 'camera'"),
        (CONSUMER, login | {"KAFKA_SASL_PASSWORD": "wrong"}, "refuses the login of 'camera'"),
        (PRODUCER, login | {"KAFKA_SSL_CAFILE": stranger}, "of an unknown CA"),
        (CONSUMER, login | {"KAFKA_SSL_CAFILE": stranger}, "of an unknown CA"),
        (
            PRODUCER,
            login | {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"},
            "certificate of another host",
        ),
        (PRODUCER, {}, "speaks TLS only, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        (CONSUMER, {}, "speaks TLS only, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        (
            PRODUCER,
            login | {"KAFKA_BOOTSTRAP_SERVERS": secure_kafka.internal_servers},
            "does not speak TLS, but KAFKA_SECURITY_PROTOCOL is SASL_SSL",
        ),
    ]
    environment = secure_kafka.environment(KAFKA_TOPIC=topic, **model)
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(Program([script], {**environment, **variables}))
            for script, variables, _ in attempts
        ]
        for program, (_, _, reason) in zip(programs, attempts, strict=True):
            line = said(program)
            assert line.startswith("error: Kafka at ")
            assert reason in line


@pytest.mark.parametrize(
    ("listener", "protocol", "reason"),
    [
        ("secure", "SSL", r"asks for a login \(.*SCRAM-SHA-512.*expected SASL_SSL$"),
        ("secure", "SASL_PLAINTEXT", "speaks TLS only.*expected SASL_SSL or SSL$"),
        ("plain", "SSL", "does not speak TLS.*expected SASL_PLAINTEXT or PLAINTEXT$"),
        ("plain", "SASL_PLAINTEXT", "takes no login.*expected PLAINTEXT$"),
        ("plain", "PLAINTEXT", None),
        ("secure", "SASL_SSL", None),
    ],
)
def test_a_protocol_that_is_not_the_listeners_is_named_with_the_one_that_is(
    secure_kafka: SecureKafka, listener: str, protocol: str, reason: str | None
) -> None:
    sasl, tls = protocol.startswith("SASL"), protocol.endswith("SSL")
    login = {
        name: value
        for name, value in secure_kafka.login().items()
        if (sasl or "_SASL_" not in name) and (tls or "_SSL_" not in name)
    }
    servers = {"secure": secure_kafka.bootstrap_servers, "plain": secure_kafka.internal_servers}
    settings = BrokerSettings.from_environment(
        login | {"KAFKA_SECURITY_PROTOCOL": protocol, "KAFKA_BOOTSTRAP_SERVERS": servers[listener]}
    )

    if reason is None:
        raise_if_refused(settings)
        return
    with pytest.raises(BrokerError, match=reason):
        raise_if_refused(settings)


def test_who_may_not_use_a_topic_or_group_is_told_so(
    secure_kafka: SecureKafka, topic: str, model: dict[str, str]
) -> None:
    for user in ("reader", "writer"):
        secure_kafka.add_user(user)
        secure_kafka.deny(user, ResourceType.TOPIC, topic)
    secure_kafka.add_user("member")
    secure_kafka.deny("member", ResourceType.GROUP, "members-only")
    environment = secure_kafka.environment(KAFKA_TOPIC=topic, **model)
    login = secure_kafka.login
    with (
        Program([CONSUMER], environment | login("reader")) as reader,
        Program([PRODUCER], environment | login("writer")) as writer,
        Program([CONSUMER, "--group-id", "members-only"], environment | login("member")) as member,
    ):
        for program in (reader, writer):
            line = said(program)
            assert "TopicAuthorizationFailedError" in line
            assert topic in line
        line = said(member)
        assert "GroupAuthorizationFailedError" in line
        assert "members-only" in line


@pytest.mark.parametrize(
    ("mechanism", "password"), [("PLAIN", PLAIN_PASSWORD), ("SCRAM-SHA-512", PASSWORD)]
)
def test_the_client_librarys_log_does_not_show_the_password(
    secure_kafka: SecureKafka,
    topic: str,
    mechanism: str,
    password: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "kafka")
    variables = secure_kafka.environment() | secure_kafka.login("camera", mechanism, password)

    with make_producer(BrokerSettings.from_environment(variables)) as producer:
        producer.send(topic, b"a car").get(timeout=90)

    assert "Authenticated as camera" in caplog.text  # it was logged at all
    assert "s3cret" not in caplog.text


def test_a_refusal_does_not_show_the_password(secure_kafka: SecureKafka) -> None:
    settings = BrokerSettings.from_environment(
        secure_kafka.environment() | secure_kafka.login(password="another-s3cret")
    )

    with pytest.raises(BrokerError, match="refuses the login") as caught:
        connect(lambda: make_producer(settings), settings)

    assert "s3cret" not in "".join(map(repr, (caught.value, caught.value.__context__)))
