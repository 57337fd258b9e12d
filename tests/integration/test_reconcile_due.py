"""Whatever a turn of `reconcile` would do is found due before one is begun, and nothing else is.

The ledger is real; Prefect is what the test says of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from unittest.mock import NonCallableMagicMock
from uuid import uuid4

import pytest
from ledger_databases import Db
from ledger_scenes import Picture, picture_in_flight, post
from prefect.logging import disable_run_logger
from reconciling import knows_of_nothing, resources_of, turn

from darkroom.clock import utc_now
from darkroom.engine.reconcile_due import DueDuties, Duty
from darkroom.engine.reconcile_rules import ForRun
from darkroom.flows import reconcile as flow
from darkroom.flows.reconcile import Reconciler
from darkroom.ledger import Ledger, Run
from darkroom.media.store import LocalFolder, MediaStore
from darkroom.orchestrator import Orchestrator, queue_name
from darkroom.orchestrator.run_states import RunState
from darkroom.settings import Settings
from darkroom.timing import UNSCALED

TRAINING = "fal-ai/flux-lora-fast-training"
EVENT = (
    "INSERT INTO event (id, source, name, depth, status, occurred_at, received_at, told_at)"
    " VALUES ('e', 'shop', 'user.did', 0, 'accepted', now(), now(), {told})"
)
START = (
    "INSERT INTO start (id, deployment, user_id, status, takes_all, gate_key, priority, parameters, events, bytes,"
    " created_at, ranked_at, due_at) VALUES ('s', 'a/b', 'operator', {status}, true, '', 0, '{{}}', 1, 2,"
    " now(), now(), {due})"
)


@dataclass
class Scene:
    """A picture in flight, whose run's process is well: nobody has to do anything about it."""

    ledger: Ledger
    db: Db
    prefect: NonCallableMagicMock
    picture: Picture

    def sql(self, *statements: str) -> None:
        for statement in statements:
            self.db.execute(cast(Any, statement))

    def prefect_says(self, type: str, *, ago: float = 0, **changes: Any) -> None:
        state = RunState(type=type, name=type.title(), timestamp=utc_now() - timedelta(seconds=ago), **changes)
        self.prefect.run_states.return_value = {self.picture.flow_run_id: state}

    def silent(self, seconds: float) -> None:
        self.sql(f"UPDATE run SET alive_until = now() - interval '{seconds} seconds'")

    def found(self) -> set[Duty]:
        # Where fal's webhooks reach us: a call is asked about only after a while.
        settings = Settings(public_url="https://darkroom.example")
        return set(DueDuties(self.ledger, cast(Orchestrator, self.prefect), settings=settings).found())


@pytest.fixture
def scene(ledger: Ledger, db: Db) -> Scene:
    user_id = ledger.users.add("ann", plan="studio").user_id
    scene = Scene(ledger, db, knows_of_nothing(), picture_in_flight(ledger, user_id))
    scene.prefect_says("RUNNING")
    scene.prefect.queue_limits.return_value = {queue_name(user_id): ledger.users.plan_of(user_id).in_flight}
    scene.prefect.under_way_since.return_value = []
    now = utc_now()
    ledger.bills.balance("fal", None, due_at=now + timedelta(hours=1))
    ledger.bills.drift_notified("fal", now.date())
    return scene


def is_gone(scene: Scene) -> None:
    scene.prefect.run_states.return_value = {}
    scene.sql("UPDATE run SET created_at = now() - interval '2 minutes'")
    scene.silent(31)


def is_pending(scene: Scene) -> None:
    scene.prefect_says("PENDING", ago=61)
    scene.sql("UPDATE run SET alive_until = NULL")


def was_granted_while_suspended(scene: Scene) -> None:
    scene.prefect_says("PAUSED")
    scene.sql("UPDATE run SET left_at = now()", "UPDATE request SET status = 'granted'")


def is_closed_and_crashed(scene: Scene) -> None:
    scene.sql("UPDATE job SET status = 'completed', finished_at = now()", "UPDATE run SET closed_at = now()")
    scene.prefect_says("CRASHED")


def is_silent_and(type: str) -> Callable[[Scene], None]:
    def happens(scene: Scene) -> None:
        scene.prefect_says(type)
        scene.silent(31)

    return happens


def is_told(type: str, **changes: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.prefect_says(type, **changes)


def sql(*statements: str) -> Callable[[Scene], None]:
    return lambda scene: scene.sql(*statements)


def of_call(values: str) -> Callable[[Scene], None]:
    return sql(f"UPDATE request SET {values}")


def has_another_limit(scene: Scene) -> None:
    scene.sql("UPDATE plan SET in_flight = in_flight + 1")


def lost_turn(scene: Scene) -> None:
    scene.prefect.under_way_since.return_value = [uuid4()]


def waits_in_line(scene: Scene) -> None:
    post(scene.ledger, scene.picture.user_id)


CASES: dict[Duty, dict[str, Callable[[Scene], None]]] = {
    Duty.LOST_TURNS: {"a turn whose process was lost": lost_turn},
    Duty.RUNS: {
        "ended": is_told("COMPLETED"),
        "cancelled": is_told("CANCELLED"),
        "crashed": is_told("CRASHED"),
        "failed": is_told("FAILED"),
        "refused": is_told("FAILED", message="Validation of flow parameters failed"),
        "without its queue": is_told("SCHEDULED", stranded=True),
        "pending without a worker": is_pending,
        "silent": is_silent_and("RUNNING"),
        "silent while it is cancelled": is_silent_and("CANCELLING"),
        "suspended and never marked so": is_silent_and("PAUSED"),
        "suspended with a slot": was_granted_while_suspended,
        "deleted at Prefect": is_gone,
        "closed with an open job": sql("UPDATE run SET closed_at = now()"),
        "closed and crashed": is_closed_and_crashed,
    },
    Duty.QUEUES: {
        "a plan that was changed": has_another_limit,
        "a queue that was deleted": lambda scene: setattr(scene.prefect.queue_limits, "return_value", {}),
    },
    Duty.LOST_SUBMITS: {"a lost answer": of_call("status = 'unknown', request_id = NULL")},
    Duty.CALLS: {
        "silent": of_call("submitted_at = now() - interval '10 minutes'"),
        "past its deadline": of_call("deadline_at = now() - interval '1 second'"),
        "to be cancelled": of_call("cancel_requested_at = now()"),
        "submitting for long": of_call("status = 'submitting', submitted_at = now() - interval '61 seconds'"),
        "unknown for long": of_call("status = 'unknown', submitted_at = now() - interval '1 day'"),
        "long, and telling how far it has come": of_call(f"endpoint = '{TRAINING}', model_version = NULL"),
    },
    Duty.PAID_UNSEEN: {
        "of a job that is over": sql(
            "UPDATE job SET status = 'cancelled', finished_at = now()",
            "UPDATE request SET status = 'succeeded', finished_at = now()",
        ),
        "late": sql(
            "UPDATE request SET status = 'expired', finished_at = now()",
            "INSERT INTO delivery (provider, request_id, ref, verdict, body_sha256, received_at)"
            " SELECT 'fal', request_id, ref, 'late', '', now() FROM request",
        ),
    },
    Duty.UNASSIGNED: {
        "with a slot": sql("UPDATE job SET run_id = NULL"),
        "without need of one": sql(
            "UPDATE request SET status = 'cancelled', finished_at = now()",
            "UPDATE job SET run_id = NULL, slotless = true",
        ),
    },
    Duty.PENDING_RUNS: {
        "that waits": sql(START.format(status="'waiting'", due="NULL")),
        "whose time has come": sql(START.format(status="'waiting'", due="now()")),
        "that has gathered": sql(START.format(status="'gathering'", due="now()")),
    },
    Duty.GRANTS: {"in line": waits_in_line},
    Duty.BUDGETS: {"in line": waits_in_line},
    Duty.ENDS: {"no event yet": sql("UPDATE notification SET to_ingest = true")},
    Duty.CANCELS: {
        "by an event": sql(
            EVENT.format(told="now()"),
            "INSERT INTO event_effect (event_id, n, what, job_id, at) SELECT 'e', 0, 'cancelled', id, now() FROM job",
        )
    },
    Duty.EVENTS: {
        "not told": sql(EVENT.format(told="NULL"), "UPDATE event SET received_at = now() - interval '3 minutes'")
    },
    Duty.MONEY: {
        "a balance": sql("UPDATE account_money SET balance_due_at = now()"),
        "an account that was never asked": sql("DELETE FROM account_money"),
        "bills that no turn has come for": of_call("status = 'failed', finished_at = now() - interval '13 minutes'"),
    },
    Duty.OLD: {
        "news": sql("UPDATE notification SET created_at = now() - interval '31 days'"),
        "events": sql(EVENT.format(told="now()"), "UPDATE event SET received_at = now() - interval '91 days'"),
        "a pending run": sql(
            START.format(status="'dropped'", due="NULL"), "UPDATE start SET settled_at = now() - interval '91 days'"
        ),
        "a callback": sql(
            "INSERT INTO callback (id, owner_id, user_id, event, told_at, of_order, url, lane, thin, status, attempts,"
            " next_at, created_at) VALUES ('c', 'operator', 'operator', 'callback.test', now(), false, '', '', false,"
            " 'delivered', 1, now(), now() - interval '31 days')"
        ),
    },
    Duty.ACCOUNTS: {"down": sql("UPDATE account SET down_since = now(), down_reason = 'no money' WHERE id = 'fal'")},
    Duty.ENDPOINTS: {
        "off": sql(
            "INSERT INTO callback_endpoint (user_id, events, thin, salt, shown, created_at, off_at, off_reason)"
            " VALUES ('operator', '{}', false, '', false, now(), now(), 'it is gone')"
        )
    },
}


def test_nothing_is_due_while_all_is_well(scene: Scene) -> None:
    """A picture is under way, and what others will do is left to them: an event, bills, what is just old."""
    scene.sql(
        EVENT.format(told="NULL"),
        START.format(status="'gathering'", due="now() + interval '1 hour'"),
        "UPDATE notification SET created_at = now() - interval '30 days 1 minute'",
    )
    assert scene.found() == set()


def test_at_rest_prefect_is_asked_for_lost_turns_alone(scene: Scene) -> None:
    """No run is open, none has closed lately."""
    scene.sql(
        "UPDATE job SET status = 'completed', finished_at = now()",
        "UPDATE request SET status = 'failed', finished_at = now()",
        "UPDATE run SET closed_at = now() - interval '11 minutes'",
    )
    assert scene.found() == set()
    asked = {name for name, *_ in scene.prefect.method_calls}
    assert asked == {"under_way_since"}


@pytest.mark.parametrize(
    ("duty", "happens"),
    [pytest.param(duty, cases[name], id=f"{duty}: {name}") for duty, cases in CASES.items() for name in cases],
)
def test_what_a_turn_would_do_is_due(scene: Scene, duty: Duty, happens: Callable[[Scene], None]) -> None:
    """Each kind of what is lost, and of what was implied and not done."""
    happens(scene)
    assert duty in scene.found()


def test_each_step_of_a_turn_is_a_duty_that_is_found_due(ledger: Ledger) -> None:
    """A new step is one in both tables, or this fails."""
    assert Reconciler(resources_of(ledger))._steps().keys() == set(Duty) == CASES.keys()


def test_a_turn_takes_its_steps_in_their_order(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run ends its jobs before their calls are looked at, and so on; each once."""
    taken: list[Duty] = []
    steps = {duty: (lambda duty=duty: taken.append(duty)) for duty in reversed(Duty)}
    reconciler = Reconciler(resources_of(ledger))
    monkeypatch.setattr(reconciler, "_steps", lambda: steps)
    reconciler.once()
    assert taken == list(Duty)


def test_of_turns_at_the_same_time_one_works(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others leave at once: in the midst of it they would do the same once more."""
    worked: list[Reconciler] = []
    monkeypatch.setattr(flow, "open_resources", lambda: nullcontext(resources_of(ledger)))
    monkeypatch.setattr(flow, "skipped", lambda *_, **__: None)  # what Prefect's timetable asks for
    monkeypatch.setattr(flow, "make_missing", lambda *_, **__: None)
    monkeypatch.setattr(Reconciler, "once", lambda turn: worked.append(turn))
    with ledger.only_one("reconcile"):
        flow.reconcile.fn(None)
    assert worked == []
    flow.reconcile.fn(None)
    assert len(worked) == 1


def test_a_run_whose_process_came_back_meanwhile_is_left_to_it(scene: Scene) -> None:
    """Put back at Prefect it would have two."""
    state = RunState(type="RUNNING", name="Running", timestamp=utc_now())
    reconciler = Reconciler(resources_of(scene.ledger, orchestrator=scene.prefect))

    def recover(seen: Run | None) -> int:
        assert seen is not None
        with disable_run_logger():
            reconciler._run(seen, state, ForRun.RECOVER)
        return int(scene.prefect.recover.call_count)

    seen = scene.ledger.runs.get(scene.picture.run_id)
    scene.ledger.runs.renew(scene.picture.run_id)
    assert recover(seen) == 0
    assert recover(scene.ledger.runs.get(scene.picture.run_id)) == 1


def test_a_turn_waits_as_long_as_ever_for_what_is_not_yet_lost(scene: Scene) -> None:
    """The limits are those of the turn itself: a second before, nothing is due."""
    scene.prefect_says("RUNNING")
    scene.silent((UNSCALED.grace - timedelta(seconds=2)).total_seconds())
    assert scene.found() == set()


def test_a_turn_deletes_what_is_half_written_in_the_media_store(ledger: Ledger, tmp_path: Path) -> None:
    """As what else is old."""
    half_written = tmp_path / f".{uuid4().hex}"
    half_written.touch()
    os.utime(half_written, times=(0, 0))
    turn(replace(resources_of(ledger), store=MediaStore(LocalFolder(str(tmp_path)))))
    assert not half_written.exists()
