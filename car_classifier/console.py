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
from typing import TypeVar

from car_classifier.errors import SettingsError

__all__ = ["checked", "environment_default", "forgiving_output", "needs", "quiet_kafka_log"]

Number = TypeVar("Number", int, float)
Value = TypeVar("Value")


def environment_default(name: str, default: Value) -> str | Value:
    """An option's default: the environment variable's text, if it is set and not empty.

    ``argparse`` converts and checks a default that is text as if it had been typed.
    """
    return os.environ.get(name) or default


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
