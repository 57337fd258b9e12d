"""What today's code would make of a failed job, from what is on record: nothing is sent, and nothing is written.

The job's function is called as a runner would call it after a replay. What is on record is given to it; what it would
ask beyond is listed with its price, and there it ends, as nobody knows the answer. That nothing happens is not left to
the function: Postgres refuses every write, no connection leaves the process, the media store is only read, and there is
no provider and no Prefect among what it works with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from prefect.logging.loggers import disable_run_logger

from darkroom.engine.calls import JobFunction
from darkroom.engine.dry_run.job import Ask, DryRunJob
from darkroom.engine.dry_run.offline import offline
from darkroom.engine.registry import find
from darkroom.engine.resources import Resources, using
from darkroom.engine.signals import DryRunStop, RetryLater, Waiting, stop_reasons
from darkroom.errors import DarkroomError, NeedsHuman, Park, WrongState
from darkroom.ledger import (
    BATCH,
    OUTAGES,
    Job,
    JobStatus,
    Ledger,
    Record,
    Request,
    RequestStatus,
    is_refused_write,
    new_id,
    plan_replay,
)

Code = Callable[[str, Mapping[str, Any]], JobFunction]


class Verdict(StrEnum):
    COMPLETES = "completes"  # whatever comes of the calls that it makes, if it makes any
    PAYS = "pays"  # it goes on to calls of which nobody knows the answer
    FAILS_THE_SAME = "fails the same"
    FAILS_OTHERWISE = "fails otherwise"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, kw_only=True)
class DryRunResult:
    """What a dry run of one job found.

    `was`: how the job failed, and `error` how it would now, as documents. `why`: what it would do where the record
    ends, or what keeps anybody from telling. `asks`: the paid calls that a replay would make up to there.
    """

    job_id: str
    kind: str
    verdict: Verdict
    was: Mapping[str, Any] | None
    asks: tuple[Ask, ...] = ()
    error: Mapping[str, Any] | None = None
    why: str | None = None

    @property
    def price_usd(self) -> Decimal:
        """Return the most that the known calls would cost, at today's prices."""
        return sum((ask.estimate_usd for ask in self.asks), Decimal(0))


@dataclass(frozen=True, kw_only=True)
class End:
    """How one call of the function ended: it waits (and why it cannot go on), or with an error, or with neither."""

    asks: tuple[Ask, ...] = ()
    waits: bool = False
    why: tuple[str, ...] = ()
    error: DarkroomError | None = None


def judge(job: Job, end: End) -> DryRunResult:
    """Return the verdict on a job, from how the call of its function ended."""
    verdict, error = Verdict.COMPLETES, None
    if end.error is not None:
        error = end.error.document()
        verdict = Verdict.FAILS_THE_SAME if _is_the_same(job.error, error) else Verdict.FAILS_OTHERWISE
    elif end.waits:
        verdict = Verdict.PAYS if end.asks else Verdict.CANNOT_TELL
    return DryRunResult(
        job_id=job.id,
        kind=job.kind,
        verdict=verdict,
        was=job.error,
        asks=end.asks,
        error=error,
        why="; ".join(end.why) or None,
    )


def _is_the_same(was: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """Return whether two failures agree in all but the paid call, which is another one with each attempt."""
    return was is not None and all(was.get(name) == now[name] for name in ("class", "code", "step", "message"))


def todays_code(kind: str, parameters: Mapping[str, Any]) -> JobFunction:
    """Return what a run would call. Raises what the flow refuses, and NeedsHuman where there is none."""
    pipeline = find(kind)
    pipeline.order.read(parameters).check()
    return pipeline.call


def dry_run(resources: Resources, job_id: str, *, code: Code = todays_code) -> DryRunResult:
    """Dry-run a job that is on record. Raise where the ledger is out.

    `resources`: as `open_only_to_read` gives them. `code`: gives the function of a kind of jobs that were ordered with
    such parameters.
    """
    ledger = resources.ledger
    job = ledger.jobs.get(job_id)
    assert job is not None
    with disable_run_logger(), using(resources), offline():  # outside of a run Prefect has no logger for the function
        try:
            return judge(job, _played(resources, job, code))
        except WrongState as refusal:
            return judge(job, End(waits=True, why=(refusal.message,)))


def forecast(resources: Resources, kind: str, fields: Mapping[str, Any], *, user_id: str) -> DryRunResult:
    """Dry-run an order that is not on record. Raise BadInput for what its pipeline refuses."""
    pipeline = find(kind)
    order = pipeline.order.read(fields)
    order.check()
    ledger = resources.ledger
    job = Job.model_construct(
        id=new_id("job"),
        user_id=user_id,
        kind=kind,
        status=JobStatus.RUNNING,
        parameters=order.parameters(),
        created_at=ledger.clock(),
    )
    record = Record(job=job, requests=(), assets=())
    with disable_run_logger(), using(resources), offline():
        return judge(job, _call(resources, record, pipeline.call, refuses=False))


def _played(resources: Resources, job: Job, code: Code) -> End:
    """Return how a replay of the job would end. Raise `WrongState` where it cannot be replayed."""
    if job.kind == BATCH:
        return End(waits=True, why=("it is a batch: each of its rows that failed is a job of its own",))
    record = _put_back(resources.ledger, job)
    found: list[JobFunction] = []
    # What its order's check refuses is an end like any other.
    refused = _ended(lambda: found.append(_function(job, code)))
    if not found:
        return refused
    first = _call(resources, record, found[0], refuses=False)
    if not first.waits or not any(ask.refused for ask in first.asks):
        return first
    # What was refused has come back refused by then, and what was asked beside it is paid all the same.
    second = _call(resources, record, found[0], refuses=True)
    asks = {ask.step: ask for ask in (*first.asks, *second.asks)}
    return replace(second, asks=tuple(asks.values()))


def _function(job: Job, code: Code) -> JobFunction:
    try:
        return code(job.kind, job.parameters or {})
    except NeedsHuman as missing:
        raise DryRunStop(missing.message) from missing


def _put_back(ledger: Ledger, job: Job) -> Record:
    """Return the record as after a replay, but for the new attempts. Raise `WrongState` where there can be none."""
    rows = ledger.requests.of_job(job.id)
    late = {row.ref for row in plan_replay(job, rows).late}
    again = {
        "status": JobStatus.RUNNING,
        "error": None,
        "cancel_requested_at": None,
        "finished_at": None,
        # As of now, so that attempts before it do not count.
        "replayed_at": ledger.clock(),
    }
    return Record(
        job=Job.model_construct(**dict(job) | again),
        requests=tuple(_taken_up(row) if row.ref in late else row for row in rows),
        assets=tuple(ledger.assets.of_job(job.id)),
    )


def _taken_up(row: Request) -> Request:
    return Request.model_construct(**dict(row) | {"status": RequestStatus.SUCCEEDED})


def _call(resources: Resources, record: Record, function: JobFunction, *, refuses: bool) -> End:
    """Call the function once, from its top. Return how the call ended."""
    job = DryRunJob(record, resources, refuses=refuses)
    return replace(_ended(lambda: function(job)), asks=tuple(job.asks.values()))


def _ended(call: Callable[[], object]) -> End:
    """Make the call and return how it ended. This mirrors what a runner makes of the ends of a function's calls."""
    try:
        call()
    except Waiting as waiting:
        return End(waits=True, why=tuple(stop_reasons(waiting)))
    except RetryLater:  # of a child that was put back to work; files and steps have no more tries here
        return End(waits=True, why=("it would wait for another job, which is under way",))
    except Park as outage:
        return End(waits=True, why=(outage.message,))
    except DarkroomError as error:
        return End(error=error)
    except OUTAGES:  # says nothing of the job
        raise
    except Exception as error:
        if is_refused_write(error):
            return End(waits=True, why=("it would write to the ledger",))
        # By its class alone: what it says may repeat the order.
        return End(error=DarkroomError(type(error).__name__, code="internal_error"))
    return End()
