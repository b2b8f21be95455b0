"""Whatever comes off the topic is answered or refused: no crash, no hang, no growth, none lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from car_classifier.errors import Reason
from tests.fuzzing import Tally, classify
from tests.scripts import ROOT
from tests.test_messages import JSON, MESSAGE_LIKE

SEED = 20_240  # of all these messages; another finds others: python -m tests.fuzzing
MESSAGES = 10_000
SLOWEST_SECONDS = 5.0  # for one message; the usual one takes a thousandth of that
MOST_GROWTH = 64 * 2**20  # bytes; a leak of one small photo a message would be several times that

OURS = (Reason.OUT_OF_MEMORY, Reason.MODEL_FAILED)  # not what a message can bring about here


def test_ten_thousand_mutated_messages_are_all_accounted_for() -> None:
    # In a process of its own: the memory of this one holds what other tests have left
    command = [sys.executable, "-m", "tests.fuzzing", "--seed", str(SEED)]
    result = subprocess.run(
        [*command, "--messages", str(MESSAGES)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    tally = Tally(**json.loads(result.stdout))

    print(f"seed {SEED}: {tally}")  # shown if it fails
    tally.dead = Counter(tally.dead)
    assert tally.sent == MESSAGES == tally.predicted + tally.dead.total()
    assert tally.slowest_seconds < SLOWEST_SECONDS
    assert tally.grown_bytes < MOST_GROWTH
    # And they were of every kind: whoever refuses all, or reads all, has not been tested
    assert tally.predicted > MESSAGES / 20
    assert set(tally.dead) == {reason.value for reason in Reason if reason not in OURS}


@seed(SEED)
@settings(max_examples=1000, deadline=None, database=None)
@given(st.data())
def test_whatever_hypothesis_thinks_of_is_accounted_for(data: st.DataObject) -> None:
    anything = data.draw(st.binary(max_size=300) | JSON | MESSAGE_LIKE)
    value = anything if isinstance(anything, bytes) else json.dumps(anything).encode()

    tally = classify(iter([value]))

    assert tally.predicted + tally.dead.total() == 1
