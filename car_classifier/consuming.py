"""Messages come off the topic, and are committed when their answers are out.

The order is the promise: a message's offset is committed only after its prediction (or its
rejection) has been delivered, so a crash repeats a batch at worst and never skips one.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError

from car_classifier.broker import NO_ENTRY, BrokerSettings, raise_if_refused, refused

__all__ = ["PhotoStream", "StreamState"]

POLL_MS = 250  # how soon a stop signal is noticed
PROBE_SECONDS = 5.0  # without messages, before the broker is asked whether it is there
PROBE_MS = 3000
COMMIT_MS = 5000
LAG_SECONDS = 1.0  # between two looks at how far behind we are
LAG_MS = 1  # the library knows the position already, or it can wait until the next look


@dataclass
class StreamState:
    """How a stream is, for other threads to read: each field is replaced as a whole."""

    partitions: frozenset[TopicPartition] = frozenset()  # that are assigned to us
    broker_answers: bool = True  # whether it did when it was last asked
    waits_since: float | None = None  # monotonic, in seconds: answers wait to be delivered
    # partition -> messages not committed yet; empty if nobody wants to know
    lag: dict[int, int] = field(default_factory=dict)


class PhotoStream(ConsumerRebalanceListener):
    """The messages of a topic, shared with the other consumers of the group.

    Args:
        consumer: the client, which this subscribes, and closes in the end.
        settings: the topic, and what the broker is called in messages.
        stopped: whether it is time to stop; asked in every turn of every loop.
        measure_lag: whether to keep ``state.lag`` up to date.

    Attributes:
        state: how the stream is.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        settings: BrokerSettings,
        stopped: Callable[[], bool],
        measure_lag: bool = False,
    ) -> None:
        self.state = StreamState()
        self._consumer = consumer
        self._settings = settings
        self._stopped = stopped
        self._last_sign = time.monotonic()
        self._early: list[Any] = []  # what came before it was asked for
        self._revoked: set[TopicPartition] = set()
        self._measure_lag_at = 0.0 if measure_lag else math.inf  # on the monotonic clock
        self._done: dict[TopicPartition, int] = {}  # the first offset that is not committed
        self._ends: dict[TopicPartition, int] = {}  # as the broker said when it was last asked
        consumer.subscribe([settings.topic], listener=self)

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Kafka-python's callback: what was read of these and not committed comes again."""
        self.state.partitions -= set(revoked)
        self._revoked.update(revoked)
        for partition in revoked:
            self._done.pop(partition, None)
            self._ends.pop(partition, None)
        self._early = [record for record in self._early if _partition(record) not in self._revoked]

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Kafka-python's callback."""
        self.state.partitions |= set(assigned)
        for partition in assigned:  # others may have got on with it meanwhile
            self._done.pop(partition, None)
        if not assigned:
            _say(
                "No partition is free: other consumers of the group have them, "
                "or the topic is new. Waiting..."
            )

    def wait_for_partitions(self) -> bool:
        """Return true when partitions are assigned, false when it is time to stop before that."""
        while not self._consumer.assignment():
            if self._stopped():
                return False
            self._early = self._poll(1, POLL_MS)
        for partition in self._consumer.assignment():
            # The library looks up later where "latest" is: what is sent until then would be lost.
            with contextlib.suppress(KafkaError):  # the next poll deals with it
                self._consumer.position(partition, timeout_ms=COMMIT_MS)
        return True

    def revoked(self) -> set[TopicPartition]:
        """Return the partitions that were taken away since the last call.

        Their uncommitted records come again: here, if the partition comes back, or elsewhere.
        """
        revoked, self._revoked = self._revoked, set()
        return revoked

    def stopped(self) -> bool:
        """Whether it is time to stop."""
        return self._stopped()

    def take(self, most: int, wait_ms: float) -> list[Any]:
        """Return up to ``most`` records, waiting up to ``wait_ms`` for the first.

        Raises:
            BrokerError: the broker refuses us; trying again would not help.
        """
        if self._early:
            records, self._early = self._early[:most], self._early[most:]
            return records
        return self._poll(most, wait_ms)

    def keep_alive(self) -> None:
        """Fetch nothing, but show the group that this consumer is alive.

        Raises:
            BrokerError: as `take` does.
        """
        paused = self._consumer.assignment()
        self._consumer.pause(*paused)
        # Partitions that are assigned meanwhile are not paused: theirs is kept for `take`.
        polled = self._poll(1, wait_ms=0)  # first: it may revoke, and so change what is early
        self._early += polled
        self._consumer.resume(*(paused & self._consumer.assignment()))

    def wait(self) -> bool:
        """Stay in the group while an answer waits to be delivered: a sink calls this in its loop.

        Returns:
            Whether to go on waiting; false when it is time to stop.

        Raises:
            BrokerError: as `take` does.
        """
        if self.state.waits_since is None:
            self.state.waits_since = time.monotonic()
        self.keep_alive()
        return not self._stopped()

    def commit(self, records: Sequence[Any]) -> None:
        """Note on the broker that these records are done.

        While the broker is away this waits and says so. If the partitions have moved to another
        consumer meanwhile, the records stay uncommitted and that one gets them again.
        """
        self.state.waits_since = None
        offsets = {_partition(record): OffsetAndMetadata(record.offset + 1) for record in records}
        while True:
            try:
                self._consumer.commit(offsets, timeout_ms=COMMIT_MS)
                self._done |= {partition: done.offset for partition, done in offsets.items()}
                self._report(True)
                return
            except (CommitFailedError, RebalanceInProgressError):
                _say("Partitions moved to another consumer before a commit: some photos may repeat")
                return
            except KafkaError as error:
                if not error.retriable:
                    raise refused(self._settings, error) from error
                raise_if_refused(self._settings)
                self._report(False)
                self.keep_alive()
                if self._stopped():
                    return

    def close(self) -> None:
        """Leave the group, so that others take the partitions over at once."""
        with contextlib.suppress(KafkaError):  # the broker is away: it will notice by itself
            self._consumer.close(timeout_ms=COMMIT_MS)

    def _poll(self, max_records: int, wait_ms: float) -> list[Any]:
        try:
            polled = self._consumer.poll(timeout_ms=wait_ms, max_records=max_records)
        except KafkaError as error:
            if not error.retriable:
                raise refused(self._settings, error) from error
            polled = {}
        records = [record for part in polled.values() for record in part]
        if records:
            self._last_sign = time.monotonic()
            self._report(True)
        elif time.monotonic() - self._last_sign > PROBE_SECONDS:
            self._probe()
        self._measure_lag(records)
        return records

    def _probe(self) -> None:
        """The client library waits in silence for a broker that is away; people want to know."""
        self._last_sign = time.monotonic()
        partitions = [*self.state.partitions] or [TopicPartition(self._settings.topic, 0)]
        try:
            # Of all: while partitions are paused, nothing else says how they grow.
            self._ends = self._consumer.end_offsets(partitions, timeout_ms=PROBE_MS)
        except KafkaError as error:
            if isinstance(error, NO_ENTRY):
                raise refused(self._settings, error) from error
            if error.retriable:
                raise_if_refused(self._settings)
            self._report(not error.retriable)
        else:
            self._report(True)

    def _report(self, answers: bool) -> None:
        if answers != self.state.broker_answers:
            self.state.broker_answers = answers
            what = "answers again" if answers else "does not answer; waiting..."
            _say(f"Kafka at {self._settings.bootstrap_servers} {what}")

    def _measure_lag(self, records: Sequence[Any]) -> None:
        if math.isinf(self._measure_lag_at):
            return
        for record in records:
            self._done.setdefault(_partition(record), record.offset)
        now = time.monotonic()
        if now < self._measure_lag_at:
            return
        self._measure_lag_at = now + LAG_SECONDS
        lag = {}
        for partition in self.state.partitions:
            with contextlib.suppress(KafkaError):  # not known yet, or no longer ours
                heard = (self._consumer.highwater(partition), self._ends.get(partition))
                ends = [end for end in heard if end is not None]
                done = self._done.get(partition)
                if done is None:  # none has come from there yet
                    done = self._consumer.position(partition, timeout_ms=LAG_MS)
                if ends and done is not None:
                    lag[partition.partition] = max(0, max(ends) - done)
        self.state.lag = lag


def _partition(record: Any) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
