"""The front door: one port that is an HTTPS proxy for the providers' hosts and a plain HTTP server for operators.

uvicorn makes one `FrontDoor` per connection. It reads the first line: `CONNECT host:443` for one of those is
answered, TLS is ended here with a certificate for that host, and uvicorn's own HTTP/1.1 protocol takes over inside the
tunnel; anything else is handed to that protocol as it is.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .certificates import TlsContexts
from .hosts import is_fal_host, is_known_host
from .outage import Outage

_MAX_HEAD_BYTES = 16 * 1024
_METHOD = b"CONNECT "
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class _Connection(H11Protocol):
    def shutdown(self) -> None:
        """Abort an idle connection."""
        # A polite end of TLS waits for the client's reply, which an idle client does not give.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()


class FrontDoor(asyncio.Protocol):
    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._contexts: TlsContexts = app_state["tls_contexts"]
        self._outage: Outage = app_state["outage"]
        self._received = b""
        self._in_tunnel = False
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        # In the tunnel: the first bytes of the client's request can come with its last of the handshake.
        if not self._in_tunnel:
            self._look()

    def _look(self) -> None:
        # The first line may come in pieces: as long as it can become a CONNECT it is waited for.
        if not _METHOD.startswith(self._received[: len(_METHOD)]):
            self._hand_over(self._transport)
        elif b"\r\n\r\n" in self._received:
            self._connect(_host_of(self._received))
        elif len(self._received) > _MAX_HEAD_BYTES:
            self._transport.abort()

    def _connect(self, host: str) -> None:
        # Not forwarded: that would hide a client's stray request.
        if not is_known_host(host):
            self._refuse(403, f"The fal simulator is no proxy for {host}: list it in NO_PROXY.")
        # Behind a proxy, a host that cannot be reached is the proxy's refusal to the client.
        elif self._outage.refuses_connections and is_fal_host(host):
            self._refuse(503, f"Simulated outage: {host} cannot be reached.")
        else:
            self._received = b""
            self._in_tunnel = True
            # Until TLS stands nobody may read: the client's hello belongs to the handshake.
            self._transport.pause_reading()
            self._transport.write(_ESTABLISHED)
            self._handshake = asyncio.get_running_loop().create_task(self._end_tls(host))

    async def _end_tls(self, host: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            tls = await loop.start_tls(self._transport, self, self._contexts.for_host(host), server_side=True)
        except OSError:  # includes ssl.SSLError: the client does not trust us, or went away
            return
        if tls is not None and not tls.is_closing():
            self._hand_over(tls)

    def _hand_over(self, transport: asyncio.Transport) -> None:
        # Handlers find the transport in the request's state: some faults consist in closing it.
        app_state = {**self._app_state, "transport": transport}
        inner = _Connection(self._config, self._server_state, app_state)
        transport.set_protocol(inner)
        inner.connection_made(transport)
        if self._received:
            inner.data_received(self._received)

    def _refuse(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        head = f"HTTP/1.1 {status} {text}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
        self._transport.close()


def _host_of(head: bytes) -> str:
    target = head[len(_METHOD) :].split(b" ", 1)[0].decode("latin-1")
    return target.rsplit(":", 1)[0].lower()
