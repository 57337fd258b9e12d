"""An application that orders a picture, shows what happens to it, and is told of its end: the backend with the key."""

import os
from pathlib import Path
from typing import Annotated

import httpx
from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse
from standardwebhooks import Webhook, WebhookVerificationError

bearer = {"Authorization": f"Bearer {os.environ['DARKROOM_KEY']}"}
darkroom = httpx.Client(base_url=os.environ["DARKROOM_URL"], headers=bearer)
app = FastAPI()
ends: dict[str, str] = {}  # your database


@app.get("/")
def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/orders")
def order(prompt: Annotated[str, Body(embed=True)]) -> dict[str, str]:
    order = {"prompt": prompt, "callback_url": os.environ["CALLBACK_URL"]}
    return {"job": darkroom.post("/v1/images", json=order).raise_for_status().json()["job_id"]}


@app.post("/orders/{job}/stream")
def stream(job: str) -> dict[str, str]:
    """Let the page read the news of this job for an hour. Your own application checks here whose job it is."""
    return {"url": darkroom.post("/v1/stream-tokens", json={"job": job}).raise_for_status().json()["url"]}


@app.post("/darkroom")
async def told(request: Request) -> dict[str, str]:
    """Hear of the end, with or without a page open. The same may come twice."""
    try:
        news = Webhook(os.environ["CALLBACK_SECRET"]).verify(await request.body(), dict(request.headers))
    except WebhookVerificationError as error:
        raise HTTPException(400, "This is not Darkroom's.") from error
    ends[news["data"]["job_id"]] = news["type"]
    return {}


@app.get("/orders/{job}")
def end(job: str) -> dict[str, str | None]:
    return {"end": ends.get(job)}
