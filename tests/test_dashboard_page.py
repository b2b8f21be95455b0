"""The page as a whole, without a browser: with results, without, and without a database."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from car_classifier.database import DatabaseSink
from tests.scripts import ROOT
from tests.stored import MODEL, batch, prediction, rejection

APP = ROOT / "dashboard" / "app.py"
SECONDS = 60.0


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the database that the page reads; there is none yet."""
    url = f"sqlite:///{tmp_path}/results.db"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.delenv("MIN_CONFIDENCE", raising=False)
    st.cache_resource.clear()  # of the test before
    return url


def page() -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=SECONDS).run()
    assert not app.exception
    return app


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def fill(url: str) -> None:
    now = time.time()
    sink = DatabaseSink(url, MODEL)
    assert sink.connect(lambda: False)
    answers = [prediction(n, predicted=now - n, certain=n > 0) for n in range(4)]
    sink.deliver(batch(*answers, rejection(9)), lambda: True)
    sink.close()


def test_without_a_database_the_page_says_how_to_get_one(database: str) -> None:
    app = page()
    assert "There is no database" in app.info[0].value.replace("\\", "")
    assert f"--database {database}" in app.code[0].value
    assert "No results yet" in html(app)
    assert not app.dataframe


def test_a_database_without_results_says_how_to_get_some(database: str) -> None:
    sink = DatabaseSink(database, MODEL)
    assert sink.connect(lambda: False)
    sink.close()

    app = page()

    assert "No results yet" in app.info[0].value.replace("\\", "")
    assert f"--database {database}" in app.code[0].value


def test_results_are_shown(database: str) -> None:
    fill(database)
    app = page()
    shown = html(app)

    assert "Live, last answer" in shown
    assert '<div class="answer">Unknown</div>' in shown  # the newest of cam01
    for name, number in (("Photos", "4"), ("Unknown cars", "25.0%"), ("Consumer lag", "unknown")):
        assert f'<div class="name">{name}</div><div class="number">{number}</div>' in shown
    answers = app.dataframe[0].value
    assert (
        list(answers["Answer"])
        == ["unknown, perhaps BMW M3 Coupe 2012"] + ["BMW M3 Coupe 2012"] * 3
    )


def test_a_search_narrows_the_table_down(database: str) -> None:
    fill(database)
    app = page()

    app.text_input[0].set_value("audi").run()

    assert not app.exception
    assert len(app.dataframe[0].value) == 0
    assert "looks through the newest" in html(app)


def test_the_window_can_be_chosen(database: str) -> None:
    fill(database)
    app = page()
    for label in ("15 min", "6 h", "24 h", "30 d"):
        app.get("button_group")[0].set_value(label).run()
        assert not app.exception
        assert f"Last {label}" in html(app)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("MIN_CONFIDENCE", "often", "MIN_CONFIDENCE: expected 0 to 1"),
        ("MIN_CONFIDENCE", "1.5", "MIN_CONFIDENCE: expected 0 to 1"),
        ("DATABASE_URL", "mysql://me:secret@host/cars", "database: expected sqlite"),
        ("KAFKA_TOPIC", "no topic", "topic: expected"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str
) -> None:
    monkeypatch.setenv(name, value)
    app = page()
    [error] = app.error
    assert part in error.value.replace("\\", "")
    assert "secret" not in error.value


def test_the_threshold_is_drawn_where_the_consumers_have_one(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    monkeypatch.setenv("MIN_CONFIDENCE", "0.5")
    charts = [chart.proto.spec for chart in page().get("vega_lite_chart")]
    assert sum("below 50% a car is unknown" in chart for chart in charts) == 1
