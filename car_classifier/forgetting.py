"""Old results are deleted in small portions, so that new ones never wait for long."""

from __future__ import annotations

from sqlalchemy import Connection, Table, bindparam, delete, select

from car_classifier.schema import (
    cameras,
    dead_letters,
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
        more |= _forget_minutes(connection, before, table)
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


def _forget_minutes(connection: Connection, before: float, table: Table) -> bool:
    minute = table.c.minute
    old = select(minute).where(minute < before - 60).order_by(minute).limit(PORTION)
    minutes = list(connection.scalars(old))
    if not minutes:
        return False
    connection.execute(delete(table).where(minute <= minutes[-1]))
    return len(minutes) == PORTION
