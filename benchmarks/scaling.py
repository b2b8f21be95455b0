"""How throughput grows with consumers that share a topic.

    python -m benchmarks.scaling

On one machine the consumers would only fight for its cores. So a stand-in that sleeps takes the
model's place, as if each consumer had a machine of its own; everything else is the product: its
script, its group, its partitions. Results: benchmarks/results/scaling.{json,md,png}.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from kafka.partitioner.default import murmur2

from benchmarks import brokers
from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe_machine, machine_line
from benchmarks.measuring import START_SECONDS
from benchmarks.photos import benchmark_photos
from benchmarks.programs import Program
from benchmarks.results import markdown_table, run_command, say, write_results
from benchmarks.sending import PhotoSender
from car_classifier.console import checked
from tests.kafka_services import Broker

PARTITIONS = 8
BATCH_SIZE = 4  # small, so that the last batches' length does not show
_SECONDS = 300.0  # for all answers
_LOOK_SECONDS = 0.02


def evenly_spread_cameras(partitions: int) -> list[str]:
    """Return a camera for each partition, by the names that Kafka's hash sends there.

    With many cameras the partitions fill evenly by themselves; with few, chance decides, and that
    is not what is measured here.
    """
    cameras: dict[int, str] = {}
    number = 0
    while len(cameras) < partitions:
        number += 1
        name = f"cam{number:02}"
        cameras.setdefault((murmur2(name.encode()) & 0x7FFFFFFF) % partitions, name)
    return [cameras[partition] for partition in range(partitions)]


def photos_per_second(
    broker: Broker, consumers: int, photos: list[bytes], options: argparse.Namespace
) -> tuple[float, list[int]]:
    """Return the rate of so many consumers together, and how many photos each one answered.

    Raises:
        BenchmarkError: a consumer failed, or a photo was answered twice.
    """
    topic = f"bench-scaling-{consumers}"
    broker.create_topic(topic, PARTITIONS)
    command = ["-m", "benchmarks.standin", str(options.ms_per_photo), "--json"]
    command += ["--batch-size", str(BATCH_SIZE), "--group-id", topic]
    settings = brokers.settings_for(broker, topic)
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(Program(command, brokers.environment(broker, topic)))
            for _ in range(consumers)
        ]
        # The last one has its share only when the others have given it up.
        for program in programs:
            program.wait_for_err("Consumer listening", START_SECONDS)
        cameras = evenly_spread_cameras(PARTITIONS)
        with PhotoSender(settings, photos, cameras) as sender:
            sender.send_at_once(options.photos)
        _wait_for_answers(programs, options.photos)
    answers = sorted(
        (line for program in programs for line in program.out), key=lambda line: line.seen
    )
    places = {(told["partition"], told["offset"]) for told in _told(answers)}
    if len(places) != options.photos:
        raise BenchmarkError(f"expected {options.photos} photos answered once, got {len(places)}")
    warm_up = min(consumers * BATCH_SIZE, options.photos // 2)  # the first batch of each
    seconds = answers[-1].seen - answers[warm_up - 1].seen
    return (len(answers) - warm_up) / seconds, [len(program.out) for program in programs]


def _told(answers: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answers]


def _wait_for_answers(programs: list[Program], count: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while sum(len(program.out) for program in programs) < count:
        if time.monotonic() > deadline:
            words = "\n".join(program.last_words() for program in programs)
            raise BenchmarkError(f"no {count} answers in {_SECONDS:.0f} s:\n{words}")
        time.sleep(_LOOK_SECONDS)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the rates beside what they would be at best, into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    consumers = [row["consumers"] for row in rows]
    axes.plot(consumers, [row["at_best"] for row in rows], "--", color="#999999", label="at best")
    rates = [row["photos_per_second"] for row in rows]
    axes.plot(consumers, rates, "o-", color="#0072B2", label="measured")
    for row in rows:
        axes.annotate(
            f"{row['photos_per_second']:.0f}/s ({row['times_first']:.2f}x)",
            (row["consumers"], row["photos_per_second"]),
            xytext=(6, -14),
            textcoords="offset points",
        )
    axes.set_xticks(consumers)
    axes.margins(x=0.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"consumers that share a topic of {PARTITIONS} partitions")
    axes.set_ylabel("photos/s")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def run(options: argparse.Namespace) -> int:
    """Measure and write the results; return the exit status."""
    photos = benchmark_photos()
    rows: list[dict[str, Any]] = []
    with brokers.running_broker(options.broker) as (broker, broker_name):
        say(f"Broker: {broker_name}")
        for consumers in options.consumers:
            say(f"Measuring: {consumers} consumers...")
            rate, shares = photos_per_second(broker, consumers, photos, options)
            rows.append(
                {
                    "consumers": consumers,
                    "photos_per_second": rate,
                    "times_first": rate / (rows[0]["photos_per_second"] if rows else rate),
                    "at_best": consumers * 1000 / options.ms_per_photo,
                    "photos_answered_by_each": shares,
                }
            )
    machine = describe_machine()
    results = {
        "machine": machine,
        "broker": broker_name,
        "partitions": PARTITIONS,
        "ms_per_photo": options.ms_per_photo,
        "photos": options.photos,
        "rows": rows,
    }
    table = markdown_table(
        ["consumers", "photos/s", "x the first", "at best, photos/s"],
        [
            [
                str(row["consumers"]),
                f"{row['photos_per_second']:.1f}",
                f"{row['times_first']:.2f}",
                f"{row['at_best']:.0f}",
            ]
            for row in rows
        ],
    )
    notes = (
        f"A stand-in for the model sleeps {options.ms_per_photo:g} ms a photo; {PARTITIONS} "
        f"partitions. Broker: {broker_name}, on the same machine.\n\n{machine_line(machine)}\n"
    )
    write_results(options.results, "scaling", results, f"{table}\n{notes}")
    plot(rows, options.results / "scaling.png")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    # fmt: off
    add("--consumers", type=checked(int, minimum=1), nargs="+", default=[1, 2, 4], metavar="N",
        help="how many at a time [1 2 4]")
    add("--photos", type=checked(int, minimum=8), default=480, metavar="N",
        help="photos on the topic [%(default)s]")
    add("--ms-per-photo", type=checked(float, minimum=1), default=40.0, metavar="MS",
        help="how long the stand-in sleeps [%(default)s]")
    # fmt: on
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
