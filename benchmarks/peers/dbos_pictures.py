"""The same pictures on DBOS: `python dbos_pictures.py --port N --folder DIR --database URL`, in the peers' own venv.

As DBOS's documentation has it: a workflow of three steps, which waits for its webhook by `recv`; the webhook's route
sends to the workflow. More than may be in flight wait in a queue of DBOS's.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fal_client
import httpx
import uvicorn
from dbos import DBOS, SetWorkflowID
from pictures import FINISHED, MODEL, ORDERED, TABLE, Front, arguments, connected
from starlette.requests import Request
from starlette.responses import Response

QUEUE = "pictures"
state: dict[str, Any] = {}


@DBOS.step()
async def submit(picture_id: str, prompt: str) -> str:
    url = f"{state['webhooks']}?picture={picture_id}"
    return (await state["fal"].submit(MODEL, {"prompt": prompt}, webhook_url=url)).request_id


@DBOS.step()
async def store(picture_id: str, url: str) -> str:
    file = await state["files"].get(url)
    path = state["folder"] / f"{picture_id}.jpg"
    path.write_bytes(file.raise_for_status().content)
    return str(path)


@DBOS.step()
async def finish(picture_id: str, request_id: str, path: str, next_line_at: str) -> None:
    now = datetime.now(UTC)
    async with state["pool"].connection() as rows:
        await rows.execute(FINISHED, (request_id, path, next_line_at, now, now, picture_id))


@DBOS.workflow()
async def make_picture(picture_id: str, prompt: str) -> None:
    request_id = await submit(picture_id, prompt)
    answer = await DBOS.recv_async("result", timeout_seconds=600)
    next_line_at = datetime.now(UTC).isoformat()
    path = await store(picture_id, answer["payload"]["images"][0]["url"])
    await finish(picture_id, request_id, path, next_line_at)


class DbosFront(Front):
    async def start(self, picture_id: str, prompt: str) -> None:
        async with state["pool"].connection() as rows:
            await rows.execute(ORDERED, (picture_id, prompt))
        with SetWorkflowID(picture_id):
            if self.slots is None:
                await DBOS.start_workflow_async(make_picture, picture_id, prompt)
            else:
                await DBOS.enqueue_workflow_async(QUEUE, make_picture, picture_id, prompt)

    async def webhook(self, request: Request) -> Response:
        await DBOS.send_async(request.query_params["picture"], await request.json(), "result")
        return Response()

    async def limited(self) -> None:
        await DBOS.register_queue_async(
            QUEUE, worker_concurrency=self.slots, polling_interval_sec=0.05, on_conflict="always_update"
        )


def main() -> None:
    given: argparse.Namespace = arguments(__doc__)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with connected(given.database, TABLE) as pool:
            state.update(
                pool=pool,
                fal=fal_client.AsyncClient(),
                files=httpx.AsyncClient(timeout=60),
                folder=Path(given.folder),
                webhooks=f"http://127.0.0.1:{given.port}/webhooks/fal",
            )
            DBOS.launch()
            yield
            DBOS.destroy()

    DBOS(config={"name": "pictures", "system_database_url": given.database, "run_admin_server": False})
    uvicorn.run(DbosFront().application(lifespan), port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
