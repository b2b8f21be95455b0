"""What is measured of a program that reads photos off a topic, and how."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.programs import Line, Program
from benchmarks.sending import PhotoSender

__all__ = ["Latency", "Throughput", "image_name", "latency_at", "sustained_rate", "throughput_of"]

START_SECONDS = 120.0  # for a program to load its model; a cold disk takes its time
_ANSWER_SECONDS = 300.0  # for all photos of a phase
_MOST_UNANSWERED = 48  # three batches: enough that the program never waits for the camera
_WARM_UP_PHOTOS = 32  # two batches: graphs are compiled and buffers laid out meanwhile
_BATCH_PRINT_SECONDS = 0.005  # in which a batch's lines come, one right after the other


@dataclass(frozen=True)
class Throughput:
    """From the first answers to the last over a topic that was full from the start."""

    photos: int  # counted, without those of the warm-up
    photos_per_second: float
    cpu_ms_per_photo: float  # user and system time of the program

    def and_again(self, other: Throughput) -> Throughput:
        """Both measurements as one."""
        photos = self.photos + other.photos
        seconds = self.photos / self.photos_per_second + other.photos / other.photos_per_second
        cpu_ms = self.photos * self.cpu_ms_per_photo + other.photos * other.cpu_ms_per_photo
        return Throughput(photos, photos / seconds, cpu_ms / photos)


@dataclass(frozen=True)
class Latency:
    """From sending a photo to seeing its printed answer, in ms."""

    photos: int
    photos_per_second: float  # sent
    p50_ms: float
    p95_ms: float
    p99_ms: float


def throughput_of(program: Program, photos: int) -> Throughput:
    """Wait until the program has answered all photos of the topic.

    Raises:
        BenchmarkError: it did not.
    """
    warm_up = min(_WARM_UP_PHOTOS, max(1, photos // 4))
    program.wait_for_out(warm_up, START_SECONDS)
    time.sleep(_BATCH_PRINT_SECONDS)
    warm_up = min(len(program.out), photos // 2)
    cpu_seconds = program.cpu_seconds()
    program.wait_for_out(photos, _ANSWER_SECONDS)
    cpu_seconds = program.cpu_seconds() - cpu_seconds
    counted = photos - warm_up
    seconds = program.out[photos - 1].seen - program.out[warm_up - 1].seen
    return Throughput(counted, counted / seconds, cpu_seconds / counted * 1000)


def sustained_rate(photos: int, sender: PhotoSender, program: Program) -> float:
    """Return the photos a second that camera, broker and program manage together on these cores.

    The camera sends one whenever fewer than `_MOST_UNANSWERED` wait for their answers. On a full
    topic the program has the cores to itself; here it has not, as in a service that goes on.

    Raises:
        BenchmarkError: an answer is missing.
    """
    before = len(program.out)
    sent = len(sender.sent)

    def wanted() -> bool:
        return len(sender.sent) - sent - (len(program.out) - before) < _MOST_UNANSWERED

    sender.send_while(wanted, photos)
    program.wait_for_out(before + photos, _ANSWER_SECONDS)
    first = before + photos // 4  # until then batches fill up
    last = before + photos - 1
    return (last - first) / (program.out[last].seen - program.out[first].seen)


def latency_at(rate: float, seconds: float, sender: PhotoSender, program: Program) -> Latency:
    """Send photos at a steady rate and look at how long each answer takes.

    Args:
        rate: photos a second.
        seconds: how long to send.
        sender: all it has sent so far must be answered.
        program: what answers.

    Raises:
        BenchmarkError: an answer is missing.
    """
    before = len(program.out)
    count = max(2, math.ceil(rate * seconds))
    sender.send_steadily(rate, count)
    program.wait_for_out(before + count, _ANSWER_SECONDS)
    times = [sender.sent[name] for name in list(sender.sent)[-count:]]
    latencies = answer_times(program.out[before : before + count], sender.sent)
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99]) * 1000
    achieved = (count - 1) / (times[-1] - times[0])
    return Latency(count, achieved, float(p50), float(p95), float(p99))


def answer_times(answers: Sequence[Line], sent: dict[str, float]) -> list[float]:
    """Seconds from sending to seeing each answer.

    Raises:
        BenchmarkError: a photo is answered twice, and another one therefore not.
    """
    seen = {image_name(line): line.seen for line in answers}
    if len(seen) < len(answers):
        raise BenchmarkError(f"expected answers for {len(answers)} photos, got {len(seen)}")
    return [moment - sent[name] for name, moment in seen.items()]


def image_name(answer: str) -> str:
    """Which photo a printed answer is for: JSON of ours, or the naive loop's line."""
    if answer.startswith("{"):
        return str(json.loads(answer)["image_name"])
    return answer.partition(" -> ")[0]
