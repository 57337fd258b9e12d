"""Plain HTTP/1.1 POSTs over kept connections, on h11, for webhooks at hundreds a second.

General clients do far more for each request than this needs; httpx's pool in particular costs time in proportion to
its backlog squared, which a benchmark's burst of webhooks reaches at once.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import SplitResult, urlsplit

import certifi
import h11

_MAX_CONNECTIONS = 64
# Shorter than servers keep an idle connection, so that none is used in the moment it closes.
_IDLE_SECONDS = 2.0
_READ_BYTES = 64 * 1024

Origin = tuple[str, str, int]


class PostError(Exception):
    """No answer: not reached, broken off, or not HTTP."""


@dataclass(eq=False, kw_only=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    idle_since: float = 0.0

    @property
    def is_usable(self) -> bool:
        # A stream is at its end when the receiver has closed the connection meanwhile.
        return time.monotonic() - self.idle_since < _IDLE_SECONDS and not self.reader.at_eof()

    async def exchange(self, request: h11.Request, body: bytes) -> int:
        whole: tuple[h11.Event, ...] = (request, h11.Data(data=body), h11.EndOfMessage())
        # In one write, so that head and body go out together.
        self.writer.write(b"".join(self.http.send(part) or b"" for part in whole))
        await self.writer.drain()
        return await self._read_status()

    async def _read_status(self) -> int:
        status = 0
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.reader.read(_READ_BYTES))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.EndOfMessage):
                return status

    def can_be_kept(self) -> bool:
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        self.idle_since = time.monotonic()
        return True


class Poster:
    def __init__(self) -> None:
        self._idle: defaultdict[Origin, list[_Connection]] = defaultdict(list)
        self._slots = asyncio.Semaphore(_MAX_CONNECTIONS)

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.writer.close()

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], timeout: float) -> int:
        """Post the body. Return the status code of the answer, whose body is read and dropped. Raise PostError."""
        async with self._slots:  # waiting for a slot is not the receiver's time
            try:
                parts = urlsplit(url)
                async with asyncio.timeout(timeout):
                    return await self._post(_origin(parts), _request(parts, headers, len(body)), body)
            except (OSError, ValueError, h11.ProtocolError) as error:  # TimeoutError is an OSError
                raise PostError(f"{type(error).__name__}: {error}") from error

    async def _post(self, origin: Origin, request: h11.Request, body: bytes) -> int:
        connection = self._take_idle(origin) or await self._open(origin)
        kept = False
        try:
            status = await connection.exchange(request, body)
            kept = connection.can_be_kept()
            return status
        finally:
            # One whose answer was not read to its end would give the rest of it to the next request.
            if kept:
                self._idle[origin].append(connection)
            else:
                connection.writer.close()

    def _take_idle(self, origin: Origin) -> _Connection | None:
        while self._idle[origin]:
            connection = self._idle[origin].pop()  # the last one used, which is the least likely to be closed
            if connection.is_usable:
                return connection
            connection.writer.close()
        return None

    async def _open(self, origin: Origin) -> _Connection:
        scheme, host, port = origin
        tls = self._tls if scheme == "https" else None
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        return _Connection(reader=reader, writer=writer)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=certifi.where())


def _origin(parts: SplitResult) -> Origin:
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http address")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _request(parts: SplitResult, headers: Mapping[str, str], length: int) -> h11.Request:
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    # A user and a password in the address belong to no Host header.
    everything = {"Host": parts.netloc.rpartition("@")[2], "Content-Length": str(length), **headers}
    return h11.Request(method="POST", target=target, headers=list(everything.items()))
