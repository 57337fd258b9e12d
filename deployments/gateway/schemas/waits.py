"""What a job waits for beside paid calls, and its unpaid side effects, as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from darkroom.deployments.gateway.schemas.base import Document
from darkroom.ledger import Step, Wait, WaitKind, WaitStatus


class WaitDocument(Document):
    """A time, an event or another job that a step waits for, or has waited for."""

    id: str = Field(examples=["wait_019aa1f0c5d2"])
    job_id: str = Field(examples=["job_019aa1f0c5d2"])
    step: str = Field(examples=["sleep-1"])
    kind: WaitKind
    state: str = Field(
        description="received: the event, or the other job's end; timed_out: or somebody said so; superseded: one of "
        "several was enough, and it was another; cancelled: its job ended before.",
        json_schema_extra={"enum": [status.word for status in WaitStatus]},
    )
    status: WaitStatus = Field(
        description="`state` in the words of 0.1: came, over, passed, ended.", json_schema_extra={"deprecated": True}
    )
    event: str | None = Field(description="The name of the event.", examples=["user.profile_completed"])
    match: str | None = Field(
        description="What must hold for the event's data, in CEL.", examples=["event.data.account == 'a-1'"]
    )
    child_job_id: str | None = Field(description="The job whose end it waits for.")
    until: datetime | None = Field(description="When it is over all the same; null: for as long as it takes.")
    settled_by: Literal["event", "time", "child", "hand"] | None
    event_id: str | None = Field(description="The event that came.")
    created_at: datetime
    settled_at: datetime | None


class StepDocument(Document):
    """An unpaid side effect: done once its result is on record, and never again then."""

    name: str = Field(examples=["create-account"])
    attempts: int = Field(description="How often it was begun. One that was begun and is not done may have happened.")
    error: dict[str, Any] | None = Field(description="Of the last attempt, if that failed.")
    begun_at: datetime
    done_at: datetime | None


def wait_document(wait: Wait) -> WaitDocument:
    return WaitDocument(
        id=wait.id,
        job_id=wait.job_id,
        step=wait.name,
        kind=WaitKind(wait.kind),
        state=WaitStatus(wait.status).word,
        status=WaitStatus(wait.status),
        event=wait.event_name,
        match=wait.match,
        child_job_id=wait.child_job_id,
        until=wait.until,
        settled_by=wait.settled_by,
        event_id=wait.event_id,
        created_at=wait.created_at,
        settled_at=wait.settled_at,
    )


def step_document(step: Step) -> StepDocument:
    return StepDocument.model_validate(step)
