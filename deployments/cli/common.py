"""How commands find what they work on, and how they speak.

They go by HTTP (`open_api`), as any client. What works where no gateway runs goes to the ledger: `up`, `demo`,
`provision`, and what the code of this installation does by itself, `model sync` and `replay --dry-run`.

A local stack is found by its folder (`DARKROOM_HOME`, else `.darkroom`); what the environment says rules over what
that stack recorded there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from darkroom.deployments.api_client import ApiClient
    from darkroom.ledger import Ledger
    from darkroom.settings import Settings

DEFAULT_HOME = Path(".darkroom")
ADMIN = "/v1/admin"
HomeOption = Annotated[
    Path, typer.Option("--home", envvar="DARKROOM_HOME", help="Folder of the stack's state, which lasts.")
]


def join_stack() -> None:
    """Fill what the environment leaves open with what the stack in our folder recorded."""
    from darkroom.deployments.home import Home
    from darkroom.deployments.inherited import foreign_to_prefect, usable_proxies
    from darkroom.settings import belongs_to, own_home

    recorded = Home(own_home()).environment()
    # Where the ledger is that stack's, so is Prefect, whatever other one the caller has settings for.
    if belongs_to(recorded):
        for name in foreign_to_prefect(os.environ):
            del os.environ[name]
    for name, value in recorded.items():
        os.environ.setdefault(name, value)  # what the environment says itself rules
    # A proxy that httpx cannot read would have every client raise, on loopback too.
    os.environ.update(usable_proxies(os.environ))


def settings() -> Settings:
    from darkroom.settings import load_settings

    join_stack()
    return load_settings()


def open_api() -> ApiClient:
    from darkroom.deployments.api_client import ApiClient, http_client

    # By the shell's own proxy, before the stack's is taken over: a simulated provider's leads to no gateway elsewhere.
    http = http_client()
    return ApiClient(settings(), http=http)


@contextmanager
def open_ledger() -> Iterator[Ledger]:
    from darkroom.ledger import Ledger

    chosen = settings()
    with closing(Ledger(chosen.ledger_url, timing=chosen.timing)) as ledger:
        yield ledger


def say(line: str) -> None:
    typer.echo(line)
