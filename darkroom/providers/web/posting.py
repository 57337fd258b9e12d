"""Posting to an address that a user typed: guarded as what is fetched is, and no redirect is followed.

Of the answer only its status counts. Its beginning is read for whoever looks for a fault, never more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpcore
import httpx

from darkroom.errors import Retry
from darkroom.providers.web.addresses import Reach
from darkroom.providers.web.connection import CheckedNetwork, Deadline, Resolver, resolve
from darkroom.providers.web.fetching import check_url, port_of
from darkroom.tls import tls_context

FAILURES = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a host answered. `text`: the beginning of its body. `retry_after`: as it asked, not before that."""

    status: int
    text: str
    retry_after: timedelta | None


class WebPost:
    """Thread-safe. `resolve` and `network` are the seams for tests."""

    def __init__(
        self, reach: Reach, *, resolve: Resolver = resolve, network: httpcore.NetworkBackend | None = None
    ) -> None:
        self._reach = reach
        self._resolve = resolve
        self._network = network or httpcore.SyncBackend()

    def check(self, url: str) -> None:
        """Check the form of an address before anything goes there. Raise Refused(code="bad_url")."""
        check_url(url, self._reach)

    def post(
        self, url: str, content: bytes, *, headers: Mapping[str, str], patience: timedelta, max_bytes: int
    ) -> Answer:
        """Post it, on its own connection. Raise Refused for what must not be asked, Retry for no answer in time.

        `patience`: for all of it. `max_bytes`: what is read of the answer's body.
        """
        target = check_url(url, self._reach)
        deadline = Deadline(patience.total_seconds())
        network = CheckedNetwork(self._reach, deadline, resolve=self._resolve, network=self._network)
        sent: list[tuple[bytes | str, bytes | str]] = [
            ("Host", target.netloc),
            ("User-Agent", "Darkroom"),
            ("Connection", "close"),
            ("Content-Length", str(len(content))),
            *headers.items(),
        ]
        where = httpcore.URL(
            scheme=target.raw_scheme, host=target.raw_host, port=port_of(target), target=target.raw_path
        )
        try:
            with (
                httpcore.ConnectionPool(ssl_context=tls_context(), network_backend=network) as pool,
                pool.stream("POST", where, headers=sent, content=content) as response,
            ):
                text = _beginning(response, max_bytes=max_bytes)
                found = httpx.Headers(response.headers)
                return Answer(status=response.status, text=text, retry_after=retry_after(found.get("retry-after", "")))
        except (Retry, httpcore.ReadTimeout, httpcore.WriteTimeout) as error:
            # The deadline speaks of files: here it is the answer that was too slow.
            if isinstance(error, Retry) and error.code != "file_slow":
                raise
            raise Retry("the host did not answer in time", code="slow") from error
        except FAILURES as error:
            raise Retry(f"the host cannot be reached ({type(error).__name__})", code="unreachable") from error


def retry_after(value: str, *, now: datetime | None = None) -> timedelta | None:
    """Read the header, which has seconds or a date; None for what is neither."""
    if value.isascii() and value.isdigit() and len(value) < 10:
        return timedelta(seconds=int(value))
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    # Of a date whose zone is written -0000 Python says none: it is in UTC.
    return max(timedelta(0), until.replace(tzinfo=until.tzinfo or UTC) - (now or datetime.now(UTC)))


def _beginning(response: httpcore.Response, *, max_bytes: int) -> str:
    """Read so much of the body. One that breaks off, or does not end in time, has answered all the same."""
    read = bytearray()
    try:
        for chunk in response.iter_stream():
            read += chunk
            if len(read) >= max_bytes:
                break
    except (Retry, *FAILURES):
        pass
    # Postgres takes no NUL in a text.
    return bytes(read[:max_bytes]).decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
