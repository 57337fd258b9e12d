"""Commands for work: the HTTP API, from a terminal. They print what it answers.

With `DARKROOM_API_KEY` they are that user's; without it they are the operator's, who sees every job.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom.deployments.cli.common import open_api
from darkroom.deployments.cli.output import JsonOption, OneJsonOption, print_json

Job = Annotated[str, typer.Argument(help="A job's id, as `darkroom generate` gives it.")]
AnywayOption = Annotated[bool, typer.Option("--json", help="As JSON, as a pipe gets it anyway.")]


def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    model: Annotated[str | None, typer.Option(help="An endpoint of the catalogue.")] = None,
    image_size: Annotated[str | None, typer.Option(help="A named size, e.g. landscape_4_3, or WIDTHxHEIGHT.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed and prompt, same picture.")] = None,
    num_images: Annotated[int | None, typer.Option(help="How many pictures.")] = None,
    lora: Annotated[str | None, typer.Option(help="A trained LoRA: its trigger word or id.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the job has ended; exit code 1 if it failed.")] = False,
    as_json: AnywayOption = False,
) -> None:
    """Order a picture. Prints the job."""
    asked = {"model": model, "image_size": _size(image_size), "seed": seed, "num_images": num_images, "lora": lora}
    with open_api() as client:
        answer = client.order_image({"prompt": prompt, **{k: v for k, v in asked.items() if v is not None}})
        job = client.wait(answer["job_id"]) if wait else answer
    _print(job, as_json=as_json)
    if wait and job["status"] != "completed":
        raise typer.Exit(1)


def upload(
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help="What a model takes."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Bring files to the media store. Prints an id for each, which orders take; what was noticed of them on stderr."""
    with open_api() as client:
        for file in files:
            uploaded = client.upload(file)
            for note in uploaded.get("notes") or ():
                typer.echo(f"{file.name}: {note}", err=True)  # on stdout a script finds ids alone
            if as_json:
                print_json(uploaded)
            else:
                typer.echo(uploaded["id"])


def status(job: Job, as_json: AnywayOption = False) -> None:
    """Show a job: how far it has come, its paid calls, files, cost and error."""
    _print(find_job(job), as_json=as_json)


def why(job: Job, as_json: OneJsonOption = False) -> None:
    """Say in one sentence what a job waits for."""
    found = find_job(job)
    sentence = found["waiting_for"] or _ended(found)
    if as_json:
        print_json(
            {"job_id": found["id"], "status": found["status"], "waiting_for": found["waiting_for"], "why": sentence}
        )
    else:
        typer.echo(sentence)


def cancel(job: Job, as_json: AnywayOption = False) -> None:
    """Cancel a job. What the provider already runs usually runs on, is billed, and is kept. Prints the job."""
    with open_api() as api:
        _print(api.change_job(job, "cancel"), as_json=as_json)


def find_job(job_id: str) -> dict[str, Any]:
    with open_api() as api:
        return api.job(job_id)


def _ended(job: dict[str, Any]) -> str:
    error = job["error"]
    said = f"Nothing: it has {job['status']}, {error['message']}" if error else f"Nothing: it is {job['status']}."
    lost = sum(call["status"] == "expired" and call["cost_usd"] is None for call in job["requests"])
    return f"{said} {lost} of its calls had no answer, and may have been paid, too." if lost else said


def _size(text: str | None) -> str | dict[str, int] | None:
    # Not by `isdigit`, which is true of `²`, too: `int` does not read that, nor thousands of digits.
    sides = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", text or "")
    if sides:
        return {"width": int(sides[1]), "height": int(sides[2])}
    return text  # a name, of which the API knows whether there is one


def _print(answer: dict[str, Any], *, as_json: bool) -> None:
    """Print a job as a person likes to look at it, in a terminal; in a pipe, or where it has just begun, as JSON."""
    # The answer to an order is no whole job yet, and has no calls in it.
    if as_json or not sys.stdout.isatty() or "requests" not in answer:
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    from darkroom.deployments.cli.view import print_job

    print_job(answer)
