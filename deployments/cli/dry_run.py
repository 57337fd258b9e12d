"""`darkroom replay --dry-run`: failed jobs are tried with the code of this installation, and nothing comes of it.

Each is told in a line as soon as it is known; then how many there are of each verdict, what the known calls would cost,
and the command that replays the same jobs for no more than that.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Any

import typer

from darkroom.deployments.cli.common import settings
from darkroom.deployments.cli.dead_letters import Which

if TYPE_CHECKING:
    from darkroom.engine.dry_run import DryRunResult
    from darkroom.engine.dry_run.job import Ask

CENT = Decimal("0.01")


def dry_run(which: Which, jobs: Sequence[str], *, as_json: bool) -> None:
    """Try the failed jobs that are meant, oldest failure first, and print the outcomes."""
    from darkroom.clock import utc_now

    # What fails from now on is not of the set, so that the command at the end is about the same one.
    meant = which if jobs or which.until is not None else replace(which, until=utc_now())
    counts, price = Counter[str](), Decimal(0)
    for said in _dry_runs(meant, list(jobs)):
        counts[said.verdict.value] += 1
        price += said.price_usd
        typer.echo(json.dumps(document(said), ensure_ascii=False) if as_json else line(said))
    command = live(meant, jobs, price=price)
    if as_json:
        summary = {"jobs": counts.total(), "verdicts": dict(counts), "price_usd": str(price), "live": command}
        typer.echo(json.dumps({"summary": summary}))
    else:
        typer.echo("\n".join(["", *closing(counts, price=price, command=command)]))


def _dry_runs(which: Which, jobs: list[str]) -> Iterator[DryRunResult]:
    opened = settings()  # joins the stack, before anything of Prefect's is imported
    from darkroom.engine.dry_run import dry_run
    from darkroom.engine.dry_run.resources import open_only_to_read

    with open_only_to_read(opened) as resources:
        meant = resources.ledger.dead_letters.job_ids(which.in_ledger(resources.ledger, jobs))
        for line in left_out(jobs, meant):
            typer.echo(line, err=True)
        for job_id in meant:
            yield dry_run(resources, job_id)


def left_out(jobs: Sequence[str], meant: Sequence[str]) -> list[str]:
    """List what is not tried though it was asked for, each in a sentence."""
    from darkroom.ledger.dead_letters import MOST_LETTERS

    told = [f"{job_id}: it is no failed job that is meant." for job_id in jobs if job_id not in meant]
    if len(meant) == MOST_LETTERS:
        told.append(f"{MOST_LETTERS:,} are tried at once, oldest failure first. Narrow them down for the others.")
    return told


def line(said: DryRunResult) -> str:
    """Return a job's line: its id and kind, how it failed, what would become of it, the price of that, and why."""
    was = said.was or {}
    failed = f"was {was.get('class')}/{was.get('code')}" + (f" in {was['step']}" if was.get("step") else "")
    # In columns, verdict and price below each other; what may be long comes last.
    told = f"{said.job_id}  {said.kind:<15}  {failed:<52}  {said.verdict:<15}  ${said.price_usd:.4f}  {_details(said)}"
    # Providers' words are among it.
    return "".join(each if each.isprintable() else " " for each in told.rstrip())


def _details(said: DryRunResult) -> str:
    # What fails the same is in the line already, as what it was.
    failure = _failure(said.error) if said.error and said.verdict == "fails otherwise" else ""
    return "; ".join(part for part in (failure, *map(_asked, said.asks), said.why) if part)


def _failure(error: Mapping[str, Any]) -> str:
    in_step = f" in {error['step']}" if error.get("step") else ""
    return f"{error['class']}/{error['code']}{in_step}: {error['message']}"


def _asked(ask: Ask) -> str:
    how = f"otherwise ({', '.join(ask.changed)})" if ask.changed else ask.how.value
    return f"asks {ask.step} {how}" + (f", refused before: {ask.refused}" if ask.refused else "")


def document(said: DryRunResult) -> dict[str, Any]:
    """Return it as JSON; `today.asks` in the order in which they would be made."""
    asks = [{**vars(ask), "estimate_usd": str(ask.estimate_usd), "changed": list(ask.changed)} for ask in said.asks]
    today = {"verdict": said.verdict, "error": said.error, "why": said.why, "asks": asks}
    return {
        "job_id": said.job_id,
        "kind": said.kind,
        "was": said.was,
        "today": today | {"price_usd": str(said.price_usd)},
    }


def closing(counts: Counter[str], *, price: Decimal, command: str) -> list[str]:
    told = ", ".join(f"{count} × {verdict}" for verdict, count in counts.most_common())
    return [
        f"{counts.total()} failed job{'' if counts.total() == 1 else 's'}: {told or 'none is meant'}.",
        f"The calls that are known would cost ${price:.4f} at most. Nothing was sent, and nothing was written.",
        *(["Replay them for no more than that:", f"  {command}"] if counts else []),
    ]


def live(which: Which, jobs: Sequence[str], *, price: Decimal) -> str:
    """Return the command that replays the same jobs, with absolute times."""
    options = {
        "--user": which.user,
        "--kind": which.kind,
        "--class": which.error_class,
        "--code": which.code,
        "--endpoint": which.endpoint,
        "--failed-since": which.since.isoformat() if which.since else None,
        "--failed-before": which.until.isoformat() if which.until else None,
        # Whole cents, and up: with less than the price some of them would stay where they are.
        "--budget": str(max(CENT, price.quantize(CENT, rounding=ROUND_UP))),
    }
    given = [part for name, value in options.items() if value is not None for part in (name, value)]
    # Quoted: it is there to be copied into a shell.
    return shlex.join(["darkroom", "replay", *jobs, *given, *(["--discarded"] if which.discarded else [])])
