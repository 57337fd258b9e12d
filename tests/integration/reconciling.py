"""A turn of `reconcile` on a real ledger, where Prefect knows of no run and the providers are those of the test."""

from __future__ import annotations

from typing import cast
from unittest.mock import NonCallableMagicMock, create_autospec
from uuid import uuid4

import httpx
from prefect.logging import disable_run_logger

from darkroom.engine.resources import Resources
from darkroom.flows.reconcile import Reconciler
from darkroom.ledger import Ledger
from darkroom.media.store import MediaStore
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.dispatch import Dispatcher
from darkroom.providers.registry import Providers
from darkroom.settings import Settings


def knows_of_nothing() -> NonCallableMagicMock:
    orchestrator = cast(NonCallableMagicMock, create_autospec(Orchestrator, instance=True))
    orchestrator.run_states.return_value = {}
    orchestrator.create_run.side_effect = lambda **_: uuid4()
    return orchestrator


def resources_of(
    ledger: Ledger, *, providers: Providers | None = None, orchestrator: NonCallableMagicMock | None = None
) -> Resources:
    prefect = cast(Orchestrator, orchestrator or knows_of_nothing())
    return Resources(
        settings=Settings(),
        ledger=ledger,
        orchestrator=prefect,
        dispatcher=Dispatcher(ledger, prefect),
        providers=providers or Providers({}),
        files=create_autospec(httpx.Client, instance=True),
        store=create_autospec(MediaStore, instance=True),
    )


def turn(resources: Resources) -> None:
    with disable_run_logger():
        Reconciler(resources).once()
