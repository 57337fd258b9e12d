"""`darkroom demo`: one picture the whole way, on the real parts, and the record of it.

The run suspends and the webhook brings it back. The stack runs in the main thread as for `darkroom up`; a second thread
is its only user.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import typer

from darkroom.deployments.api_client import ApiClient
from darkroom.deployments.cli.common import join_stack
from darkroom.deployments.stack.options import LOOPBACK, StackOptions
from darkroom.deployments.stack.supervisor import Stack
from darkroom.deployments.timeline import Step, timeline
from darkroom.errors import DarkroomError
from darkroom.ledger import JobStatus, Ledger
from darkroom.orchestrator import Orchestrator
from darkroom.settings import load_settings

PROMPT = "a red fox reading the newspaper by lamplight, woodcut"
# The patience is over long before the picture is there: else the run would wait in its process.
PATIENCE_SECONDS = 1
LATENCY_SECONDS = 4.0
POLL_SECONDS = 0.2
COLOURS = {"suspended": "yellow", "webhook": "cyan", "resumed": "cyan", "stored": "green", "completed": "green"}

Say = Callable[[str], None]


def run_demo(home: Path, *, say: Say) -> int:
    """Run the demo and return its exit code: 0 if the picture is there."""
    options = _on_free_ports(StackOptions(home=home, latency_seconds=LATENCY_SECONDS))
    outcome: list[int] = []

    def use() -> None:
        try:
            outcome.append(_make_one_picture(stack, say))
        except DarkroomError as error:
            say(f"darkroom: {error}")
        finally:
            stack.stop()

    _forget_other_stacks()
    os.environ["DARKROOM_PATIENCE"] = str(PATIENCE_SECONDS)
    stack = Stack(options, say=say, on_ready=threading.Thread(target=use, daemon=True).start)
    say(f"Starting Postgres, Prefect, gateway, worker and a simulated fal in {stack.home.path} …")
    stack.run()
    return outcome[0] if outcome else 1


def _forget_other_stacks() -> None:
    """Drop the caller's own settings and keys (DARKROOM_…): the demo is the same for everybody."""
    for name in [name for name in os.environ if name.startswith("DARKROOM_")]:
        del os.environ[name]


def _make_one_picture(stack: Stack, say: Say) -> int:
    os.environ.update(stack.home.environment())  # from here on this process is a client of that stack
    join_stack()  # and of no other Prefect, by proxies as HTTP clients take them
    settings = load_settings()
    say(f'Ready. POST {settings.gateway_url}/v1/images  {{"prompt": "{PROMPT}"}}')
    with ApiClient(settings) as client:
        job_id = client.wait(client.order_image({"prompt": PROMPT})["job_id"], seen=_Narrator(say))["id"]
    with (
        contextlib.closing(Ledger(settings.ledger_url, timing=settings.timing)) as ledger,
        contextlib.closing(Orchestrator()) as orchestrator,
    ):
        job = ledger.jobs.get(job_id)
        run = ledger.runs.get(job.run_id) if job and job.run_id else None
        assert job and run and run.flow_run_id
        _let_it_close(orchestrator, run.flow_run_id, within=3 * settings.timing.linger)
        say(_table(timeline(ledger, orchestrator, job)))
        for asset in ledger.assets.of_job(job_id):
            say(f"Picture  {Path(settings.media_store) / asset.key}")
        say(f"Cost     {ledger.jobs.cost(job_id).normalize()} USD, had it not been simulated")
        say(f"Prefect  {stack.options.prefect_url}/runs/flow-run/{run.flow_run_id}, after `darkroom up`")
    return 0 if job.status is JobStatus.COMPLETED else 1


def _let_it_close(orchestrator: Orchestrator, flow_run_id: UUID, *, within: timedelta) -> None:
    """Wait until the run has closed, for `within` at most."""
    # It lingers for a further job; ended with the stack in that time, it would show as crashed.
    deadline = time.monotonic() + within.total_seconds()
    while time.monotonic() < deadline:
        state = orchestrator.run_state(flow_run_id)
        if state is None or state.is_final:
            return
        time.sleep(POLL_SECONDS)


class _Narrator:
    """Says what the job waits for whenever that changes."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._last = ""

    def __call__(self, job: dict[str, Any]) -> None:
        waiting_for = job["waiting_for"] or ""
        gist = re.sub(r"\d+", "", waiting_for)  # not again for every second that passes
        if gist and gist != self._last:
            self._last = gist
            self._say(f"  … {waiting_for}")


def _table(steps: Sequence[Step]) -> str:
    began = steps[0].at
    return "\n".join(["", *(_row(step, after=(step.at - began).total_seconds()) for step in steps), ""])


def _row(step: Step, *, after: float) -> str:
    return f"  {after:6.2f} s  {typer.style(f'{step.name:<10}', fg=COLOURS.get(step.name))} {step.detail}"


def _on_free_ports(options: StackOptions) -> StackOptions:
    return replace(
        options,
        port=_free(options.port),
        prefect_port=_free(options.prefect_port),
        simulator_port=_free(options.simulator_port),
    )


def _free(port: int) -> int:
    """Return that port, or any other if it is taken."""
    with socket.socket() as probe:
        # A port at which a stack has just ended counts as free, though connections of it linger for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
