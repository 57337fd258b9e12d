"""W6: one picture of a user beside another who holds every slot and has hundreds waiting, and the same picture alone.

Both have the same weight. What is best is known: the slots of the first come free one after the other, so the second
waits for the next one, `latency / slots` seconds if they are spread evenly, and then takes as long as it takes alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from support import wait_until

from benchmarks.contestants import USER, Darkroom
from benchmarks.driver import Door, post_all
from benchmarks.meters import cpu_seconds, machine_seconds, own_cpu_seconds, processes
from benchmarks.provider import Provider

SLOTS = 10
LATENCY = 1.5  # seconds
BACKLOG = 300
OTHER = "beside"

_LONGEST_SECONDS = 60.0

_OF_JOB = """
    SELECT extract(epoch FROM job.finished_at - job.created_at)::float AS seconds,
        extract(epoch FROM request.granted_at - request.created_at)::float AS to_grant_seconds,
        job.status = 'completed' AS completed,
        (SELECT count(*) FROM request AS others WHERE others.user_id <> request.user_id
            AND others.granted_at > request.created_at AND others.granted_at < request.granted_at) AS overtaken_by
    FROM job JOIN request ON request.job_id = job.id WHERE job.id = %s
"""
_RUNS_OF = 'SELECT 1 FROM run JOIN "user" ON "user".id = run.user_id WHERE "user".name = %s AND run.closed_at IS NULL'
_STANDING = """
    SELECT count(*) FILTER (WHERE status = 'queued') AS queued,
        count(*) FILTER (WHERE status IN ('granted', 'submitting', 'in_flight', 'unknown')) AS held
    FROM request WHERE finished_at IS NULL
"""


@dataclass(frozen=True, kw_only=True)
class One:
    """One picture of the second user."""

    seconds: float  # from its order to its end
    to_grant_seconds: float
    overtaken_by: int  # how many slots the other was given meanwhile


@dataclass(frozen=True, kw_only=True)
class Beside:
    latency_seconds: float
    slots: int
    alone: Sequence[One]
    beside: Sequence[One]
    other_cores: float  # what processes that are not ours used while both were there

    @property
    def ratio(self) -> float:
        return _seconds(self.beside) / _seconds(self.alone)

    @property
    def ideal_ratio(self) -> float:
        return 1 + self.latency_seconds / self.slots / _seconds(self.alone)


def _seconds(pictures: Sequence[One]) -> float:
    return median(each.seconds for each in pictures)


def beside(darkroom: Darkroom, provider: Provider, *, pictures: int) -> Beside:
    provider.takes(seconds=LATENCY)
    darkroom.limit(SLOTS)
    # The one who is beside has the first one's plan: the account alone limits both.
    other = Door(port=darkroom.door.port, headers=_bearer(darkroom))
    _one(darkroom, other)  # a first one is a first one for everybody
    alone = [_one(darkroom, other) for _ in range(pictures)]
    with _others_seen(darkroom, provider) as seen:
        _spread_out(darkroom)
        both = [_beside_a_backlog(darkroom, other) for _ in range(pictures)]
    darkroom.limit(None)
    wait_until(darkroom.at_rest, timeout=_LONGEST_SECONDS * 4, every=0.2, what="rest")
    return Beside(latency_seconds=LATENCY, slots=SLOTS, alone=alone, beside=both, other_cores=seen[0])


def _bearer(darkroom: Darkroom) -> dict[str, str]:
    return {"Authorization": f"Bearer {darkroom.stack.ledger.users.add(OTHER, plan=USER).key}"}


def _spread_out(darkroom: Darkroom) -> None:
    """The first slots are taken one after the other, so that they come free one after the other ever after."""
    for n in range(SLOTS):
        post_all(darkroom.door, [f"backlog {n}"])
        time.sleep(LATENCY / SLOTS)


def _beside_a_backlog(darkroom: Darkroom, other: Door) -> One:
    standing = _found(darkroom, _STANDING)
    post_all(darkroom.door, ["backlog"] * (BACKLOG - standing["queued"]))
    wait_until(lambda: _found(darkroom, _STANDING)["held"] == SLOTS, timeout=_LONGEST_SECONDS, what="full slots")
    return _one(darkroom, other)


def _one(darkroom: Darkroom, door: Door) -> One:
    """When no run of theirs is left that would take it: it has a run of its own, beside and alone."""
    wait_until(
        lambda: darkroom.rows.execute(_RUNS_OF, [OTHER]).fetchone() is None,
        timeout=_LONGEST_SECONDS,
        every=0.05,
        what="the end of the last run",
    )
    (posted,) = post_all(door, ["one picture"])
    found = wait_until(
        lambda: (row := _found(darkroom, _OF_JOB, posted.job_id))["seconds"] is not None and row,
        timeout=_LONGEST_SECONDS,
        every=0.1,
        what="the picture",
    )
    assert found.pop("completed")
    return One(**found)


def _found(darkroom: Darkroom, statement: str, *values: Any) -> dict[str, Any]:
    found = darkroom.rows.execute(statement, values).fetchone()
    assert found is not None
    return found


@contextmanager
def _others_seen(darkroom: Darkroom, provider: Provider) -> Iterator[list[float]]:
    """In a list, once the block is left: the cores that processes which are not ours used."""

    def used() -> tuple[float, float]:
        ours = cpu_seconds(processes(), {**darkroom.processes(), "provider": provider.pid})
        return time.monotonic(), machine_seconds() - own_cpu_seconds() - sum(ours.values())

    seen: list[float] = []
    before = used()
    yield seen
    after = used()
    seen.append(max(0.0, after[1] - before[1]) / (after[0] - before[0]))
