"""Posts orders over a few kept connections. It shares the machine with what it measures, so it does little."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection

THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where orders are posted: `POST /v1/images`, answered with 202 and a `job_id`."""

    port: int
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Posted:
    job_id: str
    began_at: datetime


def post_all(door: Door, prompts: Sequence[str]) -> list[Posted]:
    """As fast as it goes."""
    shares = [share for n in range(THREADS) if (share := prompts[n::THREADS])]
    with ThreadPoolExecutor(len(shares)) as pool:
        return [posted for some in pool.map(lambda share: _post_share(door, share), shares) for posted in some]


def _post_share(door: Door, prompts: Sequence[str]) -> list[Posted]:
    with closing(HTTPConnection("127.0.0.1", door.port, timeout=60)) as connection:
        return [_post(connection, door, prompt) for prompt in prompts]


def _post(connection: HTTPConnection, door: Door, prompt: str) -> Posted:
    began_at = datetime.now(UTC)
    body = json.dumps({"prompt": prompt})
    connection.request("POST", "/v1/images", body, {"Content-Type": "application/json", **door.headers})
    answer = connection.getresponse()
    document = answer.read()
    if answer.status != 202:
        raise RuntimeError(f"An order was answered with {answer.status}: {document[:300]!r}")
    return Posted(job_id=json.loads(document)["job_id"], began_at=began_at)
