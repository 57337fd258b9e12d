"""The ledger's schema over time (Alembic). `migrate` brings a database to the newest version, one process at a time.

Each migration is a transaction, so an interrupted one is begun anew, and those before it stay. What holds the lock is
another connection's transaction: an index that is made concurrently waits for every transaction that may still look at
the table, and would wait for its own. Nobody waits in a statement for the lock either, as that is a transaction, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from darkroom.ledger.database import make_engine

_LOCK = 0xDA1C  # any number that is ours: two provisioners at once migrate one after the other
_SECONDS_BETWEEN_TRIES = 0.1


def migrate(url: str) -> None:
    # Here, as everything imports the ledger, and nothing else needs Alembic: a sixth of a second.
    from alembic import command
    from alembic.config import Config

    engine = make_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))  # it reads % as its own
    try:
        with _one_at_a_time(engine), engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    while True:
        with engine.begin() as connection:
            if connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}).scalar_one():
                # It takes the statement's snapshot away, too, which Postgres keeps until the next one.
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                yield
                return
        time.sleep(_SECONDS_BETWEEN_TRIES)
