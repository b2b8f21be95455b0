"""How to reach Kafka, with settings that fit messages of photos."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError

from car_classifier.errors import BrokerError, SettingsError
from car_classifier.header_names import accept_any_header_name
from car_classifier.joining import mend_joins
from car_classifier.receiving import receive_in_large_pieces
from car_classifier.refusal import refusal
from car_classifier.security import Security
from car_classifier.too_large import survive_refusals

__all__ = [
    "NO_ENTRY",
    "TOPIC",
    "BrokerSettings",
    "check_topic",
    "close_producer",
    "connect",
    "make_consumer",
    "make_producer",
    "raise_if_refused",
    "refused",
]

TOPIC = "taller_camara_stream"

# A 15 MiB photo is 20 MiB of base64; docker-compose.yml sets the broker's limits to the same.
MAX_MESSAGE_BYTES = 21 * 2**20
# Enough for a batch of ordinary photos a fetch, and for the largest message at least.
MAX_FETCH_BYTES = 2 * MAX_MESSAGE_BYTES
CONNECT_SECONDS = 5.0  # for each attempt to reach a broker
SEND_BLOCK_SECONDS = 5.0  # before `send` says that it knows no way to the topic yet
CLOSE_SECONDS = 5.0  # for a producer to disconnect
LONGEST_PAUSE_SECONDS = 15.0  # between two attempts; they grow from one second
# The broker is there and says no: to everything, or to this topic or group.
NO_ENTRY = (AuthorizationError, SaslAuthenticationFailedError)
_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")  # Kafka's rule

Client = TypeVar("Client")


@dataclass(frozen=True)
class BrokerSettings:
    """Where the broker is, what the topic is called and how to log in."""

    bootstrap_servers: str = "localhost:9092"
    topic: str = TOPIC
    # Without a sign of life for so long a consumer's partitions go to others.
    session_timeout_ms: int = 45_000
    security: Security = field(default_factory=Security)

    def __post_init__(self) -> None:
        """Refuse what the client library would stumble over later, and without a hint.

        Raises:
            SettingsError: no address, or no name that Kafka allows a topic.
        """
        if not _addresses(self):
            raise SettingsError(
                f"bootstrap servers: expected host:port[,...], got {self.bootstrap_servers!r}"
            )
        check_topic("topic", self.topic)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> BrokerSettings:
        """Read ``KAFKA_BOOTSTRAP_SERVERS``, ``KAFKA_TOPIC``, ``KAFKA_SESSION_TIMEOUT_MS``.

        And what `Security` reads.

        Raises:
            SettingsError: a value cannot be what it should.
        """
        timeout = environment.get("KAFKA_SESSION_TIMEOUT_MS") or str(cls.session_timeout_ms)
        if not timeout.isdecimal() or int(timeout) < 1000:
            raise SettingsError(
                f"KAFKA_SESSION_TIMEOUT_MS: expected milliseconds, 1000 or more, got {timeout!r}"
            )
        return cls(
            environment.get("KAFKA_BOOTSTRAP_SERVERS") or cls.bootstrap_servers,
            environment.get("KAFKA_TOPIC") or cls.topic,
            int(timeout),
            Security.from_environment(environment),
        )

    def client_options(self) -> dict[str, Any]:
        """What every client of kafka-python needs to reach this broker: also an admin client."""
        return {
            "bootstrap_servers": _addresses(self),
            "bootstrap_timeout_ms": int(CONNECT_SECONDS * 1000),
            **self.security.client_options(),
        }


def check_topic(what: str, name: str) -> None:
    """Check a topic's name by Kafka's rule.

    Raises:
        SettingsError: it is none.
    """
    if not _TOPIC_NAME.fullmatch(name) or name in (".", ".."):
        raise SettingsError(
            f"{what}: expected 1 to 249 letters, digits, dots, underscores and hyphens, "
            f"got {name!r}"
        )


def connect(
    make: Callable[[], Client],
    settings: BrokerSettings,
    stopped: Callable[[], bool] = lambda: False,
) -> Client | None:
    """Call ``make`` until the broker answers, with growing pauses, and say so on stderr.

    Returns:
        The client, or None if ``stopped()`` became true first.

    Raises:
        SettingsError: the address is none, or the settings contradict each other.
        BrokerError: the broker is there and does not let us in.
    """
    if settings.security.uses_sasl or settings.security.uses_tls:
        raise_if_refused(settings)  # the library would try for seconds, and know less in the end
    pause = 1.0
    while not stopped():
        try:
            return make()
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f"Kafka at {settings.bootstrap_servers!r}: expected host:port: {error}"
            ) from error
        except (KafkaError, OSError) as error:
            raise_if_refused(settings)
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            print(
                f"Kafka at {settings.bootstrap_servers} does not answer ({reason}); "
                f"next try in {pause:.0f} s...",
                file=sys.stderr,
                flush=True,
            )
        until = time.monotonic() + pause
        while time.monotonic() < until and not stopped():
            time.sleep(0.1)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    return None


def raise_if_refused(settings: BrokerSettings) -> None:
    """Find out why nothing comes from the broker; takes seconds, so call it when that is so.

    Raises:
        BrokerError: it does not let us in: waiting will not mend it. Says which setting will.
    """
    for address in _addresses(settings):
        host, _, port = address.rpartition(":")
        if host and port.isdecimal():
            reason = refusal(host.strip("[]"), int(port), settings.security)
            if reason:
                raise BrokerError(f"Kafka at {address} {reason}")


def refused(settings: BrokerSettings, error: KafkaError) -> BrokerError:
    """Return what to raise for an error that waiting will not mend.

    Raises:
        BrokerError: the same, if it was the login, with the setting that is to blame.
    """
    if isinstance(error, SaslAuthenticationFailedError):
        raise_if_refused(settings)
    return BrokerError(f"Kafka at {settings.bootstrap_servers} refuses: {error}")


def make_producer(settings: BrokerSettings, **overrides: Any) -> KafkaProducer:
    """A producer that never gives a message up by itself: its caller waits and says so.

    Idempotence and ``acks=all`` are the library's defaults.

    Raises:
        KafkaError: no broker answers.
    """
    options = {
        "max_request_size": MAX_MESSAGE_BYTES,
        "delivery_timeout_ms": 2**31 - 1,
        "max_block_ms": int(SEND_BLOCK_SECONDS * 1000),
        "reconnect_backoff_max_ms": 1000,
    }
    return survive_refusals(KafkaProducer(**settings.client_options(), **(options | overrides)))


def close_producer(producer: KafkaProducer) -> None:
    """Disconnect a producer whose messages are acknowledged or given up."""
    try:
        producer.close(timeout=CLOSE_SECONDS)
    except KafkaError:  # the broker is away, and what was given up cannot be flushed
        # The library would try again when the program ends, and show a stack trace.
        producer.close = lambda **_: None


def make_consumer(
    settings: BrokerSettings, group_id: str | None, from_beginning: bool, **overrides: Any
) -> KafkaConsumer:
    """A consumer whose offsets are committed by its caller, and only so; without a group, never.

    Raises:
        KafkaError: no broker answers.
    """
    accept_any_header_name()
    receive_in_large_pieces()
    consumer = KafkaConsumer(
        **settings.client_options(),
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest" if from_beginning else "latest",
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        fetch_max_bytes=MAX_FETCH_BYTES,
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=min(3000, settings.session_timeout_ms // 3),
        reconnect_backoff_max_ms=1000,
        **overrides,
    )
    mend_joins(consumer)
    return consumer


def _addresses(settings: BrokerSettings) -> list[str]:
    return [part.strip() for part in settings.bootstrap_servers.split(",") if part.strip()]
