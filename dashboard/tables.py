"""The lower part of the page: what can be looked up."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st
from sqlalchemy import Connection

from car_classifier.predictions import Source
from dashboard import cards, exporting, queries
from dashboard.lag import Lag
from dashboard.reading import reading
from dashboard.services import lag_monitor, results, telling_why_not, zone
from dashboard.windows import WINDOWS, Window

__all__ = ["show_tables"]

MOST_ROWS = 200  # of a table
MOST_EXPORTED = 100_000  # rows of a CSV file

EXPORTED = [
    *("captured", "predicted", "camera_id", "image_name", "make", "model", "year", "certain"),
    *("confidence", "latency_ms", "topic", "partition", "offset", "model_file", "model_sha256"),
]
EXPORTED_TIMES = ["captured", "predicted"]


def show_tables(window: Window) -> None:
    """What can be looked up."""
    now = time.time()
    with telling_why_not(quiet=True), reading(results()) as connection:
        if queries.last_answer(connection) is None and not queries.dead_counts(
            connection, WINDOWS[-1], now
        ):
            return
        found, rejected, cameras, waiting = st.tabs(
            ["Answers", "Rejected", "Cameras", "Consumer lag"]
        )
        with found:
            show_answers(connection, window, now)
        with rejected:
            show_dead_letters(connection, window, now)
        with cameras:
            show_cameras(connection, window, now)
        with waiting:
            show_lag(lag_monitor().latest())


def show_answers(connection: Connection, window: Window, now: float) -> None:
    """The newest answers, or those with some words."""
    words, export = st.columns([4, 1], vertical_alignment="bottom")
    search = words.text_input(
        "Search", placeholder="Search camera, image, make, model", label_visibility="collapsed"
    )
    rows = queries.answers(connection, window, now, search, MOST_ROWS)
    export.download_button(
        "Export CSV",
        partial(exported, window, search),  # asked for when it is clicked
        file_name="answers.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
    )
    st.dataframe(
        pd.DataFrame(
            {
                "Answered": times([row.predicted for row in rows]),
                "Camera": [row.camera_id for row in rows],
                "Answer": [answer(row) for row in rows],
                "Confidence": [row.confidence for row in rows],
                "Latency": [cards.milliseconds(row.latency_ms) for row in rows],
                "Image": [row.image_name for row in rows],
                "Message": [place(row) for row in rows],
            }
        ),
        column_config={
            "Answered": when("Answered"),
            "Confidence": st.column_config.ProgressColumn(
                format="percent", min_value=0.0, max_value=1.0
            ),
        },
        hide_index=True,
        key="answers",
    )
    if len(rows) == MOST_ROWS:
        st.html(cards.note(f"The newest {MOST_ROWS}; the CSV file has up to {MOST_EXPORTED:,}."))
    if search:
        st.html(
            cards.note(f"A search looks through the newest {queries.SEARCHED:,} of the window.")
        )


def exported(window: Window, search: str) -> bytes:
    """The CSV file of what a search finds."""
    with reading(results()) as connection:
        rows = queries.answers(connection, window, time.time(), search, MOST_EXPORTED)
    return exporting.as_csv(rows, EXPORTED, EXPORTED_TIMES)


def show_dead_letters(connection: Connection, window: Window, now: float) -> None:
    """The newest messages that no answer could be given to."""
    rows = queries.dead_letters(connection, window, now, MOST_ROWS)
    if not rows:
        st.html(cards.note("No message was rejected in this time."))
        return
    reasons = queries.dead_counts(connection, window, now)
    st.html(cards.note(", ".join(f"{reason} {count:,}" for reason, count in reasons.items())))
    st.dataframe(
        pd.DataFrame(
            {
                "Rejected": times([row.rejected for row in rows]),
                "Camera": [row.camera_key for row in rows],
                "Reason": [row.reason for row in rows],
                "Detail": [row.detail for row in rows],
                "Attempts": [row.attempts for row in rows],
                "Bytes": [row.size for row in rows],
                "Message": [place(row) for row in rows],
            }
        ),
        column_config={"Rejected": when("Rejected")},
        hide_index=True,
        key="rejected",
    )


def show_cameras(connection: Connection, window: Window, now: float) -> None:
    """When each camera was last heard of."""
    seen = queries.cameras_seen(connection, window, now, MOST_ROWS)
    st.dataframe(
        pd.DataFrame(
            {
                "Camera": [camera.camera_id for camera in seen],
                "Last answer": times([camera.last_predicted for camera in seen]),
                "Ago": [cards.ago(now - camera.last_predicted) for camera in seen],
                f"Photos in {window.label}": [camera.count for camera in seen],
            }
        ),
        column_config={"Last answer": when("Last answer")},
        hide_index=True,
        key="cameras",
    )


def show_lag(lag: Lag | None) -> None:
    """What waits on each partition."""
    if lag is None:
        st.html(cards.note("Unknown: Kafka at KAFKA_BOOTSTRAP_SERVERS gives no answer."))
        return
    st.dataframe(
        pd.DataFrame(
            {"Partition": list(lag.partitions), "Photos waiting": list(lag.partitions.values())}
        ),
        hide_index=True,
        key="lag",
    )


def answer(row: Any) -> str:
    """A row's car, in words."""
    car = " ".join(part for part in (row.make, row.model, str(row.year or "")) if part)
    return car if row.certain else f"unknown, perhaps {car}"


def place(row: Any) -> str:
    """Where on Kafka a row's message lies."""
    return str(Source(row.topic, row.partition, row.offset))


def times(seconds: list[float]) -> Any:
    """Seconds since 1970 for a table, by the clock of whoever looks at it."""
    return pd.to_datetime(pd.Series(seconds, dtype=float), unit="s", utc=True).dt.tz_convert(zone())


def when(label: str) -> Any:
    """How a table shows a time."""
    return st.column_config.DatetimeColumn(label, format="YYYY-MM-DD HH:mm:ss")
