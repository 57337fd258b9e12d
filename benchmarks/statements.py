"""How many statements the ledger is asked for, by name, as Postgres itself counts them (`pg_stat_statements`).

BEGIN and COMMIT count: each is a round trip. The name is the comment in each statement of `queries.sql`; one
without is told by its first words. What the benchmark asks by itself is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg

from darkroom.deployments.stack.postgres import cluster_in
from darkroom.deployments.stack.template import cache_folder, is_there

PRELOAD = "shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track_utility = on\n"
LOOK = """
    SELECT query, calls FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel
"""
OWN = ("SELECT count(*) AS open", "SELECT job.id, job.status", "SELECT query, calls", "CREATE EXTENSION")
_NAME = re.compile(r"\w+ /\* (\w+) \*/")


def make_counting(data: Path) -> bool:
    """Make the databases of a home before its stack does, with a server that counts from its start.

    Return False if they are there: a stack has been there, and its secrets.
    """
    if is_there(data):
        return False
    data.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "darkroom.deployments.stack.template", str(data)]
    subprocess.run([*command, "--cache", str(cache_folder(os.environ))], check=True)
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write(PRELOAD)
    cluster_in(data).take_over(data)
    return True


def prepare(rows: psycopg.Connection[Any]) -> None:
    rows.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")


def statements(rows: psycopg.Connection[Any]) -> Counter[str]:
    """All so far, by name."""
    counted: Counter[str] = Counter()
    for row in rows.execute(LOOK):
        if not row["query"].strip().startswith(OWN):
            counted[named(row["query"])] += row["calls"]
    return counted


def named(statement: str) -> str:
    """Return the name that a statement says of itself, or its first words."""
    found = _NAME.match(statement.strip())
    return found[1] if found else " ".join(statement.split()[:3])
