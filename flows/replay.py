"""Failed or cancelled jobs go back to work.

For operators, from the Prefect UI or by `prefect deployment run replay/on-demand -p jobs='["job_…"]'`; users have
`POST /v1/jobs/{id}/replay`. What has succeeded of a job is reused and not paid again; what has not gets a new attempt,
which waits in the fair queue like any other. A job that cannot be replayed is named in the table, with the reason, and
does not keep the others from it. Fails only if the ledger cannot be reached.
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed
from pydantic import Field

from blocks.errors import WrongState
from blocks.ledger import NOTHING
from flows.engine.resources import Resources, open_resources

MOST_JOBS = 1000

JobId = Annotated[str, Field(min_length=1, max_length=100)]
JobIds = Annotated[list[JobId], Field(min_length=1, max_length=MOST_JOBS)]
# A default that is none: Prefect shows the description of a default, not that of a type.
JOBS: Any = Field(
    ..., description="Ids of failed or cancelled jobs, e.g. job_019aa1f0c5d2.", json_schema_extra={"title": "Jobs"}
)


def put_back(resources: Resources, job_ids: list[str]) -> list[dict[str, str]]:
    """One line for each job: whether it was put back, and if not, why."""
    table, implied = [], NOTHING
    for job_id in dict.fromkeys(job_ids):
        try:
            if resources.ledger.jobs.get(job_id) is None:
                raise WrongState("There is no such job.")
            implied += resources.ledger.jobs.replay(job_id)
            table.append({"Job": job_id, "Put back": "yes", "Why not": ""})
        except WrongState as refusal:
            table.append({"Job": job_id, "Put back": "no", "Why not": refusal.message})
    resources.dispatcher.carry_out(implied)
    return table


@flow(name="replay", retries=0, log_prints=False)
def replay(jobs: JobIds = JOBS) -> State[Any]:
    """Failed or cancelled jobs go back to work."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    with open_resources() as resources:
        table = put_back(resources, jobs)
        message = f"{sum(line['Put back'] == 'yes' for line in table)} of {len(table)} put back"
        run_id = context.flow_run.id
        resources.orchestrator.show_table(run_id, key=f"replay-{run_id}", name="replay", message=message, table=table)
    return Completed(message=message, data=table)
