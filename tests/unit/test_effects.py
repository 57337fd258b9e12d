"""What a change implies: an effect is one class, whoever carries it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import Any, cast

import pytest

from darkroom.deployments.gateway.loops.effects import EffectExecutor
from darkroom.errors import Retry
from darkroom.ledger import GRANT, NOTHING, AssignJobs, CreateRun, Effect, Implied, Ledger, NotifyRun, joined
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.dispatch import Dispatcher


@dataclass(frozen=True, kw_only=True)
class Note(Effect):
    """An effect that neither of those who carry out effects has heard of."""

    text: str
    follows: Implied = NOTHING
    into: list[str] = field(hash=False, compare=False)
    done: Event = field(default_factory=Event, hash=False, compare=False)

    undone = "It was not noted"

    def carry_out(self, outside: Any) -> Implied:
        self.done.set()
        if self.text == "fails":
            raise Retry("Not now.")
        self.into.append(self.text)
        return self.follows


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher(cast(Ledger, None), cast(Orchestrator, None))


def test_what_follows_from_an_effect_is_carried_out_too_and_none_twice(dispatcher: Dispatcher) -> None:
    noted: list[str] = []
    last = Note(text="last", into=noted)
    first = Note(text="first", follows=(last,), into=noted)
    dispatcher.carry_out((first, last, first))
    assert noted == ["first", "last"]


def test_one_that_fails_does_not_keep_the_next_from_happening(dispatcher: Dispatcher) -> None:
    noted: list[str] = []
    dispatcher.carry_out((Note(text="fails", into=noted), Note(text="next", into=noted)))
    assert noted == ["next"]


def test_a_gateway_carries_out_the_same_and_leaves_grants_to_the_thread_for_them(dispatcher: Dispatcher) -> None:
    noted: list[str] = []
    granting = Event()
    first = Note(text="first", follows=(GRANT,), into=noted)
    with EffectExecutor(dispatcher, on_grant=granting.set) as executor:
        executor.run((first,))
        assert first.done.wait(60) and granting.wait(60)
    assert noted == ["first"]


def test_jobs_that_came_together_go_to_one_run() -> None:
    implied = (AssignJobs(job_ids=("a",)), NotifyRun(job_id="c"), GRANT, AssignJobs(job_ids=("b", "a")), GRANT)
    assert joined(implied) == [AssignJobs(job_ids=("a", "b")), NotifyRun(job_id="c"), GRANT]


def created(**given: Any) -> CreateRun:
    named = {"run_id": "run_01a22df1c2008dac8f38a1c3f1ec", "deployment": "generate-image/on-demand", "user_id": "u"}
    return CreateRun(**{**named, "user_name": "ann", "plan": "p", "in_flight": 1, "parameters": {}, **given})


def test_a_run_has_a_name_that_a_person_understands() -> None:
    """Whose it is, the pipeline and a short id; never the prompt, and no more of a user's name than there is room."""
    assert created(parameters={"prompt": "fox"}).name == "ann · generate-image · a1c3f1ec"
    assert created(user_name="زينب\n").name == "زينب · generate-image · a1c3f1ec"
    assert len(created(user_name="x" * 500).name) < 100


def test_a_run_is_created_once_though_its_parameters_are_no_key() -> None:
    creation = created(parameters={"prompt": "fox"})
    assert joined((creation, creation)) == [creation]
