"""Flows of `test_durable.py`, and their deployments. Each scene is one promise's.

What the application does beside Darkroom is `tests/till.py`: it charges once under one key, and counts who asks.
"""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from prefect import flow
from prefect.client.schemas.objects import State

from darkroom import ForEvent, Job, Sleep, drive

VERSION = "before"
COMPLETED = "user.profile_completed"
YEAR = timedelta(days=366)
DEPLOYMENTS = """
  - name: on-demand
    entrypoint: flows/trial_flows.py:trial
    work_pool:
      name: darkroom
  - name: on-demand
    entrypoint: flows/trial_flows.py:trial_child
    work_pool:
      name: darkroom
"""


def deployments() -> str:
    """As they stand in prefect.yaml."""
    return DEPLOYMENTS


def charge(job: Job, key: str) -> dict[str, Any]:
    """Asks for it under the step's key."""
    words = {"job": job.id, "key": key}
    answer = httpx.post(job.parameters["till"], json=words, headers={"Idempotency-Key": key}, trust_env=False)
    return {"charge": answer.raise_for_status().json()["id"]}


def die_once(job: Job) -> dict[str, Any]:
    """Kills its process, the first time: a file in the test's folder tells the next one."""
    path = Path(job.parameters["folder"]) / job.id
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"again": True}


def dies_before_the_record(job: Job) -> Any:
    def pay(key: str) -> dict[str, Any]:
        paid = charge(job, key)
        die_once(job)
        return paid

    return job.step("charge", pay)


def dies_after_the_record(job: Job) -> Any:
    paid = job.step("charge", lambda key: charge(job, key))
    job.step("die", lambda: die_once(job))
    return paid


def event_before_the_wait(job: Job) -> Any:
    job.sleep(YEAR)
    event = job.wait_for_event(COMPLETED, match={"account": job.parameters["account"]}, timeout=YEAR)
    return {"event": event and event.id}


def event_or_time(job: Job) -> Any:
    event = job.wait_for_event(COMPLETED, match={"account": job.parameters["account"]}, timeout=YEAR)
    told = job.step("tell", lambda key: charge(job, key))
    return {"event": event and event.id, **told}


def first_of_two(job: Job) -> Any:
    time = timedelta(seconds=job.parameters["seconds"])
    key, event = job.wait_any({"time": Sleep(time), "event": ForEvent(COMPLETED)})
    return {"key": key, "event": event and event.id}


def a_year(job: Job) -> Any:
    job.sleep(YEAR)
    return {"slept": True}


def redeployed(job: Job) -> Any:
    paid = job.step("charge", lambda key: charge(job, key))
    job.sleep(YEAR)
    return {"version": VERSION, **paid}


def through_outages(job: Job) -> Any:
    paid = job.step("charge", lambda key: charge(job, key))
    job.sleep(YEAR)
    event = job.wait_for_event(COMPLETED, timeout=YEAR)
    return {"event": event and event.id, **paid}


def with_a_child(job: Job) -> Any:
    child = job.invoke("trial-child", step="child", **job.parameters["child"])
    return {"child": child.job_id, "came": child.result}


def with_a_picture(job: Job) -> Any:
    picture = job.invoke("generate-image", step="picture", prompt=job.parameters["prompt"])
    return {"child": picture.job_id, "pictures": [asset.sha256 for asset in picture.assets]}


SCENES = {
    each.__name__: each
    for each in (
        dies_before_the_record,
        dies_after_the_record,
        event_before_the_wait,
        event_or_time,
        first_of_two,
        a_year,
        redeployed,
        through_outages,
        with_a_child,
        with_a_picture,
    )
}


def play(job: Job) -> Any:
    return SCENES[job.parameters["scene"]](job)


@flow(name="trial", retries=0)
def trial(
    scene: str,
    till: str = "",
    folder: str = "",
    account: str = "",
    seconds: float = 0,
    prompt: str = "",
    child: dict[str, Any] | None = None,
    user: str = "operator",
) -> State[Any]:
    own = {"till": till, "folder": folder, "account": account, "seconds": seconds, "prompt": prompt, "child": child}
    return drive(play, parameters={"scene": scene, **own}, user=user)


@flow(name="trial-child", retries=0)
def trial_child(scene: str, till: str = "", folder: str = "", user: str = "operator") -> State[Any]:
    return drive(play, parameters={"scene": scene, "till": till, "folder": folder}, user=user)
