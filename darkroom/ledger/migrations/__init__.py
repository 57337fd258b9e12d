"""The ledger's schema over time (Alembic). `migrate` brings a database to the newest version, one process at a time."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from darkroom.ledger.database import make_engine

_LOCK = 0xDA1C  # any number that is ours: two provisioners at once migrate one after the other


def migrate(url: str) -> None:
    # Here, as everything imports the ledger, and nothing else needs Alembic: a sixth of a second.
    from alembic import command
    from alembic.config import Config

    engine = make_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))  # it reads % as its own
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
