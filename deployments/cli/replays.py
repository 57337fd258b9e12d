"""`darkroom replay`: failed jobs go back to work, one by one as they are named, or together under a budget.

With `DARKROOM_API_KEY` they are that user's; without it they are the operator's, who may put back anybody's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

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
from darkroom.deployments.cli.jobs import document_of
from darkroom.deployments.cli.output import JsonOption, print_json

if TYPE_CHECKING:
    from darkroom.ledger import Implied, Ledger


def _usd(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
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
    if dry_run:
        _try(chosen, named, as_json=as_json)
        return
    if named and not chosen.is_given and budget is None:
        _each(named, as_json=as_json)
        return
    price = _price(chosen, named)
    typer.echo(price.sentence(), err=True)
    if not price.jobs:
        raise typer.Exit(1 if named else 0)
    if budget is not None:
        _together(chosen, named, budget, as_json=as_json)
        return
    if not yes:
        typer.confirm("Put them back?", abort=True, err=True)
    _each(price.jobs, as_json=as_json)


def _try(chosen: Which, jobs: list[str], *, as_json: bool) -> None:
    from darkroom.deployments.cli.dry_run import dry_run
    from darkroom.errors import BadInput

    if os.environ.get("DARKROOM_API_KEY"):
        raise BadInput(
            "It tries this installation's code on the ledger's records, which is the operator's: unset "
            "DARKROOM_API_KEY.",
            field="--dry-run",
        )
    dry_run(chosen, jobs, as_json=as_json)


def _each(jobs: list[str], *, as_json: bool) -> None:
    """On its own, also where another is refused."""
    from darkroom.errors import DarkroomError

    refused = False
    with _replaying() as put_back:
        for job in jobs:
            try:
                found = put_back(job)
                if as_json:
                    print_json(found)
                else:
                    typer.echo(f"{job}\t{found['status']}\t{found['waiting_for'] or ''}")
            except DarkroomError as error:
                refused = True
                typer.echo(f"{job}: {error}", err=True)
    if refused:
        raise typer.Exit(1)


@contextmanager
def _replaying() -> Iterator[Callable[[str], dict[str, Any]]]:
    """Yield the function that requeues one job and returns its document."""
    if os.environ.get("DARKROOM_API_KEY"):
        from darkroom.deployments.api_client import ApiClient

        with ApiClient(settings()) as client:
            yield client.replay
        return
    with open_ledger() as ledger, _dispatching(ledger) as carry_out:

        def put_back(job_id: str) -> dict[str, Any]:
            document_of(ledger, job_id)  # which says so if there is no such job
            carry_out(ledger.jobs.replay(job_id))
            return document_of(ledger, job_id)

        yield put_back


@contextmanager
def _dispatching(ledger: Ledger) -> Iterator[Callable[[Implied], None]]:
    """Carries out what a change implies, as the gateway would."""
    from darkroom.orchestrator import Orchestrator
    from darkroom.orchestrator.dispatch import Dispatcher

    with Orchestrator() as orchestrator:
        yield Dispatcher(ledger, orchestrator).carry_out


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
    if os.environ.get("DARKROOM_API_KEY"):
        told = _ask(chosen, jobs)
        return _Price(
            matching=told["matching"],
            jobs=told["jobs"],
            replayable=told["replayable"],
            usd=Decimal(str(told["replay_usd"])),
        )
    with open_ledger() as ledger:
        price = ledger.dead_letters.price(chosen.in_ledger(ledger, jobs))
    return _Price(matching=price.matching, jobs=list(price.job_ids), replayable=price.replayable, usd=price.replay_usd)


def _together(chosen: Which, jobs: list[str], budget: Decimal, *, as_json: bool) -> None:
    put_back, refused, left = _put_back(chosen, jobs, budget)
    for job in put_back:
        if as_json:
            print_json({"job_id": job, "put_back": True})
        else:
            typer.echo(f"{job}\tput back")
    for job, why in refused.items():
        typer.echo(f"{job}: {why}", err=True)
    typer.echo(f"{len(put_back):,} put back under a budget of ${budget}, {len(refused):,} not.", err=True)
    if left:
        typer.echo(f"{left:,} more match: run it again for those.", err=True)
    if refused:
        raise typer.Exit(1)


def _put_back(chosen: Which, jobs: list[str], budget: Decimal) -> tuple[list[str], Mapping[str, str], int]:
    if os.environ.get("DARKROOM_API_KEY"):
        told = _ask(chosen, jobs, budget_usd=float(budget))
        return told["put_back"], {each["job_id"]: each["why"] for each in told["refused"]}, told["remaining"]
    with open_ledger() as ledger, _dispatching(ledger) as carry_out:
        done = ledger.dead_letters.replay(chosen.in_ledger(ledger, jobs), budget_usd=budget)
        carry_out(done.implied)
    return list(done.job_ids), done.refused, done.remaining


def _ask(chosen: Which, jobs: list[str], **more: Any) -> dict[str, Any]:
    from darkroom.deployments.api_client import ApiClient
    from darkroom.errors import BadInput

    if jobs and chosen.is_given:
        raise BadInput("Give either ids or options that say which are meant.", field="JOB")
    meant = {"jobs": jobs} if jobs else {"filter": chosen.over_http()}
    with ApiClient(settings()) as client:
        return client.replay_letters(meant | more)
