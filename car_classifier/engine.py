"""How to reach a database: SQLite in a file, or PostgreSQL. Passwords are never shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from car_classifier.console import needs
from car_classifier.errors import SettingsError

__all__ = ["collided", "file_number", "is_away", "is_refused", "make_engine", "reason", "shown"]

_EXPECTED = "expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"

BUSY_SECONDS = 2.0  # that SQLite waits by itself for another writer
CONNECT_SECONDS = 5  # that PostgreSQL may take to answer
LOCK_SECONDS = 10  # that PostgreSQL waits for another writer's row

# Without these a server that has vanished, cable and all, is waited for some fifteen minutes.
_LINK = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}

# How a server (or SQLite) says that another URL is needed, where no SQLSTATE comes with it.
_REFUSED = re.compile(
    "password|authentication|does not exist|pg_hba.conf|resolve host|permission denied|"
    "unable to open database file|readonly database|no such table"
)
# SQLSTATEs of transactions that got in each other's way: deadlock, serialisation.
_COLLISIONS = ("40P01", "40001")


def make_engine(url: str, *, writes: bool = True) -> Engine:
    """An engine for a URL; connects at its first use.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://...``, with or without ``+psycopg``.
        writes: whether its transactions write; one that only reads never holds up those that do.

    Raises:
        SettingsError: another kind of database, no URL at all, or a package is not installed.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
        _prepare_sqlite(engine, writes)
        return engine
    arguments = {"connect_timeout": CONNECT_SECONDS, "application_name": "car-classifier", **_LINK}
    chosen = {name: value for name, value in arguments.items() if name not in parsed.query}
    with needs("database"):
        engine = create_engine(parsed, connect_args=chosen)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        connection.commit()

    return engine


def shown(engine: Engine) -> str:
    """The database's URL for people: without its password."""
    url = engine.url
    masked = dict.fromkeys(_secret_names(url), "***")
    return url.update_query_dict(masked).render_as_string(hide_password=True)


def file_number(engine: Engine) -> int | None:
    """Which file a SQLite database is, by its inode; None if it is gone, and for PostgreSQL."""
    if engine.dialect.name != "sqlite":
        return None
    try:
        return Path(str(engine.url.database)).stat().st_ino
    except OSError:
        return None


def is_away(error: SQLAlchemyError) -> bool:
    """Whether it may work later: no connection, locked, out of space, read-only for a while."""
    return isinstance(
        error, (OperationalError, InterfaceError, InternalError, PoolTimeoutError)
    ) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def is_refused(error: SQLAlchemyError) -> bool:
    """Whether, at the first try, it is rather the URL that is wrong."""
    return not is_away(error) or bool(_REFUSED.search(_text(error)))


def collided(error: SQLAlchemyError) -> bool:
    """Whether the transaction only has to be tried again, after another consumer's."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") in _COLLISIONS


def reason(error: SQLAlchemyError, engine: Engine) -> str:
    """Why, in a line for people: without statements, values or passwords."""
    line = next(iter(_text(error).splitlines()), type(error).__name__)
    secrets = [engine.url.password, *(engine.url.query.get(n) for n in _secret_names(engine.url))]
    for secret in secrets:
        if secret:
            line = line.replace(str(secret), "***")
    return line


def _text(error: SQLAlchemyError) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error)


def _secret_names(url: URL) -> list[str]:
    return [name for name in url.query if "pass" in name]


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # its text has the URL, and that may have a password
        raise SettingsError(f"database: {_EXPECTED}, got no URL of that form") from None
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise SettingsError(f"database: {_EXPECTED}, got one of {parsed.drivername!r}")
    if parsed.database in (None, "", ":memory:"):
        raise SettingsError(f"database: {_EXPECTED}, got no file's name")
    return parsed


def _prepare_sqlite(engine: Engine, writes: bool) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        # Python's own way would begin a transaction at the first change only, and not for tables.
        connection.isolation_level = None
        if writes:
            # Readers and the writer do not wait for each other.
            connection.execute("PRAGMA journal_mode = WAL")
            # NORMAL could forget the last transactions in a power cut, whose offsets are committed
            # on Kafka by then: they would be lost.
            connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # One that reads first and then writes would fail when another writes in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
