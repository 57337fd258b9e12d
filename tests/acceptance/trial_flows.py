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

from darkroom import ForEvent, Job, Order, Sleep, pipeline

COMPLETED = "user.profile_completed"
YEAR = timedelta(days=366)
DEPLOYMENTS = """
  - name: on-demand
    entrypoint: flows/trial_flows.py:trial
    work_pool:
      name: darkroom
    cancel_on:
      - event: trial.gone
        match: {account: event.data.key}
  - name: on-demand
    entrypoint: flows/trial_flows.py:trial_child
    work_pool:
      name: darkroom
  - name: on-failure
    entrypoint: flows/trial_flows.py:trial_child
    work_pool:
      name: darkroom
    starts_on:
      - event: job.failed
        if: event.data.kind == 'trial' && event.data.error_code == 'child_failed'
        parameters: {scene: "'on_failure'", account: event.data.job}
"""


def deployments() -> str:
    """As they stand in prefect.yaml."""
    return DEPLOYMENTS


class Play(Order):
    scene: str
    till: str = ""
    folder: str = ""
    account: str = ""
    seconds: float = 0
    prompt: str = ""
    child: dict[str, Any] | None = None


def charge(job: Job, play: Play, key: str) -> dict[str, Any]:
    """Asks for it under the step's key."""
    words = {"job": job.id, "key": key}
    answer = httpx.post(play.till, json=words, headers={"Idempotency-Key": key}, trust_env=False)
    return {"charge": answer.raise_for_status().json()["id"]}


def die_once(job: Job, play: Play) -> dict[str, Any]:
    """Kills its process, the first time: a file in the test's folder tells the next one."""
    path = Path(play.folder) / job.id
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"again": True}


def dies_before_the_record(job: Job, play: Play) -> Any:
    def pay(key: str) -> dict[str, Any]:
        paid = charge(job, play, key)
        die_once(job, play)
        return paid

    return job.step("charge", pay)


def dies_after_the_record(job: Job, play: Play) -> Any:
    paid = job.step("charge", lambda key: charge(job, play, key))
    job.step("die", lambda: die_once(job, play))
    return paid


def event_before_the_wait(job: Job, play: Play) -> Any:
    job.sleep(YEAR)
    event = job.wait_for_event(COMPLETED, match={"account": play.account}, timeout=YEAR)
    return {"event": event and event.id}


def event_or_time(job: Job, play: Play) -> Any:
    event = job.wait_for_event(COMPLETED, match={"account": play.account}, timeout=YEAR)
    told = job.step("tell", lambda key: charge(job, play, key))
    return {"event": event and event.id, **told}


def first_of_two(job: Job, play: Play) -> Any:
    time = timedelta(seconds=play.seconds)
    key, event = job.wait_any({"time": Sleep(time), "event": ForEvent(COMPLETED)})
    return {"key": key, "event": event and event.id}


def a_year(job: Job, play: Play) -> Any:
    job.sleep(YEAR)
    return {"slept": True}


def through_outages(job: Job, play: Play) -> Any:
    paid = job.step("charge", lambda key: charge(job, play, key))
    job.sleep(YEAR)
    event = job.wait_for_event(COMPLETED, timeout=YEAR)
    return {"event": event and event.id, **paid}


def with_a_child(job: Job, play: Play) -> Any:
    child = job.invoke("trial-child", step="child", **(play.child or {}))
    return {"child": child.job_id, "came": child.result}


def with_a_picture(job: Job, play: Play) -> Any:
    picture = job.invoke("generate-image", step="picture", prompt=play.prompt)
    return {"child": picture.job_id, "pictures": [asset.sha256 for asset in picture.assets]}


def on_failure(job: Job, play: Play) -> Any:
    return {"of": play.account}


SCENES = {
    each.__name__: each
    for each in (
        dies_before_the_record,
        dies_after_the_record,
        event_before_the_wait,
        event_or_time,
        first_of_two,
        a_year,
        through_outages,
        with_a_child,
        with_a_picture,
        on_failure,
    )
}


@pipeline(Play)
def trial(job: Job, play: Play) -> Any:
    return SCENES[play.scene](job, play)


@pipeline(Play)
def trial_child(job: Job, play: Play) -> Any:
    return SCENES[play.scene](job, play)
