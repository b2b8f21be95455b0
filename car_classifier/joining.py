"""Mends for kafka-python 3.0: a join is not forgotten, and what was given back is read again.

**Forgotten joins.** When the group's leader joins anew because the topic's partitions have changed,
or because the topic is new, and a ``poll`` ends before the join does, the library forgets the join:
sending the answer in the background, it notes that the change has been dealt with, and the next
``poll`` sees nothing to do. The consumer then keeps its partitions, revoked but not given back, and
reads nothing for ever.

**Kept positions.** A partition that is revoked and comes back to the same consumer keeps the place
that it had been read to. What was read of it and not committed would be skipped, and then be passed
over by a later commit.
"""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer

__all__ = ["mend_joins"]


def mend_joins(consumer: KafkaConsumer) -> None:
    """Have each ``poll`` go on with a join that has begun, and read on from what is committed."""
    coordinator: Any = consumer._coordinator  # no public call reaches it
    asked, prepare = coordinator.need_rejoin, coordinator._on_join_prepare_async

    async def prepare_and_let_go(*arguments: Any, **options: Any) -> None:
        try:
            await prepare(*arguments, **options)
        finally:
            # As the library itself does after it was thrown out of its group.
            coordinator._subscription.assign_from_subscribed([])

    # The flag says that a join has begun and is not through.
    coordinator.need_rejoin = lambda: coordinator.rejoining or asked()
    coordinator._on_join_prepare_async = prepare_and_let_go
