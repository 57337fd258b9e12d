"""How a call of a job's function ends where the job does not: it waits, it comes again later, it was cancelled.

In a dry run also where it cannot go on, as what comes next has never been done.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from prefect.input import RunInput

from darkroom.errors import DarkroomError


class Waiting(BaseException):  # not an `Exception`: a job function must not swallow it
    """Nothing to do until one of these requests moves."""

    def __init__(
        self,
        refs: Iterable[str],
        *,
        form: type[RunInput] | None = None,
        due: datetime | None = None,
        expected: bool = True,
    ) -> None:
        """Name the `refs` to wait for.

        `form`: what a person is asked meanwhile. `due`: when one of them moves by itself. `expected`: whether one may
        come any moment, so that it is worth a process to wait for it.
        """
        super().__init__()
        self.refs = frozenset(refs)
        self.form = form
        self.due = due
        self.expected = expected


class DryRunStop(Waiting):
    """A dry run knows no more: `why` begins with "it would …". A wait, so what goes side by side is gone through."""

    def __init__(self, why: str) -> None:
        super().__init__({_STOP + why})


_STOP = "untold:"


def stop_reasons(waiting: Waiting) -> list[str]:
    """Return each reason why a dry run could not go on."""
    return sorted(ref.removeprefix(_STOP) for ref in waiting.refs if ref.startswith(_STOP))


class Cancelled(DarkroomError):
    """The job's request was cancelled, and so is the job."""

    kind = "cancelled"
    code = "cancelled"


class RetryLater(BaseException):  # for the same reason as `Waiting`
    """It could not be done just now (a file, a side effect), and another try may: call the job again after so long."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
