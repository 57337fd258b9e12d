"""The gateway's HTTP API as the commands use it: one key, JSON, and problem documents as errors.

The key is the caller's, in `DARKROOM_API_KEY`; without one it is the operator's, which provisioning keeps in the home.
With the operator's, jobs and what belongs to them are everybody's: they are asked for under `/v1/admin`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from mimetypes import guess_type
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import httpx

from darkroom.deployments.home import Home, write_private
from darkroom.deployments.inherited import usable_proxies
from darkroom.errors import BadInput, DarkroomError, NeedsHuman
from darkroom.settings import Settings
from darkroom.shown_addresses import without_secrets
from darkroom.tls import tls_context

ENDED = frozenset({"completed", "failed", "cancelled"})
TOLD_BY_NAME = ("image/", "audio/", "video/", "application/zip", "application/x-zip")  # types of files
SECONDS, SECONDS_TO_CHANGE = 30.0, 120.0  # a thousand failed jobs that are put back take some seconds
SECONDS_TO_UPLOAD = 600.0  # a long film is read to its end before there is an answer
# The gateway has not heard of the call: whatever it asks for is not done.
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
# By a part of the address that changes something: the command that shows whether it did.
SHOWN_BY = {
    **dict.fromkeys(("images", "generations", "jobs"), "darkroom jobs"),
    "dead-letters": "darkroom dead list",
    "waits": "darkroom wait list",
    "pending-runs": "darkroom pending list",
    "users": "darkroom user list",
    "keys": "darkroom key list",
    "plans": "darkroom plan list",
    "accounts": "darkroom account list",
    "models": "darkroom model list",
}
PAGE = 100  # items at once; no list takes fewer as its most

Json = dict[str, Any]


def http_client() -> httpx.Client:
    """Return a client by the environment's proxies and certificates; loopback it reaches without a proxy.

    Raise NeedsHuman for what cannot be used of them.
    """
    os.environ.update(usable_proxies(os.environ))
    try:
        return httpx.Client(timeout=SECONDS, verify=tls_context())
    except OSError as error:  # no such file, or no certificates in it
        file = os.environ.get("SSL_CERT_FILE")
        raise NeedsHuman(f"SSL_CERT_FILE names {file}, which cannot be used: unset it, or name another") from error


class ApiClient:
    def __init__(self, settings: Settings, *, http: httpx.Client | None = None) -> None:
        """`http`: by which the gateway is reached, where that is not what the environment says now."""
        self._poll_seconds = settings.timing.job_watched.total_seconds()
        self._url = settings.gateway_url.rstrip("/")
        self._kept = Home(settings.home).operator_key
        self._own_key = settings.api_key
        key = _operators(self._kept) if self._own_key is None else self._own_key.get_secret_value()
        self._http = http or http_client()
        self._http.base_url = self._url
        self._http.headers["Authorization"] = f"Bearer {key}"

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
        return self._order("/v1/images", body)

    def order_generation(self, body: Mapping[str, Any]) -> Json:
        return self._order("/v1/generations", body)

    def model(self, endpoint: str) -> Json:
        """Return a model's card."""
        return self.get(f"/v1/models/{quote(endpoint)}")  # with its slashes

    def upload(self, file: Path) -> Json:
        """Upload a file, streamed from disk. What its name does not tell is told by its bytes."""
        guessed = guess_type(file.name)[0] or ""
        headers = {"Content-Type": guessed if guessed.startswith(TOLD_BY_NAME) else "application/octet-stream"}
        with file.open("rb") as content:
            return self._call("POST", "/v1/uploads", content=content, headers=headers, timeout=SECONDS_TO_UPLOAD)

    def job(self, job_id: str) -> Json:
        # Whatever somebody types for an id stays one part of the address.
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
        sent: Json = {} if body is None else {"json": body}
        return self._call("POST", path, timeout=SECONDS_TO_CHANGE, **sent)

    def all(self, path: str, **asked: Any) -> Iterator[Json]:
        """Yield the items of a list, page by page as they are taken."""
        cursor = None
        while True:
            page = self.get(path, limit=PAGE, cursor=cursor, **asked)
            yield from page["items"]
            if not (cursor := page["next"]):
                return

    def _order(self, path: str, body: Mapping[str, Any]) -> Json:
        """Order, and send it once more if no answer comes. By its key it is one job, whatever came of the first."""
        key = {"Idempotency-Key": uuid4().hex}
        return self._call("POST", path, again=True, json=body, headers=key, timeout=SECONDS_TO_CHANGE)

    def _call(self, method: str, path: str, *, again: bool = False, **sent: Any) -> Json:
        try:
            response = self._send(method, path, again=again, **sent)
        except httpx.TransportError as error:
            raise NeedsHuman(_unanswered(error, without_secrets(self._url))) from error
        if response.is_error:
            raise _problem(response)
        return dict(response.json())

    def _send(self, method: str, path: str, *, again: bool, **sent: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **sent)
        except httpx.TransportError:
            if not again:
                raise
        return self._http.request(method, path, **sent)


def _operators(file: Path) -> str:
    if not file.exists():
        raise NeedsHuman(f"no API key: set DARKROOM_API_KEY (there is no {file}, which `darkroom provision` writes)")
    return file.read_text().strip()


def _unanswered(error: httpx.TransportError, url: str) -> str:
    """Say what may have happened to a call without an answer, and what to do."""
    if isinstance(error, httpx.ProxyError):
        return f"the proxy does not lead to the gateway at {url} ({error}): correct HTTPS_PROXY or NO_PROXY"
    if isinstance(error, NEVER_SENT):
        remedy = "start the stack with `darkroom up`, or correct DARKROOM_GATEWAY_URL"
        return f"no gateway answers at {url} ({error}): {remedy}"
    asked = error.request
    broken = f"the connection to the gateway at {url} broke off before its answer came ({type(error).__name__})"
    late = f"the gateway at {url} has not answered within {asked.extensions['timeout']['read']:g} s"
    said = late if isinstance(error, httpx.TimeoutException) else broken
    if asked.method == "GET":
        return f"{said}: it was only asked, so nothing is changed by that. Its log may say why"
    shown = next((SHOWN_BY[part] for part in asked.url.path.split("/") if part in SHOWN_BY), None)
    look = f"see `{shown}`" if shown else "see whether it has"
    return f"{said}: it may have done all the same what it was sent, or still do it: {look} before it is sent again"


def _problem(response: httpx.Response) -> DarkroomError:
    """Return the sentence of a problem document (RFC 9457) as an error, or the status line of anything else."""
    try:
        problem = response.json()
        detail = str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):  # by a proxy in between: a page of its own, or JSON of another form
        return DarkroomError(f"the gateway answered {response.status_code} {response.reason_phrase}")
    return BadInput(detail, field=problem.get("field") or "") if response.status_code == 422 else DarkroomError(detail)
