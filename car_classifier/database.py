"""Results go into a database, each once, before their messages are committed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from car_classifier.classifying import Answers
from car_classifier.delivery import KeepWaiting
from car_classifier.engine import (
    collided,
    file_number,
    is_away,
    is_refused,
    make_engine,
    reason,
    shown,
)
from car_classifier.errors import DatabaseError, SettingsError
from car_classifier.forgetting import forget
from car_classifier.model import ModelIdentity
from car_classifier.rows import (
    Row,
    Rows,
    key_of,
    latest_photos,
    prediction_counts,
    rejection_counts,
)
from car_classifier.schema import cameras, dead_letters, metadata, migrate, predictions, thumbnails

__all__ = ["DatabaseSink"]

WAIT_SECONDS = 0.1  # between two signs of life while the database is away
FIRST_PAUSE_SECONDS = 0.1  # between two attempts; they grow
LONGEST_PAUSE_SECONDS = 5.0
FORGET_SECONDS = 600.0  # between two looks for old results
FORGET_MORE_SECONDS = 1.0  # where the last look left some
DAY = 86_400


class DatabaseSink:
    """Keeps predictions and dead letters; see `car_classifier.delivery.Sink`.

    A batch is one transaction, which a message that has been kept before adds nothing to: not to
    the counts either. So a batch may be delivered any number of times.

    Args:
        url: see `car_classifier.engine.make_engine`.
        model: which model answers.
        keep_days: results that are older are deleted, from time to time while photos come in; None
            keeps them all.
    """

    def __init__(self, url: str, model: ModelIdentity, keep_days: float | None = None) -> None:
        self._engine = make_engine(url)
        self._model = model
        self._keep_days = keep_days
        self._forget_at = 0.0  # on the monotonic clock
        self._tables_checked = False
        self._file: int | None = None
        self._takes = True  # whether it took what it was last given
        self._inserts = _Inserts(self._engine.dialect.name)

    def connect(self, stopped: Callable[[], bool]) -> bool:
        """Reach the database and have its tables ready; wait for it if it does not answer yet.

        Returns:
            False if it was time to stop before that.

        Raises:
            SettingsError: the URL is wrong, or the tables are newer than this program.
        """

        def attempt() -> None:
            try:
                self._check_tables()
            except SQLAlchemyError as error:
                if is_refused(error):
                    raise SettingsError(
                        f"database {shown(self._engine)}: {reason(error, self._engine)}"
                    ) from None  # its text has values
                raise

        return self._insist(attempt, lambda: not stopped())

    def deliver(self, batch: Answers, keep_waiting: KeepWaiting) -> bool:
        """Keep a batch; see `car_classifier.delivery.Sink`."""
        rows = Rows.of(batch, self._model)

        def attempt() -> None:
            if file_number(self._engine) != self._file:
                self._connect_anew()  # or we would write on, to a file that has no name any more
            self._check_tables()
            with self._engine.begin() as connection:
                self._inserts.keep(connection, rows)

        if not self._insist(attempt, keep_waiting):
            return False
        self._forget()
        return True

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    def _check_tables(self) -> None:
        """Before the first batch, and when the database was away: it may have come back empty."""
        if not self._tables_checked:
            migrate(self._engine)
            self._tables_checked = True
            self._file = file_number(self._engine)

    def _connect_anew(self) -> None:
        self._engine.dispose()
        self._tables_checked = False

    def _insist(self, attempt: Callable[[], None], keep_waiting: KeepWaiting) -> bool:
        """Try until it works; return false if it was time to stop before that."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                attempt()
            except SQLAlchemyError as error:
                if not is_away(error):
                    raise DatabaseError(
                        f"database {shown(self._engine)} refuses results: "
                        f"{reason(error, self._engine)}"
                    ) from None  # its text has values
                if not collided(error):
                    self._report(False, f" ({reason(error, self._engine)})")
                    self._connect_anew()  # connections that are left may be dead as well
            else:
                self._report(True)
                return True
            until = time.monotonic() + pause
            while time.monotonic() < until:
                if not keep_waiting():
                    return False
                time.sleep(WAIT_SECONDS)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _report(self, takes: bool, why: str = "") -> None:
        if takes != self._takes:
            self._takes = takes
            what = "takes results again" if takes else f"takes no results{why}; waiting..."
            print(f"Database {shown(self._engine)} {what}", file=sys.stderr, flush=True)

    def _forget(self) -> None:
        if self._keep_days is None or time.monotonic() < self._forget_at:
            return
        more = False
        try:
            with self._engine.begin() as connection:
                more = forget(connection, time.time() - self._keep_days * DAY)
        except SQLAlchemyError as error:
            if not is_away(error):
                raise DatabaseError(
                    f"database {shown(self._engine)} deletes nothing: {reason(error, self._engine)}"
                ) from None
            # Another time: the next batch deals with a database that is away.
        self._forget_at = time.monotonic() + (FORGET_MORE_SECONDS if more else FORGET_SECONDS)


class _Inserts:
    """The statements that keep rows, in one database's dialect."""

    def __init__(self, dialect: str) -> None:
        self._insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
        self._new = {
            table: self._insert(table)
            .on_conflict_do_nothing()
            .returning(*table.primary_key.columns)
            for table in (predictions, dead_letters)
        }
        self._thumbnails: Insert = self._insert(thumbnails).on_conflict_do_nothing()
        self._counts = {
            name: self._adding(table)
            for name, table in metadata.tables.items()
            if name.startswith(("minute_", "hour_"))
        }
        self._cameras = self._latest()

    def keep(self, connection: Connection, rows: Rows) -> None:
        """Write what is new in these rows, and count it, in the transaction of a connection."""
        if new := self._keep_new(connection, predictions, rows.predictions):
            pictures = [
                {name: row[name] for name in ("topic", "partition", "offset")}
                | {"jpeg": rows.thumbnails[key_of(row)]}
                for row in new
                if key_of(row) in rows.thumbnails
            ]
            if pictures:
                connection.execute(self._thumbnails, pictures)
            for name, counts in prediction_counts(new).items():
                connection.execute(self._counts[name], counts)
            connection.execute(self._cameras, latest_photos(new))
        if new := self._keep_new(connection, dead_letters, rows.dead_letters):
            for name, counts in rejection_counts(new).items():
                connection.execute(self._counts[name], counts)

    def _keep_new(self, connection: Connection, table: Table, rows: list[Row]) -> list[Row]:
        """Insert rows and return those that were not there."""
        if not rows:
            return []
        kept = {tuple(key) for key in connection.execute(self._new[table], rows)}
        return [row for row in rows if key_of(row) in kept]

    def _adding(self, table: Table) -> Insert:
        insert = self._insert(table)
        added = table.c["count"] + insert.excluded["count"]
        statement: Insert = insert.on_conflict_do_update(
            index_elements=list(table.primary_key), set_={"count": added}
        )
        return statement

    def _latest(self) -> Insert:
        insert = self._insert(cameras)
        new = insert.excluded
        statement: Insert = insert.on_conflict_do_update(
            index_elements=[cameras.c.camera_id],
            set_={column.name: new[column.name] for column in cameras.c if not column.primary_key},
            where=new.last_predicted >= cameras.c.last_predicted,
        )
        return statement
