"""What a flow run works with: opened once at its entry, closed at its end, found again inside tasks.

Tasks take only names and ids as parameters, so they look their resources up here: `current()` is a context variable,
and the runner copies its context into the threads it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import httpx

from darkroom.clock import Clock
from darkroom.ledger import Ledger
from darkroom.media.fetching import file_client
from darkroom.media.store import MediaStore, open_media_store
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.dispatch import Dispatcher
from darkroom.providers.registry import Providers
from darkroom.providers.shelf import open_shelf
from darkroom.settings import Settings, load_settings
from darkroom.timing import Timing


@dataclass(frozen=True, kw_only=True)
class Resources:
    settings: Settings
    ledger: Ledger
    orchestrator: Orchestrator
    dispatcher: Dispatcher
    providers: Providers
    files: httpx.Client  # for the provider's file hosts, without its key
    store: MediaStore

    @property
    def clock(self) -> Clock:
        """Return the ledger's clock, so that whatever works with both has one time."""
        return self.ledger.clock

    @property
    def timing(self) -> Timing:
        return self.ledger.timing


_current: ContextVar[Resources] = ContextVar("resources")


def current() -> Resources:
    return _current.get()


@contextmanager
def using(resources: Resources) -> Iterator[Resources]:
    """Make these the current resources inside the context."""
    token = _current.set(resources)
    try:
        with open_shelf(resources.ledger, models=resources.settings.models):
            yield resources
    finally:
        _current.reset(token)


@contextmanager
def open_resources() -> Iterator[Resources]:
    settings = load_settings()
    with ExitStack() as opened:
        ledger = Ledger(settings.ledger_url, timing=settings.timing)
        opened.callback(ledger.close)  # closed last: all that is opened from here on asks it to the end
        orchestrator = opened.enter_context(Orchestrator())
        providers = Providers()
        opened.callback(providers.close)
        resources = Resources(
            settings=settings,
            ledger=ledger,
            orchestrator=orchestrator,
            dispatcher=Dispatcher(ledger, orchestrator),
            providers=providers,
            files=opened.enter_context(file_client()),
            store=open_media_store(settings),
        )
        yield opened.enter_context(using(resources))
