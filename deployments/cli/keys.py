"""Commands for API keys: several for each user, named, for some things or for all, until a day or for good."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Annotated, Any
from urllib.parse import quote

import typer

from darkroom.clock import utc_now
from darkroom.deployments.cli.common import ADMIN, open_api
from darkroom.deployments.cli.output import JsonOption, OneJsonOption, print_json, print_rows, when

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
    until = None if expires is None else _until(expires).isoformat()
    order = {"user": user, "name": name, "expires_at": until, "service": service}
    with open_api() as api:
        # Left out, they are the API's own choice: all but admin.
        made = api.post(f"{ADMIN}/keys", order | ({"scopes": scope} if scope else {}))
    print_key({field: made[field] for field in ("user_id", "id", "key")}, as_json=as_json)


@key.command("list")
def key_list(user: UserName, as_json: JsonOption = False) -> None:
    """List a user's keys, newest first: id, name, scopes, status, when it stops and when it was used last."""
    with open_api() as api:
        keys = [*islice(api.all(f"{ADMIN}/keys", user=user), MOST_LISTED)]
    columns = ("key", "name", "scopes", "status", "expires", "last used")
    print_rows(columns, (_row(each) for each in keys), as_json=as_json, empty=f"{user} has no key.")


@key.command("revoke")
def key_revoke(
    id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `darkroom key list` has it.")],
) -> None:
    """End a key at once. The user's other keys go on."""
    with open_api() as api:
        api.post(f"{ADMIN}/keys/{quote(id, safe='')}/revoke")


def print_key(key: Mapping[str, Any], *, as_json: bool) -> None:
    """Print it alone on stdout, so that a script takes it from there."""
    if as_json:
        print_json(key)
    else:
        typer.echo(key["key"])


def _row(key: Mapping[str, Any]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    scopes = " ".join(key["scopes"]) + (" (service)" if key["service"] else "")
    times = (when(key["expires_at"]), when(key["last_used_at"]))
    return (key["id"], key["name"], scopes, key["status"], *times), key


def _until(text: str) -> datetime:
    """Read a time, or how long from now on. A time without a zone is this machine's."""
    from darkroom.durations import duration
    from darkroom.errors import BadInput

    try:
        # How long ends in its unit; a time ends in a digit, or in the Z of UTC.
        if text[-1:].isalpha() and text[-1:] != "Z":
            return utc_now() + duration(text)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:  # the latter behind the year 9999
        raise BadInput(
            f"'{text}' is neither a time nor how long from now: write it like 90d or 2030-01-01T12:00:00+01:00.",
            field="--expires",
        ) from error
