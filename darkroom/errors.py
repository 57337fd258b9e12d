"""Every failure Darkroom knows, by what the caller does next.

    DarkroomError
    ├── Retry         try the same thing again, after a while
    │   ├── RateLimited       … and slower: the provider said 429
    │   ├── TooMany           … when less of one's own waits: the plan's queue is full
    │   └── Unverified        … the file came, but is not what was promised (cut short, not decodable)
    ├── Park          the provider is out: keep the work as it is, use up no attempt
    │   ├── OutOfMoney        … as the account's balance is exhausted: as above, and a person tops it up
    │   └── StoreFull         … or the media store has no room left: as above, and a person makes room
    ├── SubmitUnknown the submit answer was lost: the job may exist, so it is neither repeated nor given up
    ├── Permanent     never again: the same request would fail the same way
    │   ├── BadInput          the caller's input: names the field and the remedy
    │   ├── WrongState        what is asked for does not go with what it is asked of, e.g. a replay of what runs
    │   └── Refused           what arrived must not be stored (host, size, pixels, type)
    └── NeedsHuman    a person decides

Each is constructible from one message string, because Prefect's JSON results rebuild exceptions that way. The message
may carry the provider's words, never the prompt. Foreign exceptions are translated once, in the block that meets them.
"""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import Any, ClassVar, Self


class DarkroomError(Exception):
    """Base of the tree. `code` is a short machine-readable word, `class` in the API is `kind`.

    `step` and `ref` are set where a failure belongs to a step of a job and to a paid call.
    """

    kind: ClassVar[str] = "error"
    code: str = "error"
    retry_after: timedelta | None = None
    step: str | None = None
    ref: str | None = None

    def __init__(self, message: str = "", *, code: str | None = None, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        if code:
            self.code = code
        if retry_after is not None:
            self.retry_after = retry_after

    def of(self, *, step: str, ref: str | None = None) -> Self:
        self.step, self.ref = step, ref
        return self

    @property
    def message(self) -> str:
        return str(self)

    def document(self) -> dict[str, Any]:
        """Return the failure as it is put on record, and as the API shows it."""
        return {
            "code": self.code,
            "class": self.kind,
            "message": self.message,
            "step": self.step,
            "ref": self.ref,
            "retryable": self.kind == "retry",
        }


class Retry(DarkroomError):
    """Transient: the same request may succeed later. Nothing was paid."""

    kind = "retry"
    code = "transient"


class RateLimited(Retry):
    """The provider asked for less. Wait `retry_after`."""

    code = "rate_limited"


class TooMany(Retry):
    """As much of the user's waits as the plan allows. Nothing was written; ask again when some of it has gone."""

    code = "queue_full"


class Unverified(Retry):
    """A file was cut short or does not decode. Fetch it again; the generation itself is paid and kept."""

    code = "file_unverified"


class Park(DarkroomError):
    """The provider is out of service. Keep the request queued."""

    kind = "park"
    code = "provider_down"


class OutOfMoney(Park):
    """The balance at the provider is exhausted. What waits goes on by itself after a top-up: the next probe tells."""

    code = "balance_exhausted"


class StoreFull(Park):
    """The media store has no room for the file. What waits goes on by itself once there is some."""

    code = "store_full"


class SubmitUnknown(DarkroomError):
    """No answer to a submit: fal may have the job. Its webhook or `reconcile` settles it."""

    kind = "unknown"
    code = "submit_unknown"


class Permanent(DarkroomError):
    """The same request would fail the same way. Change it, or read the provider's words."""

    kind = "permanent"
    code = "permanent"


class BadInput(Permanent):
    """The caller's input is wrong. `field` names it; the message names the remedy."""

    code = "bad_input"

    def __init__(self, message: str = "", *, field: str = "", code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.field = field


class WrongState(Permanent):
    """It cannot be done to what it is asked of, as that is now. The message says what to do instead."""

    code = "wrong_state"


class Refused(Permanent):
    """What came back must not be stored: foreign host, too large, too many pixels, wrong type."""

    code = "file_refused"


class NeedsHuman(DarkroomError):
    """Only a person can decide, e.g. whether to pay for a training a second time."""

    kind = "needs_human"
    code = "needs_human"


def way_to(error: Exception) -> str:
    """Return the error's traceback, without what the error itself says: that may repeat an order."""
    return "".join((*traceback.format_tb(error.__traceback__), type(error).__name__))
