"""The floor: the plain pool of a tutorial. `python -m benchmarks.floor --port N --folder DIR --database URL`

One process, asyncio, `fal_client`, a webhook receiver, a file in a folder, a row in Postgres. What it leaves out is
what Darkroom is for: a restart loses every picture that is under way; the webhook's signature, the file's host, size
and content are not checked; a submit whose answer is lost is paid twice; no order waits fairly; there are no users.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fal_client
import httpx
import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

MODEL = "fal-ai/flux/dev"
TABLE = """
    CREATE TABLE IF NOT EXISTS picture (
        id text PRIMARY KEY, prompt text NOT NULL, request_id text, file text, next_line_at timestamptz,
        stored_at timestamptz, finished_at timestamptz)
"""
ORDERED = "INSERT INTO picture (id, prompt) VALUES (%s, %s)"
FINISHED = """
    UPDATE picture SET request_id = %s, file = %s, next_line_at = %s, stored_at = %s, finished_at = %s WHERE id = %s
"""


class Pool:
    def __init__(self, database: psycopg.AsyncConnection[Any], *, folder: Path, webhooks: str) -> None:
        self._database = database
        self._folder = folder
        self._webhooks = webhooks
        self._fal = fal_client.AsyncClient()
        self._files = httpx.AsyncClient(timeout=60)
        self._slots = asyncio.Semaphore(1)
        self._results: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def order(self, request: Request) -> Response:
        prompt, picture_id = (await request.json())["prompt"], secrets.token_hex(16)
        await self._database.execute(ORDERED, (picture_id, prompt))
        task = asyncio.create_task(self._make(picture_id, prompt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return JSONResponse({"job_id": picture_id}, status_code=202)

    async def webhook(self, request: Request) -> Response:
        self._results[request.query_params["picture"]].set_result(await request.json())
        return Response()

    async def limit(self, request: Request) -> Response:
        self._slots = asyncio.Semaphore((await request.json())["slots"])
        return Response()

    async def _make(self, picture_id: str, prompt: str) -> None:
        async with self._slots:
            result = self._results[picture_id] = asyncio.get_running_loop().create_future()
            url = f"{self._webhooks}?picture={picture_id}"
            await self._fal.submit(MODEL, {"prompt": prompt}, webhook_url=url)
            answer = await result
        next_line_at = datetime.now(UTC)
        del self._results[picture_id]
        file = await self._files.get(answer["payload"]["images"][0]["url"])
        path = self._folder / f"{picture_id}.jpg"
        await asyncio.to_thread(path.write_bytes, file.raise_for_status().content)
        stored_at = datetime.now(UTC)
        times = next_line_at, stored_at, datetime.now(UTC)
        await self._database.execute(FINISHED, (answer["request_id"], str(path), *times, picture_id))


def application(*, port: int, folder: Path, database: str) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await connection.execute(TABLE)
            pool = Pool(connection, folder=folder, webhooks=f"http://127.0.0.1:{port}/webhooks/fal")
            app.router.add_route("/v1/images", pool.order, methods=["POST"])
            app.router.add_route("/webhooks/fal", pool.webhook, methods=["POST"])
            app.router.add_route("/limit", pool.limit, methods=["PUT"])
            yield

    app = Starlette(lifespan=lifespan)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="The plain pool of a tutorial.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--database", required=True)
    arguments = parser.parse_args()
    uvicorn.run(application(**vars(arguments)), port=arguments.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
