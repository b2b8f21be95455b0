"""The upper part of the page: whether all is well, and what the cameras see."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import streamlit as st

from dashboard import cards, charts, queries
from dashboard.lag import Lag
from dashboard.reading import reading
from dashboard.services import lag_monitor, results, tell_how_to_start, telling_why_not, zone
from dashboard.windows import Window

__all__ = ["show_head", "show_overview"]

MOST_CAMERAS = 12  # with their photo; the table of cameras has more
MOST_BARS = 10
LIVE_SECONDS = 60  # since the last answer


def show_head() -> None:
    """The title, and whether photos come in."""
    with telling_why_not(quiet=True), reading(results()) as connection:
        last = queries.last_answer(connection)
        if last is not None:
            since = time.time() - last
            live = since < LIVE_SECONDS
            state = f"{'Live' if live else 'Quiet'}, last answer {cards.ago(since)}"
            st.html(cards.head(state, live))
            return
    st.html(cards.head("No results yet", live=False))


def show_overview(window: Window, threshold: float | None) -> None:
    """Numbers, the latest photos, and charts."""
    now = time.time()
    with telling_why_not(), reading(results()) as connection:
        photos = queries.latest_photos(connection, MOST_CAMERAS)
        seen = queries.car_counts(connection, window, now)
        dead = queries.dead_counts(connection, window, now)
        latencies = queries.latency_counts(connection, window, now)
        confidences = queries.confidence_counts(connection, window, now)
        if not photos and not dead:
            tell_how_to_start("No results yet.")
            return
        show_tiles(seen, dead, latencies, window, lag_monitor().latest())
        st.html(cards.title("Latest photo of each camera"))
        with st.container(key="cars"):
            # Each by itself: only the card of a camera with a new photo is drawn anew.
            for photo in photos:
                st.html(cards.car(photo, zone()))
        st.html(cards.title(f"Last {window.label}"))
        frame = charts.moments_frame(queries.moments(latencies, window, now))
        left, right = st.columns(2)
        with left, st.container(border=True, key="card-photos"):
            st.vega_lite_chart(frame, charts.throughput(window))
        with right, st.container(border=True, key="card-latency"):
            st.vega_lite_chart(frame, charts.latency(window))
        makes, models, sure = st.columns(3)
        named = ranked(seen, lambda car: car.make)
        makes.html(cards.bars("Makes", named, "No car was named."))
        named = ranked(seen, lambda car: f"{car.make} {car.model}".rstrip())
        models.html(cards.bars("Models", named, "No car was named."))
        with sure, st.container(border=True, key="card-confidence"):
            st.vega_lite_chart(
                charts.confidence_frame(confidences, threshold), charts.confidence(threshold)
            )


def show_tiles(
    seen: list[queries.CarCount],
    dead: dict[str, int],
    latencies: dict[int, dict[int, int]],
    window: Window,
    lag: Lag | None,
) -> None:
    """The numbers that say whether all is well."""
    answered = sum(car.count for car in seen)
    unknown = sum(car.count for car in seen if not car.certain)
    rejected = sum(dead.values())
    buckets: Counter[int] = Counter()
    for counts in latencies.values():
        buckets.update(counts)
    p50, p95 = (cards.milliseconds(queries.percentile(buckets, part)) for part in (0.5, 0.95))
    waiting = "unknown" if lag is None else f"{lag.total:,}"
    st.html(
        cards.tiles(
            [
                cards.tile("Photos", f"{answered:,}", rate(answered, window)),
                cards.tile("Unknown cars", cards.share(unknown, answered), f"{unknown:,} photos"),
                cards.tile(
                    "Rejected",
                    cards.share(rejected, answered + rejected),
                    f"{rejected:,} messages",
                    "bad" if rejected else "",
                ),
                cards.tile("Latency p50", p50, "camera to answer"),
                cards.tile("Latency p95", p95, "camera to answer"),
                cards.tile(
                    "Consumer lag",
                    waiting,
                    "Kafka gives no answer" if lag is None else "photos waiting",
                    "warn" if lag is None else "",
                ),
            ]
        )
    )


def ranked(
    seen: list[queries.CarCount], name: Callable[[queries.CarCount], str]
) -> list[tuple[str, int]]:
    """The names that certain answers gave most often, with how often."""
    counts: Counter[str] = Counter()
    for car in seen:
        if car.certain:
            counts[name(car)] += car.count
    return counts.most_common(MOST_BARS)


def rate(count: int, window: Window) -> str:
    """So many photos in a window as a rate for people."""
    a_minute = count / (window.seconds / 60)
    return f"{a_minute:,.1f} a minute" if a_minute < 600 else f"{a_minute / 60:,.1f} a second"
