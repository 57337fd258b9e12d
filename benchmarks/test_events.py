"""Ten thousand events, of which two hundred start a flow: how fast they are taken, how soon the last flow has begun,
and that nothing is lost on the way to the ledger, to the flows and to Prefect's feed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from acceptance.running import DARKROOM, Stack, running_stack
from support import wait_until

from darkroom.clock import utc_now

EVENTS, STARTING = 10_000, 200
LEAST_A_SECOND = 1000
SOONEST_SECONDS = 30.0
FEED_SECONDS = 180.0  # 200 a second, and Prefect writes its feed up to 5 s late


@dataclass(frozen=True, kw_only=True)
class Sent:
    lines: list[dict[str, Any]]
    seconds: float
    began: datetime


@contextmanager
def shop(home: Path) -> Iterator[tuple[Stack, dict[str, str]]]:
    """A stack, and the key of a service on it."""
    with running_stack(home) as stack:
        added = stack.command(DARKROOM, "user", "add", "shop", "--plan", "studio", "--service").stdout.strip()
        yield stack, {"Authorization": f"Bearer {added}"}


def events(*, users: int) -> list[dict[str, Any]]:
    """Every fiftieth is a sign-up, of one of so many users; the others are orders that nothing is started for."""
    every = EVENTS // STARTING
    return [
        {"name": "user.signed_up", "data": {"account": f"a-{n}", "email": "ann@example.com"}, "id": f"e-{n}"}
        | ({"user": f"u-{n // every % users}"} if users > 1 else {})
        if n % every == 0
        else {"name": "order.placed", "data": {"order": f"o-{n}", "total_cents": n}, "id": f"e-{n}"}
        for n in range(EVENTS)
    ]


@pytest.mark.parametrize(("calls", "users"), [(1, 1), (10, 1), (10, STARTING)])
@pytest.mark.timeout(900)
def test_ten_thousand_events_are_taken_and_what_they_start_begins(tmp_path: Path, calls: int, users: int) -> None:
    """In one call or in ten; the two hundred of one user share a run, those of two hundred have one each."""
    given = events(users=users)
    with shop(tmp_path / "home") as (stack, bearer):
        sent = send(stack, bearer, given, calls=calls)
        signed_up = zip(given, sent.lines, strict=True)
        jobs = started(stack, [line["id"] for event, line in signed_up if event["name"] == "user.signed_up"])
        begun = [when - sent.began for when in begins(stack, jobs)]
        told = until_told(stack, since=time.monotonic())
        again = send(stack, bearer, given, calls=calls)
    rate = EVENTS / sent.seconds
    print(f"\n{EVENTS} events in {calls} call(s): {sent.seconds:.1f} s, {rate:.0f} a second")
    print(f"{STARTING} flows of {users} user(s): the first began after {min(begun).total_seconds():.1f} s", end=", ")
    print(f"the last after {max(begun).total_seconds():.1f} s; Prefect's feed had all {told:.0f} s after that")
    print(f"sent again: {again.seconds:.1f} s, nothing new")
    assert Counter(line["status"] for line in sent.lines) == {"accepted": EVENTS}
    assert len(jobs) == STARTING
    assert not any(line["new"] for line in again.lines)
    assert [line["id"] for line in again.lines] == [line["id"] for line in sent.lines]
    assert rate >= LEAST_A_SECOND
    if users == 1:
        assert max(begun).total_seconds() <= SOONEST_SECONDS


def send(stack: Stack, bearer: dict[str, str], given: Sequence[dict[str, Any]], *, calls: int) -> Sent:
    size = len(given) // calls
    began, at = utc_now(), time.monotonic()
    answers = [
        stack.gateway.post("/v1/events", json=given[n * size : (n + 1) * size], headers=bearer, timeout=60)
        for n in range(calls)
    ]
    seconds = time.monotonic() - at
    lines = [line for answer in answers for line in answer.raise_for_status().json()]
    assert len(lines) == len(given)
    return Sent(lines=lines, seconds=seconds, began=began)


def started(stack: Stack, event_ids: Sequence[str]) -> list[str]:
    effects = [effect for event_id in event_ids for effect in stack.ledger.events.effects(event_id)]
    return [effect.job_id for effect in effects if effect.what == "started" and effect.job_id is not None]


def begins(stack: Stack, jobs: Sequence[str]) -> list[datetime]:
    """When each of them began its first step."""
    found: dict[str, datetime] = {}

    def all_have() -> bool:
        for job_id in jobs:
            if job_id not in found and (steps := stack.ledger.steps.of_job(job_id)):
                found[job_id] = steps[0].begun_at
        return len(found) == len(jobs)

    wait_until(all_have, timeout=600, every=2.0, what="every flow to begin")
    return list(found.values())


def until_told(stack: Stack, *, since: float) -> float:
    """Seconds until Prefect's feed had every event, counted there."""

    def in_feed() -> int:
        wanted = {"event": {"prefix": ["darkroom.user.", "darkroom.order."]}}
        counted = stack.prefect.post("/events/count-by/event", json={"filter": wanted}).raise_for_status().json()
        return sum(each["count"] for each in counted)

    wait_until(lambda: in_feed() >= EVENTS, timeout=FEED_SECONDS, every=1.0, what="every event in Prefect's feed")
    assert in_feed() == EVENTS
    return time.monotonic() - since
