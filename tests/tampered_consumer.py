"""The classifier service with what a test cannot wait for: a slow model, a failing commit.

Run it as the script; ``TAMPER`` in the environment is JSON with some of the fields of `Tampering`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import CommitFailedError

import consumidor_clasificador as script

COMMAND = ("-m", "tests.tampered_consumer")


@dataclass(frozen=True)
class Tampering:
    model_seconds: float = 0.0  # that each batch takes longer
    model_waits_for: str | None = None  # a file, before it answers anything
    model_breaks: bool = False  # at the first photo, and for good
    commits_fail: int = 0  # so many of the first
    max_poll_interval_ms: int = 300_000  # without a poll, until others get the partitions


def tamper(how: Tampering) -> None:
    load, make = script.load_classifier, script.make_consumer

    def load_and_tamper(*arguments: Any) -> Any:
        classifier = load(*arguments)
        predict = classifier.predict

        def predict_badly(images: Any) -> Any:
            print(f"In the model: {len(images)}", file=sys.stderr, flush=True)
            time.sleep(how.model_seconds)
            while how.model_waits_for and not Path(how.model_waits_for).exists():
                time.sleep(0.05)
            if how.model_breaks:
                raise RuntimeError("the device is gone")
            return predict(images)

        classifier.predict = predict_badly
        return classifier

    def make_and_tamper(*arguments: Any) -> KafkaConsumer:
        more = (
            {"max_poll_interval_ms": how.max_poll_interval_ms} if how.max_poll_interval_ms else {}
        )
        consumer = make(*arguments, **more)
        commit, failures = consumer.commit, iter(range(how.commits_fail))

        def commit_or_fail(*arguments: Any, **options: Any) -> None:
            if next(failures, None) is not None:
                raise CommitFailedError
            commit(*arguments, **options)

        consumer.commit = commit_or_fail
        return consumer

    script.load_classifier = load_and_tamper
    script.make_consumer = make_and_tamper


if __name__ == "__main__":
    tamper(Tampering(**json.loads(os.environ["TAMPER"])))
    sys.exit(script.main())
