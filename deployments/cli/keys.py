"""Commands for API keys: several for each user, named, for some things or for all, until a day or for good."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.clock import utc_now
from darkroom.deployments.cli.common import open_ledger
from darkroom.deployments.cli.output import JsonOption, OneJsonOption, print_json, print_rows, when

if TYPE_CHECKING:
    from darkroom.ledger import KnownKey, NewKey

key = typer.Typer(help="API keys: named, with scopes, several for each user.", no_args_is_help=True)

UserName = Annotated[str, typer.Argument(metavar="USER", help="A user's name or id.")]
MOST_LISTED = 1000


@key.command("add")
def key_add(
    user: UserName,
    name: Annotated[str, typer.Option(help="What it is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it is good for: admin, orders, events or read; several times. Default: all but admin."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it stops: 90d, or 2030-01-01T12:00:00+01:00.")
    ] = None,
    service: Annotated[bool, typer.Option("--service", help="It may act for end users of its user's own.")] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Make one more key for a user. Prints it; it is never shown again. The others go on."""
    from darkroom.ledger import USUAL

    until = None if expires is None else _until(expires)
    with open_ledger() as ledger:
        user_id = ledger.users.find(user).id
        made = ledger.keys.add(user_id, name=name, scopes=scope or USUAL, expires_at=until, service=service)
    print_key(made, as_json=as_json)


@key.command("list")
def key_list(user: UserName, as_json: JsonOption = False) -> None:
    """List a user's keys, newest first: id, name, scopes, status, when it stops and when it was used last."""
    with open_ledger() as ledger:
        keys = ledger.keys.page(user_id=ledger.users.find(user).id, limit=MOST_LISTED)
    columns = ("key", "name", "scopes", "status", "expires", "last used")
    print_rows(columns, (_row(each) for each in keys), as_json=as_json, empty=f"{user} has no key.")


@key.command("revoke")
def key_revoke(
    id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `darkroom key list` has it.")],
) -> None:
    """End a key at once. The user's other keys go on."""
    with open_ledger() as ledger:
        ledger.keys.revoke(id)


def print_key(key: NewKey, *, as_json: bool) -> None:
    """Print it alone on stdout, so that a script takes it from there."""
    if as_json:
        print_json(asdict(key))
    else:
        typer.echo(key.key)


def _row(key: KnownKey) -> tuple[tuple[str, ...], dict[str, Any]]:
    status = key.status(utc_now())
    scopes = " ".join(key.scopes) + (" (service)" if key.service else "")
    cells = (key.id, key.name, scopes, status, when(key.expires_at), when(key.last_used_at))
    return cells, asdict(key) | {"status": status}


def _until(text: str) -> datetime:
    """Read a time, or how long from now on. A time without a zone is this machine's."""
    from darkroom.durations import duration
    from darkroom.errors import BadInput

    try:
        if text[-1:].isalpha() and text[-1:] != "Z":
            return utc_now() + duration(text)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise BadInput(
            f"'{text}' is neither a time nor how long from now: write it like 90d or 2030-01-01T12:00:00+01:00.",
            field="--expires",
        ) from error
