"""A flow of `test_dry_run.py`, and its deployment: a user's own code, which fails and is changed."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from darkroom import Job, drive
from darkroom.errors import Permanent

DEPLOYMENT = """
  - name: on-demand
    entrypoint: flows/broken_flows.py:own_work
    work_pool:
      name: darkroom
"""
FAULT = "before"


def deployments() -> str:
    """As they stand in prefect.yaml."""
    return DEPLOYMENT


def work(job: Job) -> dict[str, Any]:
    if job.parameters["fails"] == "in its step":
        return {"charge": job.step("charge", _declined)}
    raise Permanent("It has no idea.", code=f"{FAULT}_the_change")


def _declined() -> str:
    raise Permanent("The card was declined.", code="declined")


@flow(name="own-work", retries=0)
def own_work(fails: Literal["in its step", "in its code"], user: str = "operator") -> State[Any]:
    return drive(work, parameters={"fails": fails}, user=user)
