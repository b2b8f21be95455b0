"""What every part of the page shares: the database, Kafka, and how to say that one is missing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st
from sqlalchemy import Engine

from car_classifier.broker import BrokerSettings
from car_classifier.console import environment_default, quiet_kafka_log
from car_classifier.errors import SettingsError
from dashboard.lag import LagMonitor
from dashboard.reading import NoResultsError, open_engine

__all__ = [
    "confidence_threshold",
    "lag_monitor",
    "plain",
    "results",
    "tell_how_to_start",
    "telling_why_not",
    "zone",
]


@st.cache_resource
def results() -> Engine:
    """The database, for all who look at the page."""
    return open_engine(str(environment_default("DATABASE_URL", "sqlite:///predicciones.db")))


@st.cache_resource
def lag_monitor() -> LagMonitor:
    """What asks Kafka, for all who look at the page."""
    quiet_kafka_log()
    group_id = str(environment_default("KAFKA_GROUP_ID", "clasificador-coches"))
    return LagMonitor(BrokerSettings.from_environment(), group_id)


def confidence_threshold() -> float | None:
    """From where on the consumers believe the model, if they are told to doubt it at all.

    Raises:
        SettingsError: MIN_CONFIDENCE is no share.
    """
    text = str(environment_default("MIN_CONFIDENCE", "0"))
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise SettingsError(f"MIN_CONFIDENCE: expected 0 to 1, got {text!r}")
    return threshold or None


def zone() -> tzinfo:
    """The time zone of whoever looks at the page, as far as the browser tells."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return timezone.utc


@contextlib.contextmanager
def telling_why_not(*, quiet: bool = False) -> Iterator[None]:
    """Say what is missing instead of showing results; ``quiet``: another part of the page does."""
    try:
        yield
    except NoResultsError as error:
        if not quiet:
            tell_how_to_start(str(error))


def tell_how_to_start(why: str) -> None:
    """What to do where there is nothing to show; the page looks again by itself."""
    st.info(plain(why) + " They appear here by themselves as soon as there are some. To get some:")
    url = results().url.render_as_string(hide_password=True)
    st.code(
        f"python consumidor_clasificador.py --database {url}\npython productor_camara.py",
        language="bash",
    )


def plain(text: str) -> str:
    """Text for those parts of a page that understand Markdown, as what it is."""
    return re.sub(r"([\\`*_{}\[\]()#+.!|<>~$:-])", r"\\\1", text)
