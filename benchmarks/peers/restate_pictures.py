"""The same pictures on Restate: `python restate_pictures.py --port N --ingress URL …`, in the peers' own venv.

As Restate's documentation has it: a handler whose steps are `ctx.run`, which waits for its webhook by an awakeable; the
webhook's route resolves that at the server's ingress. More than may be in flight wait for one of so many virtual
objects, each of which makes one picture at a time.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import fal_client
import httpx
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config
from pictures import FINISHED, MODEL, ORDERED, TABLE, Front, arguments, connected
from starlette.requests import Request
from starlette.responses import Response

state: dict[str, Any] = {}
pictures = restate.Service("Pictures")
lines = restate.VirtualObject("Lines")


async def make_picture(ctx: restate.Context, order: dict[str, str]) -> None:
    picture_id = order["id"]
    awakeable_id, answered = ctx.awakeable()

    async def submit() -> str:
        url = f"{state['webhooks']}?awakeable={awakeable_id}"
        return (await state["fal"].submit(MODEL, {"prompt": order["prompt"]}, webhook_url=url)).request_id

    request_id = await ctx.run("submit", submit)
    answer: Any = await answered
    next_line_at = datetime.now(UTC).isoformat()

    async def store() -> str:
        file = await state["files"].get(answer["payload"]["images"][0]["url"])
        path = state["folder"] / f"{picture_id}.jpg"
        path.write_bytes(file.raise_for_status().content)
        return str(path)

    async def finish() -> None:
        now = datetime.now(UTC)
        async with state["pool"].connection() as rows:
            await rows.execute(FINISHED, (request_id, path, next_line_at, now, now, picture_id))

    path = await ctx.run("store", store)
    await ctx.run("finish", finish)


@pictures.handler()
async def make(ctx: restate.Context, order: dict[str, str]) -> None:
    await make_picture(ctx, order)


@lines.handler("make")
async def make_in_line(ctx: restate.ObjectContext, order: dict[str, str]) -> None:
    await make_picture(ctx, order)


class RestateFront(Front):
    _numbers = count()

    async def start(self, picture_id: str, prompt: str) -> None:
        async with state["pool"].connection() as rows:
            await rows.execute(ORDERED, (picture_id, prompt))
        service = "Pictures" if self.slots is None else f"Lines/{next(self._numbers) % self.slots}"
        order = {"id": picture_id, "prompt": prompt}
        (await state["ingress"].post(f"/{service}/make/send", json=order)).raise_for_status()

    async def webhook(self, request: Request) -> Response:
        awakeable = request.query_params["awakeable"]
        path = f"/restate/awakeables/{awakeable}/resolve"
        (await state["ingress"].post(path, json=await request.json())).raise_for_status()
        return Response()


async def main() -> None:
    given = arguments(__doc__)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with connected(given.database, TABLE) as pool:
            state.update(
                pool=pool,
                fal=fal_client.AsyncClient(),
                files=httpx.AsyncClient(timeout=60),
                ingress=httpx.AsyncClient(base_url=given.ingress, timeout=60, trust_env=False),
                folder=Path(given.folder),
                webhooks=f"http://127.0.0.1:{given.port}/webhooks/fal",
            )
            yield

    front = RestateFront().application(lifespan)
    handlers = restate.app(services=[pictures, lines])
    stop = asyncio.Event()  # of both: each would take the signal for itself
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.gather(
        serve(front, _bound(given.port), shutdown_trigger=stop.wait),  # type: ignore[arg-type]
        serve(handlers, _bound(given.service_port), shutdown_trigger=stop.wait),  # type: ignore[arg-type]
    )


def _bound(port: int) -> Config:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel, config.graceful_timeout = "WARNING", 1
    return config


if __name__ == "__main__":
    asyncio.run(main())
