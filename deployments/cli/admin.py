"""Commands for operators: users and keys, plans, accounts. They change the ledger; nothing needs a restart."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from darkroom.deployments.cli.common import open_ledger

user = typer.Typer(help="Users and their API keys.", no_args_is_help=True)
plan = typer.Typer(help="Plans: how much of an account each of their users may hold.", no_args_is_help=True)
account = typer.Typer(help="Accounts at the providers.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The user's name.")]


def positive(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not (number.is_finite() and number > 0):
        raise typer.BadParameter("a number above 0")
    return number


def _cap(text: str) -> tuple[str, int]:
    endpoint, _, number = text.rpartition("=")
    if not (endpoint and number.isdigit()):
        raise typer.BadParameter("an endpoint and a number, e.g. openai/gpt-image-2=10", param_hint="--endpoint")
    return endpoint, int(number)


@user.command("add")
def user_add(
    name: Name,
    plan: Annotated[str, typer.Option(help="Their plan.")] = "pro",
    service: Annotated[bool, typer.Option("--service", help="The key may act for end users of its own.")] = False,
) -> None:
    """Add a user. Prints the API key, which is never shown again."""
    with open_ledger() as ledger:
        typer.echo(ledger.users.add(name, plan=plan, service=service).key)


@user.command("list")
def user_list() -> None:
    """List users: id, name, plan."""
    with open_ledger() as ledger:
        for each in ledger.users.all():
            typer.echo(f"{each.id}\t{each.name}\t{each.plan}")


@user.command("rotate")
def user_rotate(name: Name) -> None:
    """Replace a user's keys. Prints the new one, which is never shown again."""
    with open_ledger() as ledger:
        typer.echo(ledger.users.rotate(name).key)


@user.command("revoke")
def user_revoke(name: Name) -> None:
    """End all keys of a user. Their jobs and pictures stay."""
    with open_ledger() as ledger:
        ledger.users.revoke(name)


@plan.command("set")
def plan_set(
    name: Annotated[str, typer.Argument(help="A plan; an unknown one is made.")],
    in_flight: Annotated[int, typer.Option(min=1, help="Requests at the provider at once, for each user.")],
    weight: Annotated[Decimal, typer.Option(parser=positive, metavar="NUMBER", help="Share when slots are short.")],
    daily_budget: Annotated[
        Decimal | None,
        typer.Option(parser=positive, metavar="USD", help="Most a user spends a day. Default: no limit."),
    ] = None,
    queued: Annotated[int, typer.Option(min=1, help="Requests of each user that may wait.")] = 20_000,
) -> None:
    """Change a plan, or make one. Takes effect at once."""
    with open_ledger() as ledger:
        ledger.users.set_plan(
            name, in_flight=in_flight, weight=weight, daily_budget_usd=daily_budget, most_queued=queued
        )


@account.command("set")
def account_set(
    name: Annotated[str, typer.Argument(help="An account, e.g. fal.")],
    slots: Annotated[int | None, typer.Option(min=1, help="Requests at the provider at once, for all users.")] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(metavar="ENDPOINT=N", help="A cap of its own, e.g. openai/gpt-image-2=10.")
    ] = None,
) -> None:
    """Change how much of an account is used. Takes effect at once."""
    caps = dict(_cap(each) for each in endpoint or [])
    with open_ledger() as ledger:
        ledger.users.set_account(name, slots=slots, endpoint_caps=caps)
