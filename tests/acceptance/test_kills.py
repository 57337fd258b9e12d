"""What is killed comes back, and what was paid for is not paid for again."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import psutil
from running import Stack
from support import wait_until

from darkroom.ledger import RequestStatus


def _in_flight(stack: Stack, job_id: str) -> Callable[[], bool]:
    return lambda: stack.carried(job_id)


def _kill(stack: Stack, part: str) -> int:
    """Kill the part and wait for its end: until then it may still answer. Return the id of the process."""
    process = psutil.Process(stack.pid(part))
    process.kill()
    process.wait(timeout=30)
    return process.pid


def _is_up(stack: Stack) -> bool:
    try:
        return stack.gateway.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _completed_once(stack: Stack, prompt: str, job_id: str) -> None:
    assert stack.ended(job_id, timeout=150)["status"] == "completed"
    assert len(stack.at_provider(prompt)) == 1


def test_a_flow_process_killed_while_it_waits_is_started_again_and_pays_once(stack: Stack, prompt: str) -> None:
    """SIGKILL after the submit: Crashed, put back as *Recovering* by reconcile, and the row is adopted."""
    stack.misbehave(prompt, hold=True)
    job_id = stack.order(prompt)
    flow_run_id = stack.flow_run_id(job_id)
    wait_until(_in_flight(stack, job_id), timeout=30, every=0.02, what="the submit")
    (process,) = stack.flow_processes(flow_run_id)
    process.kill()
    stack.release(prompt)
    _completed_once(stack, prompt, job_id)
    assert "Recovering" in stack.history(flow_run_id)


def test_a_gateway_killed_before_the_webhook_gets_it_after_its_restart(stack: Stack, prompt: str) -> None:
    """The provider tries again until somebody has committed it."""
    stack.misbehave(prompt, hold=True)
    job_id = stack.order(prompt)
    wait_until(_in_flight(stack, job_id), timeout=30, every=0.1, what="the submit")
    _kill(stack, "gateway")
    stack.release(prompt)
    wait_until(lambda: _is_up(stack), timeout=60, every=0.2, what="the gateway's restart")
    _completed_once(stack, prompt, job_id)


def test_a_prefect_server_killed_before_the_wake_is_made_up_for_by_reconcile(stack: Stack, prompt: str) -> None:
    """The webhook is committed; the event that nobody heard is not the only chance."""
    stack.misbehave(prompt, hold=True)
    job_id = stack.order(prompt)
    stack.in_state(stack.flow_run_id(job_id), "Suspended")
    _kill(stack, "prefect")
    stack.release(prompt)
    wait_until(lambda: stack.rows(job_id)[0].status is RequestStatus.SUCCEEDED, timeout=30, every=0.1)
    wait_until(lambda: _is_up(stack), timeout=60, every=0.2, what="the server's restart")
    _completed_once(stack, prompt, job_id)


def test_a_postgres_killed_under_a_run_is_waited_for(stack: Stack, prompt: str) -> None:
    """Both databases are gone for a moment; the run neither fails nor forgets, and the job is paid once."""
    stack.misbehave(prompt, hold=True)
    job_id = stack.order(prompt)
    flow_run_id = stack.flow_run_id(job_id)
    wait_until(_in_flight(stack, job_id), timeout=30, every=0.02, what="the submit")
    ended = _kill(stack, "postgres")
    # A connection of the old one answers for a moment longer; the new one starts when the last of them is gone.
    wait_until(
        lambda: stack.pid("postgres") != ended and stack.ledger.answers(),
        timeout=30,
        every=0.1,
        what="Postgres to be back",
    )
    wait_until(lambda: _is_up(stack), timeout=60, every=0.2, what="the stack to be whole again")
    stack.release(prompt)
    _completed_once(stack, prompt, job_id)
    assert "Failed" not in stack.history(flow_run_id)
