"""Commands for failed jobs: listed, with what another try costs, and put away.

With `DARKROOM_API_KEY` they are that user's; without it they are the operator's, who sees everybody's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain, islice
from typing import Annotated, Any

import typer

from darkroom.deployments.cli.common import ADMIN, open_api
from darkroom.deployments.cli.dead_letters import (
    BeforeOption,
    ClassOption,
    CodeOption,
    DiscardedOption,
    EndpointOption,
    KindOption,
    SinceOption,
    UserOption,
    Which,
    which,
)
from darkroom.deployments.cli.output import JsonOption, print_json

AnywayOption = Annotated[bool, typer.Option("--json", help="As JSON lines, as a pipe gets them anyway.")]
dead = typer.Typer(help="Failed jobs: why, what was paid, what another try costs.", no_args_is_help=True)


@dead.command("list")
def list_dead(
    user: UserOption = None,
    kind: KindOption = None,
    error_class: ClassOption = None,
    code: CodeOption = None,
    endpoint: EndpointOption = None,
    failed_since: SinceOption = None,
    failed_before: BeforeOption = None,
    discarded: DiscardedOption = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most jobs.")] = 1000,
    as_json: AnywayOption = False,
) -> None:
    """List failed jobs, newest first: a table in a terminal, JSON lines in a pipe."""
    chosen = which(user, kind, error_class, code, endpoint, failed_since, failed_before, discarded)
    letters = islice(_letters(chosen), limit)
    # The first is asked for alone, so that of nothing there is no heading.
    first = next(letters, None)
    if first is None:
        typer.echo("There are no such failed jobs.", err=True)
        return
    found = chain([first], letters)  # a thousand are told as they come
    if sys.stdout.isatty() and not as_json:
        _print_table(found)
        return
    for letter in found:
        print_json(letter)


@dead.command("discard")
def discard(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids of failed jobs.")],
    reason: Annotated[str, typer.Option(help="Why nothing more is to become of them.")],
    as_json: JsonOption = False,
) -> None:
    """Put failed jobs away: listed no more, and put back by nothing but a replay that names them."""
    with open_api() as api:
        answer = api.post(f"{api.whose()}/dead-letters/discard", {"jobs": jobs, "reason": reason})
    for job in answer["discarded"]:
        if as_json:
            print_json({"job_id": job, "discarded": True})
        else:
            typer.echo(f"{job}\tdiscarded")
    for each in answer["refused"]:
        typer.echo(f"{each['job_id']}: {each['why']}", err=True)
    if answer["refused"]:
        raise typer.Exit(1)


def _letters(chosen: Which) -> Iterator[dict[str, Any]]:
    with open_api() as api:
        whose = api.whose(chosen.user)
        # For operators the address itself has causes, and not jobs.
        yield from api.all(f"{whose}/dead-letters" + ("/jobs" if whose == ADMIN else ""), **chosen.over_http())


def _print_table(letters: Iterable[dict[str, Any]]) -> None:
    """Print two lines for each."""
    from rich.console import Console
    from rich.text import Text

    # An id is there to be copied: with `soft_wrap` nothing breaks it, and what may be long has a line of its own.
    console = Console(highlight=False)
    console.print(f"{'job':<32}  {'failed at':<16}  {'paid':>8}  {'replay':>8}  kind", style="bold", soft_wrap=True)
    for letter in letters:
        console.print(_head(letter), markup=False, soft_wrap=True)
        console.print(Text(f"  {_failure(letter)}"), style="dim", no_wrap=True, overflow="ellipsis")


def _head(letter: dict[str, Any]) -> str:
    at = datetime.fromisoformat(letter["failed_at"]).astimezone()
    paid, price = (f"${letter[name]:.3f}" for name in ("paid_usd", "replay_usd"))
    price = price if letter["replayable"] else "not yet"
    return f"{letter['job_id']:<32}  {at:%Y-%m-%d %H:%M}  {paid:>8}  {price:>8}  {letter['kind']}"


def _failure(letter: dict[str, Any]) -> str:
    in_step = f" in {letter['step']}" if letter["step"] else ""
    discarded = f"discarded: {letter['discard_reason']} " if letter["discarded_at"] else ""
    said = " ".join(letter["message"].split())  # on one line, whatever the provider has sent
    return f"{discarded}{letter['class'] or '?'}/{letter['code'] or '?'}{in_step}: {said}"
