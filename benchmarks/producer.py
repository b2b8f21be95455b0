"""The camera without pauses: photos a second that the broker acknowledges.

    python -m benchmarks.producer

`productor_camara.py --interval 0` sends the photos of a folder in rounds. Results:
benchmarks/results/producer.{json,md}.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import brokers
from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe_machine, machine_line
from benchmarks.measuring import throughput_of
from benchmarks.photos import benchmark_photos
from benchmarks.programs import Program
from benchmarks.results import markdown_table, run_command, say, write_results
from car_classifier.console import checked

TOPIC = "bench-producer"


def run(options: argparse.Namespace) -> int:
    """Measure and write the results; return the exit status."""
    photos = benchmark_photos()
    with (
        brokers.running_broker(options.broker) as (broker, broker_name),
        tempfile.TemporaryDirectory() as folder,
    ):
        say(f"Broker: {broker_name}")
        for number, photo in enumerate(photos):
            Path(folder, f"photo-{number:02}.jpg").write_bytes(photo)
        broker.create_topic(TOPIC)
        command = ["productor_camara.py", "--images", folder, "--interval", "0"]
        with Program(command, brokers.environment(broker, TOPIC)) as program:
            # Its lines are "Producer started...", then one for each photo acknowledged.
            throughput = throughput_of(program, options.photos + 1)
            peak_memory_mb = program.peak_memory_mb()
            if program.err:
                raise BenchmarkError(f"the producer complains:\n{program.last_words()}")
    megabytes_per_photo = sum(map(len, photos)) / len(photos) / 1e6
    megabytes_per_second = throughput.photos_per_second * megabytes_per_photo
    machine = describe_machine()
    results = {
        "machine": machine,
        "broker": broker_name,
        **asdict(throughput),
        "megabytes_per_second": megabytes_per_second,
        "peak_memory_mb": peak_memory_mb,
    }
    table = markdown_table(
        ["", "photos/s acknowledged", "MB of JPEG/s", "CPU ms/photo", "peak memory, MB"],
        [
            [
                "productor_camara.py --interval 0",
                f"{throughput.photos_per_second:.0f}",
                f"{megabytes_per_second:.0f}",
                f"{throughput.cpu_ms_per_photo:.2f}",
                f"{peak_memory_mb:.0f}",
            ]
        ],
    )
    notes = f"Broker: {broker_name}, on the same machine.\n\n{machine_line(machine)}\n"
    write_results(options.results, "producer", results, f"{table}\n{notes}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--photos",
        type=checked(int, minimum=8),
        default=4000,
        metavar="N",
        help="photos to send; 4,000 of them take 800 MB of the broker's disk [%(default)s]",
    )
    return run_command(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
