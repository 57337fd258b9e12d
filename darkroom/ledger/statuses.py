"""The life of a paid request, as pure functions.

`next_status` is the whole state machine: what a row in one status becomes when something happens to it, or None where
the transition changes nothing (a duplicate, or an answer that comes too late). `request_rows.py`, `requests.py` and
`settle.py` write what is decided here.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class RequestStatus(StrEnum):
    QUEUED = "queued"  # on record, nothing paid, waits for a slot
    GRANTED = "granted"  # holds a slot, from here to a terminal status
    SUBMITTING = "submitting"  # the one POST is on its way
    IN_FLIGHT = "in_flight"  # the provider has it and told us its id
    UNKNOWN = "unknown"  # the answer was lost: the provider may have it
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # given up: no sign of it within its time

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset(
    {RequestStatus.SUCCEEDED, RequestStatus.FAILED, RequestStatus.CANCELLED, RequestStatus.EXPIRED},
)


class JobStatus(StrEnum):
    PENDING = "pending"  # no flow run has taken it up yet
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"  # a dead letter: its rows say what failed and what was paid
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class BatchPass(StrEnum):
    """Which pass of a batch a job belongs to."""

    DRAFT = "draft"  # everything, cheap, to choose from
    FINAL = "final"  # what was chosen, as it was asked for


class EventStatus(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"  # kept for a person to look at; it starts and wakes nothing


class EffectKind(StrEnum):
    """What an event did, or did not, to one deployment or one wait."""

    STARTED = "started"
    WOKE = "woke"
    NOT_STARTED = "not_started"
    HELD = "held"  # by the deployment's flow control: its outcome stands in the `PendingRun`
    NOT_WOKEN = "not_woken"
    CANCELS = "cancels"  # jobs of a deployment; its pending runs when their turn comes
    CANCELLED = "cancelled"  # this job
    NOT_CANCELLED = "not_cancelled"


class PendingStatus(StrEnum):
    """Of a run that events ask for, under a deployment's flow control. Rows bear the words of 0.1, as waits do."""

    COLLECTING = "gathering"  # more events may join it
    WAITING = "waiting"  # for its turn
    STARTED = "begun"  # as a job
    DROPPED = "dropped"  # nothing begins, for the reason on record

    @property
    def word(self) -> str:
        """Return what people and programs are told."""
        return self.name.lower()


class WaitKind(StrEnum):
    SLEEP = "sleep"
    EVENT = "event"
    CHILD = "child"  # for the end of another job


class WaitStatus(StrEnum):
    """Where a wait stands. Rows bear the words of 0.1: gateways of that version may run on the same ledger."""

    OPEN = "open"
    RECEIVED = "came"  # the event, or the other job's end
    TIMED_OUT = "over"  # or a person said so
    SUPERSEDED = "passed"  # one was enough of several, and it was another
    CANCELLED = "ended"  # its job has ended before

    @property
    def word(self) -> str:
        """Return what people and programs are told."""
        return self.name.lower()


class LoraStatus(StrEnum):
    TRAINED = "trained"  # its weights are stored; its sample pictures are yet to come
    READY = "ready"


class Lane(IntEnum):
    CONTINUE = 0  # a later step of a job under way
    INTERACTIVE = 1
    BATCH = 2
    TRAINING = 3


class Transition(StrEnum):
    GRANT = "grant"
    SUBMIT = "submit"  # about to POST
    ACCEPT = "accept"  # the provider answered with an id, or the row was found there
    REFUSE = "refuse"  # surely not accepted, may be tried again
    LOSE = "lose"  # no answer: it may or may not be there
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"
    ADOPT = "adopt"  # a replay takes up the result that came after the row had been cancelled or given up


_Q, _G, _S, _F, _U = (
    RequestStatus.QUEUED,
    RequestStatus.GRANTED,
    RequestStatus.SUBMITTING,
    RequestStatus.IN_FLIGHT,
    RequestStatus.UNKNOWN,
)

_ENDS = {
    Transition.SUCCEED: RequestStatus.SUCCEEDED,
    Transition.FAIL: RequestStatus.FAILED,
    Transition.CANCEL: RequestStatus.CANCELLED,
    Transition.EXPIRE: RequestStatus.EXPIRED,
}

# Nobody gives up what was never sent. A success of it follows a refusal that was none: it is paid, so it is kept.
_ENDS_UNSENT: dict[Transition, RequestStatus] = {
    Transition.SUCCEED: RequestStatus.SUCCEEDED,
    Transition.FAIL: RequestStatus.FAILED,
    Transition.CANCEL: RequestStatus.CANCELLED,
}

_TABLE: dict[RequestStatus, dict[Transition, RequestStatus]] = {
    _Q: {Transition.GRANT: _G, **_ENDS_UNSENT},
    # Refused before it was sent: its files could not be brought to the provider.
    _G: {Transition.SUBMIT: _S, Transition.REFUSE: _Q, **_ENDS_UNSENT},
    # A webhook may overtake the submit answer, so a submitting row can end at once.
    _S: {Transition.ACCEPT: _F, Transition.REFUSE: _Q, Transition.LOSE: _U, **_ENDS},
    _F: {**_ENDS},
    _U: {Transition.ACCEPT: _F, **_ENDS},
    # The one way out of an ending: the result is paid and on record, and somebody wants it after all.
    RequestStatus.CANCELLED: {Transition.ADOPT: RequestStatus.SUCCEEDED},
    RequestStatus.EXPIRED: {Transition.ADOPT: RequestStatus.SUCCEEDED},
}


def next_status(status: RequestStatus, transition: Transition) -> RequestStatus | None:
    """Return the status after the transition; None where it changes nothing: the first ending wins."""
    return _TABLE.get(status, {}).get(transition)


def statuses_before(transition: Transition) -> list[str]:
    """Return the statuses in which the transition changes something."""
    return [status.value for status, changes in _TABLE.items() if transition in changes]
