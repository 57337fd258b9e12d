"""What a committed change asks for outside its transaction, as data that knows how it is carried out.

A transition returns effects; its caller carries them out after the commit (`darkroom/orchestrator/dispatch.py`; in a
gateway beside the answers), and `reconcile` does again whatever was not done. A new effect is a class here: what it
needs to know, what is said where it fails, and what it does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self
from uuid import UUID

if TYPE_CHECKING:
    from darkroom.ledger import Ledger

LONGEST_NAME = 60  # of a user, in the name of a flow run


class PrefectRuns(Protocol):
    """What effects need of Prefect."""

    def wake(self, flow_run_id: UUID, *, event: str, request_ref: str, payload: dict[str, Any]) -> bool: ...

    def resume(self, flow_run_id: UUID) -> bool: ...

    def ensure_queue(self, user_id: str, *, limit: int) -> None: ...

    def create_run(
        self, *, deployment: str, run_key: str, name: str, user_id: str, plan: str, parameters: dict[str, Any]
    ) -> UUID: ...


class Outside(Protocol):
    """Where effects are carried out."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def orchestrator(self) -> PrefectRuns: ...

    def hand_out(self) -> Implied: ...


@dataclass(frozen=True, kw_only=True)
class Effect(ABC):
    @property
    @abstractmethod
    def undone(self) -> str:
        """Say what is left to reconcile where it fails."""

    @abstractmethod
    def carry_out(self, outside: Outside) -> Implied:
        """Do it. Return what that implies in its turn."""

    @classmethod
    def joined(cls, effects: Sequence[Self]) -> Iterable[Effect]:
        """Return what is carried out for these effects of one class: each, but none twice."""
        return dict.fromkeys(effects)


Implied = tuple[Effect, ...]
NOTHING: Implied = ()


def joined(implied: Implied) -> list[Effect]:
    """Return the effects that are carried out for these: some go together, and none is done twice."""
    by_class: dict[type[Effect], list[Effect]] = {}
    for effect in implied:
        by_class.setdefault(type(effect), []).append(effect)
    return [effect for kind, effects in by_class.items() for effect in kind.joined(effects)]


@dataclass(frozen=True, kw_only=True)
class WakeRun(Effect):
    """A suspended run is to be told that something came."""

    flow_run_id: UUID
    ref: str
    event: str
    awaits_input: bool = False  # it was suspended with a form: an event does not resume it

    @property
    def undone(self) -> str:
        return f"Flow run {self.flow_run_id} was not told of {self.event}"

    def carry_out(self, outside: Outside) -> Implied:
        if self.awaits_input:
            resumed = outside.orchestrator.resume(self.flow_run_id)
        else:
            payload = {"ref": self.ref}
            resumed = outside.orchestrator.wake(
                self.flow_run_id, event=self.event, request_ref=self.ref, payload=payload
            )
        if resumed:  # after Prefect's commit, else they would look too soon
            outside.ledger.runs.tell_workers()
        return NOTHING


@dataclass(frozen=True, kw_only=True)
class CreateRun(Effect):
    """A run on record is to have its flow run at Prefect."""

    run_id: str
    deployment: str  # "generate-image/on-demand"
    user_id: str
    user_name: str
    plan: str
    in_flight: int
    parameters: dict[str, Any] = field(hash=False)  # a dict has no hash; the run's id tells two apart

    @property
    def undone(self) -> str:
        return f"Run {self.run_id} was not started"

    @property
    def name(self) -> str:
        """Return what a person finds the flow run by: whose it is, its pipeline, and the end of the run's id."""
        whose = "".join(each for each in self.user_name if each.isprintable())[:LONGEST_NAME].strip()
        return f"{whose} · {self.deployment.partition('/')[0]} · {self.run_id[-8:]}"

    def carry_out(self, outside: Outside) -> Implied:
        # First, as Prefect makes a queue that it does not know by itself, without a limit.
        outside.orchestrator.ensure_queue(self.user_id, limit=self.in_flight)
        # The run's id is the idempotency key: whoever creates it again gets the same flow run.
        flow_run_id = outside.orchestrator.create_run(
            deployment=self.deployment,
            run_key=self.run_id,
            name=self.name,
            user_id=self.user_id,
            plan=self.plan,
            parameters=self.parameters,
        )
        outside.ledger.runs.created(self.run_id, flow_run_id)
        return NOTHING


@dataclass(frozen=True, kw_only=True)
class NotifyRun(Effect):
    """Something came for the job: its run is to be notified."""

    job_id: str

    @property
    def undone(self) -> str:
        return f"The run of {self.job_id} was not told that something came"

    def carry_out(self, outside: Outside) -> Implied:
        return outside.ledger.runs.notify_job(self.job_id)


@dataclass(frozen=True, kw_only=True)
class CancelJob(Effect):
    """Nobody waits for the job any more, or an event cancels it."""

    job_id: str

    @property
    def undone(self) -> str:
        return f"{self.job_id}, which nobody waits for any more, was not cancelled"

    def carry_out(self, outside: Outside) -> Implied:
        return outside.ledger.jobs.cancel(self.job_id)


@dataclass(frozen=True, kw_only=True)
class BeginPending(Effect):
    """A pending run of the deployment may begin, which flow control has held."""

    deployment: str

    @property
    def undone(self) -> str:
        return f"The pending runs of {self.deployment} were not looked at"

    def carry_out(self, outside: Outside) -> Implied:
        return outside.ledger.pending_runs.begin(self.deployment)


@dataclass(frozen=True, kw_only=True)
class AssignJobs(Effect):
    """Jobs go on without a slot: a run is to take them."""

    job_ids: tuple[str, ...]

    @property
    def undone(self) -> str:
        return f"{len(self.job_ids)} jobs were not assigned to a run"

    def carry_out(self, outside: Outside) -> Implied:
        return outside.ledger.runs.assign(*self.job_ids)

    @classmethod
    def joined(cls, effects: Sequence[Self]) -> Iterable[Effect]:
        """Return one effect for all: jobs that came together go to one run."""
        return [cls(job_ids=tuple(dict.fromkeys(job_id for each in effects for job_id in each.job_ids)))]


@dataclass(frozen=True, kw_only=True)
class Grant(Effect):
    """A slot became free, or a row came to wait for one."""

    undone = "Free slots were not granted"

    def carry_out(self, outside: Outside) -> Implied:
        return outside.hand_out()


GRANT = Grant()


def grant_if(due: bool) -> Implied:
    return (GRANT,) if due else NOTHING
