"""Commands for work: the HTTP API, from a terminal. They print what it answers.

With `DARKROOM_API_KEY` they are that user's; without it they are the operator's, who sees every job, from the ledger.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.deployments.cli.common import open_ledger, settings

if TYPE_CHECKING:
    from darkroom.deployments.api_client import ApiClient
    from darkroom.ledger import Implied, Ledger

Job = Annotated[str, typer.Argument(help="A job's id, as `darkroom generate` gives it.")]


def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    model: Annotated[str | None, typer.Option(help="An endpoint of the catalogue.")] = None,
    image_size: Annotated[str | None, typer.Option(help="A named size, e.g. landscape_4_3, or WIDTHxHEIGHT.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed and prompt, same picture.")] = None,
    num_images: Annotated[int | None, typer.Option(help="How many pictures.")] = None,
    lora: Annotated[str | None, typer.Option(help="A trained LoRA: its trigger word or id.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the job has ended; exit code 1 if it failed.")] = False,
) -> None:
    """Order a picture. Prints the job."""
    asked = {"model": model, "image_size": _size(image_size), "seed": seed, "num_images": num_images, "lora": lora}
    with _client() as client:
        answer = client.order_image({"prompt": prompt, **{k: v for k, v in asked.items() if v is not None}})
        job = client.wait(answer["job_id"]) if wait else answer
    _show(job)
    if wait and job["status"] != "completed":
        raise typer.Exit(1)


def upload(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Pictures, or a zip of them.")],
) -> None:
    """Bring files to the media store. Prints an id for each, which orders take; what was noticed of them on stderr."""
    with _client() as client:
        for file in files:
            brought = client.upload(file)
            for note in brought.get("notes") or ():
                typer.echo(f"{file.name}: {note}", err=True)
            typer.echo(brought["id"])


def status(
    job: Job, as_json: Annotated[bool, typer.Option("--json", help="As JSON, as a pipe gets it anyway.")] = False
) -> None:
    """Show a job: how far it has come, its paid calls, files, cost and error."""
    found = find_job(job)
    if as_json or not sys.stdout.isatty():
        _show(found)
        return
    from darkroom.deployments.cli.view import print_job

    print_job(found)


def why(job: Job) -> None:
    """Say in one sentence what a job waits for."""
    found = find_job(job)
    typer.echo(found["waiting_for"] or _ended(found))


def cancel(job: Job) -> None:
    """Cancel a job. What the provider already runs usually runs on, is billed, and is kept. Prints the job."""
    if os.environ.get("DARKROOM_API_KEY"):
        with _client() as client:
            _show(client.cancel(job))
    else:
        _act(lambda ledger: ledger.jobs.cancel(job), job)
        _show(_from_ledger(job))


def _act(change: Callable[[Ledger], Implied], job_id: str) -> None:
    """Change a job for the operator: commit the change, then carry it out as the gateway would."""
    from darkroom.orchestrator import Orchestrator
    from darkroom.orchestrator.dispatch import Dispatcher

    _from_ledger(job_id)  # which says so if there is no such job
    with open_ledger() as ledger, Orchestrator() as orchestrator:
        Dispatcher(ledger, orchestrator).carry_out(change(ledger))


def find_job(job_id: str) -> dict[str, Any]:
    if os.environ.get("DARKROOM_API_KEY"):
        with _client() as client:
            return client.job(job_id)
    return _from_ledger(job_id)


def _from_ledger(job_id: str) -> dict[str, Any]:
    with open_ledger() as ledger:
        return document_of(ledger, job_id)


def document_of(ledger: Ledger, job_id: str) -> dict[str, Any]:
    """As the API shows the job. Raises BadInput where there is none."""
    from darkroom.deployments.gateway.schemas.jobs import job_document
    from darkroom.errors import BadInput

    job = ledger.jobs.get(job_id)
    if job is None:
        raise BadInput(f"There is no job {job_id}.", field="JOB")
    return job_document(job, ledger, settings()).model_dump(mode="json", by_alias=True)


def _ended(job: dict[str, Any]) -> str:
    error = job["error"]
    return f"Nothing: it has {job['status']}, {error['message']}" if error else f"Nothing: it is {job['status']}."


def _size(text: str | None) -> str | dict[str, int] | None:
    width, _, height = (text or "").partition("x")
    if width.isdigit() and height.isdigit():
        return {"width": int(width), "height": int(height)}
    return text


def _client() -> ApiClient:
    from darkroom.deployments.api_client import ApiClient

    return ApiClient(settings())


def _show(answer: dict[str, Any]) -> None:
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
