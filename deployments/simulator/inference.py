"""What happens to a request while it is in progress: time passes, the input is validated, its model makes something."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from .bench import Bench
from .book import Entry, Outcome
from .cards.checking import check, with_defaults
from .endpoints import Endpoint, Latencies
from .outcomes import Rejection, failure, model_rejection


class Inference:
    def __init__(self, bench: Bench, *, latencies: Latencies, endpoints: Mapping[str, Endpoint]) -> None:
        self._bench = bench
        self._endpoints = endpoints
        self._latencies = latencies

    async def run(self, entry: Entry) -> Outcome:
        entry.seconds = self._latencies.of(entry)
        # Before the work, so that a release can change the files as well.
        if entry.faults.hold:
            await entry.released.wait()
        clock = asyncio.get_running_loop().time
        begun = clock()
        told = _told_failure(entry)
        outcome = told or await self._outcome(entry)
        # The work is a part of the latency, and not added to it.
        await asyncio.sleep(begun + self._seconds(entry, rejected=not told and not outcome.succeeded) - clock())
        return outcome

    async def lose_runner(self, entry: Entry) -> None:
        """Have a try last as long as one that ends well, and come to nothing: its runner is gone."""
        await asyncio.sleep(self._latencies.of(entry))

    def _seconds(self, entry: Entry, *, rejected: bool) -> float:
        if entry.faults.hold:
            return 0  # its time has passed when it is released
        return self._latencies.of_rejection(entry) if rejected else entry.seconds

    async def _outcome(self, entry: Entry) -> Outcome:
        endpoint = self._endpoints[entry.endpoint]
        if details := check(endpoint.card, entry.input):
            return model_rejection(details)
        try:
            made = await endpoint.answer(self._bench, entry, with_defaults(endpoint.card, entry.input))
        except Rejection as error:
            return model_rejection([error.detail])
        return Outcome(http_status=200, body=made.body, billable_units=entry.faults.units or made.billable_units)


def _told_failure(entry: Entry) -> Outcome | None:
    """Return the failure that the request's rule asks for, if any, whatever its input."""
    told = entry.faults.result
    if told == "422_content_policy":
        return failure("content_policy_violation", entry)
    if told == "500":
        return failure("internal_server_error", entry)
    if told.startswith("error:"):
        return failure(told.removeprefix("error:"), entry)
    return None
