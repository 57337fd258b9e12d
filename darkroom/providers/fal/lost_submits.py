"""Finds at the provider what became of submits whose answer was lost.

fal has no idempotency key, but keeps a list of what the account has sent. A request there that no row of ours knows,
with the input of an *unknown* row and sent while its POST was under way, is that row's. The list may show a request
only once it has ended, so it is read again every turn until the row is given up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from random import sample

from darkroom.errors import DarkroomError, Park, Retry
from darkroom.ledger import Ledger, Request, RequestStatus, same
from darkroom.providers.fal.client import TOO_LONG, Fal
from darkroom.providers.pairing import CLOCK_SKEW, pair
from darkroom.timing import SUBMIT_PATIENCE

logger = logging.getLogger(__name__)

WINDOW = SUBMIT_PATIENCE + CLOCK_SKEW  # how long after `submitted_at` a request of that POST may be dated


def adopt_lost_submits(ledger: Ledger, fal: Fal, rows: Iterable[Request]) -> list[str]:
    """Find lost submits at fal. Return the refs of the rows that were found, which are in flight from now on.

    `rows`: those that hold slots.
    """
    due = partial(_is_due, before=ledger.clock() - ledger.timing.lost_submit)
    unknown: dict[str, list[Request]] = {}
    for row in rows:
        if due(row):
            unknown.setdefault(row.endpoint, []).append(row)
    adopted: list[str] = []
    # In any order, so that none waits for ever behind another.
    for endpoint in sample(sorted(unknown), len(unknown)):
        try:
            adopted += _adopt(ledger, fal, endpoint, unknown[endpoint], due=due)
        except DarkroomError as error:
            logger.warning("Lost submits of %s are not looked for this time: %s", endpoint, error)
            # A list that is too long is one endpoint's trouble; a fal that does not answer is everybody's.
            if isinstance(error, Retry | Park) and error.code != TOO_LONG:
                break  # the others are left for the next time, so that this takes no longer than one call
    return adopted


def _is_due(row: Request, *, before: datetime) -> bool:
    return row.status is RequestStatus.UNKNOWN and row.submitted_at is not None and row.submitted_at < before


def _adopt(
    ledger: Ledger, fal: Fal, endpoint: str, rows: Sequence[Request], *, due: Callable[[Request], bool]
) -> list[str]:
    begun = [row.submitted_at for row in rows if row.submitted_at]
    sent = fal.sent(endpoint, since=min(begun) - CLOCK_SKEW, until=max(begun) + WINDOW, now=ledger.clock())
    if sent is None:
        # Then the row waits for its webhook, or to be given up.
        logger.info("The fal key may not read the account's list of requests: lost submits are not looked for.")
        return []
    # In this order. A row that was being submitted while the list was read is either still so, and then what it asks
    # for is left alone; or it has an id by now, and then its request is known.
    holding = [row for row in ledger.requests.holding_slots() if row.endpoint == endpoint]
    known = ledger.requests.known_to_us([each.request_id for each in sent])
    busy = [row for row in holding if row.status is RequestStatus.SUBMITTING]
    wanted = [row for row in holding if due(row) and not any(same(row.input, each.input) for each in busy)]
    found = pair(wanted, (each for each in sent if each.request_id not in known), window=WINDOW)
    return [ref for ref, request_id in found.items() if ledger.requests.adopt(ref, request_id=request_id)]
