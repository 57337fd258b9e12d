"""What is found when the storm is over: the ledger's rows, Prefect's runs, the provider's book, files and processes."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import psycopg
from acceptance.running import Stack
from psycopg.rows import dict_row
from support import SLOW

from benchmarks.provider import Provider
from chaos.customers import Answered
from chaos.machine import Killed
from chaos.scenario import Scenario

Row = dict[str, Any]
TABLES = ("account", "user", "job", "request", "asset", "delivery", "notification", "run")
PAGE = 200


@dataclass(frozen=True, kw_only=True)
class AtProvider:
    """One request in the provider's own book."""

    request_id: str
    endpoint: str
    token: str
    input: Mapping[str, Any]
    faults: Mapping[str, Any]
    status: str
    http_status: int | None
    billable_units: str | None
    webhooks: Sequence[Mapping[str, Any]]

    @property
    def webhooks_taken(self) -> int:
        """Those that were answered with 2xx."""
        return sum(200 <= (webhook["status_code"] or 0) < 300 for webhook in self.webhooks)


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    scenario: Scenario
    folder: Path  # with the stack's home and logs
    began_at: datetime
    answered: Sequence[Answered]
    kills: Sequence[Killed]
    tables: Mapping[str, Sequence[Row]]
    requests_at_provider: Sequence[AtProvider]
    provider_stats: Mapping[str, Any]
    looked_at: datetime
    flow_runs: Sequence[Row]  # that carry jobs
    reconciles: Sequence[Row]
    recoveries: int  # how often a run was brought back after its process was lost
    carriers: Sequence[str]  # processes that carry jobs still
    settled_seconds: float | None  # from the last job's end to rest; None: not at rest yet
    files_at_provider: Mapping[str, str]  # address → SHA-256

    def save(self) -> None:
        """Beside the logs, for whoever has to find out."""
        found = {
            **self.tables,
            "provider": [vars(each) for each in self.requests_at_provider],
            "prefect": self.flow_runs,
        }
        for name, rows in found.items():
            lines = "".join(json.dumps(row, default=str) + "\n" for row in rows)
            (self.folder / f"{name}.jsonl").write_text(lines)
        (self.folder / "kills.txt").write_text("".join(f"{kill.at:%H:%M:%S.%f} {kill.victim}\n" for kill in self.kills))

    def rows(self, table: str) -> Sequence[Row]:
        return self.tables[table]

    def of(self, job: Row, table: str) -> list[Row]:
        return [row for row in self.rows(table) if row["job_id"] == job["id"]]

    def at_provider(self, request: Row) -> list[AtProvider]:
        """What this row made at the provider: its webhook's address carries the row's token."""
        return [each for each in self.requests_at_provider if each.token == request["token"]]

    def jobs(self, status: str) -> list[Row]:
        return [job for job in self.rows("job") if job["status"] == status]

    def faults(self) -> Counter[str]:
        """What the provider did wrong, by name."""
        found = Counter({f"submit {name}": n for name, n in self.provider_stats["refused_by_rule"].items()})
        for each in self.requests_at_provider:
            found.update(f"{dimension} {fault}" for dimension, fault in each.faults.items())
        return found


def look(stack: Stack) -> dict[str, list[Row]]:
    """The whole ledger, as it is at one moment."""
    with psycopg.connect(stack.environment["DARKROOM_LEDGER_URL"], row_factory=dict_row) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return {table: connection.execute(f'SELECT * FROM "{table}"').fetchall() for table in TABLES}


def any_row(stack: Stack, statement: LiteralString, *values: object) -> bool:
    """Whether the ledger has one such row at least, now."""
    with psycopg.connect(stack.environment["DARKROOM_LEDGER_URL"]) as connection:
        return connection.execute(f"SELECT EXISTS ({statement})", values).fetchone() == (True,)


def in_book(provider: Provider) -> list[AtProvider]:
    return [_at_provider(row) for row in provider.requests("")]


def stats(provider: Provider) -> dict[str, Any]:
    return dict(provider.http.get("/_sim/stats").raise_for_status().json())


def flow_runs(stack: Stack) -> tuple[list[Row], list[Row]]:
    """All that Prefect has: those that carry jobs, and those of reconcile, of which one is always about to come.

    What cron starts carries none, and its next slots are on record days ahead.
    """
    path = "/deployments/name/reconcile/every-minute"
    reconcile = stack.prefect.get(path).raise_for_status().json()["id"]
    found = list(_all_flow_runs(stack))
    return (
        [run for run in found if "system" not in run["tags"]],
        [run for run in found if run["deployment_id"] == reconcile],
    )


def recoveries(stack: Stack, carrying: Sequence[Row]) -> int:
    histories = (stack.history(UUID(run["id"])) for run in carrying)
    return sum(states.count("Recovering") for states in histories)


def _all_flow_runs(stack: Stack) -> Iterator[Row]:
    offset = 0
    while True:
        body = {"sort": "ID_DESC", "limit": PAGE, "offset": offset}
        page = stack.prefect.post("/flow_runs/filter", json=body).raise_for_status().json()
        yield from page
        if len(page) < PAGE:
            return
        offset += PAGE


def files_at_provider(provider: Provider, requests: Sequence[Row]) -> dict[str, str]:
    """The pictures as the provider serves them, by their address."""
    trusted = ssl.create_default_context(cafile=str(provider.home / "ca.pem"))
    addresses = [image["url"] for row in requests if row["output"] for image in row["output"]["images"]]
    with httpx.Client(
        proxy=f"http://127.0.0.1:{provider.port}", verify=trusted, trust_env=False, timeout=SLOW * 20
    ) as http:
        return {url: digest for url in addresses if (digest := _digest(http, url))}


def _digest(http: httpx.Client, url: str) -> str | None:
    try:
        answer = http.get(url)
    except httpx.TransportError:
        return None
    return hashlib.sha256(answer.content).hexdigest() if answer.is_success else None


def _at_provider(row: Row) -> AtProvider:
    names = ("request_id", "endpoint", "input", "faults", "status", "http_status", "billable_units", "webhooks")
    (token,) = parse_qs(urlsplit(row["webhook_url"]).query)["token"]
    return AtProvider(token=token, **{name: row[name] for name in names})
