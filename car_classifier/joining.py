"""A mend for kafka-python 3.0: a consumer does not forget that it is joining its group.

When the group's leader joins anew because the topic's partitions have changed, or because the topic
is new, and a ``poll`` ends before the join does, the library forgets the join: sending the answer
in the background, it notes that the change has been dealt with, and the next ``poll`` sees nothing
to do. The consumer then keeps its partitions, revoked but not given back, and reads nothing for
ever.
"""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer

__all__ = ["remember_joins"]


def remember_joins(consumer: KafkaConsumer) -> None:
    """Have each ``poll`` go on with a join that has begun until it is through."""
    # No public call reaches it; the flag says that a join has begun and is not through.
    coordinator: Any = consumer._coordinator
    asked = coordinator.need_rejoin
    coordinator.need_rejoin = lambda: coordinator.rejoining or asked()
