"""What children of a test's own forkserver do: they tell which generation of a module they have."""

from __future__ import annotations

import asyncio
import os
import sys
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import anyio
import psutil


def tell(line: Connection) -> None:
    import generation  # type: ignore[import-not-found]  # the test writes it

    line.send(generation.NUMBER)


def note(order: Any, line: Connection) -> None:
    """As a run that is over at once."""
    Path(order.folder, "ran").touch()


def tell_when_asked(line: Connection) -> None:
    line.recv()
    tell(line)


def tell_parent(line: Connection) -> None:
    line.send(os.getppid())


def tell_shared(line: Connection) -> None:
    """Share something, as a flow may, and tell how many processes take care that nothing of it is left."""
    shared = SharedMemory(create=True, size=1)
    line.send(len(psutil.Process().children()))
    shared.close()
    shared.unlink()


def tell_clients(line: Connection) -> None:
    """Tell which providers' SDKs are imported."""
    line.send([name for name in ("elevenlabs.client", "google.genai", "mux_python") if name in sys.modules])


def tell_imports(line: Connection) -> None:
    """Open what every run of ours works with, and tell which modules that has imported."""
    before = set(sys.modules)
    from darkroom.ledger.database import queries
    from darkroom.providers.registry import Providers, accounts

    Providers().close()
    for account in accounts().values():
        account.refinements()
    queries()
    asyncio.run(anyio.sleep(0))
    line.send(sorted(set(sys.modules) - before))
