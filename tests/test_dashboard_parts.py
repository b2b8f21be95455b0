"""The dashboard's pieces: HTML that shows text as text, CSV without formulas, charts, lag."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Callable
from datetime import timezone
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from car_classifier.broker import BrokerSettings, make_consumer
from dashboard import cards, charts, lag
from dashboard.exporting import as_csv
from dashboard.lag import Lag, LagMonitor, consumer_lag
from dashboard.queries import Guess, LatestPhoto, Moment
from dashboard.services import plain
from dashboard.windows import WINDOWS
from tests.kafka_services import Embedded
from tests.scripts import SECONDS

HOSTILE = "<script>alert(1)</script>\"' & **bold**"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27; &amp; **bold**"


def photo(**changes: Any) -> LatestPhoto:
    guesses = [Guess("BMW", "M3 Coupe", 2012, 0.75), Guess("Audi", None, None, 0.25)]
    values: dict[str, Any] = {
        "camera_id": "cam01",
        "image_name": "coche.jpg",
        "captured": 1_700_000_000.0,
        "certain": True,
        "guesses": guesses,
        "jpeg": b"JPEG",
        **changes,
    }
    return LatestPhoto(**values)


def test_every_text_from_outside_is_escaped() -> None:
    hostile = [Guess(HOSTILE, HOSTILE, None, 0.5)]
    shown = [
        cards.car(
            photo(camera_id=HOSTILE, image_name=HOSTILE, guesses=hostile, certain=certain),
            timezone.utc,
        )
        for certain in (True, False)
    ]
    shown += [
        cards.bars(HOSTILE, [(HOSTILE, 3)], ""),
        cards.bars("Makes", [], HOSTILE),
        cards.tile(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
        cards.head(HOSTILE, live=True),
        cards.note(HOSTILE),
        cards.title(HOSTILE),
    ]
    for html in shown:
        assert ESCAPED in html
        assert "<script" not in html


def test_a_card_says_what_the_model_is_not_sure_of() -> None:
    assert ">BMW M3 Coupe 2012</div>" in cards.car(photo(), timezone.utc)
    unsure = cards.car(photo(certain=False), timezone.utc)
    assert ">Unknown</div>" in unsure
    assert ">BMW M3 Coupe 2012</span>" in unsure
    assert "75.0%" in unsure
    assert "no thumbnail" in cards.car(photo(jpeg=None), timezone.utc)


@pytest.mark.parametrize("seconds", [1e300, -1e300, 0.0])
def test_a_camera_whose_clock_is_wrong_does_not_break_the_page(seconds: float) -> None:
    assert "cam01" in cards.car(photo(captured=seconds), timezone.utc)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((-5, "0 s ago"), (3.9, "3 s ago"), (119, "119 s ago")),
        *((7199, "119 min ago"), (7200, "2 h ago"), (200_000, "2 d ago")),
    ],
)
def test_how_long_ago_is_said_roughly(seconds: float, said: str) -> None:
    assert cards.ago(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(None, "\u2013"), (54.3, "54 ms"), (1500, "1.5 s"), (7.2e6, "7,200 s")]
)
def test_latency_has_the_unit_that_suits_it(value: float | None, said: str) -> None:
    assert cards.milliseconds(value) == said


def test_markdown_is_shown_as_text() -> None:
    assert plain("`a` **b** [c](d) <e>") == r"\`a\` \*\*b\*\* \[c\]\(d\) \<e\>"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1", '=HYPERLINK("x")']
)
def test_a_spreadsheet_takes_no_exported_text_for_a_formula(text: str) -> None:
    row = SimpleNamespace(_mapping={"image_name": text, "confidence": -0.5})

    exported = as_csv([row], ["image_name", "confidence"], times=[])

    [head, line] = csv.reader(io.StringIO(exported.decode("utf-8-sig"), newline=""))
    assert head == ["image_name", "confidence"]
    assert line == ["'" + text, "-0.5"]


def test_exported_text_and_times_can_be_read_back() -> None:
    text = 'Škoda, "Citigo"\n2. line'
    row = SimpleNamespace(_mapping={"camera_id": text, "predicted": 1_700_000_000.25, "year": None})
    broken = SimpleNamespace(_mapping={"camera_id": "b", "predicted": 1e300, "year": 2012})

    exported = as_csv([row, broken], ["camera_id", "predicted", "year"], times=["predicted"])

    [_, first, second] = csv.reader(io.StringIO(exported.decode("utf-8-sig"), newline=""))
    assert first == [text, "2023-11-14T22:13:20.250+00:00", ""]
    assert second == ["b", "1e+300", "2012"]


def test_the_steps_of_a_window_become_what_is_drawn() -> None:
    frame = charts.moments_frame([Moment(60, 3, 10.0, 20.0), Moment(120, 0, None, None)])
    assert list(frame["photos"]) == [3, 0]
    assert str(frame["time"][0]) == "1970-01-01 00:01:00+00:00"
    steps = [charts.throughput(window)["title"]["text"] for window in WINDOWS]
    assert steps == [
        f"Photos per {step}" for step in ("minute", "minute", "5 min", "hour", "hour", "6 h")
    ]


def test_confidence_below_the_threshold_is_marked() -> None:
    frame = charts.confidence_frame(range(20), threshold=0.5)
    assert list(frame["answer"]) == ["unknown"] * 10 + ["named"] * 10
    assert set(charts.confidence_frame(range(20), None)["answer"]) == {"named"}
    assert "layer" in charts.confidence(0.5)
    assert "layer" not in charts.confidence(None)


def test_the_lag_is_what_the_group_has_not_committed(embedded: Embedded, group_id: str) -> None:
    topic = f"lag-{group_id}"
    embedded.create_topic(topic)
    settings = BrokerSettings(embedded.bootstrap_servers, topic, 6000)
    with KafkaProducer(bootstrap_servers=embedded.bootstrap_servers) as producer:
        for number in range(7):
            producer.send(topic, b"x", partition=number % 2).get(timeout=SECONDS)
    with make_consumer(settings, group_id, True) as member:
        member.assign([TopicPartition(topic, 0)])
        member.commit({TopicPartition(topic, 0): OffsetAndMetadata(3)})

    with make_consumer(settings, group_id, True) as client:
        found = consumer_lag(client, topic)

    assert found == Lag({0: 1, 1: 3, 2: 0})
    assert found.total == 4


class Client:
    """A client of Kafka with a topic of one partition, four messages and nothing committed."""

    def __init__(self, *_: Any) -> None:
        self.closed = False

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return {0}

    def end_offsets(self, places: list[Any], **_: Any) -> dict[Any, int]:
        return dict.fromkeys(places, 4)

    def beginning_offsets(self, places: list[Any], **_: Any) -> dict[Any, int]:
        return dict.fromkeys(places, 1)

    def committed(self, _place: Any, **_: Any) -> int | None:
        return None

    def close(self, **_: Any) -> None:
        self.closed = True


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_messages_that_kafka_has_deleted_do_not_wait() -> None:
    assert consumer_lag(Client(), "photos") == Lag({0: 3})


def test_the_page_never_waits_for_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "FRESH_SECONDS", 0.0)
    answering = threading.Event()

    class Slow(Client):
        def partitions_for_topic(self, _topic: str) -> set[int]:
            answering.wait(SECONDS)
            return {0}

    monitor = LagMonitor(BrokerSettings(), "group", Slow)
    start = time.monotonic()
    assert monitor.latest() is None
    assert monitor.latest() is None
    assert time.monotonic() - start < 1

    answering.set()
    until(lambda: monitor.latest() == Lag({0: 3}))


def test_a_kafka_that_goes_away_makes_the_lag_unknown_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lag, "FRESH_SECONDS", 0.0)
    away = threading.Event()
    made = []

    class Flaky(Client):
        def __init__(self, *_: Any) -> None:
            super().__init__()
            made.append(self)

        def end_offsets(self, places: list[Any], **more: Any) -> dict[Any, int]:
            if away.is_set():
                raise KafkaError("away")
            return super().end_offsets(places, **more)

    monitor = LagMonitor(BrokerSettings(), "group", Flaky)
    until(lambda: monitor.latest() is not None)
    away.set()
    until(lambda: monitor.latest() is None)
    away.clear()
    until(lambda: monitor.latest() is not None)
    assert made[0].closed
    assert not made[-1].closed


def test_kafka_is_asked_once_in_a_while_only() -> None:
    asked = []

    class Counting(Client):
        def partitions_for_topic(self, topic: str) -> set[int]:
            asked.append(topic)
            return {0}

    monitor = LagMonitor(BrokerSettings(), "group", Counting)
    until(lambda: monitor.latest() is not None)
    for _ in range(100):
        monitor.latest()
    assert len(asked) == 1


def test_a_lag_that_is_too_old_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = LagMonitor(BrokerSettings(), "group", Client)
    until(lambda: monitor.latest() is not None)
    monkeypatch.setattr(lag, "STALE_SECONDS", -1.0)
    assert monitor.latest() is None
