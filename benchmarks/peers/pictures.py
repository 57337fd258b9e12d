"""What both peers have in common: the routes that the driver knows, and the table that it reads. No Darkroom in it."""

from __future__ import annotations

import argparse
import secrets
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

MODEL = "fal-ai/flux/dev"
TABLE = """
    CREATE TABLE IF NOT EXISTS picture (
        id text PRIMARY KEY, prompt text NOT NULL, request_id text, file text, next_line_at timestamptz,
        stored_at timestamptz, finished_at timestamptz)
"""
ORDERED = "INSERT INTO picture (id, prompt) VALUES (%s, %s) ON CONFLICT DO NOTHING"
FINISHED = """
    UPDATE picture SET request_id = %s, file = %s, next_line_at = %s, stored_at = %s, finished_at = %s WHERE id = %s
"""
NO_LIMIT = 1000  # as the driver says it


class Front:
    """The routes: an order, fal's webhook, and how many may be in flight."""

    slots: int | None = None

    @abstractmethod
    async def start(self, picture_id: str, prompt: str) -> None: ...

    @abstractmethod
    async def webhook(self, request: Request) -> Response: ...

    async def limited(self) -> None:
        """`slots` has changed."""

    async def _order(self, request: Request) -> Response:
        picture_id = secrets.token_hex(16)
        await self.start(picture_id, (await request.json())["prompt"])
        return JSONResponse({"job_id": picture_id}, status_code=202)

    async def _limit(self, request: Request) -> Response:
        slots = (await request.json())["slots"]
        self.slots = None if slots >= NO_LIMIT else slots
        await self.limited()
        return Response()

    def application(self, lifespan: Callable[[Any], AbstractAsyncContextManager[None]]) -> Starlette:
        app = Starlette(lifespan=lifespan)
        app.router.add_route("/v1/images", self._order, methods=["POST"])
        app.router.add_route("/webhooks/fal", self.webhook, methods=["POST"])
        app.router.add_route("/limit", self._limit, methods=["PUT"])
        return app


@asynccontextmanager
async def connected(database: str, table: str) -> AsyncIterator[AsyncConnectionPool]:
    async with AsyncConnectionPool(database, min_size=4, max_size=8, kwargs={"autocommit": True}) as pool:
        async with pool.connection() as rows:
            await rows.execute(table)
        yield pool


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--ingress", help="of Restate's server", default="")
    parser.add_argument("--service-port", type=int, help="where Restate's server calls the handlers", default=0)
    return parser.parse_args()
