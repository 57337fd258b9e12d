"""A replay asks what today's code asks: what it has put back is changed until it is sent, and never after.

The code is one function before its fix, and another one after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from echoing import ECHO, Echo, EchoProvider, echoed, new_job, until_it_has_come
from echoing import resources as resources
from implying import grants
from interleaving import overlap
from ledger_databases import Db

from darkroom import Call, Inference, build_request
from darkroom import Job as JobCall
from darkroom.engine.resources import Resources
from darkroom.errors import BadInput, Permanent
from darkroom.ledger import (
    DeadLetterFilter,
    Job,
    JobStatus,
    Ledger,
    Outcome,
    Request,
    RequestSpec,
    RequestStatus,
    asks_the_same,
)
from darkroom.providers import models as catalogue

ELSEWHERE = "test/echo-elsewhere"


class Elsewhere(Echo):
    """The same at another account."""

    endpoint = ELSEWHERE
    account_id = "elevenlabs"


class ByLetter(Echo):
    """What costs more, the longer its prompt is."""

    def estimate(self, input: Mapping[str, Any]) -> Decimal:
        return Decimal(len(input["prompt"])) / 100


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> EchoProvider:
    known = {**catalogue.all_models(), ECHO: ByLetter(), ELSEWHERE: Elsewhere()}
    monkeypatch.setattr(catalogue, "all_models", lambda: known)
    return EchoProvider()


@pytest.fixture
def failed(resources: Resources, provider: EchoProvider, ledger: Ledger) -> Job:
    """Refused for its prompt, and replayed by nobody yet."""
    job = new_job(ledger, ledger.users.add("ann", plan="studio").user_id)
    provider.answer = _refuses
    with pytest.raises(Permanent):
        until_it_has_come(resources, job.id, before)
    ledger.jobs.finish(job.id, JobStatus.FAILED, error={"code": "refused", "message": "No."})
    provider.answer = lambda _, input: echoed(input)
    provider.sent.clear()
    return job


def _refuses(row: Request, input: Mapping[str, Any]) -> Outcome:
    raise Permanent("No.", code="refused")


def before(job: JobCall) -> Inference:
    return job.infer(ECHO, {"prompt": "a fox"}, step="echo")


def after(job: JobCall) -> Inference:
    return job.infer(ECHO, {"prompt": "fox!!"}, step="echo")


def side_by_side(job: JobCall) -> list[object]:
    return list(job.each([Call(step="echo", endpoint=ECHO, arguments={"prompt": "fox!!"})]))


def asked(prompt: str, *, endpoint: str = ECHO) -> RequestSpec:
    return build_request(endpoint, {"prompt": prompt}, step="echo")


def replayed(resources: Resources, job: Job) -> Request:
    """Its new attempt, with a slot: a run has just been started for it."""
    resources.ledger.jobs.replay(job.id)
    resources.ledger.grants.grant()
    return resources.ledger.requests.of_job(job.id)[-1]


def attempts(resources: Resources, job: Job) -> list[tuple[int, RequestStatus, Any]]:
    rows = resources.ledger.requests.of_job(job.id)
    return [(row.attempt, row.status, (row.input or {}).get("prompt")) for row in rows]


def test_a_dearer_call_is_sent_once_it_has_its_slot(resources: Resources, provider: EchoProvider, failed: Job) -> None:
    """The function waits for it as for any other."""
    replayed(resources, failed)
    until_it_has_come(resources, failed.id, lambda job: job.infer(ECHO, {"prompt": "a fox in the snow"}, step="echo"))
    assert provider.sent == [{"prompt": "a fox in the snow"}]


@pytest.mark.parametrize("function", [after, side_by_side])
def test_a_replay_sends_what_todays_code_asks(
    resources: Resources, provider: EchoProvider, failed: Job, function: Any
) -> None:
    """And both are on record: what was refused, and what was asked instead, at its price."""
    replayed(resources, failed)
    until_it_has_come(resources, failed.id, function)
    assert provider.sent == [{"prompt": "fox!!"}]
    assert attempts(resources, failed) == [
        (1, RequestStatus.FAILED, "a fox"),
        (2, RequestStatus.SUCCEEDED, "fox!!"),
    ]
    first, second = resources.ledger.requests.of_job(failed.id)
    assert first.input_hash != second.input_hash


def test_a_replay_by_the_same_code_asks_the_same(resources: Resources, provider: EchoProvider, failed: Job) -> None:
    """The row keeps its slot and what it was."""
    replayed(resources, failed)
    until_it_has_come(resources, failed.id, before)
    assert provider.sent == [{"prompt": "a fox"}]
    first, second = resources.ledger.requests.of_job(failed.id)
    assert (first.input_hash, first.estimate_usd) == (second.input_hash, second.estimate_usd)


def test_a_row_that_no_replay_has_put_back_is_not_changed(
    resources: Resources, provider: EchoProvider, ledger: Ledger
) -> None:
    """Whatever a redeploy has made of the code while it waited: what was ordered is what is sent."""
    job = new_job(ledger, ledger.users.add("ann", plan="studio").user_id)
    provider.answer = _refuses
    ledger.requests.reserve_all(job.id, [asked("a fox")])
    ledger.grants.grant()
    with pytest.raises(Permanent):
        until_it_has_come(resources, job.id, after)
    assert provider.sent == [{"prompt": "a fox"}]


@pytest.mark.parametrize(
    ("endpoint", "prompt"), [(ECHO, "a fox in the snow"), (ELSEWHERE, "a fox")], ids=["dearer", "elsewhere"]
)
def test_what_costs_more_or_lies_elsewhere_is_granted_anew(
    resources: Resources, failed: Job, endpoint: str, prompt: str
) -> None:
    """Its slot is free at once, and what it costs is weighed by the grant like anything else."""
    row = replayed(resources, failed)
    assert row.status is RequestStatus.GRANTED
    wanted = asked(prompt, endpoint=endpoint)
    changed, implied = resources.ledger.requests.amend(row.ref, wanted)
    assert (changed.status, changed.granted_at, grants(implied)) == (RequestStatus.QUEUED, None, True)
    assert asks_the_same(changed, wanted) and changed.estimate_usd == wanted.estimate_usd
    assert resources.ledger.requests.holding_slots() == []


def test_what_costs_more_is_within_the_budget_of_its_replay_or_not_asked_for(resources: Resources, failed: Job) -> None:
    """What no longer fits leaves the row as it was; what costs no more is within the budget already."""
    requests = resources.ledger.requests
    (first,) = requests.of_job(failed.id)
    letters = DeadLetterFilter(job_ids=(failed.id,))
    assert resources.ledger.dead_letters.replay(letters, budget_usd=first.estimate_usd).job_ids == (failed.id,)
    again = requests.of_job(failed.id)[-1]
    with pytest.raises(BadInput, match="larger budget"):
        requests.amend(again.ref, asked("a fox in the snow"))
    assert requests.get(again.ref) == again
    assert requests.amend(again.ref, asked("fox!!"))[0].input == {"prompt": "fox!!"}


def test_what_is_being_sent_at_that_moment_is_not_changed(resources: Resources, failed: Job, db: Db) -> None:
    """The submit is committed first, and the change finds it so: nothing is on record that was not sent."""
    row = replayed(resources, failed)
    begun, (changed, implied) = overlap(
        db,
        lambda: resources.ledger.requests.begin_submit(row.ref, deadline=Echo.deadline),
        lambda: resources.ledger.requests.amend(row.ref, asked("fox!!")),
        at="UPDATE ON request",
    )
    assert begun is not None and begun.input == {"prompt": "a fox"}
    assert (changed.status, changed.input, grants(implied)) == (RequestStatus.SUBMITTING, {"prompt": "a fox"}, False)


def test_what_was_changed_meanwhile_is_not_sent_as_it_was(resources: Resources, failed: Job, db: Db) -> None:
    """By a process that read the row before: what it has prepared is not what the row says."""
    row = replayed(resources, failed)
    (changed, _), begun = overlap(
        db,
        lambda: resources.ledger.requests.amend(row.ref, asked("fox!!")),
        lambda: resources.ledger.requests.begin_submit(row.ref, deadline=Echo.deadline, input_hash=row.input_hash),
        at="UPDATE ON request",
    )
    assert (changed.status, changed.input) == (RequestStatus.GRANTED, {"prompt": "fox!!"})
    assert begun is None
