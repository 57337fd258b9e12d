"""The files of a job: stored from answers or made, each verified and each once, and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import random
from typing import Any

from darkroom.engine import store as storing
from darkroom.engine import tasks
from darkroom.engine.durable import Durable
from darkroom.engine.resources import Resources
from darkroom.engine.signals import RetryLater
from darkroom.errors import DarkroomError, Park, Retry
from darkroom.ledger import Asset, Record
from darkroom.media.formats import Kind, RemoteFile

Turn = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A finished paid call: what the provider answered, and the files it made."""

    ref: str
    attempt: int
    step: str
    output: Mapping[str, Any]
    files: tuple[RemoteFile, ...]
    reused_from: str | None = None
    collected_at: datetime


class JobFiles(Durable):
    """What each call of a job's function can do with files. `fresh`: those that were stored in this call."""

    def __init__(
        self, record: Record, resources: Resources, *, as_tasks: bool, failures: int, turn: Turn = nullcontext
    ) -> None:
        super().__init__(record.job, resources, as_tasks=as_tasks, failures=failures)
        self._turn = turn
        self.user_id = record.job.user_id
        self.parameters: Mapping[str, Any] = record.job.parameters
        self._files = {(asset.step, asset.n): asset for asset in record.assets}
        self.fresh: list[Asset] = []

    @property
    def assets(self) -> list[Asset]:
        return list(self._files.values())

    def store(self, inference: Inference) -> list[Asset]:
        """Bring the call's files into the media store, each verified, each once. Raise as `storing.require_shown`."""
        again, each = inference.reused_from, enumerate(inference.files)
        files = self._reused(inference, again) if again else [self._stored(inference, file, n=n) for n, file in each]
        return storing.require_shown(self.parameters, files, step=inference.step, ref=inference.ref)

    def make(self, step: str, build: Callable[[], bytes], *, kind: Kind = Kind.IMAGE, n: int = 0) -> Asset:
        """Make and store a file of our own, once: `build` gives its bytes and has no other effect."""
        if (step, n) not in self._files:
            self.require_going_on()  # what is there is given to a job that was cancelled, too
            try:
                made = self._make_as_task if self._as_tasks else self._make
                asset = made(step, build, kind=kind, n=n)
            except DarkroomError as error:
                self._call_again(error)
                raise error.of(step=step) from error
            self._note_file(asset)
        return self._files[step, n]

    def asset(self, asset_id: str) -> Asset:
        """Return a file of the job's user. Raise BadInput for what is none."""
        return storing.own_asset(self._resources, asset_id, user_id=self.user_id)

    def read(self, asset: Asset) -> bytes:
        """Return a file's content. Wait for a media store that is out."""
        return self.read_key(storing.readable(asset).key)

    def read_key(self, key: str) -> bytes:
        """Return a file's content by its key in the store. Wait for a media store that is out."""
        try:
            return self._resources.store.read(key)
        except DarkroomError as error:
            self._call_again(error)
            raise

    def _reused(self, inference: Inference, reused_from: str) -> list[Asset]:
        present = [asset for (step, _), asset in sorted(self._files.items()) if step == inference.step]
        if present:
            return present
        reuse = self._resources.ledger.assets.reuse
        assets = reuse(self._row, ref=inference.ref, reused_from=reused_from, step=inference.step)
        for asset in assets:
            self._note_file(asset)
        return assets

    def _note_file(self, asset: Asset) -> None:
        self._files[asset.step, asset.n] = asset
        self.fresh.append(asset)

    def _stored(self, inference: Inference, file: RemoteFile, *, n: int) -> Asset:
        place = (inference.step, n)
        if place not in self._files:
            try:
                store = self._store_as_task if self._as_tasks else self._store
                self._note_file(store(inference, file, n=n))
            except DarkroomError as error:
                self._call_again(error)
                raise error.of(step=inference.step, ref=inference.ref) from error
        return self._files[place]

    def _call_again(self, error: DarkroomError) -> None:
        """Raise `RetryLater` where another try may bring it."""
        pauses: Sequence[timedelta] = ()
        if isinstance(error, Park):
            pauses = self._resources.timing.file_out_again
        elif isinstance(error, Retry) and not self._as_tasks:  # the task has its own tries of these
            pauses = self._resources.timing.file_again
        if self._failures < len(pauses):
            # Up to twice as long, so that what an outage has failed together does not come back together.
            # Not slept through here: the thread is another job's meanwhile.
            raise RetryLater(pauses[self._failures].total_seconds() * (1 + random())) from error

    def _make_as_task(self, step: str, build: Callable[[], bytes], *, kind: Kind, n: int) -> Asset:
        key = f"{self.id}/{step}-{n}"
        make = tasks.paced(tasks.make, self._resources.timing)
        return self._asset_of_task(make(self.id, build, step=step, n=n, kind=kind, key=key))

    def _make(self, step: str, build: Callable[[], bytes], *, kind: Kind, n: int) -> Asset:
        with self._turn():
            return storing.make(self._resources, self._row, build, step=step, n=n, kind=kind)

    def _store_as_task(self, inference: Inference, file: RemoteFile, *, n: int) -> Asset:
        step, ref = inference.step, inference.ref
        key = f"{self.id}/{step}-{n}/{inference.attempt}"  # another attempt's file is another file
        store = tasks.paced(tasks.store, self._resources.timing)
        return self._asset_of_task(store(self.id, ref, step=step, n=n, key=key, collected_at=inference.collected_at))

    def _store(self, inference: Inference, file: RemoteFile, *, n: int) -> Asset:
        step, ref, since = inference.step, inference.ref, inference.collected_at
        with self._turn():
            return storing.store(self._resources, self._row, file, ref=ref, step=step, n=n, collected_at=since)

    # Tasks give ids alone: Prefect keeps what they return.
    def _asset_of_task(self, asset_id: str) -> Asset:
        stored = self._resources.ledger.assets.get(asset_id)
        assert stored is not None
        return stored
