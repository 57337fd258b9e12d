"""The gateway's HTTP API as the commands use it: one key, JSON, and problem documents as errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from mimetypes import guess_type
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from darkroom.deployments.home import Home
from darkroom.errors import DarkroomError, NeedsHuman
from darkroom.settings import Settings

ENDED = frozenset({"completed", "failed", "cancelled"})

Json = dict[str, Any]


class ApiClient:
    def __init__(self, settings: Settings) -> None:
        self._poll_seconds = settings.timing.job_watched.total_seconds()
        self._url = settings.gateway_url.rstrip("/")
        self._http = httpx.Client(
            base_url=self._url, headers={"Authorization": f"Bearer {_key(settings)}"}, timeout=30, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def order_image(self, body: Mapping[str, Any]) -> Json:
        return self._call("POST", "/v1/images", json=body)

    def order_generation(self, body: Mapping[str, Any]) -> Json:
        return self._call("POST", "/v1/generations", json=body)

    def model(self, endpoint: str) -> Json:
        """Return a model's card."""
        return self._call("GET", f"/v1/models/{endpoint}")

    def upload(self, file: Path) -> Json:
        """Upload a picture or a zip, streamed from disk."""
        headers = {"Content-Type": guess_type(file.name)[0] or "application/octet-stream"}
        with file.open("rb") as content:
            return self._call("POST", "/v1/uploads", content=content, headers=headers)

    def job(self, job_id: str) -> Json:
        return self._call("GET", f"/v1/jobs/{job_id}")

    def jobs(self, asked: Mapping[str, Any]) -> Json:
        """Return a page of jobs."""
        return self._call("GET", "/v1/jobs", params=asked)

    def cancel(self, job_id: str) -> Json:
        return self._call("POST", f"/v1/jobs/{job_id}/cancel")

    def replay(self, job_id: str) -> Json:
        return self._call("POST", f"/v1/jobs/{job_id}/replay")

    def dead_letters(self, asked: Mapping[str, Any]) -> Json:
        """Return a page of failed jobs."""
        return self._call("GET", "/v1/dead-letters", params=asked)

    def replay_letters(self, body: Mapping[str, Any]) -> Json:
        """Return the price of a replay. With a budget, replay and return what was requeued."""
        return self._call("POST", "/v1/dead-letters/replay", json=body, timeout=120)  # a thousand take some seconds

    def discard_letters(self, body: Mapping[str, Any]) -> Json:
        return self._call("POST", "/v1/dead-letters/discard", json=body)

    def wait_of_job(self, wait_id: str) -> Json:
        return self._call("GET", f"/v1/waits/{wait_id}")

    def change_wait(self, wait_id: str, action: str, body: Mapping[str, Any]) -> Json:
        """Wake or extend the wait: `action` is wake or extend."""
        return self._call("POST", f"/v1/waits/{wait_id}/{action}", json=body)

    def wait(self, job_id: str, *, seen: Callable[[Json], None] = lambda _: None) -> Json:
        """Poll the job until it has ended, and return it. Call `seen` with each answer."""
        while True:
            job = self.job(job_id)
            seen(job)
            if job["status"] in ENDED:
                return job
            time.sleep(self._poll_seconds)

    def _call(self, method: str, path: str, **sent: Any) -> Json:
        try:
            response = self._http.request(method, path, **sent)
        except httpx.TransportError as error:
            raise NeedsHuman(f"no gateway answers at {self._url}: start the stack with `darkroom up`") from error
        if response.is_error:
            raise DarkroomError(_problem(response))
        return dict(response.json())


def _key(settings: Settings) -> str:
    if settings.api_key:
        return settings.api_key.get_secret_value()
    file = Home(settings.home).operator_key
    if not file.exists():
        raise NeedsHuman(f"no API key: set DARKROOM_API_KEY (there is no {file}, which `darkroom provision` writes)")
    return file.read_text().strip()


def _problem(response: httpx.Response) -> str:
    """Return the sentence of a problem document (RFC 9457), or the status line for anything else."""
    try:
        problem = response.json()
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return f"the gateway answered {response.status_code} {response.reason_phrase}"
