"""Paid calls: reserved, submitted, settled.

Each change locks the run, then the row, decides by `next_status`, writes, and returns what it implies (`locks.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine

from darkroom.clock import Clock, utc_now
from darkroom.errors import BadInput
from darkroom.ledger.canonical_json import content_hash, dumps
from darkroom.ledger.database import run
from darkroom.ledger.effects import GRANT, NOTHING, Implied, grant_if
from darkroom.ledger.locks import notify
from darkroom.ledger.lots import Lots
from darkroom.ledger.part import Part
from darkroom.ledger.replay import keeps_its_slot
from darkroom.ledger.replay_budget import require_within_budget
from darkroom.ledger.request_rows import (
    RequestSpec,
    as_request,
    insert_request,
    lock_request,
    write,
)
from darkroom.ledger.settle import Arrival, EndedCall, Outcome, Verdict, settle, settle_several
from darkroom.ledger.statuses import RequestStatus, Transition, statuses_before
from darkroom.ledger.tables import Delivery, Request
from darkroom.timing import UNSCALED, Timing


class Requests(Part):
    def __init__(self, engine: Engine, *, clock: Clock = utc_now, timing: Timing = UNSCALED) -> None:
        super().__init__(engine, clock=clock, timing=timing)
        self._arrivals: Lots[EndedCall, tuple[Verdict, Implied]] = Lots(
            lambda calls: settle_several(self._engine, calls, now=self._now())
        )

    def reserve_all(self, job_id: str, specs: Sequence[RequestSpec]) -> list[Request]:
        """Return the rows of these steps, in their order: new ones, queued, or those that are on record.

        Ask for a grant after new ones.

        For a job that was cancelled or has ended, a new one is cancelled from the start: it would be paid for nobody.
        For one that was replayed under a budget which the new ones are beyond, it raises `BadInput`.
        """
        with self._engine.begin() as connection:
            _add(connection, job_id, specs, now=self._now())
            steps = {spec.step: n for n, spec in enumerate(specs)}
            rows = [as_request(row) for row in run(connection, "requests_of_job", job_id=job_id)]
            latest = {row.step: row for row in sorted(rows, key=lambda row: row.attempt) if row.step in steps}
            return sorted(latest.values(), key=lambda row: steps[row.step])

    def get(self, ref: str) -> Request:
        row = self._one("request_get", ref=ref)
        if row is None:
            raise LookupError(f"request {ref} is not on record")
        return row

    def of_job(self, job_id: str) -> list[Request]:
        return self._many("requests_of_job", job_id=job_id)

    def reusable(self, user_id: str, reuse_hash: str) -> Request | None:
        """Return the request whose answer would serve for a call of that hash, were it reserved now."""
        return self._one("request_reusable", user_id=user_id, reuse_hash=reuse_hash)

    def in_flight_of_run(self, run_id: str) -> list[Request]:
        return self._many("requests_of_run_in_flight", run_id=run_id)

    def holding_slots(self) -> list[Request]:
        return self._many("requests_holding_slots")

    def paid_unseen(self, *, since: datetime) -> list[Request]:
        """Return successes since then that came without their payload, and that no job will ask for."""
        return self._many("requests_paid_unseen", since=since)

    def by_provider_id(self, request_id: str) -> Request | None:
        return self._one("request_by_provider_id", request_id=request_id)

    def by_token(self, token: str) -> Request | None:
        return self._one("request_by_token", token=token)

    def deliveries(self, ref: str) -> list[Delivery]:
        """Return the verified webhooks of a request, in the order they came."""
        return [Delivery(**row._mapping) for row in self._run("deliveries_of_request", ref=ref)]

    def begin_submit(self, ref: str, *, deadline: timedelta, input_hash: str | None = None) -> Request | None:
        """Commit that the one POST is about to be sent. Return None if the row is not granted (any more).

        `input_hash`: of what was prepared to be sent; None also if the row asks something else by now.
        """
        # Done by the run itself, and nothing that it waits for: its row need not be locked, and a burst does not queue
        # for it. The same holds for `accepted`.
        now = self._now()
        row = self._run(
            "request_begin_submit",
            ref=ref,
            before=statuses_before(Transition.SUBMIT),
            input_hash=input_hash,
            now=now,
            deadline_at=now + deadline,
        ).one_or_none()
        return None if row is None else as_request(row)

    def begin_ahead(self, calls: Mapping[str, timedelta], *, most: int) -> list[Request]:
        """Commit that a gateway is about to send so many of these granted calls, and return those.

        Of jobs that no process had when they got their slots, in the order given. `calls`: by ref, with the time that
        each may take. Whoever is first has a call, its run or a gateway, and only what a run would send just the same
        is sent by a gateway.
        """
        return self._many(
            "requests_begin_ahead",
            refs=list(calls),
            deadlines=list(calls.values()),
            most=most,
            lease=self._timing.lease,
            now=self._now(),
        )

    def adopted(self, ref: str) -> None:
        """Note that the run has shown that a gateway had sent the call."""
        with self._engine.begin() as connection:
            run(connection, "request_adopted", ref=ref, now=self._now())

    def amend(self, ref: str, spec: RequestSpec) -> tuple[Request, Implied]:
        """Put another call in the row's place, if it has not been sent; else return the row as it is.

        One that costs more than the row's, or that is for somebody else's slot, goes back to the queue for it. Raises
        `BadInput` as `reserve`.
        """
        with self._engine.begin() as connection:
            _, row = lock_request(connection, ref)
            if row.status not in (RequestStatus.QUEUED, RequestStatus.GRANTED):
                return row, NOTHING
            stays = keeps_its_slot(row, spec)
            changed = run(
                connection,
                "request_ask_anew",
                ref=ref,
                account_id=spec.account_id,
                endpoint=spec.endpoint,
                model_version=spec.model_version,
                input=dumps(dict(spec.input)),
                input_hash=content_hash(spec.endpoint, spec.input),
                reuse_hash=spec.reuse_hash,
                estimate_usd=spec.estimate_usd,
                status=RequestStatus.GRANTED if stays else RequestStatus.QUEUED,
            ).one()
            # What costs no more was within the budget already.
            if row.replay_id is not None and spec.estimate_usd > row.estimate_usd:
                _require_within_budget(connection, row.replay_id, step=row.step)
            return as_request(changed), grant_if(not stays)

    def accepted(self, ref: str, *, request_id: str, first_try: str | None = None) -> Request:
        """Note the provider's id, and that of its first try. After a webhook this only fills in what is missing."""
        before = statuses_before(Transition.ACCEPT)
        ids = {"request_id": request_id, "first_try": first_try}
        return as_request(self._run("request_accepted", ref=ref, before=before, now=self._now(), **ids).one())

    def adopt(self, ref: str, *, request_id: str) -> bool:
        """Note the id under which an unknown row was found at the provider.

        Return False if it was heard of meanwhile.
        """
        found = self._run("request_adopt", ref=ref, request_id=request_id, now=self._now())
        return found.one_or_none() is not None

    def known_to_us(self, request_ids: Sequence[str]) -> set[str]:
        """Return those of the provider's ids that a row or a delivery of ours bears."""
        return set(self._run("requests_known", request_ids=list(request_ids)).scalars())

    def refused(self, ref: str, *, error: dict[str, Any], not_before: datetime | None, unsent: bool = False) -> Implied:
        """Requeue the row, its slot free: the provider surely did not take it. End it if its cancel was asked for.

        `unsent`: it never left; nothing is done where somebody else has begun to send it.
        """
        now = self._now()
        with self._engine.begin() as connection:
            locked, row = lock_request(connection, ref)
            if unsent and row.status is not RequestStatus.GRANTED:
                return NOTHING
            if row.cancel_requested_at is None:
                as_new = dict.fromkeys(("granted_at", "submitted_at", "deadline_at"))
                back: dict[str, Any] = {"not_before": not_before, "sent_ahead": False, **as_new}
                return grant_if(write(connection, row, Transition.REFUSE, error=error, **back))
            if not write(connection, row, Transition.CANCEL, error=error, finished_at=now):
                return NOTHING
            return (*notify(connection, locked, ref, "fal.job.failed", now=now), GRANT)

    def fail_unsent(self, ref: str, outcome: Outcome) -> Implied:
        """Fail a call that could not be prepared. Nothing is done where somebody else has begun to send it."""
        call = EndedCall(ref=ref, outcome=outcome, via=None, before=[RequestStatus.GRANTED])
        return settle(self._engine, call, now=self._now())[1]

    def answer_lost(self, ref: str) -> Implied:
        """Note that the provider may have it. It keeps its slot, so nothing is implied."""
        with self._engine.begin() as connection:
            _, row = lock_request(connection, ref)
            write(connection, row, Transition.LOSE)
            return NOTHING

    def settle(
        self, ref: str, outcome: Outcome, *, via: str | None, arrival: Arrival | None = None
    ) -> tuple[Verdict, Implied]:
        """End the request. The first ending wins and the rest are recorded duplicates.

        With an `arrival` the webhook is put on record in the same transaction, and a row without an id adopts it.
        """
        return settle(self._engine, EndedCall(ref=ref, outcome=outcome, via=via, arrival=arrival), now=self._now())

    def settle_arrival(
        self, arrival: Arrival, outcome_of: Callable[[Request], Outcome]
    ) -> tuple[Verdict, Implied] | None:
        """Find the request by the provider's id and settle it. Return None if no row has that id.

        `outcome_of` sees the row before it is locked, and goes by what no more changes once there is such an id. What
        it raises leaves everything as it was.
        """
        row = self._run("request_and_run", request_id=arrival.request_id).one_or_none()
        if row is None:
            return None
        call = EndedCall(ref=row.ref, outcome=outcome_of(as_request(row)), via="webhook", arrival=arrival)
        # What comes for one run meanwhile is settled with it, in one transaction: its row is locked for each of them,
        # and in a burst webhooks waited longer for that than for all else. Where no run has the job, its own row is.
        return self._arrivals.do(row.run_id or row.job_id, call)

    def fill_output(self, ref: str, *, output: dict[str, Any], cost_usd: Decimal | None) -> None:
        """Fill in the result of a success that was announced without it. Without a cost it is the estimate."""
        self._run("request_output", ref=ref, output=dumps(output), cost_usd=cost_usd)

    def forget_inline(self, ref: str, path: Sequence[str], *, kept: str) -> None:
        """Put `kept` in the place of a file that came within the answer and lies in the media store now."""
        self._run("request_output_forget", ref=ref, path=list(path), kept=dumps(kept))

    def _one(self, name: str, **parameters: Any) -> Request | None:
        row = self._run(name, **parameters).one_or_none()
        return None if row is None else as_request(row)

    def _many(self, name: str, **parameters: Any) -> list[Request]:
        return [as_request(row) for row in self._run(name, **parameters)]


def _add(connection: Connection, job_id: str, specs: Sequence[RequestSpec], *, now: datetime) -> None:
    # With the job locked: one that ends meanwhile would leave the new rows behind.
    replay_id = run(connection, "job_lock", job_id=job_id).one().replay_id
    added = [insert_request(connection, job_id, spec, now=now) for spec in specs]
    if replay_id is None:
        return
    # What is free, and what an answer serves for that was paid before, takes nothing of the budget.
    if any(spec.estimate_usd and status is RequestStatus.QUEUED for spec, status in zip(specs, added, strict=True)):
        _require_within_budget(connection, replay_id, step=specs[0].step)


def _require_within_budget(connection: Connection, replay_id: str, *, step: str) -> None:
    try:
        require_within_budget(connection, replay_id)
    except BadInput as error:
        raise error.of(step=step) from None
