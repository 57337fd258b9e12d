"""Commands for failed jobs: listed, with what another try costs, and put away.

With `DARKROOM_API_KEY` they are that user's; without it they are the operator's, who sees everybody's, from the ledger.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain, islice
from typing import Annotated, Any

import typer

from darkroom.deployments.cli.common import open_ledger, settings
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

PAGE = 100


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
    put_away, refused = _discard(jobs, reason)
    for job in put_away:
        if as_json:
            print_json({"job_id": job, "discarded": True})
        else:
            typer.echo(f"{job}\tdiscarded")
    for job, why in refused.items():
        typer.echo(f"{job}: {why}", err=True)
    if refused:
        raise typer.Exit(1)


def _letters(chosen: Which) -> Iterator[dict[str, Any]]:
    return _over_http(chosen) if os.environ.get("DARKROOM_API_KEY") else _from_ledger(chosen)


def _over_http(chosen: Which) -> Iterator[dict[str, Any]]:
    from darkroom.deployments.api_client import ApiClient

    asked = chosen.over_http() | {"limit": PAGE}
    with ApiClient(settings()) as client:
        page = client.dead_letters(asked)
        yield from page["items"]
        while page["next"]:
            page = client.dead_letters(asked | {"cursor": page["next"]})
            yield from page["items"]


def _from_ledger(chosen: Which) -> Iterator[dict[str, Any]]:
    from darkroom.deployments.gateway.schemas.dead_letters import letter_document

    with open_ledger() as ledger:
        meant, before = chosen.in_ledger(ledger), None
        while page := ledger.dead_letters.page(meant, limit=PAGE, before=before):
            yield from (letter_document(letter).model_dump(mode="json", by_alias=True) for letter in page)
            before = (page[-1].failed_at, page[-1].job_id)


def _discard(jobs: list[str], reason: str) -> tuple[list[str], dict[str, str]]:
    """Those that were put away, and why the others were not."""
    if os.environ.get("DARKROOM_API_KEY"):
        from darkroom.deployments.api_client import ApiClient

        with ApiClient(settings()) as client:
            answer = client.discard_letters({"jobs": jobs, "reason": reason})
        return answer["discarded"], {each["job_id"]: each["why"] for each in answer["refused"]}
    with open_ledger() as ledger:
        done = ledger.dead_letters.discard(Which().in_ledger(ledger, jobs), reason=reason)
    return list(done.job_ids), dict(done.refused)


def _print_table(letters: Iterable[dict[str, Any]]) -> None:
    """Two lines for each: a job's id is there to be copied, so nothing stands beside it that could cut it short."""
    from rich.console import Console
    from rich.text import Text

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
