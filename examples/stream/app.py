"""An application that orders a picture and shows what happens to it: a page, and the backend that has the key."""

import os
from pathlib import Path
from typing import Annotated

import httpx
from fastapi import Body, FastAPI
from fastapi.responses import FileResponse

darkroom = httpx.Client(
    base_url=os.environ["DARKROOM_URL"], headers={"Authorization": f"Bearer {os.environ['DARKROOM_KEY']}"}
)
app = FastAPI()


@app.get("/")
def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/orders")
def order(prompt: Annotated[str, Body(embed=True)]) -> dict[str, str]:
    answer = darkroom.post("/v1/images", json={"prompt": prompt})
    return {"job": answer.raise_for_status().json()["job_id"]}


@app.post("/orders/{job}/stream")
def stream(job: str) -> dict[str, str]:
    """Let the page read the news of this job for an hour. Your own application checks here whose job it is."""
    answer = darkroom.post("/v1/stream-tokens", json={"job": job})
    return {"url": answer.raise_for_status().json()["url"]}
