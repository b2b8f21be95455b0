"""A batch is delivered when every sink has it; what one could not take is not to be committed."""

from __future__ import annotations

from car_classifier.classifying import Answers
from car_classifier.delivery import KeepWaiting, deliver

BATCH = Answers([], [])


class Recorder:
    """A sink that notes what it is given."""

    def __init__(self, takes: bool = True) -> None:
        self.taken: list[Answers] = []
        self._takes = takes

    def deliver(self, batch: Answers, keep_waiting: KeepWaiting) -> bool:
        self.taken.append(batch)
        return self._takes and keep_waiting()

    def close(self) -> None:
        pass


def test_a_batch_goes_to_every_sink() -> None:
    first, second = Recorder(), Recorder()

    assert deliver(BATCH, [first, second], lambda: True)

    assert first.taken == second.taken == [BATCH]


def test_a_batch_that_one_sink_gave_up_is_not_delivered() -> None:
    assert not deliver(BATCH, [Recorder(), Recorder(takes=False)], lambda: True)
    assert not deliver(BATCH, [Recorder()], lambda: False)


def test_without_sinks_a_batch_is_delivered() -> None:
    assert deliver(BATCH, [], lambda: True)
