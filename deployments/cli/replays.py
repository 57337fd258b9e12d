"""`darkroom replay`: failed jobs go back to work, one by one as they are named, or together under a budget.

With `DARKROOM_API_KEY` they are that user's; without it they are the operator's, who may put back anybody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from darkroom.deployments.cli.common import open_api, settings
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


def _usd(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    # "NaN" and "Infinity" are numbers to `Decimal`. The bounds are the API's, and so are six places of a dollar.
    if not (number.is_finite() and 0 <= number <= 100_000):
        raise typer.BadParameter("a sum in USD, e.g. 2.50")
    return round(number, 6)


def replay(
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help="Ids of jobs.")] = None,
    user: UserOption = None,
    kind: KindOption = None,
    error_class: ClassOption = None,
    code: CodeOption = None,
    endpoint: EndpointOption = None,
    failed_since: SinceOption = None,
    failed_before: BeforeOption = None,
    discarded: DiscardedOption = False,
    budget: Annotated[
        Decimal | None,
        typer.Option(parser=_usd, metavar="USD", help="Most that they may pay together, now and later. Asks nothing."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask after the price was shown.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only try this installation's code on them: nothing is sent or written.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put failed or cancelled jobs back to work. What has succeeded of them is not paid again.

    With options in place of ids the price is shown first: up to 1,000 failed jobs, oldest failure first. With --dry-run
    each is told what today's code would make of it.
    """
    from darkroom.errors import BadInput

    chosen = which(user, kind, error_class, code, endpoint, failed_since, failed_before, discarded)
    named = list(jobs or ())
    if not named and not chosen.is_given:
        raise BadInput("Name jobs, or say which are meant, e.g. --failed-since 2h.", field="JOB")
    if named and chosen.is_given:
        raise BadInput("Give either ids or options that say which are meant.", field="JOB")
    if dry_run:
        _try(chosen, named, as_json=as_json)
        return
    if named and budget is None:
        _each(named, as_json=as_json)
        return
    price = _price(chosen, named)
    typer.echo(price.sentence(), err=True)  # on stdout are jobs alone
    if not price.jobs:
        raise typer.Exit(1 if named else 0)  # that none match is no failure; that those named cannot go is one
    if budget is not None:
        _together(chosen, named, budget, as_json=as_json)
        return
    if not yes:
        typer.confirm("Put them back?", abort=True, err=True)
    # Those that were priced, by their ids: what has failed meanwhile was not asked about.
    _each(price.jobs, as_json=as_json)


def _try(chosen: Which, jobs: list[str], *, as_json: bool) -> None:
    from darkroom.deployments.cli.dry_run import dry_run
    from darkroom.errors import BadInput

    if settings().api_key:
        raise BadInput(
            "It tries this installation's code on the ledger's records, which is the operator's: unset "
            "DARKROOM_API_KEY.",
            field="--dry-run",
        )
    dry_run(chosen, jobs, as_json=as_json)


def _each(jobs: list[str], *, as_json: bool) -> None:
    """Put back each job on its own, also where another is refused."""
    from darkroom.errors import DarkroomError, NeedsHuman

    refused = False
    with open_api() as api:
        for job in jobs:
            try:
                found = api.change_job(job, "replay")
                if as_json:
                    print_json(found)
                else:
                    typer.echo(f"{job}\t{found['status']}\t{found['waiting_for'] or ''}")
            except NeedsHuman:  # nobody answers: that is said once
                raise
            except DarkroomError as error:
                refused = True
                typer.echo(f"{job}: {error}", err=True)
    if refused:
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class _Price:
    matching: int
    jobs: list[str]
    replayable: int
    usd: Decimal

    def sentence(self) -> str:
        told = f"{self.matching:,} failed jobs match"
        if self.matching > len(self.jobs):
            told += f"; of the first {len(self.jobs):,}"
        return (
            f"{told}, {self.replayable:,} can be replayed, for about ${self.usd:.4f}. "
            "Steps that they come to later cost more."
        )


def _price(chosen: Which, jobs: list[str]) -> _Price:
    told = _ask(chosen, jobs)
    return _Price(
        matching=told["matching"],
        jobs=told["jobs"],
        replayable=told["replayable"],
        usd=Decimal(str(told["replay_usd"])),
    )


def _together(chosen: Which, jobs: list[str], budget: Decimal, *, as_json: bool) -> None:
    told = _ask(chosen, jobs, budget_usd=float(budget))
    put_back, refused, remaining = told["put_back"], told["refused"], told["remaining"]
    for job in put_back:
        if as_json:
            print_json({"job_id": job, "put_back": True})
        else:
            typer.echo(f"{job}\tput back")
    for each in refused:
        typer.echo(f"{each['job_id']}: {each['why']}", err=True)
    typer.echo(f"{len(put_back):,} put back under a budget of ${budget}, {len(refused):,} not.", err=True)
    if remaining:
        typer.echo(f"{remaining:,} more match: run it again for those.", err=True)
    if refused:
        raise typer.Exit(1)


def _ask(chosen: Which, jobs: list[str], **more: Any) -> dict[str, Any]:
    # The API takes either.
    meant = {"jobs": jobs} if jobs else {"filter": chosen.over_http()}
    with open_api() as api:
        return api.post(f"{api.whose(chosen.user)}/dead-letters/replay", meant | more)
