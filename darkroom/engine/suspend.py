"""How a run waits without costing anything: it suspends, or pauses where it has no deployment.

Only once Prefect has accepted the state is the run marked as suspended, under its row's lock and with a last look. So
a webhook either finds the run present and the look sees it, or finds it suspended and wakes it: no event is emitted for
a run that is not paused yet, and none is missing. The prefect event is the fast path; `reconcile` repeats it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

from prefect.exceptions import Pause
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.input import RunInput

from darkroom.errors import DarkroomError
from darkroom.ledger import OUTAGES
from darkroom.orchestrator import Orchestrator

_WATCH_SECONDS = 0.2  # seconds between looks at whether Prefect shows the run as paused


def suspend(*, timeout: timedelta, on_suspended: Callable[[], None], form: type[RunInput] | None = None) -> None:
    """End the process of a deployed run by raising `Pause`; call `on_suspended` once Prefect has accepted it.

    `form`: what a person fills in to resume it. A resume without an answer is refused then.
    """
    seconds, key = int(timeout.total_seconds()), str(uuid4())
    try:
        # A fresh key: one that was used in the run before is answered with "already fired", and the run would spin.
        if form is None:
            suspend_flow_run(timeout=seconds, key=key)
        else:
            suspend_flow_run(timeout=seconds, key=key, wait_for_input=form)
    except Pause:
        with suppress(*OUTAGES):  # reconcile finds a suspended run that was never marked as suspended
            on_suspended()
        raise


def pause(
    orchestrator: Orchestrator, flow_run_id: UUID, *, timeout: timedelta, on_suspended: Callable[[], None]
) -> None:
    """Wait in the process of a run without a deployment until it is resumed; call `on_suspended` once it is paused."""
    # `pause_flow_run` blocks from before the state is accepted until the resume, so a thread watches from outside.
    resumed = threading.Event()
    watcher = threading.Thread(
        target=_once_paused, args=(orchestrator, flow_run_id, resumed, on_suspended), daemon=True, name="watcher"
    )
    watcher.start()
    try:
        # By default Prefect looks only every ten seconds whether it was resumed.
        pause_flow_run(timeout=int(timeout.total_seconds()), poll_interval=1, key=str(uuid4()))
    finally:
        resumed.set()
        watcher.join()


def _once_paused(
    orchestrator: Orchestrator, flow_run_id: UUID, resumed: threading.Event, on_suspended: Callable[[], None]
) -> None:
    while not resumed.wait(_WATCH_SECONDS):
        try:
            state = orchestrator.run_state(flow_run_id)
        except DarkroomError:  # Prefect is out, and nothing is lost by looking again
            continue
        if state is not None and state.type == "PAUSED":
            on_suspended()
            return
