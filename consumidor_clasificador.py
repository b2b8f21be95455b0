"""The classifier service: takes photos off Kafka and says make, model and confidence."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from car_classifier.broker import connect, make_consumer
from car_classifier.class_map import load_class_map
from car_classifier.classifying import Batching, Rejection, answered_batches, decode
from car_classifier.console import (
    add_broker_options,
    broker_settings,
    checked,
    environment_default,
    forgiving_output,
    quiet_kafka_log,
)
from car_classifier.consuming import PhotoStream
from car_classifier.dead_letters import create_dead_letter_topic, dead_letter_topic
from car_classifier.delivery import deliver
from car_classifier.errors import CarClassifierError
from car_classifier.model import load_classifier
from car_classifier.outbox import check_topics, open_outbox
from car_classifier.outlets import add_outlet_options, open_database, open_monitor, open_topics
from car_classifier.runtimes import RUNTIMES
from car_classifier.shutdown import StopSignal

MODELS = Path(__file__).parent / "models"


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; environment variables are the defaults of their options."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_broker_options(parser)
    add = parser.add_argument
    # fmt: off
    add("--group-id", default=environment_default("KAFKA_GROUP_ID", "clasificador-coches"),
        metavar="NAME", help="consumer group; its members share the work "
        "[KAFKA_GROUP_ID; %(default)s]")
    add("--model", type=Path, metavar="FILE",
        default=environment_default("MODEL_PATH", MODELS / "clasificador_coches_v4.keras"),
        help="Keras classifier [MODEL_PATH; models/clasificador_coches_v4.keras]")
    add("--classes", type=Path, metavar="FILE",
        default=environment_default("CLASSES_PATH", MODELS / "marcas_coches.json"),
        help="its class map [CLASSES_PATH; models/marcas_coches.json]")
    add("--runtime", choices=("auto", *RUNTIMES), default=environment_default("RUNTIME", "auto"),
        help="what runs the model; auto is the fastest that is there [RUNTIME; %(default)s]")
    add("--batch-size", type=checked(int, minimum=1), metavar="N",
        default=environment_default("BATCH_SIZE", 16),
        help="most photos classified together [BATCH_SIZE; %(default)s]")
    add("--max-wait-ms", type=checked(float, minimum=0), metavar="MS",
        default=environment_default("MAX_WAIT_MS", 5.0),
        help="how long a photo waits for others to share its batch [MAX_WAIT_MS; %(default)s]")
    add("--top-k", type=checked(int, minimum=1), default=3, metavar="K",
        help="how many guesses the JSON output carries [%(default)s]")
    add("--min-confidence", type=checked(float, minimum=0, maximum=1), metavar="SHARE",
        default=environment_default("MIN_CONFIDENCE", 0.0),
        help="0 to 1; below it a make is called unknown [MIN_CONFIDENCE; %(default)s]")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--from-beginning", action="store_true", default=True,
        help="a new group starts with the oldest message (the default)")
    start.add_argument("--from-latest", action="store_false", dest="from_beginning",
        help="a new group starts with the next message")
    add("--max-messages", type=checked(int, minimum=1), metavar="N", help="end after N messages")
    add("--json", action="store_true", help="one JSON object a line on stdout, the rest on stderr")
    # fmt: on
    add_outlet_options(parser)
    options = parser.parse_args(arguments)
    options.dead_letter_topic = options.dead_letter_topic or dead_letter_topic(options.topic)
    return options


def serve(options: argparse.Namespace, stopped: Callable[[], bool]) -> int:
    """Classify photos until the end or a signal; return the exit status."""
    settings = broker_settings(options)
    check_topics(
        settings,
        results_topic=options.results_topic,
        dead_letter_topic=options.dead_letter_topic,
    )
    notes = sys.stderr if options.json else sys.stdout
    monitor = open_monitor(options)
    if monitor:
        stopped = monitor.heard_in(stopped)
    print("Loading model and class names...", file=notes, flush=True)
    classifier = load_classifier(options.model, load_class_map(options.classes), options.runtime)
    if monitor:
        classifier = monitor.model_loaded(classifier)
    print("Model and classes loaded successfully!", file=notes, flush=True)
    database = open_database(options, classifier)
    if database and not database.connect(stopped):
        return 0

    consumer = connect(
        lambda: make_consumer(settings, options.group_id, options.from_beginning),
        settings,
        stopped,
    )
    if consumer is None:
        return 0
    batching = Batching(
        options.batch_size,
        options.max_wait_ms,
        options.top_k,
        options.min_confidence,
        thumbnails=database is not None,
    )
    with contextlib.ExitStack() as stack:
        stream = PhotoStream(consumer, settings, stopped, measure_lag=monitor is not None)
        stack.enter_context(contextlib.closing(stream))
        outbox = connect(lambda: open_outbox(settings), settings, stopped)
        if outbox is None:
            return 0
        stack.enter_context(contextlib.closing(outbox))
        create_dead_letter_topic(settings, options.dead_letter_topic)
        sinks = open_topics(options, outbox, classifier)
        if database:
            sinks.append(stack.enter_context(contextlib.closing(database)))
        reader = decode
        if monitor:
            stack.enter_context(monitor)
            monitor.watch(stream)
            sinks.append(monitor.metrics)  # the last: it counts what all others have
            reader = monitor.metrics.timed(decode)
        if stream.wait_for_partitions():
            print(f"Consumer listening on topic '{settings.topic}'...", file=notes, flush=True)
        for batch in answered_batches(
            stream, classifier, batching, options.max_messages, decode=reader
        ):
            for answer in batch.answers:
                if isinstance(answer, Rejection):
                    print(answer, file=sys.stderr, flush=True)
                else:
                    print(answer.as_json() if options.json else answer.as_line())
            sys.stdout.flush()
            if not deliver(batch, sinks, stream.wait):
                break
            # Only now: what is not out yet must come again after a crash.
            stream.commit(batch.records)
    return 0


def main() -> int:
    """Run the command line; return the exit status."""
    quiet_kafka_log()
    forgiving_output()
    try:
        return serve(parse_options(), StopSignal())
    except CarClassifierError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has gone; nothing of this batch is committed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
