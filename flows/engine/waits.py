"""How a call of a job's function ends where the job does not: it waits, it comes again later, it was cancelled."""

from __future__ import annotations

from collections.abc import Iterable

from prefect.input import RunInput

from blocks.errors import DarkroomError


class Waiting(BaseException):
    """Nothing to do until one of these requests moves. Not an `Exception`: a job function must not swallow it."""

    def __init__(self, refs: Iterable[str], *, form: type[RunInput] | None = None) -> None:
        """`form`: what a person is asked meanwhile."""
        super().__init__()
        self.refs = frozenset(refs)
        self.form = form


class Cancelled(DarkroomError):
    """The job's request was cancelled, and so is the job."""

    kind = "cancelled"
    code = "cancelled"


class Later(BaseException):
    """The provider's file could not be had, and another try may bring it: call the job again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
