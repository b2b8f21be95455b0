"""Where the classifier service's answers go beside stdout: the options, and how to open each.

A topic of dead letters is always there. A database, a results topic and metrics are opened only if
they are asked for, and only then need their packages.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from car_classifier.console import checked, environment_default, needs
from car_classifier.dead_letters import DeadLetters
from car_classifier.delivery import Sink
from car_classifier.errors import SettingsError
from car_classifier.model import Classifier
from car_classifier.outbox import Outbox
from car_classifier.results import RESULTS_TOPIC, ResultsTopic

if TYPE_CHECKING:
    from car_classifier.database import DatabaseSink
    from car_classifier.monitoring import Monitor

__all__ = ["add_outlet_options", "open_database", "open_monitor", "open_topics"]


def add_outlet_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where answers go."""
    add = parser.add_argument
    # fmt: off
    add("--results-topic", nargs="?", const=RESULTS_TOPIC, metavar="NAME",
        default=environment_default("RESULTS_TOPIC", None),
        help=f"send predictions to a topic, {RESULTS_TOPIC} if none is named [RESULTS_TOPIC; off]")
    add("--dead-letter-topic", default=environment_default("DEAD_LETTER_TOPIC", None),
        metavar="NAME", help="where rejected messages go, as they came "
        "[DEAD_LETTER_TOPIC; name of the topic + .dlq]")
    add("--metrics-port", type=checked(int, minimum=1, maximum=65535), metavar="PORT",
        default=environment_default("METRICS_PORT", None),
        help="serve /metrics for Prometheus, /healthz and /readyz [METRICS_PORT; off]")
    add("--metrics-host", default=environment_default("METRICS_HOST", "127.0.0.1"),
        metavar="ADDRESS", help="where to: 0.0.0.0 lets other machines read, too "
        "[METRICS_HOST; %(default)s]")
    add("--database", default=environment_default("DATABASE_URL", None), metavar="URL",
        help="keep results: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME "
        "[DATABASE_URL; off]")
    add("--keep-days", type=checked(int, minimum=1), metavar="N",
        default=environment_default("KEEP_DAYS", None),
        help="delete results that are older [KEEP_DAYS; never]")
    # fmt: on


def open_topics(options: argparse.Namespace, outbox: Outbox, classifier: Classifier) -> list[Sink]:
    """Return the sinks that are topics: predictions go to one if asked for, the rest to another."""
    sinks: list[Sink] = []
    if options.results_topic:
        sinks.append(ResultsTopic(outbox, options.results_topic, classifier.identity))
    sinks.append(DeadLetters(outbox, options.dead_letter_topic))
    return sinks


def open_monitor(options: argparse.Namespace) -> Monitor | None:
    """Start to serve metrics, if they are asked for; only then is their package needed."""
    if options.metrics_port is None:
        return None
    with needs("metrics"):
        from car_classifier.monitoring import Monitor
    return Monitor(options.metrics_host, options.metrics_port)


def open_database(options: argparse.Namespace, classifier: Classifier) -> DatabaseSink | None:
    """Return where results are kept, if they are; only then are its packages needed."""
    if options.database is None:
        if options.keep_days is not None:
            raise SettingsError("--keep-days: expected --database, too: nothing is kept without it")
        return None
    with needs("database"):
        from car_classifier.database import DatabaseSink
    return DatabaseSink(options.database, classifier.identity, options.keep_days)
