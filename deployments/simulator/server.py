"""Runs the simulator under uvicorn: one process, one event loop, one port."""

from __future__ import annotations

import signal
import socket
import sys
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from .app import FalSimulator
from .certificates import TlsContexts, ensure_authority
from .outage import Outage
from .provider import Options, Provider
from .proxy import FrontDoor

# Longer than any client keeps an idle connection: one that the server closes under a submit would lose its answer.
_KEEP_ALIVE_SECONDS = 75
_HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """uvicorn, with one line when it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Asked for port 0, only the socket knows which one it has.
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"fal simulator is ready on http://{_HOST}:{port}", flush=True)


class _Application:
    """Makes the provider inside uvicorn's event loop, which its clients and locks belong to."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._fal: FalSimulator | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope["state"], receive, send)
        elif self._fal is not None:
            await self._fal(scope, receive, send)

    async def _live(self, state: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        outage = Outage()
        # For the front door, which uvicorn makes itself and gives this state.
        state.update(tls_contexts=TlsContexts(ensure_authority(self._options.home)), outage=outage)
        provider = Provider(self._options, outage=outage)
        # Before anybody is let in: what an earlier process has left comes first in the line.
        provider.go_on()
        self._fal = FalSimulator(provider)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await provider.close()
        await send({"type": "lifespan.shutdown.complete"})


def serve(options: Options) -> None:
    # uvicorn raises the signal that ended it once more; without this the exit code would say "killed".
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        _Application(options),
        host=_HOST,
        port=options.port,
        loop="asyncio",  # uvloop, which uvicorn takes where it is installed, has transports of another kind
        http=FrontDoor,  # hands over to uvicorn's own protocol
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # X-Forwarded-Proto would make a client's request an operator's, or the other way round
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,  # a held call has no end of its own
    )
    _Server(config).run()
