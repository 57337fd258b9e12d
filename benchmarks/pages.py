"""How many pages of its buffers Postgres touches for what is asked of a ledger: that holds on a busy machine as well.

Postgres itself tells it of each statement (auto_explain), with what its functions read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Pool, event

EXPLAIN = (
    "LOAD 'auto_explain'",
    "SET auto_explain.log_min_duration = 0",
    "SET auto_explain.log_analyze = on",
    "SET auto_explain.log_timing = off",
    "SET auto_explain.log_buffers = on",
    "SET auto_explain.log_format = json",
    "SET auto_explain.log_level = notice",
)


@contextmanager
def counting_pages() -> Iterator[Callable[[], int]]:
    """Yield what tells the pages of this process' new connections since it was last asked."""
    touched = [0]

    def hear(diagnostic: psycopg.errors.Diagnostic) -> None:
        _, plan, told = (diagnostic.message_primary or "").partition("plan:\n")
        if plan:
            top = json.loads(told)["Plan"]
            touched[0] += top["Shared Hit Blocks"] + top["Shared Read Blocks"]

    def explain(connection: Any, _: Any) -> None:
        connection.add_notice_handler(hear)
        for setting in EXPLAIN:
            connection.execute(setting)
        connection.commit()

    def taken() -> int:
        counted, touched[0] = touched[0], 0
        return counted

    event.listen(Pool, "connect", explain)
    try:
        yield taken
    finally:
        event.remove(Pool, "connect", explain)
