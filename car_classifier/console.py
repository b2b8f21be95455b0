"""What the two scripts' command lines share."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from car_classifier.broker import BrokerSettings
from car_classifier.errors import SettingsError

__all__ = [
    "add_broker_options",
    "broker_settings",
    "checked",
    "environment_default",
    "forgiving_output",
    "needs",
    "quiet_kafka_log",
]

Number = TypeVar("Number", int, float)
Value = TypeVar("Value")


def environment_default(name: str, default: Value) -> str | Value:
    """An option's default: the environment variable's text, if it is set and not empty.

    ``argparse`` converts and checks a default that is text as if it had been typed.
    """
    return os.environ.get(name) or default


def add_broker_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the photos go and come from.

    How to log in there is read from the environment alone: others can see a command line.

    Raises:
        SettingsError: a variable in the environment cannot be what it should.
    """
    default = BrokerSettings.from_environment()
    parser.set_defaults(environment_settings=default)
    parser.add_argument(
        "--bootstrap-servers",
        default=default.bootstrap_servers,
        metavar="HOST:PORT[,...]",
        help="Kafka brokers [KAFKA_BOOTSTRAP_SERVERS; %(default)s]",
    )
    parser.add_argument(
        "--topic", default=default.topic, help="topic of the photos [KAFKA_TOPIC; %(default)s]"
    )


def broker_settings(options: argparse.Namespace) -> BrokerSettings:
    """The settings of the environment, with what was typed instead.

    Raises:
        SettingsError: what was typed cannot be.
    """
    settings: BrokerSettings = options.environment_settings
    if settings.security.shows_password:
        print(
            "warning: KAFKA_SASL_MECHANISM PLAIN over SASL_PLAINTEXT: the password can be read on "
            "the network; SASL_SSL hides it",
            file=sys.stderr,
            flush=True,
        )
    return replace(settings, bootstrap_servers=options.bootstrap_servers, topic=options.topic)


def checked(
    kind: type[Number], minimum: float, maximum: float = math.inf
) -> Callable[[str], Number]:
    """A converter for ``argparse`` that takes numbers from ``minimum`` to ``maximum`` only."""

    def convert(text: str) -> Number:
        value = kind(text)
        if not minimum <= value <= maximum or math.isinf(value):
            upper = "" if math.isinf(maximum) else f" to {maximum:g}"
            more = " or more" if math.isinf(maximum) else ""
            raise argparse.ArgumentTypeError(f"expected {minimum:g}{upper}{more}, got {text}")
        return value

    convert.__name__ = kind.__name__  # argparse names it in its messages
    return convert


def quiet_kafka_log() -> None:
    """Keep the client library's log to itself: the scripts say in their own words what matters."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def forgiving_output() -> None:
    """Print letters that the terminal's encoding lacks as escapes; one name must not end us."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def needs(requirements: str) -> Iterator[None]:
    """Say what to install where an import in this block fails.

    Args:
        requirements: the file in ``requirements/``, without its ending.

    Raises:
        SettingsError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error.name} is not installed: pip install -r requirements/{requirements}.txt"
        ) from error
