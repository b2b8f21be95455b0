"""The page's charts.

A chart's description stays the same while its data change: so it does not flicker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from car_classifier.schema import CONFIDENCE_BUCKETS
from dashboard.queries import Moment
from dashboard.windows import Window

__all__ = ["confidence", "confidence_frame", "latency", "moments_frame", "throughput"]

# Seen well on light and on dark.
SURE = "#3b82f6"
UNSURE = "#e08b00"
HEIGHT = 200
TALL = 302  # beside ten bars

_LATENCY = "datum.value >= 1000 ? format(datum.value / 1000, '~r') + ' s' : datum.value + ' ms'"


def moments_frame(moments: Sequence[Moment]) -> pd.DataFrame:
    """The steps of a window as what `throughput` and `latency` draw."""
    return pd.DataFrame(
        {
            # With a zone: the browser shows its own.
            "time": pd.to_datetime([moment.start for moment in moments], unit="s", utc=True),
            "photos": [moment.count for moment in moments],
            "p50": [moment.p50_ms for moment in moments],
            "p95": [moment.p95_ms for moment in moments],
        }
    )


def throughput(window: Window) -> dict[str, Any]:
    """Photos of each step."""
    return _spec(
        alt.Chart()
        .mark_bar(color=SURE, cornerRadiusTopLeft=2, cornerRadiusTopRight=2)
        .encode(
            x=_time(window),
            y=alt.Y("photos:Q", title=None, axis=alt.Axis(tickMinStep=1, tickCount=4, format=",d")),
            tooltip=[_when(), alt.Tooltip("photos:Q", format=",")],
        ),
        f"Photos per {step_name(window)}",
    )


def latency(window: Window) -> dict[str, Any]:
    """Half of the photos, and 95 of 100, were answered within so long."""
    folded = alt.Chart().transform_fold(["p50", "p95"], as_=["share", "ms"])
    scale = alt.Scale(domain=["p50", "p95"], range=[SURE, UNSURE])
    axis = alt.Axis(labelExpr=_LATENCY, tickCount=4)
    lines = folded.mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=2).encode(
        x=_time(window),
        y=alt.Y("ms:Q", title=None, axis=axis),
        color=alt.Color("share:N", scale=scale, legend=None),
        tooltip=[
            _when(),
            alt.Tooltip("p50:Q", format=",.0f"),
            alt.Tooltip("p95:Q", format=",.0f"),
        ],
    )
    # Each line is named where it ends: a legend would need a row of the chart's few.
    names = (
        folded.transform_filter("isValid(datum.ms)")
        .mark_text(align="left", dx=6, fontSize=12, fontWeight=600)
        .encode(
            x=alt.X("time:T", aggregate="max"),
            y=alt.Y("ms:Q", aggregate=alt.ArgmaxDef(argmax="time")),
            text="share:N",
            color=alt.Color("share:N", scale=scale, legend=None),
        )
    )
    return _spec(alt.layer(lines, names), "Latency, from camera to answer")


def confidence_frame(counts: Sequence[int], threshold: float | None) -> pd.DataFrame:
    """Answers by confidence as what `confidence` draws."""
    starts = [bucket / CONFIDENCE_BUCKETS for bucket in range(CONFIDENCE_BUCKETS)]
    middles = [start + 0.5 / CONFIDENCE_BUCKETS for start in starts]
    return pd.DataFrame(
        {
            "from": starts,
            "to": [start + 1 / CONFIDENCE_BUCKETS for start in starts],
            "photos": counts,
            "answer": [
                "unknown" if threshold is not None and middle < threshold else "named"
                for middle in middles
            ],
        }
    )


def confidence(threshold: float | None) -> dict[str, Any]:
    """How sure the model was, and from where on it is believed."""
    bars = (
        alt.Chart()
        .mark_bar(binSpacing=1)
        .encode(
            x=alt.X(
                "from:Q",
                bin="binned",
                title=None,
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1]),
            ),
            x2="to:Q",
            y=alt.Y("photos:Q", title=None, axis=alt.Axis(tickMinStep=1, tickCount=4, format=",d")),
            color=alt.Color(
                "answer:N",
                scale=alt.Scale(domain=["named", "unknown"], range=[SURE, UNSURE]),
                legend=None,
            ),
            tooltip=[
                alt.Tooltip("from:Q", format=".0%"),
                alt.Tooltip("to:Q", format=".0%"),
                alt.Tooltip("photos:Q", format=","),
            ],
        )
    )
    if threshold is None:
        return _spec(bars, "Confidence", TALL)
    rule = alt.Chart().mark_rule(color=UNSURE, strokeDash=[4, 3], strokeWidth=1.5)
    at = alt.XDatum(threshold)
    layers = alt.layer(bars, rule.encode(x=at))
    return _spec(layers, f"Confidence; below {threshold:.0%} a car is unknown", TALL)


def step_name(window: Window) -> str:
    """A step of a window, for people."""
    number, unit = (window.step // 3600, "h") if window.by_hour else (window.step // 60, "min")
    if number > 1:
        return f"{number} {unit}"
    return "hour" if window.by_hour else "minute"


def _time(window: Window) -> alt.X:
    long = window.seconds > 86_400
    axis = alt.Axis(format="%d %b" if long else "%H:%M", tickCount=6, grid=False, labelFlush=True)
    return alt.X("time:T", title=None, axis=axis)


def _when() -> alt.Tooltip:
    return alt.Tooltip("time:T", title="from", format="%d %b %H:%M")


def _spec(chart: Any, title: str, height: int = HEIGHT) -> dict[str, Any]:
    titled = chart.properties(
        height=height,
        background="transparent",
        title=alt.Title(title, anchor="start", fontSize=14, fontWeight=600),
    )
    spec: dict[str, Any] = titled.to_dict()
    return spec
