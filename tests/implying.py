"""What tests read of an implication: the effects of one class, or the jobs that they name."""

from __future__ import annotations

from typing import TypeVar

from darkroom.ledger import (
    GRANT,
    AssignJobs,
    BeginPending,
    CancelJob,
    CreateRun,
    Effect,
    Implied,
    NotifyRun,
    WakeRun,
)

E = TypeVar("E", bound=Effect)


def of_class(kind: type[E], implied: Implied) -> tuple[E, ...]:
    return tuple(effect for effect in implied if isinstance(effect, kind))


def creations(implied: Implied) -> tuple[CreateRun, ...]:
    return of_class(CreateRun, implied)


def wakes(implied: Implied) -> tuple[WakeRun, ...]:
    return of_class(WakeRun, implied)


def assigned(implied: Implied) -> tuple[str, ...]:
    return tuple(job_id for effect in of_class(AssignJobs, implied) for job_id in effect.job_ids)


def notified(implied: Implied) -> tuple[str, ...]:
    return tuple(effect.job_id for effect in of_class(NotifyRun, implied))


def cancelled(implied: Implied) -> tuple[str, ...]:
    return tuple(effect.job_id for effect in of_class(CancelJob, implied))


def begun(implied: Implied) -> tuple[str, ...]:
    return tuple(effect.deployment for effect in of_class(BeginPending, implied))


def grants(implied: Implied) -> bool:
    return GRANT in implied
