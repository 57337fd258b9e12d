"""A flow of `test_dry_run.py`, and its deployment: a user's own code, which fails and is changed."""

from __future__ import annotations

from typing import Any, Literal

from darkroom import Job, Order, pipeline
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


class Work(Order):
    fails: Literal["in its step", "in its code"]


@pipeline(Work)
def own_work(job: Job, work: Work) -> dict[str, Any]:
    if work.fails == "in its step":
        return {"charge": job.step("charge", _declined)}
    raise Permanent("It has no idea.", code=f"{FAULT}_the_change")


def _declined() -> str:
    raise Permanent("The card was declined.", code="declined")
