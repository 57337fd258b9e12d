"""Orders of several nodes as runs carry them whose processes die, on a real ledger and store, without Prefect.

A job function keeps nothing but what is on record. So a process that is killed is a call that ends there, and the one
that goes on in its place a call from the top. The points at which it ends here lie around whatever a call does outside
itself: before it sends a paid call, before it fetches a file, before it writes one to the store, and once that is
written and not yet on record. Where it waits for a provider it has ended anyway.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import httpx
from echoing import EchoProvider, call, opened_resources
from prefect.logging import disable_run_logger

from darkroom import Waiting
from darkroom.engine.registry import find
from darkroom.engine.resources import Resources, using
from darkroom.errors import DarkroomError, Permanent
from darkroom.ledger import JobStatus, Ledger, Outcome, Request, RequestStatus, Transition
from darkroom.media.store import MediaStore, make_store_block
from darkroom.providers.base import Accepted, Files
from darkroom.providers.registry import Providers

FILES_AT = "https://v3.fal.media/files"
MOST_CALLS = 200
REFUSED = "content_policy_violation"
Answer = Callable[[Request, "House"], dict[str, Any]]


class Killed(BaseException):
    """The process ends here."""


@dataclass
class House:
    """The providers, which share a book, their files, and a process that dies at each point once."""

    ledger: Ledger
    folder: Path  # of the media store
    answer: Answer
    sent: Counter[str] = field(default_factory=Counter)  # by step
    refused: set[str] = field(default_factory=set)  # steps whose calls fail for good
    files: dict[str, bytes] = field(default_factory=dict)  # by address
    dies: bool = False
    died_at: list[str] = field(default_factory=list)
    resources: Resources = field(init=False)

    def point(self, name: str) -> None:
        """Die, if it is to die, and has not yet died here."""
        if self.dies and name not in self.died_at:
            self.died_at.append(name)
            raise Killed

    def publish(self, name: str, content: bytes) -> dict[str, Any]:
        """Lay a file out at the provider's."""
        address = f"{FILES_AT}/{len(self.files)}/{name}"
        self.files[address] = content
        return {"url": address, "file_name": name}

    def outcome(self, row: Request) -> Outcome:
        self.sent[row.step] += 1
        if row.step in self.refused:
            error = Permanent("It was refused.", code=REFUSED).of(step=row.step, ref=row.ref)
            return Outcome(transition=Transition.FAIL, error=error.document())
        return Outcome(transition=Transition.SUCCEED, output=self.answer(row, self))

    def fetched(self, request: httpx.Request) -> httpx.Response:
        self.point(f"fetch {request.url}")
        return httpx.Response(200, content=iter([self.files[str(request.url)]]))  # to be streamed

    def post(self, kind: str, parameters: Mapping[str, Any], *, user_id: str) -> str:
        return self.ledger.jobs.post(user_id=user_id, kind=kind, parameters=dict(parameters)).job.id

    def carry(self, job_id: str) -> Any:
        """Call its function until it returns. What it waits for comes in between; raises what fails the job."""
        for _ in range(MOST_CALLS):
            try:
                job = call(self.resources, job_id)
                return find(job.kind).call(job)
            except Waiting:
                self._let_come(job_id)
            except Killed:
                continue
        raise AssertionError(f"it does not come to its end: {self.ledger.requests.of_job(job_id)}")

    def fails(self, job_id: str) -> DarkroomError:
        """Carry it to its failure, which is put on record."""
        try:
            self.carry(job_id)
        except DarkroomError as error:
            self.ledger.jobs.finish(job_id, JobStatus.FAILED, error=error.document())
            return error
        raise AssertionError("it has not failed")

    def kept(self, job_id: str) -> set[str]:
        """Steps whose files are there, as they are on record."""
        assets = self.ledger.assets.of_job(job_id)
        for asset in assets:
            assert hashlib.sha256(self.resources.store.read(asset.key)).hexdigest() == asset.sha256, asset.key
        places = Counter((asset.step, asset.n) for asset in assets)
        assert set(places.values()) <= {1}
        return {str(asset.step) for asset in assets}

    def _let_come(self, job_id: str) -> None:
        for row in self.ledger.requests.of_job(job_id):
            if row.status is RequestStatus.IN_FLIGHT:
                self.ledger.requests.settle(row.ref, self.outcome(row), via="webhook")
        self.resources.dispatcher.grant()


class Maker(EchoProvider):
    """Answers at once, or by a webhook."""

    def __init__(self, house: House, *, immediate: bool) -> None:
        super().__init__()
        self.house = house
        self.immediate = immediate

    def prepare(self, input: Mapping[str, Any], *, files: Files) -> Mapping[str, Any]:
        self.house.point(f"send {sorted(input.items(), key=str)}")
        return input

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted | Outcome:
        return self.house.outcome(row) if self.immediate else Accepted(request_id=f"request of {row.ref}")


class DyingStore(MediaStore):
    """Files of ours are written, and the process may not live to put that on record."""

    house: House

    def write(self, key: str, content: bytes) -> None:
        self.house.point(f"before writing {key}")
        super().write(key, content)
        self.house.point(f"after writing {key}")

    def write_file(self, key: str, file: IO[bytes]) -> None:
        self.house.point(f"before writing {key}")
        super().write_file(key, file)
        self.house.point(f"after writing {key}")


@contextmanager
def open_house(ledger: Ledger, folder: Path, answer: Answer) -> Iterator[House]:
    """Where fal and Mux answer by a webhook, and Gemini and ElevenLabs in their answers."""
    house = House(ledger, folder, answer)
    makers = {name: Maker(house, immediate=name in ("gemini", "elevenlabs")) for name in MAKERS}
    store = DyingStore(make_store_block(str(folder)))
    store.house = house
    with (
        opened_resources(ledger, makers["gemini"], folder) as opened,
        httpx.Client(transport=httpx.MockTransport(house.fetched)) as files,
        disable_run_logger(),
    ):
        providers = Providers({name: lambda maker=maker: maker for name, maker in makers.items()})
        house.resources = replace(opened, providers=providers, files=files, store=store)
        with using(house.resources):
            yield house


MAKERS = ("fal", "gemini", "elevenlabs", "mux")
