"""Scenes for tests of the ledger: a user, a picture on its way, a run that carries it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from implying import creations

from darkroom.ledger import Arrival, Implied, Job, Ledger, Outcome, Request, RequestSpec, Run, Transition, Verdict

DEV = "fal-ai/flux/dev"
GPT = "openai/gpt-image-2"
KIND = "generate-image"
OUTPUT = {"images": [{"url": "https://v3.fal.media/files/fox.png"}]}
SUCCESS = Outcome(transition=Transition.SUCCEED, output=OUTPUT, cost_usd=Decimal("0.025"))
FAILURE = Outcome(transition=Transition.FAIL, error={"code": "content_policy"})


def spec(**changes: Any) -> RequestSpec:
    values = {"step": "generate", "endpoint": DEV, "input": {"prompt": "a fox"}, "estimate_usd": Decimal("0.025")}
    return RequestSpec(**values | changes)


def webhook(request_id: str) -> Arrival:
    return Arrival(request_id=request_id, body_sha256="0" * 64)


def post(ledger: Ledger, user_id: str, *, key: str | None = None, **changes: Any) -> Job:
    first = spec(**changes)
    parameters = {"prompt": first.input["prompt"]}
    posted = ledger.jobs.post(user_id=user_id, kind=KIND, parameters=parameters, first=first, idempotency_key=key)
    return posted.job


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A job with its one request, and the run that carries it."""

    ledger: Ledger
    user_id: str
    job_id: str
    ref: str
    run_id: str
    flow_run_id: UUID

    @property
    def job(self) -> Job:
        job = self.ledger.jobs.get(self.job_id)
        assert job is not None
        return job

    @property
    def row(self) -> Request:
        return self.ledger.requests.get(self.ref)

    @property
    def run(self) -> Run:
        return next(run for run in self.ledger.runs.not_closed() if run.id == self.run_id)

    @property
    def waits(self) -> Mapping[str, Collection[str]]:
        """What a process that has called the job's function once waits for: its request, and word of a cancel."""
        return {self.job_id: {self.ref, self.job_id}}

    def submit(self) -> None:
        assert self.ledger.requests.begin_submit(self.ref, deadline=timedelta(hours=1)) is not None

    def accept(self, request_id: str = "fal-1") -> None:
        self.ledger.requests.accepted(self.ref, request_id=request_id)

    def settle(self, outcome: Outcome = SUCCESS, arrival: Arrival | None = None) -> tuple[Verdict, Implied]:
        return self.ledger.requests.settle(self.ref, outcome, via="webhook", arrival=arrival)

    def leave(self) -> bool:
        return self.ledger.runs.on_suspended(self.run_id, self.waits)

    def look(self) -> tuple[str, ...]:
        return self.ledger.runs.poll_work(self.run_id, self.waits).ready


def granted_picture(ledger: Ledger, user_id: str, **changes: Any) -> Picture:
    """Granted, and in the hands of a run whose process is there."""
    job = post(ledger, user_id, **changes)
    granted = [each for each in ledger.grants.grant() if each.job_id == job.id]
    assert len(granted) == 1, "no slot was free for it"
    (start,) = creations(ledger.runs.assign(job.id))
    flow_run_id = uuid4()
    ledger.runs.created(start.run_id, flow_run_id)
    entered = ledger.runs.enter(flow_run_id, run_key=start.run_id)
    assert entered is not None
    run, _ = entered
    return Picture(
        ledger=ledger,
        user_id=user_id,
        job_id=job.id,
        ref=granted[0].ref,
        run_id=run.id,
        flow_run_id=flow_run_id,
    )


def submitting_picture(ledger: Ledger, user_id: str, **changes: Any) -> Picture:
    picture = granted_picture(ledger, user_id, **changes)
    picture.submit()
    return picture


def picture_in_flight(ledger: Ledger, user_id: str, **changes: Any) -> Picture:
    picture = submitting_picture(ledger, user_id, **changes)
    picture.accept()
    return picture
