"""Commands for operators: users and keys, plans, accounts. What they change holds at once; nothing needs a restart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from darkroom.clock import utc_now
from darkroom.deployments.cli.common import ADMIN, open_api
from darkroom.deployments.cli.keys import print_key
from darkroom.deployments.cli.output import JsonOption, OneJsonOption, print_rows, when
from darkroom.durations import duration

if TYPE_CHECKING:
    from darkroom.deployments.api_client import ApiClient

user = typer.Typer(help="Users and their API keys.", no_args_is_help=True)
plan = typer.Typer(help="Plans: how much of an account each of their users may hold.", no_args_is_help=True)
account = typer.Typer(help="Accounts at the providers.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The user's name.")]


def positive(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not (number.is_finite() and number > 0):  # "NaN" and "Infinity" are numbers to `Decimal`
        raise typer.BadParameter("a number above 0")
    return number


def _cap(text: str) -> tuple[str, int]:
    given = re.fullmatch(r"(.+)=([0-9]{1,9})", text)
    if given is None:
        raise typer.BadParameter("an endpoint and a number, e.g. openai/gpt-image-2=10", param_hint="--endpoint")
    return given[1], int(given[2])


@user.command("add")
def user_add(
    name: Name,
    plan: Annotated[str, typer.Option(help="Their plan.")] = "pro",
    service: Annotated[bool, typer.Option("--service", help="The key may act for end users of its own.")] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Add a user. Prints the API key, which is never shown again."""
    with open_api() as api:
        made = api.post(f"{ADMIN}/users", {"name": name, "plan": plan, "service": service})
    print_key(_first_of(made), as_json=as_json)


@user.command("list")
def user_list(as_json: JsonOption = False) -> None:
    """List users, newest first: id, name, plan, and their keys with when those stop working."""
    with open_api() as api:
        users = [*api.all(f"{ADMIN}/users")]
    rows = (((each["id"], each["name"], each["plan"], keys_line(each["keys"])), each) for each in users)
    print_rows(("user", "name", "plan", "keys"), rows, as_json=as_json, empty="There are no users.")


@user.command("rotate")
def user_rotate(
    name: Name,
    overlap: Annotated[
        str | None, typer.Option(metavar="TIME", help="So long the old keys go on, e.g. 30m or 7d. Default: 24h.")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="End the old keys at once: somebody has one who should not.")
    ] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Give a user a new key. Prints it; it is never shown again. The old ones stop working a day later."""
    from darkroom.ledger import OPERATOR, OVERLAP

    if now and overlap is not None:
        raise typer.BadParameter("either --now or --overlap", param_hint="--overlap")
    span = timedelta(0) if now else OVERLAP if overlap is None else _duration(overlap)
    with open_api() as api:
        made = api.post(f"{_at(api, name)}/rotate", {"overlap_seconds": int(span.total_seconds())})
        if made["id"] == OPERATOR:
            api.keep(made["key"])  # or the next command would come with one that stops working
    print_key(_first_of(made), as_json=as_json)
    until = "have stopped working" if not span else f"stop working at {when(utc_now() + span)}"
    typer.echo(f"The old keys of {name} {until}.", err=True)  # on stdout the new key stands alone


@user.command("plan")
def user_plan(name: Name, plan: Annotated[str, typer.Argument(help="A plan, as `darkroom plan list` has it.")]) -> None:
    """Put a user on another plan. Takes effect at once; a service's end users of before stay on theirs."""
    with open_api() as api:
        api.post(f"{_at(api, name)}/plan", {"plan": plan})


@user.command("set")
def user_set(
    name: Name,
    daily_budget: Annotated[
        str | None, typer.Option(metavar="USD|plan", help="Most they spend a day; `plan`: as their plan says again.")
    ] = None,
    monthly_budget: Annotated[
        str | None, typer.Option(metavar="USD|plan", help="Most they spend a month; `plan`: as their plan says again.")
    ] = None,
) -> None:
    """Give a user budgets of their own, which go before the plan's. Takes effect at once."""
    asked = {"daily_budget_usd": daily_budget, "monthly_budget_usd": monthly_budget}
    # Null gives the plan's back; what was not asked about is left out, and stays.
    given = {
        field: None if text == "plan" else str(positive(text)) for field, text in asked.items() if text is not None
    }
    if not given:
        raise typer.BadParameter("a budget, by --daily-budget or --monthly-budget", param_hint="--daily-budget")
    with open_api() as api:
        api.post(f"{_at(api, name)}/budgets", given)


@user.command("revoke")
def user_revoke(name: Name) -> None:
    """End all keys of a user. Their jobs and pictures stay."""
    with open_api() as api:
        api.post(f"{_at(api, name)}/revoke")


@plan.command("list")
def plan_list(as_json: JsonOption = False) -> None:
    """List plans: requests at once, weight, budgets in USD, mark-up, requests that may wait, calls a minute."""
    with open_api() as api:
        plans = api.get(f"{ADMIN}/plans")["items"]
    rows = ((_plan_cells(each), _plan(each)) for each in plans)
    columns = ("plan", "in flight", "weight", "budget a day", "a month", "mark-up", "queued", "calls a minute")
    print_rows(columns, rows, as_json=as_json, empty="There are no plans.")


@plan.command("set")
def plan_set(
    name: Annotated[str, typer.Argument(help="A plan; an unknown one is made.")],
    in_flight: Annotated[int, typer.Option(min=1, help="Requests at the provider at once, for each user.")],
    weight: Annotated[Decimal, typer.Option(parser=positive, metavar="NUMBER", help="Share when slots are short.")],
    daily_budget: Annotated[
        Decimal | None,
        typer.Option(parser=positive, metavar="USD", help="Most a user spends a day. Default: no limit."),
    ] = None,
    monthly_budget: Annotated[
        Decimal | None,
        typer.Option(parser=positive, metavar="USD", help="Most a user spends a month. Default: no limit."),
    ] = None,
    markup: Annotated[
        Decimal,
        typer.Option(parser=positive, metavar="NUMBER", help="Costs times this are the prices of what is sold on."),
    ] = Decimal(1),
    queued: Annotated[int, typer.Option(min=1, help="Requests of each user that may wait.")] = 20_000,
    calls: Annotated[
        int | None, typer.Option(min=1, help="Calls a minute with each key of its users. Default: no limit.")
    ] = None,
) -> None:
    """Change a plan, or make one. Takes effect at once."""
    asked = {
        "weight": weight,
        "daily_budget_usd": daily_budget,
        "monthly_budget_usd": monthly_budget,
        "markup": markup,
    }
    # As text, in which no digit is lost, as it might be in a float.
    money = {field: None if number is None else str(number) for field, number in asked.items()}
    counted = {"in_flight": in_flight, "most_queued": queued, "calls_per_minute": calls}
    with open_api() as api:
        api.post(f"{ADMIN}/plans", {"name": name, **money, **counted})


@account.command("list")
def account_list(as_json: JsonOption = False) -> None:
    """List accounts: slots, most of them for one user, caps by endpoint, and how the provider does."""
    with open_api() as api:
        accounts = api.get(f"{ADMIN}/accounts")["items"]
    rows = ((_account_cells(each), each) for each in accounts)
    columns = ("account", "slots", "each user", "caps", "now")
    print_rows(columns, rows, as_json=as_json, empty="There are no accounts.")


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
    with open_api() as api:
        api.post(f"{ADMIN}/accounts", {"name": name, "slots": slots, "endpoint_caps": caps})


def keys_line(keys: Sequence[Mapping[str, Any]]) -> str:
    """Say how many keys open, and when those stop that do not last."""
    lasting = sum(key["expires_at"] is None for key in keys)
    ends = [f"one until {when(key['expires_at'])}" for key in keys if key["expires_at"] is not None]
    return ", ".join([str(lasting), *ends])


def _at(api: ApiClient, user: str) -> str:
    """Return the address of a user who is named or given by id."""
    if "/" in user:  # none in a path, whatever is done to it
        named = (each["id"] for each in api.all(f"{ADMIN}/users", q=user) if each["name"] == user)
        user = next(named, user)
    return f"{ADMIN}/users/{quote(user, safe='')}"


def _first_of(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new key of a user, the newest that they have, as `darkroom key add` shows one."""
    return {"user_id": made["id"], "id": made["keys"][-1]["id"], "key": made["key"]}


def _plan_cells(plan: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        plan["name"],
        str(plan["in_flight"]),
        _number(plan["weight"]),
        _number(plan["daily_budget_usd"]),
        _number(plan["monthly_budget_usd"]),
        _number(plan["markup"]),
        str(plan["most_queued"]),
        str(plan["calls_per_minute"] or ""),
    )


def _plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return it under the names of the options."""
    return {"queued" if name == "most_queued" else name: value for name, value in plan.items()}


def _number(given: float | None) -> str:
    return "" if given is None else f"{Decimal(str(given)).normalize():f}"


def _account_cells(account: Mapping[str, Any]) -> tuple[str, ...]:
    caps = ", ".join(f"{endpoint}={cap}" for endpoint, cap in sorted(account["endpoint_caps"].items()))
    return (account["name"], str(account["slots"]), str(account["user_slots"] or ""), caps, _health(account))


def _health(account: Mapping[str, Any]) -> str:
    if account["down_since"]:
        return f"down since {when(account['down_since'])}"
    return f"slowed since {when(account['slowed_at'])}" if account["slowed_at"] else "up"


def _duration(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--overlap") from error
