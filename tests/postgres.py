"""A PostgreSQL server of the tests' own: Debian's, with its data in a new folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from car_classifier.embedded_broker import LOOPBACK, free_port

PASSWORD = "s3cr%t/@:?"  # what a URL has to escape
_URL_PASSWORD = "s3cr%25t%2F%40%3A%3F"
_START_SECONDS = 90.0


class Postgres:
    """A server on a loopback port; stopped and started again under the same address.

    The server refuses to run as root: then Debian's user `postgres` runs it.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="car-classifier-postgres-"))
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            self._user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        self._port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        password_file = self._folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        self._run(
            "initdb",
            *("--pgdata", "data", "--username", "tests", "--pwfile", "password", "--no-sync"),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
        )

    def start(self) -> None:
        """Start the server and return once it takes clients.

        Raises:
            RuntimeError: it did not within 90 seconds; with the end of its log.
        """
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self._port,
            "unix_socket_directories": "",
            "fsync": "off",  # the tests kill the server, never the machine
        }
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [_program("postgres"), "-D", "data"]
                + [part for name in settings for part in ("-c", f"{name}={settings[name]}")],
                **self._where(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for pytest, which then stops us in order
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._server.poll() is None:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        text = (self._folder / "log").read_text(errors="replace")
        raise RuntimeError(f"PostgreSQL did not start:\n{text[-4000:]}")

    def kill(self) -> None:
        """End it at once, as a crash would: it has to recover from its log."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """End it and delete its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str, password: str = _URL_PASSWORD) -> str:
        """Return the URL of a database, as a user writes it."""
        return f"postgresql://tests:{password}@{LOOPBACK}:{self._port}/{database}"

    def new_database(self) -> str:
        """Create an empty database; return its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Run a statement in the server's first database."""
        with psycopg.connect(self.url("postgres"), connect_timeout=5, autocommit=True) as link:
            link.execute(statement.encode())

    def _end(self, number: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.send_signal(number)
            server.wait(_START_SECONDS)

    def _where(self) -> Mapping[str, Any]:
        return {"cwd": self._folder, **self._user}

    def _run(self, program: str, *arguments: str) -> None:
        command = [_program(program), *arguments]
        result = subprocess.run(command, **self._where(), capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{result.stdout}{result.stderr}")


def missing_postgres() -> list[str]:
    """Return what a server needs and this machine does not have."""
    try:
        _program("initdb")
        if os.geteuid() == 0:
            pwd.getpwnam("postgres")
    except (FileNotFoundError, KeyError):
        return ["PostgreSQL"]
    return []


def _program(name: str) -> str:
    """Debian keeps the server's programs out of PATH, in a folder for each version."""
    found = shutil.which(name)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if found is None and not versions:
        raise FileNotFoundError(name)
    return found or str(versions[-1])
