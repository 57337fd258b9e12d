"""The ledger: every job, every paid call, every webhook, every file, in Postgres.

`Ledger(url)` opens it; its parts are `users`, `keys`, `accounts`, `jobs`, `requests`, `runs`, `grants` and `loras`.
Changes return what they imply outside (`Implied`); the caller carries that out after the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from psycopg.errors import DiskFull
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from darkroom.clock import Clock, utc_now
from darkroom.ledger.accounts import Accounts
from darkroom.ledger.admission import Granted, Grants
from darkroom.ledger.assets import AssetFilter, Assets, ListedAsset, StoredFile
from darkroom.ledger.batch_tables import Batch, BatchRow
from darkroom.ledger.batches import BATCH, Batches, Child, Counts, ManifestRow, RowPicture
from darkroom.ledger.bills import Bills, Drift, DueBill, billed_day
from darkroom.ledger.budgets import Budget, Budgets, Period
from darkroom.ledger.callback_tables import Callback, CallbackEndpoint
from darkroom.ledger.callbacks import Callbacks, OffEndpoint, Sent
from darkroom.ledger.canonical_json import content_hash, same
from darkroom.ledger.causes import Causes
from darkroom.ledger.columns import ON_DEMAND
from darkroom.ledger.database import OUTAGES, Listener, is_refused_write, listen, make_engine, only_one, run
from darkroom.ledger.dead_letters import (
    MOST_LETTERS,
    MOST_REASON,
    DeadLetter,
    DeadLetterFilter,
    DeadLetters,
    Done,
    Price,
)
from darkroom.ledger.effects import (
    GRANT,
    NOTHING,
    AssignJobs,
    BeginPending,
    CancelJob,
    CreateRun,
    Effect,
    Implied,
    NotifyRun,
    WakeRun,
    joined,
)
from darkroom.ledger.event_tables import Event, EventEffect, PendingRun, Step, Wait
from darkroom.ledger.events import EventCancel, Events, EventStart, NewEvent, Received
from darkroom.ledger.flow_control.pending_runs import PendingRuns
from darkroom.ledger.housekeeping import Housekeeping
from darkroom.ledger.job_lists import JobUsage
from darkroom.ledger.jobs import Jobs, Posted, Record
from darkroom.ledger.key_tables import USUAL, Scope
from darkroom.ledger.keys import Caller, Keys, KnownKey, NewKey
from darkroom.ledger.labels import Labels, Search
from darkroom.ledger.lora_tables import Lora
from darkroom.ledger.loras import Loras
from darkroom.ledger.migrations import migrate
from darkroom.ledger.model_tables import ModelCard
from darkroom.ledger.models import CardsAge, KnownModel, Models
from darkroom.ledger.money_tables import AccountMoney
from darkroom.ledger.news import AllNews, Audience, JobEnd, News
from darkroom.ledger.part import Part
from darkroom.ledger.queue import AccountNow, Queue
from darkroom.ledger.replay import asks_the_same, plan_replay
from darkroom.ledger.request_rows import RequestSpec, spec_again
from darkroom.ledger.requests import Requests
from darkroom.ledger.run_work import CHOICE, ROWS, WAIT, Work
from darkroom.ledger.runs import READY, Runs
from darkroom.ledger.sessions import KnownSession, NewSession, Sessions
from darkroom.ledger.settle import Arrival, Outcome, Verdict
from darkroom.ledger.spending import GROUPS, Spending, Sums, Usage
from darkroom.ledger.statuses import (
    BatchPass,
    EffectKind,
    EventStatus,
    JobStatus,
    Lane,
    LoraStatus,
    PendingStatus,
    RequestStatus,
    Transition,
    WaitKind,
    WaitStatus,
)
from darkroom.ledger.tables import Account, Asset, Job, Plan, Request, Run, User, new_id
from darkroom.ledger.usage import PeriodUsage, UsageReports
from darkroom.ledger.users import OPERATOR, OVERLAP, Users
from darkroom.ledger.waits import Steps, Waits
from darkroom.ledger.why import batch_waits_for, explain
from darkroom.timing import UNSCALED, Timing

__all__ = [
    "BATCH",
    "CHOICE",
    "GRANT",
    "GROUPS",
    "MOST_LETTERS",
    "MOST_REASON",
    "NOTHING",
    "ON_DEMAND",
    "OPERATOR",
    "OUTAGES",
    "OVERLAP",
    "READY",
    "ROWS",
    "USUAL",
    "WAIT",
    "Account",
    "AccountMoney",
    "AccountNow",
    "Arrival",
    "Asset",
    "AssetFilter",
    "AssignJobs",
    "Audience",
    "Batch",
    "BatchPass",
    "BatchRow",
    "BeginPending",
    "Budget",
    "Callback",
    "CallbackEndpoint",
    "Caller",
    "CancelJob",
    "CardsAge",
    "Child",
    "Counts",
    "CreateRun",
    "DeadLetter",
    "DeadLetterFilter",
    "Done",
    "Drift",
    "DueBill",
    "Effect",
    "EffectKind",
    "Event",
    "EventCancel",
    "EventEffect",
    "EventStart",
    "EventStatus",
    "Granted",
    "Implied",
    "Job",
    "JobEnd",
    "JobStatus",
    "JobUsage",
    "KnownKey",
    "KnownModel",
    "KnownSession",
    "Labels",
    "Lane",
    "Ledger",
    "ListedAsset",
    "Listener",
    "Lora",
    "LoraStatus",
    "ManifestRow",
    "ModelCard",
    "NewEvent",
    "NewKey",
    "NewSession",
    "News",
    "NotifyRun",
    "OffEndpoint",
    "Outcome",
    "PendingRun",
    "PendingStatus",
    "Period",
    "PeriodUsage",
    "Plan",
    "Posted",
    "Price",
    "Received",
    "Record",
    "Request",
    "RequestSpec",
    "RequestStatus",
    "RowPicture",
    "Run",
    "Scope",
    "Search",
    "Sent",
    "Step",
    "StoredFile",
    "Sums",
    "Transition",
    "Usage",
    "User",
    "Verdict",
    "Wait",
    "WaitKind",
    "WaitStatus",
    "WakeRun",
    "Work",
    "asks_the_same",
    "billed_day",
    "content_hash",
    "is_refused_write",
    "joined",
    "migrate",
    "new_id",
    "plan_replay",
    "same",
    "spec_again",
]

P = TypeVar("P", bound=Part)

ROOM_LASTS = timedelta(seconds=1)


class Ledger:
    def __init__(self, url: str, *, read_only: bool = False, clock: Clock = utc_now, timing: Timing = UNSCALED) -> None:
        """Open the ledger at that URL. `read_only`: whatever would write raises what `is_refused_write` knows.

        `clock` is what all of it takes the time from, SQL too, and `timing` whose limits it keeps. Who opens a ledger
        gives them; who is given a ledger has them from it.
        """
        if not url:
            raise ValueError("No ledger: set DARKROOM_LEDGER_URL, or start one with `darkroom up`.")
        self.clock, self.timing = clock, timing
        self._url = url
        self._engine = make_engine(url, read_only=read_only)
        self._room, self._room_tried_at = True, datetime.min.replace(tzinfo=UTC)
        self.users = self._part(Users)
        self.keys = self._part(Keys)
        self.sessions = self._part(Sessions)
        self.accounts = self._part(Accounts)
        self.jobs = self._part(Jobs)
        self.batches = self._part(Batches)
        self.assets = self._part(Assets)
        self.requests = self._part(Requests)
        self.runs = self._part(Runs)
        self.grants = self._part(Grants)
        self.queue = self._part(Queue)
        self.loras = self._part(Loras)
        self.models = self._part(Models)
        self.events = self._part(Events)
        self.waits = self._part(Waits)
        self.pending_runs = self._part(PendingRuns)
        self.steps = self._part(Steps)
        self.dead_letters = DeadLetters(self._engine, self.jobs, clock=clock)
        self.causes = self._part(Causes)
        self.usage = self._part(UsageReports)
        self.bills = self._part(Bills)
        self.budgets = self._part(Budgets)
        self.spending = self._part(Spending)
        self.news = self._part(AllNews)
        self.callbacks = self._part(Callbacks)
        self.housekeeping = self._part(Housekeeping)

    def waiting_for(
        self, job: Job, requests: Sequence[Request], *, passes: Sequence[Counts] | None = None
    ) -> str | None:
        """Say in one sentence what the job waits for, from its rows; None if it has ended. `passes`: a batch's."""
        if job.kind == BATCH and not job.status.terminal and (batch := self.batches.get(job.id)) is not None:
            passes = self.batches.counts(job.id) if passes is None else passes
            return batch_waits_for(batch, passes, now=self.clock())
        return explain(self._engine, job, requests, now=self.clock(), timing=self.timing)

    def _part(self, kind: type[P]) -> P:
        return kind(self._engine, clock=self.clock, timing=self.timing)

    def listen(self, channel: str) -> AbstractContextManager[Listener]:
        """Open a connection that is notified when something was committed for that channel, e.g. a run's id."""
        return listen(self._url, channel)  # on a connection of its own, as it is held for as long as somebody listens

    def only_one(self, name: str) -> AbstractContextManager[bool]:
        """Give True to one holder of the name at a time, in all processes, and False to the others."""
        return only_one(self._engine, name)

    def answers(self) -> bool:
        try:
            with self._engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except OUTAGES:
            return False
        return True

    def has_room(self) -> bool:
        """Return whether what is new can still be written down: false where Postgres' disk is full."""
        # Tried with a table of this transaction alone, as an old one may have room left in its file; once a second at
        # most, as strangers may ask.
        now = self.clock()
        if now - self._room_tried_at >= ROOM_LASTS:
            self._room, self._room_tried_at = self._try_room(), now
        return self._room

    def _try_room(self) -> bool:
        try:
            with self._engine.begin() as connection:
                run(connection, "try_room")
        except OperationalError as error:
            if isinstance(error.orig, DiskFull):
                return False
            raise
        return True

    def close(self) -> None:
        self._engine.dispose()
