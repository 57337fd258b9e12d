"""`python -m darkroom.deployments.gateway --host 127.0.0.1 --port 8700`: the gateway, until SIGTERM."""

from __future__ import annotations

import argparse
import sys

import uvicorn

from darkroom.deployments.gateway.app import create_app
from darkroom.deployments.gateway.memory import give_memory_back
from darkroom.deployments.gateway.protocol import BoundedHttp
from darkroom.errors import DarkroomError
from darkroom.settings import load_settings

HOST = "127.0.0.1"
PORT = 8700
SECONDS_TO_FINISH = 10  # for answers under way; streams take two of them to say when to come back
# Longer than clients and proxies keep an idle connection (5 s, 60 s): who closes it first loses no request that is just
# on its way.
SECONDS_KEPT_ALIVE = 75


def serve(*, host: str = HOST, port: int = PORT) -> None:
    give_memory_back()  # before there are threads, as each may be given a heap of its own
    uvicorn.run(
        create_app(load_settings()),
        host=host,
        port=port,
        http=BoundedHttp,
        # Its lines would hold the tokens of webhooks and the signatures of links.
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
        timeout_keep_alive=SECONDS_KEPT_ALIVE,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m darkroom.deployments.gateway", description="Darkroom's gateway.")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, default=PORT)
    arguments = parser.parse_args()
    try:
        serve(host=arguments.host, port=arguments.port)
    except DarkroomError as error:
        sys.exit(f"error: {error.message}")


if __name__ == "__main__":
    main()
