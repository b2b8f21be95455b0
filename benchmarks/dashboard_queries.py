"""How long the dashboard's questions take on a database with a million answers.

    python -m benchmarks.dashboard_queries --database sqlite:////tmp/million.db

fills the database first, if it is empty, which takes minutes. Each question is asked for each
window of the page; the time is the median of several.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from benchmarks.results import markdown_table, say
from benchmarks.stored_answers import fill
from car_classifier.console import checked
from car_classifier.engine import make_engine
from car_classifier.errors import CarClassifierError
from car_classifier.schema import migrate
from dashboard import queries
from dashboard.overview import MOST_CAMERAS
from dashboard.reading import open_engine, reading
from dashboard.tables import MOST_ROWS
from dashboard.windows import WINDOWS, Window

DAY = 86_400

Question = Callable[[Connection, Window, float], object]

QUESTIONS: dict[str, Question] = {
    "last answer": lambda connection, _window, _now: queries.last_answer(connection),
    "latest photos": lambda connection, _window, _now: queries.latest_photos(
        connection, MOST_CAMERAS
    ),
    "car counts": queries.car_counts,
    "confidence counts": queries.confidence_counts,
    "latency counts": queries.latency_counts,
    "dead counts": queries.dead_counts,
    "cameras": partial(queries.cameras_seen, most=MOST_ROWS),
    "newest answers": partial(queries.answers, search="", most=MOST_ROWS),
    "search, found": partial(queries.answers, search="cam01 bmw", most=MOST_ROWS),
    "search, in vain": partial(queries.answers, search="no such car", most=MOST_ROWS),
    "dead letters": partial(queries.dead_letters, most=MOST_ROWS),
}


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--database", required=True, metavar="URL", help="filled if it is empty")
    add("--rows", type=checked(int, minimum=1), default=1_000_000, help="[%(default)s]")
    add("--days", type=checked(float, minimum=0.01), default=7.0, help="they span [%(default)g]")
    add("--times", type=checked(int, minimum=1), default=5, help="of asking [%(default)s]")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> str:
    """Ask everything; return a table of milliseconds."""
    writing = make_engine(options.database)
    migrate(writing)
    engine = open_engine(options.database)
    with reading(engine) as connection:
        now = queries.last_answer(connection)
    if now is None:
        say(f"Putting {options.rows:,} answers into the database...")
        now = time.time()
        fill(writing, options.rows, now - options.days * DAY, now)
    writing.dispose()
    rows = []
    with reading(engine) as connection:
        for name, ask in QUESTIONS.items():
            each = [_median_ms(ask, connection, window, now, options.times) for window in WINDOWS]
            rows.append([name, *(f"{milliseconds:.1f}" for milliseconds in each)])
    return markdown_table(["ms", *(window.label for window in WINDOWS)], rows)


def _median_ms(
    ask: Question, connection: Connection, window: Window, now: float, times: int
) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        ask(connection, window, now)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def main() -> int:
    """Run the command line; return the exit status."""
    try:
        print(measure(parse_options()), end="")
    except CarClassifierError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
