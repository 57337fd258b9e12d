"""Which of the requests that a provider lists is which row's, where the answer to a submit was lost.

A provider without idempotency keys may all the same list what it was sent: a request with a row's input, sent while
that row's POST was under way, is that row's, unless it could be another's as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from darkroom.ledger import Request, same

CLOCK_SKEW = timedelta(seconds=5)  # between a provider's clock and ours


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request as the provider lists it, its input as we have ours on record."""

    request_id: str
    sent_at: datetime
    input: Mapping[str, Any]


def pair(rows: Iterable[Request], sent: Iterable[Sent], *, window: timedelta) -> dict[str, str]:
    """Return which request is which row's, by ref: one to one in the order of time, if there are as many as rows.

    `window`: how long after a row was submitted its request may be dated.
    """
    found: dict[str, str] = {}
    sent = sorted(sent, key=lambda each: each.sent_at)
    for group in _groups(rows, window):
        fitting = [
            each for each in sent if same(each.input, group[0].input) and any(_fits(each, row, window) for row in group)
        ]
        pairs = list(zip(group, fitting, strict=False))
        # Where the numbers differ nothing tells whose they are.
        if len(group) == len(fitting) and all(_fits(each, row, window) for row, each in pairs):
            found |= {row.ref: each.request_id for row, each in pairs}
    return found


def _groups(rows: Iterable[Request], window: timedelta) -> Iterator[list[Request]]:
    """Yield groups of rows of the same input whose times overlap, so that a request may be any one's of them."""
    overlap = window + CLOCK_SKEW
    left = sorted(rows, key=_begun)
    while left:
        alike = [row for row in left if same(row.input, left[0].input)]
        apart = [n for n, (one, next_one) in enumerate(pairwise(alike), 1) if _begun(next_one) - _begun(one) > overlap]
        group = alike[: apart[0]] if apart else alike
        yield group
        taken = {row.ref for row in group}
        left = [row for row in left if row.ref not in taken]


def _begun(row: Request) -> datetime:
    assert row.submitted_at is not None
    return row.submitted_at


def _fits(sent: Sent, row: Request, window: timedelta) -> bool:
    return _begun(row) - CLOCK_SKEW <= sent.sent_at <= _begun(row) + window
