"""What a job under a dry run works with: the ledger and the media store, to be read, and nobody to talk to.

Whatever the job's function would do with them ends its call, with what it would have done (`DryRunStop`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import IO, Any, NoReturn, cast

import httpx
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker

from darkroom.engine.dry_run.offline import let_through
from darkroom.engine.resources import Resources
from darkroom.engine.signals import DryRunStop
from darkroom.errors import NeedsHuman
from darkroom.ledger import Ledger, Request
from darkroom.media.store import MediaStore, open_media_store
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.dispatch import Dispatcher
from darkroom.providers.base import Accepted, Files, Provider
from darkroom.providers.registry import Providers, openers
from darkroom.settings import Settings


@contextmanager
def open_only_to_read(settings: Settings) -> Iterator[Resources]:
    """Open what a dry-run job works with: the ledger and the media store, to be read."""
    # To load a block tells Prefect's feed so.
    EventsWorker.set_client_override(NullEventsClient)
    with ExitStack() as opened:
        ledger = Ledger(settings.ledger_url, read_only=True, timing=settings.timing)
        opened.callback(ledger.close)
        yield only_to_read(settings, ledger, open_media_store(settings))


def only_to_read(settings: Settings, ledger: Ledger, store: MediaStore) -> Resources:
    """Return resources that only read. `ledger`: opened `read_only`."""
    return Resources(
        settings=settings,
        ledger=ledger,
        orchestrator=cast(Orchestrator, _Nobody("tell Prefect")),
        dispatcher=cast(Dispatcher, _Nobody("tell other runs")),
        providers=_NoProviders(),
        files=cast(httpx.Client, _Nobody("fetch a file")),
        store=_OnlyRead(store),
    )


class _Nobody:
    """Stands where the function would find somebody to talk to."""

    def __init__(self, act: str) -> None:
        self._act = act

    def __getattr__(self, name: str) -> NoReturn:
        raise DryRunStop(f"it would {self._act}")


class _OnlyRead(MediaStore):
    def __init__(self, store: MediaStore) -> None:
        self._store = store

    def write(self, key: str, content: bytes) -> None:
        raise DryRunStop("it would store a file")

    def write_file(self, key: str, file: IO[bytes]) -> None:
        raise DryRunStop("it would store a file")

    def read(self, key: str) -> bytes:
        with let_through():  # where the files lie may be another machine
            return self._store.read(key)


class _NoProviders(Providers):
    def of(self, account_id: str) -> Provider:
        if account_id not in openers():
            raise NeedsHuman(f"Nobody knows how to pay the account '{account_id}'.", code="no_provider")
        return _NoProvider()


class _NoProvider(Provider):
    """Known, and not to be reached."""

    def prepare(self, input: Mapping[str, Any], *, files: Files) -> Mapping[str, Any]:
        raise DryRunStop("it would send files to the provider")

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted:
        raise DryRunStop("it would send a paid call")

    def poll(self, row: Request) -> NoReturn:
        raise DryRunStop(f"it would fetch the result of '{row.step}' from the provider")

    def cancel(self, row: Request) -> None:
        raise DryRunStop("it would cancel a call at the provider")
