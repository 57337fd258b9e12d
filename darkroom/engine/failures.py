"""The errors of paid calls that have ended, from their records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darkroom.errors import DarkroomError, NeedsHuman, Park, Permanent, Retry
from darkroom.ledger import Request, RequestStatus
from darkroom.providers.registry import may_pass


def rebuilt(row: Request) -> DarkroomError:
    """Return the error with which an ended call failed, from its record, by what is known today."""
    if row.status is RequestStatus.EXPIRED:
        return Retry("The provider gave no sign of the request within its time.", code="expired")
    document = row.error or {}
    if may_pass(row.account_id, str(document.get("code"))):
        document = {**document, "class": Retry.kind}  # its type was not known when it was put on record
    return from_document(document).of(step=row.step, ref=row.ref)


def perhaps_paid(account_id: str) -> NeedsHuman:
    """Return the error of a call that may have been paid, and is not made again without a person."""
    return NeedsHuman(
        "The provider gave no sign of the request within its time, and may have been paid for it. Look for it "
        f"among the calls of the account {account_id} there, then replay the job.",
        code="expired",
    )


_CLASSES: dict[str, type[DarkroomError]] = {each.kind: each for each in (Retry, Park, Permanent, NeedsHuman)}


def from_document(document: Mapping[str, Any]) -> DarkroomError:
    """Return the error that was put on record so."""
    kind = _CLASSES.get(str(document.get("class")), Permanent)  # what is not known is not tried again
    return kind(str(document.get("message", "")), code=document.get("code"))
