"""The gateway's HTTP API as the commands use it: one key, JSON, and problem documents as errors.

The key is the caller's, in `DARKROOM_API_KEY`; without one it is the operator's, which provisioning keeps in the home.
With the operator's, jobs and what belongs to them are everybody's: they are asked for under `/v1/admin`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from mimetypes import guess_type
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from darkroom.deployments.home import Home, write_private
from darkroom.errors import BadInput, DarkroomError, NeedsHuman
from darkroom.settings import Settings

ENDED = frozenset({"completed", "failed", "cancelled"})
PAGE = 100  # items at once; no list takes fewer as its most

Json = dict[str, Any]


class ApiClient:
    def __init__(self, settings: Settings) -> None:
        self._poll_seconds = settings.timing.job_watched.total_seconds()
        self._url = settings.gateway_url.rstrip("/")
        self._kept = Home(settings.home).operator_key
        self._own_key = settings.api_key
        key = _operators(self._kept) if self._own_key is None else self._own_key.get_secret_value()
        self._http = httpx.Client(
            base_url=self._url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    @property
    def sees_all(self) -> bool:
        """Whether jobs are everybody's: with the operator's key of the home."""
        return self._own_key is None

    def whose(self, user: str | None = None) -> str:
        """Return the address under which jobs are asked for: the caller's own, or with `user` that one's."""
        return "/v1/admin" if self.sees_all or user is not None else "/v1"

    def keep(self, key: str) -> None:
        """Keep the operator's new key in the home, where the one that made it was from there."""
        if self.sees_all:
            write_private(self._kept, f"{key}\n")

    def order_image(self, body: Mapping[str, Any]) -> Json:
        return self.post("/v1/images", body)

    def order_generation(self, body: Mapping[str, Any]) -> Json:
        return self.post("/v1/generations", body)

    def model(self, endpoint: str) -> Json:
        """Return a model's card."""
        return self.get(f"/v1/models/{quote(endpoint)}")

    def upload(self, file: Path) -> Json:
        """Upload a picture or a zip, streamed from disk."""
        headers = {"Content-Type": guess_type(file.name)[0] or "application/octet-stream"}
        with file.open("rb") as content:
            return self._call("POST", "/v1/uploads", content=content, headers=headers)

    def job(self, job_id: str) -> Json:
        return self.get(f"{self.whose()}/jobs/{quote(job_id, safe='')}")

    def change_job(self, job_id: str, action: str) -> Json:
        """Cancel or replay the job: `action` is cancel or replay."""
        return self.post(f"{self.whose()}/jobs/{quote(job_id, safe='')}/{action}")

    def wait_of_job(self, wait_id: str) -> Json:
        return self.get(f"{self.whose()}/waits/{quote(wait_id, safe='')}")

    def change_wait(self, wait_id: str, action: str, body: Mapping[str, Any]) -> Json:
        """Wake or extend the wait: `action` is wake or extend."""
        return self.post(f"{self.whose()}/waits/{quote(wait_id, safe='')}/{action}", body)

    def wait(self, job_id: str, *, seen: Callable[[Json], None] = lambda _: None) -> Json:
        """Poll the job until it has ended, and return it. Call `seen` with each answer."""
        while True:
            job = self.job(job_id)
            seen(job)
            if job["status"] in ENDED:
                return job
            time.sleep(self._poll_seconds)

    def get(self, path: str, **asked: Any) -> Json:
        return self._call("GET", path, params={name: each for name, each in asked.items() if each is not None})

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Json:
        # A thousand failed jobs that are put back take some seconds.
        return self._call("POST", path, timeout=120, **({} if body is None else {"json": body}))

    def all(self, path: str, **asked: Any) -> Iterator[Json]:
        """Yield the items of a list, page by page as they are taken."""
        cursor = None
        while True:
            page = self.get(path, limit=PAGE, cursor=cursor, **asked)
            yield from page["items"]
            if not (cursor := page["next"]):
                return

    def _call(self, method: str, path: str, **sent: Any) -> Json:
        try:
            response = self._http.request(method, path, **sent)
        except httpx.TransportError as error:
            raise NeedsHuman(f"no gateway answers at {self._url}: start the stack with `darkroom up`") from error
        if response.is_error:
            raise _problem(response)
        return dict(response.json())


def _operators(file: Path) -> str:
    if not file.exists():
        raise NeedsHuman(f"no API key: set DARKROOM_API_KEY (there is no {file}, which `darkroom provision` writes)")
    return file.read_text().strip()


def _problem(response: httpx.Response) -> DarkroomError:
    """Return the sentence of a problem document (RFC 9457) as an error, or the status line of anything else."""
    try:
        problem = response.json()
        detail = str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return DarkroomError(f"the gateway answered {response.status_code} {response.reason_phrase}")
    return BadInput(detail, field=problem.get("field") or "") if response.status_code == 422 else DarkroomError(detail)
