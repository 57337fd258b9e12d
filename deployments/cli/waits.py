"""Commands for what jobs wait for beside paid calls: times, events, other jobs.

With `DARKROOM_API_KEY` they are that user's; without it they are the operator's, who may end anybody's wait.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.deployments.cli.common import open_api
from darkroom.deployments.cli.output import AnywayOption, JsonOption, print_rows

if TYPE_CHECKING:
    from darkroom.deployments.api_client import ApiClient

wait = typer.Typer(help="What jobs wait for beside paid calls, and its end by hand.", no_args_is_help=True)

WaitId = Annotated[str, typer.Argument(metavar="WAIT", help="A wait's id, as `darkroom wait list` gives it.")]
LONGEST = timedelta(days=100 * 366)  # what is longer may be `timedelta.max`, which no time can be moved by


@wait.command("list")
def list_waits(job: Annotated[str, typer.Argument(help="A job's id.")], as_json: JsonOption = False) -> None:
    """List what a job waits for and has waited for: id, step, state, what for, until when."""
    from darkroom.deployments.cli.jobs import find_job

    rows = (
        ((each["id"], each["step"], each["state"], what(each), each["until"] or ""), each)
        for each in find_job(job)["waits"]
    )
    columns = ("wait", "step", "state", "what for", "until")
    print_rows(columns, rows, as_json=as_json, empty=f"{job} waits for nothing beside its paid calls, and has not.")


def what(wait: Mapping[str, Any]) -> str:
    return str(wait["event"] or wait["child_job_id"] or "time")


@wait.command("wake")
def wake(wait: WaitId, as_json: AnywayOption = False) -> None:
    """End a wait now: a sleep has passed, an event has not come. Prints it."""
    with open_api() as api:
        _show(api.change_wait(wait, "wake", {}))


@wait.command("extend")
def extend(
    wait: WaitId,
    until: Annotated[str | None, typer.Option(help="When it is over, e.g. 2030-01-01T12:00:00+01:00.")] = None,
    by: Annotated[str | None, typer.Option(help="So much later than now planned, e.g. 2d, 36h or 1h30m.")] = None,
    as_json: AnywayOption = False,
) -> None:
    """Give a wait another time, sooner or later. Prints it."""
    from darkroom.errors import BadInput

    if (until is None) == (by is None):
        raise BadInput("Say either --until or --by.", field="--until")
    with open_api() as api:
        # The API takes a time, so how much later is reckoned here, from what is planned by now.
        when = _time(until) if until is not None else _planned(api, wait) + duration(by or "")
        _show(api.change_wait(wait, "extend", {"until": when.isoformat()}))


def duration(text: str) -> timedelta:
    """Read how long, in parts like `2d`, `36h`, `1h30m`. Raise BadInput."""
    from darkroom import durations
    from darkroom.errors import BadInput

    try:
        found = durations.duration(text)
    except ValueError as error:
        raise BadInput(str(error), field="--by") from error
    if found > LONGEST:
        raise BadInput(f"'{text}' is more than a hundred years.", field="--by")
    return found


def _time(text: str) -> datetime:
    """Read a time. Without a zone it is this machine's."""
    from darkroom.errors import BadInput

    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:  # the latter before the year 1, and behind 9999
        raise BadInput(f"'{text}' is no time: write it like 2030-01-01T12:00:00+01:00.", field="--until") from error


def _planned(api: ApiClient, wait_id: str) -> datetime:
    from darkroom.errors import BadInput

    if (until := api.wait_of_job(wait_id)["until"]) is None:
        raise BadInput("It waits for as long as it takes: say --until when it is to be over.", field="--by")
    return datetime.fromisoformat(until)


def _show(answer: dict[str, Any]) -> None:
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
