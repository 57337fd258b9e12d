"""What the engine asks of whoever is paid for a call: fal, and every other provider behind the same seam.

A call is a row of the ledger at one account. `prepare` brings the row's files to where the provider can have them,
which costs nothing; `submit` is the one thing that is paid, and is done once. A provider either takes a call and says
later how it ended (webhook, and `poll` behind it), or is `immediate`: its answer is the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

__all__ = [
    "ASSET",
    "Accepted",
    "Bills",
    "Files",
    "Model",
    "PictureModel",
    "Progress",
    "Provider",
]
from darkroom.ledger import Ledger, Outcome, Request
from darkroom.media.formats import Media, RemoteFile
from darkroom.models import ASSET, Estimate, Path


class Model(Protocol):
    """What can be ordered of a provider: what it accepts, what it costs, what comes back. Knows, and asks nobody."""

    @property
    def endpoint(self) -> str: ...

    @property
    def account_id(self) -> str:
        """Return the account whose slots a call takes."""

    @property
    def expected(self) -> timedelta:
        """Return how long a call usually takes."""

    @property
    def start_timeout(self) -> timedelta:
        """Return after how long the provider gives up on a call that has not begun."""

    @property
    def deadline(self) -> timedelta:
        """Return after how long we give a call up."""

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check the arguments and return the input to record. Raise BadInput."""

    def estimate(self, input: Mapping[str, Any]) -> Decimal:
        """Return the most a call should cost, in USD."""

    def cost(
        self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None
    ) -> Decimal | None:
        """Return what a call did cost, in USD; None where nobody can say, so that it is as much as was expected."""

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        """Return the files of an output. Raise Permanent(code="unexpected_output") where there are none to find."""


class PictureModel(Model, Protocol):
    """A model that makes pictures, whose price hangs on their size."""

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """Return what its input is, as JSON Schema: its fields, and what each accepts."""

    def size(self, input: Mapping[str, Any]) -> tuple[int, int]:
        """Return width and height in pixels of the pictures to come, as far as the input tells."""

    def quote(self, input: Mapping[str, Any], *, size: tuple[int, int] | None = None) -> Estimate:
        """Return the most it should cost, and how that is known. `size`: of the pictures to come, if that is known."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The provider has the call, under its own id. `first_try`: its id of the try it begins with, where it tells.

    `deliver`: what has yet to be brought to it, once that id is on record. What it raises ends the call as failed, so
    it leaves nothing at the provider that could still be carried out.
    """

    request_id: str
    first_try: str | None = None
    deliver: Callable[[], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a call has come, in the provider's words."""

    percent: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Bills:
    """What calls were billed at, in USD: by the provider's ids, the sum of all that there is of each.

    `source`: what has told it, in the provider's words.
    """

    usd: Mapping[str, Decimal]
    source: str


class Files(Protocol):
    """The files that a call's input names."""

    @property
    def places(self) -> Collection[Path] | None:
        """Return where the input names files, as its model's schema says; None where only the provider knows."""

    def read(self, reference: str) -> Media:
        """Read the file of an `asset:…` reference. Raise Park while the media store is out."""

    def copy_at(self, account_id: str, reference: str, *, until: datetime) -> str | None:
        """Return where the provider has the file already, if it keeps it until then; else None."""

    def keep_copy(self, account_id: str, reference: str, *, url: str, expires_at: datetime) -> None:
        """Record where the provider has the file now."""


class Provider:
    """One account at a provider. Thread-safe. What is not overridden is what a provider without it has."""

    # Whether `submit` lasts as long as the work and returns its outcome.
    immediate: bool = False

    def prepare(self, input: Mapping[str, Any], *, files: Files) -> Mapping[str, Any]:
        """Return what to send: the recorded input, with its files where the provider can have them.

        Nothing is paid by it.
        """
        return input

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted | Outcome:
        """Submit the call, once. Raise SubmitUnknown where it may have been taken; else the error tree: it was not.

        `webhook_url`: where the provider's webhooks are received, with the row's own token; None without a public URL.
        """
        raise NotImplementedError

    def poll(self, row: Request) -> Outcome | None:
        """Return how the call ended, by the provider's id of it; None while it is under way.

        Raise Retry or Park where the provider cannot be asked just now, Permanent where it does not tell any more.
        """
        raise NotImplementedError

    def cancel(self, row: Request) -> None:
        """Ask for the call's end there. Return quietly where it has ended already."""

    def progress(self, row: Request) -> Progress | None:
        """Return how far it has come, where the provider tells; asked now and then while a run is suspended for it."""
        return None

    def confirm(self, row: Request, request_id: str) -> bool:
        """Return whether the provider has the row's call under this id: one request, with our own key.

        A webhook may come before the submit's answer; its row is then found by the token of its address.
        """
        return False

    def find_lost(self, ledger: Ledger, rows: Sequence[Request]) -> list[str]:
        """Look for submits whose answer was lost, where the provider lists what it was sent.

        Return the refs of the rows that were found, which are in flight from now on. `rows`: those that hold slots.
        """
        return []

    def bills(self, request_ids: Sequence[str], *, since: datetime) -> Bills | None:
        """Return what these calls were billed at, by the provider's ids; None where it does not tell.

        One that is not in it has no bill yet. `since`: before the first of them was sent. Raise as `poll`.
        """
        return None

    def balance(self) -> Decimal | None:
        """Return what is left on the account, in USD; None where the provider does not tell. Raise as `poll`."""
        return None

    def close(self) -> None:
        """Close what it has open."""
