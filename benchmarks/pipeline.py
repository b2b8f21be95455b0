"""From photos on Kafka to printed answers: the naive loop, and ours with each runtime.

    python -m benchmarks.pipeline
    python -m benchmarks.pipeline --model m.keras --classes c.json --runtimes openvino --photos 500

One run on one broker, so that the ratios mean something; the naive loop's rate is measured before
all others and after them, since a machine's mood changes within minutes. The camera, the broker and
what is measured share the machine's cores: photos a second are measured on a topic that was filled
before, and the latency under load at a share of what all three manage together. Results:
benchmarks/results/pipeline.{json,md,png}, and the block about speed in README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import brokers
from benchmarks.errors import BenchmarkError, UnavailableError
from benchmarks.machine import describe_machine
from benchmarks.measuring import (
    START_SECONDS,
    Throughput,
    latency_at,
    sustained_rate,
    throughput_of,
)
from benchmarks.photos import HEIGHT, WIDTH, benchmark_photos
from benchmarks.pipeline_report import Row, plot, table
from benchmarks.programs import ROOT, Program
from benchmarks.readme import README, quoted, rewrite
from benchmarks.results import RESULTS, run_command, say, write_results
from benchmarks.sending import PhotoSender
from car_classifier.class_map import load_class_map
from car_classifier.console import checked
from car_classifier.runtimes import RUNTIMES
from tests.kafka_services import Broker

MODELS = Path("models")  # as seen from the project's folder, where every program runs
NAIVE = "naive loop"

QUIET_RATE = 5.0  # photos a second, for the latency that a few cameras see
BUSY_SHARE = 0.8  # of the sustained rate, for the latency of a machine that is well used
BATCH_SIZE = 16
NAIVE_SHARE = 5  # it gets a fifth of the photos: it is slow, and just as steady


@dataclass(frozen=True)
class Contender:
    """A program that answers photos."""

    name: str
    runtime: str | None  # of ours
    photos: int  # for its throughput
    keeps: bool = False  # its answers in a SQLite file


def command_line() -> argparse.ArgumentParser:
    """What this benchmark's command line takes beside the options of all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    # fmt: off
    add("--model", type=Path, metavar="FILE", default=MODELS / "clasificador_coches_v4.keras",
        help="Keras classifier, with its .tflite file beside it [%(default)s]")
    add("--classes", type=Path, metavar="FILE", default=MODELS / "marcas_coches.json",
        help="its class map [%(default)s]")
    add("--runtimes", nargs="+", choices=RUNTIMES, default=["keras", "litert", "openvino"],
        help="what to measure beside the naive loop [all]")
    add("--photos", type=checked(int, minimum=8), default=1500, metavar="N",
        help="photos on the topic for the throughput; a fifth for the naive loop [%(default)s]")
    add("--seconds", type=checked(float, minimum=0.1), default=20.0, metavar="S",
        help="length of each of the two latency phases [%(default)s]")
    add("--bare-seconds", type=checked(float, minimum=0), default=6.0, metavar="S",
        help="how long the bare model runs, before and again after the pipeline [%(default)s]")
    # fmt: on
    return parser


def measure(
    contender: Contender, broker: Broker, photos: list[bytes], options: argparse.Namespace
) -> Row:
    """Measure one program from its start to its end.

    Raises:
        UnavailableError: its runtime or its model is not there.
        BenchmarkError: it failed.
    """
    bare = []
    if contender.runtime:
        bare.append(bare_photos_per_second(contender.runtime, options))
    elif not (ROOT / options.model).is_file():
        raise UnavailableError(f"no {options.model.name}")
    topic = f"bench-{contender.runtime or 'naive'}" + ("-kept" if contender.keeps else "")
    command = _command(contender, broker, topic, options)
    options.results.mkdir(parents=True, exist_ok=True)
    with (
        # Beside the results: a temporary folder may be in memory, which would flatter.
        tempfile.TemporaryDirectory(dir=options.results) as folder,
        _full_topic(broker, topic, photos, contender.photos) as sender,
    ):
        if contender.keeps:
            command += ["--database", f"sqlite:///{Path(folder).resolve()}/results.db"]
        with Program(command, brokers.environment(broker, topic)) as program:
            listening = program.wait_for_err("Consumer listening", START_SECONDS)
            throughput = throughput_of(program, contender.photos)
            first_answer = program.out[0]
            quiet = latency_at(QUIET_RATE, options.seconds, sender, program)
            sustained = sustained_rate(max(8, contender.photos // 4), sender, program)
            busy = latency_at(BUSY_SHARE * sustained, options.seconds, sender, program)
            peak_memory_mb = program.peak_memory_mb()
    if contender.runtime:  # again, since a machine's mood changes within a minute
        bare.append(bare_photos_per_second(contender.runtime, options))
    return Row(
        name=contender.name,
        throughput=throughput,
        bare_photos_per_second=sum(bare) / len(bare) if bare else None,
        sustained_photos_per_second=sustained,
        latencies={"quiet": quiet, "busy": busy},
        peak_memory_mb=peak_memory_mb,
        start_seconds=listening.seen - program.started,
        first_answer_seconds=first_answer.seen - program.started,
    )


def throughput_again(
    contender: Contender, broker: Broker, photos: list[bytes], options: argparse.Namespace
) -> Throughput:
    """Measure how fast a program is once more, with a new topic and a new start.

    Raises:
        BenchmarkError: it failed.
    """
    topic = "bench-again"
    command = _command(contender, broker, topic, options)
    with (
        _full_topic(broker, topic, photos, contender.photos),
        Program(command, brokers.environment(broker, topic)) as program,
    ):
        return throughput_of(program, contender.photos)


@contextlib.contextmanager
def _full_topic(
    broker: Broker, topic: str, photos: list[bytes], count: int
) -> Iterator[PhotoSender]:
    """Create a topic with so many photos on it; yield what sends more. It is deleted afterwards."""
    broker.create_topic(topic)
    with PhotoSender(brokers.settings_for(broker, topic), photos) as sender:
        sender.send_at_once(count)
        yield sender
    brokers.delete_topic(broker, topic)


def bare_photos_per_second(runtime: str, options: argparse.Namespace) -> float:
    """Run `benchmarks.bare` with this runtime.

    Raises:
        UnavailableError: the runtime or the model is not there.
        BenchmarkError: it failed otherwise.
    """
    command = [sys.executable, "-m", "benchmarks.bare", "--runtime", runtime]
    command += ["--model", str(options.model), "--classes", str(options.classes)]
    command += ["--batch-size", str(BATCH_SIZE), "--seconds", str(options.bare_seconds)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode == 2:
        reason = result.stderr.strip().removeprefix("error: ")
        # The results are for others, whom our folders do not concern.
        raise UnavailableError(reason.replace(f"{options.model.parent}/", ""))
    if result.returncode != 0:
        raise BenchmarkError(f"the bare model on {runtime} failed:\n{result.stderr}")
    return float(result.stdout)


def _command(
    contender: Contender, broker: Broker, topic: str, options: argparse.Namespace
) -> list[str | Path]:
    if contender.runtime is None:
        address = broker.bootstrap_servers
        return ["-m", "benchmarks.naive", address, topic, options.model, options.classes]
    return [
        *("consumidor_clasificador.py", "--json", "--runtime", contender.runtime),
        *("--model", options.model, "--classes", options.classes),
        *("--batch-size", str(BATCH_SIZE), "--group-id", topic),
    ]


def run(options: argparse.Namespace) -> int:
    """Measure everything and write the results; return the exit status."""
    photos = benchmark_photos()
    classes = len(load_class_map(ROOT / options.classes))
    contenders = [Contender(NAIVE, None, max(8, options.photos // NAIVE_SHARE))]
    contenders += [Contender(f"ours, {name}", name, options.photos) for name in options.runtimes]
    kept = options.runtimes[-1]
    contenders += [Contender(f"ours, {kept}, kept in SQLite", kept, options.photos, keeps=True)]
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    failed = False
    with brokers.running_broker(options.broker) as (broker, broker_name):
        say(f"Broker: {broker_name}")
        for contender in contenders:
            say(f"Measuring: {contender.name}...")
            try:
                rows.append(measure(contender, broker, photos, options))
            except UnavailableError as error:
                left_out[contender.name] = str(error)
            except BenchmarkError as error:  # the others' figures are good all the same
                failed = True
                left_out[contender.name] = "failed"
                say(str(error))
        if rows and rows[0].name == NAIVE:  # what all others are compared with
            say(f"Measuring: {NAIVE}, again...")
            try:
                again = throughput_again(contenders[0], broker, photos, options)
                rows[0] = replace(rows[0], throughput=rows[0].throughput.and_again(again))
            except BenchmarkError as error:
                failed = True
                say(str(error))
    machine = describe_machine()
    sizes = [len(photo) / 1000 for photo in photos]
    naive = next((row for row in rows if row.name == NAIVE), None)
    results = {
        "machine": machine,
        "broker": broker_name,
        "model": {"file": options.model.name, "classes": classes},
        "photos": {
            "width": WIDTH,
            "height": HEIGHT,
            "kb": [round(min(sizes)), round(sum(sizes) / len(sizes)), round(max(sizes))],
            "different": len(photos),
        },
        "batch_size": BATCH_SIZE,
        "quiet_photos_per_second": QUIET_RATE,
        "busy_share_of_sustained": BUSY_SHARE,
        "rows": [row.as_dict(naive) for row in rows],
        "left_out": left_out,
    }
    write_results(options.results, "pipeline", results, table(results))
    if rows:
        plot(results, options.results / "pipeline.png")
    if options.results == RESULTS:
        rewrite(README, quoted(results))
    return 1 if failed or not rows else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_command(command_line(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
