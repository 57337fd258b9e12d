"""Fetching a file from any public address that a user typed, believing nothing.

It believes neither the address, nor the size, nor the type, nor that it comes to an end.

Where it may connect is decided in `connection.py`, for each redirect anew. The bytes are counted while they stream and
are never unpacked on the way; the file is what its bytes say once they were read to their end
(`darkroom/media/formats/`). Messages never quote the URL: it may carry a signature.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock

import httpcore
import httpx

from darkroom.errors import DarkroomError, Refused, Retry, Unverified
from darkroom.media.formats import MAX_PIXELS, Kind, Media, verify
from darkroom.providers.web.addresses import Reach
from darkroom.providers.web.connection import CheckedNetwork, Deadline, Resolver, resolve
from darkroom.tls import tls_context

MAX_BYTES = 32 * 1024 * 1024
MAX_REDIRECTS = 3
PATIENCE = timedelta(seconds=45)  # for all of it; a call that lasts longer than a minute would be taken for lost
LONGEST_RETRY_AFTER = timedelta(minutes=10)
REDIRECTS = frozenset({301, 302, 303, 307, 308})
HOST = re.compile(rb"[a-z0-9._:-]+")  # a name, or an address; other characters httpx quotes instead of refusing them
PASSING = frozenset({408, 425, 429})
ACCEPT = {Kind.IMAGE: "image/jpeg, image/png, image/webp"}  # a shop that can choose shall not send AVIF


class Web:
    """Thread-safe. `resolve` and `network` are the seams for tests."""

    def __init__(
        self, reach: Reach, *, resolve: Resolver = resolve, network: httpcore.NetworkBackend | None = None
    ) -> None:
        self._reach = reach
        self._resolve = resolve
        self._network = network or httpcore.SyncBackend()
        # A picture of 50 megapixels takes 200 MB while it is decoded: one after the other.
        self._decoding = Lock()

    def fetch(
        self,
        url: str,
        kind: Kind = Kind.IMAGE,
        *,
        max_bytes: int = MAX_BYTES,
        max_pixels: int = MAX_PIXELS,
        patience: timedelta = PATIENCE,
    ) -> Media:
        """Fetch the file at a public http(s) URL.

        Raise Refused for what must not be asked or stored, Permanent for what the host does not give, Unverified or
        Retry for what another try may bring. Never Park: one host that is out says nothing of the web.
        """
        deadline = Deadline(patience.total_seconds())
        content = self._download(url, deadline, accept=ACCEPT.get(kind, "*/*"), max_bytes=max_bytes)
        with self._decoding:
            return verify(content, kind, max_pixels=max_pixels)

    def _download(self, url: str, deadline: Deadline, *, accept: str, max_bytes: int) -> bytes:
        network = CheckedNetwork(self._reach, deadline, resolve=self._resolve, network=self._network)
        target = self.check(url)
        # A pool for each fetch: a connection that stayed open for the next would be bound to this one's deadline.
        with httpcore.ConnectionPool(ssl_context=tls_context(), network_backend=network) as pool:
            for _ in range(MAX_REDIRECTS + 1):
                answer = _ask(pool, target, accept=accept, max_bytes=max_bytes)
                if isinstance(answer, bytes):
                    return answer
                target = self._redirected(target, answer)
        raise Refused(f"the address redirects more than {MAX_REDIRECTS} times", code="too_many_redirects")

    def check(self, url: str | httpx.URL) -> httpx.URL:
        """Check the form of a URL, as `check_url` does."""
        return check_url(url, self._reach)

    def _redirected(self, before: httpx.URL, answer: _Redirect) -> httpx.URL:
        try:
            return self.check(before.join(answer.location))
        except httpx.InvalidURL as error:
            raise Refused("the address redirects to what is not a URL", code="bad_url") from error


def check_url(url: str | httpx.URL, reach: Reach) -> httpx.URL:
    """Check the form of a URL: what can be said of it before anybody is asked. Raise Refused(code="bad_url")."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Refused("that is not a URL", code="bad_url") from error
    if parsed.scheme not in ("http", "https") or not HOST.fullmatch(parsed.raw_host):
        raise Refused("give the whole address, beginning with https:// or http://", code="bad_url")
    if parsed.userinfo:
        raise Refused("give the address without a user name and password", code="bad_url")
    if not reach.has_port(port_of(parsed)):
        raise Refused("only the web's own ports, 80 and 443, are asked", code="bad_url")
    return parsed


@dataclass(frozen=True)
class _Redirect:
    location: str


def _ask(pool: httpcore.ConnectionPool, target: httpx.URL, *, accept: str, max_bytes: int) -> bytes | _Redirect:
    """Make one GET, on a connection that is made for it."""
    headers: list[tuple[bytes | str, bytes | str]] = [
        ("Host", target.netloc),
        ("User-Agent", "Darkroom"),
        ("Accept", accept),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    where = httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=port_of(target), target=target.raw_path)
    try:
        with pool.stream("GET", where, headers=headers) as response:
            found = httpx.Headers(response.headers)
            if response.status in REDIRECTS and "location" in found:
                return _Redirect(found["location"])
            _require_sound(response.status, found, max_bytes=max_bytes)
            return _read(response, max_bytes=max_bytes)
    except (httpcore.ReadTimeout, httpcore.WriteTimeout) as error:
        raise Retry("the host has fallen silent", code="file_slow") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        raise Retry(f"the host cannot be reached ({type(error).__name__})", code="unreachable") from error


def _read(response: httpcore.Response, *, max_bytes: int) -> bytes:
    content = bytearray()
    try:
        for chunk in response.iter_stream():
            content += chunk
            if len(content) > max_bytes:
                raise _too_large(max_bytes)
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise Unverified(f"the file was cut short after {len(content)} bytes") from error
    return bytes(content)


def _require_sound(status: int, headers: httpx.Headers, *, max_bytes: int) -> None:
    if status != 200:
        raise _status_failure(status, headers)
    # Some hosts pack all the same, and what is packed may be a thousand times its size.
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Refused("the file comes packed, though it was asked for as it is", code="packed")
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)


def _status_failure(status: int, headers: httpx.Headers) -> DarkroomError:
    """Return the error for a status that is no success."""
    said = f"the host answered HTTP {status}"
    # A 429 too: as RateLimited, one host's would slow down the fetching from all others.
    if status in PASSING or status >= 500:
        return Retry(said, code="host_failed", retry_after=_retry_after(headers))
    if status in (404, 410):
        return Refused(f"there is no such file (HTTP {status})", code="not_found")
    return Refused(said, code="not_given")


def _retry_after(headers: httpx.Headers) -> timedelta | None:
    value = headers.get("retry-after", "")
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        return None
    return min(timedelta(seconds=int(value)), LONGEST_RETRY_AFTER)


def _too_large(max_bytes: int) -> Refused:
    return Refused(f"the file is larger than {max_bytes} bytes", code="too_large")


def port_of(url: httpx.URL) -> int:
    """Return the port that is asked, said or not."""
    return url.port or (443 if url.scheme == "https" else 80)
