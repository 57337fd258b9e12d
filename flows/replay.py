"""Failed or cancelled jobs go back to work.

For operators, from the Prefect UI or by `prefect deployment run replay/on-demand -p jobs='["job_…"]'`; users have
`POST /v1/jobs/{id}/replay` and `POST /v1/dead-letters/replay`. What has succeeded of a job is reused and not paid
again; what has not gets a new attempt, which waits in the fair queue like any other.

Jobs that are named go back as they are. Failed jobs that are chosen by what they have in common are priced, and go back
only with a budget, which holds for the steps that they reach later, too. A job that cannot be replayed is named in
the table, with the reason, and does not keep the others from it. Fails for an unknown user, and if the ledger cannot be
reached.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from darkroom.engine.refusals import refused
from darkroom.engine.resources import Resources, open_resources
from darkroom.errors import BadInput, WrongState
from darkroom.ledger import MOST_LETTERS, NOTHING, DeadLetterFilter, Done, Ledger
from darkroom.order import field, in_order

Word = Annotated[str | None, Field(max_length=200)]
JobId = Annotated[str, Field(min_length=1, max_length=100)]
JobIds = Annotated[list[JobId] | None, Field(max_length=MOST_LETTERS)]
Usd = Annotated[Decimal | None, Field(ge=0, le=100_000)]
Table = list[dict[str, str]]


class Failed(BaseModel):
    """Failed jobs by what they have in common; all that is given must hold."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=in_order)

    user: Word = Field(None, description="A name or an id.")
    kind: Word = Field(None, description="E.g. generate-image.")
    failure_class: Word = Field(None, description="retry, park, permanent, needs_human.")
    code: Word = Field(None, description="E.g. content_policy_violation.")
    endpoint: Word = Field(None, description="Of the call that failed, e.g. fal-ai/flux/dev.")
    failed_since: AwareDatetime | None = Field(None, description="With a time zone.")
    failed_before: AwareDatetime | None = Field(None, description="With a time zone.")
    discarded: bool = Field(False, description="Those that were discarded, not the others.")


JOBS = field("Jobs", "Ids of failed or cancelled jobs, e.g. job_019aa1f0c5d2.", None)
FAILED = field("Failed jobs", "In place of ids: failed jobs by what they have in common, at most 1,000 at once.", None)
BUDGET = field(
    "Budget (USD)", "Most that they may pay together, now and later. Empty, with no ids: only the price is told.", None
)


def put_back(resources: Resources, job_ids: list[str]) -> Table:
    """Requeue them. Return one line for each job: whether it was requeued, and if not, why."""
    table, implied = [], NOTHING
    # Named twice, a job would be refused the second time: it is no failed one by then.
    for job_id in dict.fromkeys(job_ids):
        try:
            if resources.ledger.jobs.get(job_id) is None:
                raise WrongState("There is no such job.")
            implied += resources.ledger.jobs.replay(job_id)
            table.append(_line(job_id))
        # One that cannot be replayed keeps none of the others from it.
        except WrongState as refusal:
            table.append(_line(job_id, why_not=refusal.message))
    resources.dispatcher.carry_out(implied)
    return table


def put_back_together(resources: Resources, which: DeadLetterFilter, budget_usd: Decimal, *, key: str) -> Table:
    """Requeue as many jobs as the budget has room for. Return one line for each: whether it was, and if not, why."""
    done: Done = resources.ledger.dead_letters.replay(which, budget_usd=budget_usd, key=key)
    resources.dispatcher.carry_out(done.implied)
    return [*map(_line, done.job_ids), *(_line(job_id, why_not=why) for job_id, why in done.refused.items())]


def price(resources: Resources, which: DeadLetterFilter) -> tuple[str, Table]:
    """Say what a replay would cost, in a sentence, and which jobs are meant."""
    found = resources.ledger.dead_letters.price(which)
    said = f"{found.replayable} of {found.matching} can be replayed, for about {found.replay_usd} USD; give a budget"
    return said, [_line(job_id, why_not=found.refused.get(job_id, "No budget was given.")) for job_id in found.job_ids]


def chosen(ledger: Ledger, jobs: list[str], failed: Failed | None) -> DeadLetterFilter:
    """Return the filter for the failed jobs that are meant."""
    given = failed or Failed()
    return DeadLetterFilter(
        job_ids=tuple(dict.fromkeys(jobs)) or None,
        user_id=None if given.user is None else ledger.users.find(given.user).id,
        kind=given.kind,
        error_class=given.failure_class,
        code=given.code,
        endpoint=given.endpoint,
        since=given.failed_since,
        until=given.failed_before,
        # Whoever names a job means it, discarded or not.
        discarded=None if jobs and not given.discarded else given.discarded,
    )


def _line(job_id: str, *, why_not: str = "") -> dict[str, str]:
    return {"Job": job_id, "Put back": "no" if why_not else "yes", "Why not": why_not}


def carried_out(
    resources: Resources, jobs: list[str], failed: Failed | None, budget_usd: Decimal | None, *, key: str
) -> tuple[str, Table]:
    """Carry out the replay. Return its outcome in a sentence, and job by job."""
    if not jobs and failed is None:
        raise BadInput("Name jobs, or say what the failed ones that are meant have in common.", field="jobs")
    if budget_usd is None and failed is not None:
        return price(resources, chosen(resources.ledger, jobs, failed))
    if budget_usd is None:
        table = put_back(resources, jobs)
    else:
        table = put_back_together(resources, chosen(resources.ledger, jobs, failed), budget_usd, key=key)
    return f"{sum(line['Put back'] == 'yes' for line in table)} of {len(table)} put back", table


@flow(name="replay", retries=0, log_prints=False)
def replay(jobs: JobIds = JOBS, failed: Failed | None = FAILED, budget_usd: Usd = BUDGET) -> State[Any]:
    """Failed or cancelled jobs go back to work."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    run_id = context.flow_run.id
    with open_resources() as resources:
        try:
            # By the run: if it is done again, it goes on under the same budget.
            message, table = carried_out(resources, jobs or [], failed, budget_usd, key=f"flow run {run_id}")
        except BadInput as error:
            return refused(error)
        resources.orchestrator.show_table(run_id, key="replay", name="replay", message=message, table=table)
    return Completed(message=message, data=table)
