"""How to reach a database: SQLite in a file, or PostgreSQL. Passwords are never shown."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from car_classifier.console import needs
from car_classifier.errors import SettingsError

__all__ = ["make_engine", "shown"]

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
    return engine.url.render_as_string(hide_password=True)


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
