"""Pieces of the page in HTML. Whatever comes from outside is escaped here, and only here."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from html import escape

from dashboard.queries import Guess, LatestPhoto

__all__ = [
    "ago",
    "bars",
    "car",
    "head",
    "local",
    "milliseconds",
    "note",
    "share",
    "tile",
    "tiles",
    "title",
]

NOTHING = "\u2013"  # in the place of a number


def head(state: str, live: bool) -> str:
    """The page's title, and a line beside it."""
    kind = "state live" if live else "state"
    return (
        '<div class="head"><h1>Car classifier</h1>'
        f'<span class="{kind}"><span class="dot"></span>{escape(state)}</span></div>'
    )


def title(text: str) -> str:
    """The name of a part of the page."""
    return f'<h2 class="section">{escape(text)}</h2>'


def note(text: str) -> str:
    """A line that explains."""
    return f'<p class="note">{escape(text)}</p>'


def tile(name: str, number: str, more: str, mood: str = "") -> str:
    """One number, with its name and a line below; ``mood``: warn, bad or nothing."""
    return (
        f'<div class="tile {escape(mood)}"><div class="name">{escape(name)}</div>'
        f'<div class="number">{escape(number)}</div><div class="more">{escape(more)}</div></div>'
    )


def tiles(each: Iterable[str]) -> str:
    """Tiles beside each other, as many as fit."""
    return f'<div class="tiles">{"".join(each)}</div>'


def car(photo: LatestPhoto, zone: tzinfo) -> str:
    """The latest photo of a camera with its answer and what else it could be."""
    best = photo.guesses[0]
    answer = _name(best) if photo.certain else "Unknown"  # what it may be follows in any case
    guesses = "".join(
        _bar(_name(guess), f"{guess.confidence:.1%}", guess.confidence)
        for guess in photo.guesses[:3]
    )
    return (
        f'<div class="car{"" if photo.certain else " unsure"}">{_picture(photo)}<div class="text">'
        f'<div class="from"><span title="{escape(photo.image_name)}">{escape(photo.camera_id)}'
        f"</span><span>{escape(local(photo.captured, zone))}</span></div>"
        f'<div class="answer">{escape(answer)}</div>{guesses}</div></div>'
    )


def bars(title: str, counts: Sequence[tuple[str, int]], nothing: str) -> str:
    """How often each name was seen, as bars; ``nothing`` is said where there are none."""
    most = max((count for _, count in counts), default=0)
    lines = "".join(_bar(name, f"{count:,}", count / most) for name, count in counts)
    return f'<div class="bars"><h2>{escape(title)}</h2>{lines or note(nothing)}</div>'


def ago(seconds: float) -> str:
    """How long ago, roughly, for people."""
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def local(seconds: float, zone: tzinfo) -> str:
    """A time of today as 14:03:59, another with its date."""
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc).astimezone(zone)
    except (OverflowError, OSError, ValueError):  # a camera may send any number
        return "at an unknown time"
    today = abs(datetime.now(timezone.utc) - moment) < timedelta(hours=24)
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def milliseconds(value: float | None) -> str:
    """A latency with the unit that suits it."""
    if value is None:
        return NOTHING
    if value < 1000:
        return f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 100_000 else f"{value / 1000:,.0f} s"


def share(part: int, whole: int) -> str:
    """A share in percent."""
    return f"{part / whole:.1%}" if whole else NOTHING


def _picture(photo: LatestPhoto) -> str:
    if photo.jpeg is None:
        return '<div class="nophoto">no thumbnail kept</div>'
    data = base64.b64encode(photo.jpeg).decode("ascii")
    # Decoded with the rest: a card that is drawn anew does not flash.
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{escape(photo.image_name)}" '
        'decoding="sync">'
    )


def _bar(name: str, many: str, part: float) -> str:
    width = 100 * min(1.0, max(0.0, part))
    return (
        f'<div class="bar"><span class="what" title="{escape(name)}">{escape(name)}</span>'
        f'<span class="many">{escape(many)}</span>'
        f'<div class="track"><div class="fill" style="width: {width:.1f}%"></div></div></div>'
    )


def _name(guess: Guess) -> str:
    return " ".join(part for part in (guess.make, guess.model, str(guess.year or "")) if part)
