"""A provider of the tests' own, which gives back the picture it is sent, and an engine's resources that have it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from darkroom import Job as JobCall
from darkroom import Waiting
from darkroom.engine.resources import Resources
from darkroom.ledger import Job, Ledger, Outcome, Request, Transition
from darkroom.media.formats import RemoteFile
from darkroom.media.store import MediaStore, make_store_block
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.api import PrefectApi
from darkroom.orchestrator.dispatch import Dispatcher
from darkroom.providers.base import Accepted, Files, Progress, Provider
from darkroom.providers.registry import Providers
from darkroom.settings import Settings
from darkroom.tls import tls_context

NOWHERE = "http://127.0.0.1:9"
ECHO = "test/echo"
SECONDS = timedelta(seconds=5)


def picture(colour: str = "red") -> bytes:
    out = BytesIO()
    Image.new("RGB", (8, 6), colour).save(out, "PNG")
    return out.getvalue()


class Echo:
    """A model whose answer is the picture it was given, within the answer."""

    endpoint = ECHO
    account_id = "gemini"
    expected = start_timeout = deadline = SECONDS

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return dict(arguments)

    def estimate(self, input: Mapping[str, Any]) -> Decimal:
        return Decimal("0.01")

    def cost(self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None) -> Decimal:
        return Decimal("0.01")

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        return [RemoteFile(url=output["image"]["url"])]


class EchoProvider(Provider):
    """Answers each call by `answer`, and remembers what it was sent."""

    immediate = True

    def __init__(self) -> None:
        self.answer: Callable[[Request, Mapping[str, Any]], Accepted | Outcome] = lambda _, input: echoed(input)
        self.sent: list[Mapping[str, Any]] = []

    def prepare(self, input: Mapping[str, Any], *, files: Files) -> Mapping[str, Any]:
        return {k: files.read(v).content if str(v).startswith("asset:") else v for k, v in input.items()}

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted | Outcome:
        self.sent.append(input)
        return self.answer(row, input)

    def poll(self, row: Request) -> Outcome | None:
        return None

    def cancel(self, row: Request) -> None:
        pass

    def progress(self, row: Request) -> Progress | None:
        return None

    def close(self) -> None:
        pass


def echoed(input: Mapping[str, Any]) -> Outcome:
    content = input.get("image", picture())
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    return Outcome(
        transition=Transition.SUCCEED, output={"image": {"url": url}, "said": "echo"}, cost_usd=Decimal("0.01")
    )


@contextmanager
def opened_resources(ledger: Ledger, provider: EchoProvider, folder: Path) -> Iterator[Resources]:
    """Where that provider stands in for Gemini, the media store is a folder, and there is no Prefect."""
    with ExitStack() as opened:
        orchestrator = opened.enter_context(Orchestrator(PrefectApi(NOWHERE)))
        yield Resources(
            settings=Settings(),
            ledger=ledger,
            orchestrator=orchestrator,
            dispatcher=Dispatcher(ledger, orchestrator),
            providers=Providers({"gemini": lambda: provider}),
            files=opened.enter_context(httpx.Client(verify=tls_context())),
            store=MediaStore(make_store_block(str(folder))),
        )


@pytest.fixture
def resources(ledger: Ledger, provider: EchoProvider, tmp_path: Path) -> Iterator[Resources]:
    with opened_resources(ledger, provider, tmp_path) as resources:
        yield resources


def new_job(ledger: Ledger, user_id: str) -> Job:
    return ledger.jobs.post(user_id=user_id, kind="echo", parameters={}).job


def call(resources: Resources, job_id: str, **changes: Any) -> JobCall:
    (record,) = resources.ledger.jobs.take_up([job_id])
    return JobCall(record, resources, as_tasks=False, **changes)


def until_it_has_come(resources: Resources, job_id: str, function: Callable[[JobCall], Any]) -> Any:
    """Calls the function as the runner does: again when what it waits for has come."""
    for _ in range(10):
        try:
            return function(call(resources, job_id))
        except Waiting:
            continue
    raise AssertionError("it waits for ever")
