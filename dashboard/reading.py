"""The database as the page has it: to look at, never to change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from car_classifier.engine import make_engine, shown
from car_classifier.errors import CarClassifierError
from car_classifier.schema import MIGRATIONS, version_of

__all__ = ["NoResultsError", "open_engine", "reading"]


class NoResultsError(CarClassifierError):
    """There is no database to read from yet, or none that answers now."""


def open_engine(url: str) -> Engine:
    """An engine that can only read; connects at its first use.

    Raises:
        SettingsError: as `car_classifier.engine.make_engine` does.
    """
    engine = make_engine(url, writes=False)
    sqlite = engine.dialect.name == "sqlite"
    statement = "PRAGMA query_only = ON" if sqlite else "SET default_transaction_read_only = on"

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.execute(statement)
        if not sqlite:
            connection.commit()

    return engine


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the tables as they are at one moment.

    Raises:
        NoResultsError: there are no tables yet, they are of another version than this program
            knows, or the database does not answer.
    """
    if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
        # Opening it would make an empty one.
        raise NoResultsError(f"There is no database {shown(engine)} yet.")
    try:
        with engine.connect() as connection:
            version = version_of(connection)
            if version is None:
                raise NoResultsError(f"The database {shown(engine)} has no results yet.")
            if version != 1 + len(MIGRATIONS):
                raise NoResultsError(
                    f"The tables of {shown(engine)} are of version {version}, this page reads "
                    f"version {1 + len(MIGRATIONS)}: use a consumer and a page of the same release."
                )
            yield connection
    except SQLAlchemyError:  # its text has statements, and may have values
        raise NoResultsError(f"The database {shown(engine)} does not answer.") from None
