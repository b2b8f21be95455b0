"""Old results are deleted in small portions, so that new ones never wait for long."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Table, bindparam, delete, select

from car_classifier.schema import (
    cameras,
    dead_letters,
    hour_confidence,
    hour_counts,
    hour_dead,
    hour_latency,
    minute_confidence,
    minute_counts,
    minute_dead,
    minute_latency,
    predictions,
    thumbnails,
)

__all__ = ["forget"]

PORTION = 500  # rows of a table: some milliseconds, and more than a consumer adds meanwhile


def forget(connection: Connection, before: float) -> bool:
    """Delete a portion of what is older than ``before`` (seconds since 1970) from every table.

    Returns:
        Whether there is more.
    """
    more = _forget_messages(connection, before, predictions, "predicted", thumbnails)
    more |= _forget_messages(connection, before, dead_letters, "rejected")
    for table in (minute_counts, minute_confidence, minute_latency, minute_dead):
        more |= _forget_counts(connection, before - 60, table, table.c.minute)
    for table in (hour_counts, hour_confidence, hour_latency, hour_dead):
        more |= _forget_counts(connection, before - 3600, table, table.c.hour)
    connection.execute(delete(cameras).where(cameras.c.last_predicted < before))
    return more


def _forget_messages(
    connection: Connection, before: float, table: Table, time: str, *beside: Table
) -> bool:
    old = (
        select(*table.primary_key.columns)
        .where(table.c[time] < before)
        .order_by(table.c[time])
        .limit(PORTION)
    )
    # In the order of their keys, as all consumers do.
    keys = sorted(tuple(row) for row in connection.execute(old))
    if not keys:
        return False
    names = [column.name for column in table.primary_key]
    rows = [{f"old_{name}": value for name, value in zip(names, key, strict=True)} for key in keys]
    for each in (table, *beside):
        same = [each.c[name] == bindparam(f"old_{name}") for name in names]
        connection.execute(delete(each).where(*same), rows)
    return len(keys) == PORTION


def _forget_counts(connection: Connection, before: float, table: Table, start: Column[int]) -> bool:
    """Delete what was counted for minutes or hours that start earlier."""
    old = select(start).where(start < before).order_by(start).limit(PORTION)
    starts = list(connection.scalars(old))
    if not starts:
        return False
    connection.execute(delete(table).where(start <= starts[-1]))
    return len(starts) == PORTION
