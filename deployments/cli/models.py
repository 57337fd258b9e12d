"""Commands for models: `darkroom run` orders any of them; `darkroom model` lists, fetches, allows and prices them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.deployments.cli.admin import positive
from darkroom.deployments.cli.common import ADMIN, open_api, open_ledger
from darkroom.deployments.cli.output import AnywayOption, JsonOption, print_json, print_rows

if TYPE_CHECKING:
    from darkroom.deployments.api_client import ApiClient

model = typer.Typer(help="Models: their cards, which are allowed, what they cost.", no_args_is_help=True)

Endpoint = Annotated[str, typer.Argument(help="A model's endpoint, e.g. fal-ai/nano-banana.")]
COLUMNS = ("endpoint", "category", "price", "status")
FILE = "@"  # before a path, as curl has it


def run(
    endpoint: Annotated[str, typer.Argument(metavar="MODEL", help="Its endpoint, e.g. fal-ai/veo3.")],
    input: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="NAME=VALUE", help="Of its input: text, JSON, or @file to upload."),
    ] = None,
    post: Annotated[
        list[str] | None, typer.Option(help="A step afterwards, e.g. upscale; several in their order.")
    ] = None,
    lora: Annotated[str | None, typer.Option(help="A trained LoRA: its trigger word or id.")] = None,
    max_usd: Annotated[
        Decimal | None, typer.Option(parser=positive, metavar="USD", help="Refuse what may cost more.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the job has ended; exit code 1 if it failed.")] = False,
    as_json: AnywayOption = False,
) -> None:
    """Run any model. Prints the job."""
    with open_api() as client:
        body: dict[str, Any] = {"model": endpoint, "input": _input(input or [], client, endpoint=endpoint)}
        body |= {"post": post} if post else {}
        body |= {"lora": lora} if lora else {}
        body |= {"max_usd": float(max_usd)} if max_usd else {}
        answer = client.order_generation(body)
        job = client.wait(answer["job_id"]) if wait else answer
    typer.echo(json.dumps(job, indent=2, ensure_ascii=False))
    if wait and job["status"] != "completed":
        raise typer.Exit(1)


def _input(given: Sequence[str], client: ApiClient, *, endpoint: str) -> dict[str, Any]:
    """Read the fields of an input. A name that is given again makes a list, and so does one that takes nothing else."""
    found: dict[str, Any] = {}
    # Without any input there is nothing that the schema would have to tell apart.
    card = client.model(endpoint) if given else {"input_schema": None}
    texts, lists = _taking(card, "string"), _taking(card, "array")
    for each in given:
        name, is_given, text = each.partition("=")
        if not is_given or not name:
            raise typer.BadParameter("a name and a value, e.g. prompt='a fox'", param_hint="--input")
        # `duration=5` is a text where a model wants "5".
        value = text if name in texts and not text.startswith(FILE) else _value(text, client)
        if name in found:
            before = found[name]
            found[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            # `image_urls=@cat.jpg` of a model that takes a list is a list of one.
            found[name] = [value] if name in lists and not isinstance(value, list) else value
    return found


def _taking(card: Mapping[str, Any], kind: str) -> frozenset[str]:
    """Return the fields that take this type and nothing else."""
    from darkroom.models.schemas import properties, sides

    schema = card["input_schema"] or {}
    known = properties(sides(schema, schema))
    types = {name: {each.get("type") for each in sides(field, schema)} - {None} for name, field in known.items()}
    return frozenset(name for name, found in types.items() if found and found <= {kind, "null"})


def _value(text: str, client: ApiClient) -> Any:
    """Read a value: a file is uploaded, JSON is what it says, everything else is text."""
    if text.startswith(FILE):
        path = Path(text.removeprefix(FILE)).expanduser()  # a shell does so at the beginning of a word alone
        if not path.is_file():
            raise typer.BadParameter(f"there is no file {path}", param_hint="--input")
        return f"asset:{client.upload(path)['id']}"
    try:
        return json.loads(text)
    except ValueError:
        return text


@model.command("sync")
def model_sync(
    endpoints: Annotated[list[str] | None, typer.Argument(help="Only these. Default: all there are.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch cards from the platforms. The same again changes nothing."""
    from darkroom.providers.syncing import Synced, sync_all, sync_one

    def tell(synced: Synced) -> None:
        if sys.stderr.isatty():  # it writes over one line, which in a log would be an endless one
            typer.echo(f"\r{synced}", nl=False, err=True)

    with open_ledger() as ledger:
        if not endpoints:
            synced = sync_all(ledger, tell=tell)
            _say(asdict(synced), str(synced), as_json=as_json)
        for endpoint in endpoints or ():
            changed = sync_one(ledger, endpoint)
            state = "unknown" if changed is None else "changed" if changed else "as it was"
            _say({"endpoint": endpoint, "card": state}, f"{endpoint}\t{state}", as_json=as_json)


def _say(document: Mapping[str, Any], line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        typer.echo(line)


@model.command("list")
def model_list(
    q: Annotated[str | None, typer.Argument(help="A part of endpoint, title or description.")] = None,
    category: Annotated[str | None, typer.Option(help="e.g. text-to-video")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most models.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List models: endpoint, category, price, whether it is allowed."""
    with open_api() as api:
        found = [*islice(api.all("/v1/models", q=q, category=category), limit)]
    rows = []
    for each in found:
        state = each["status"] if each["allowed"] else "not allowed"
        cells = (each["endpoint"], each["category"], _price(each), state)
        rows.append((cells, dict(zip(COLUMNS, cells, strict=True))))
    print_rows(COLUMNS, rows, as_json=as_json, empty="There are no such models.")


def _price(model: Mapping[str, Any]) -> str:
    if model["call_usd"] is not None:
        return f"${_plain(model['call_usd'])} a call"
    unit_price = model["unit_price_usd"]
    return "no price" if unit_price is None else f"${_plain(unit_price)} × {model['unit']}"


def _plain(number: float) -> str:
    return f"{Decimal(str(number)).normalize():f}"


@model.command("show")
def model_show(endpoint: Endpoint, as_json: AnywayOption = False) -> None:
    """Show a model's card as JSON. One that is not here yet is fetched."""
    with open_api() as api:
        typer.echo(json.dumps(api.model(endpoint), indent=2, ensure_ascii=False))


@model.command("allow")
def model_allow(endpoint: Endpoint) -> None:
    """Allow a model, whatever DARKROOM_MODELS says. Takes effect within ten seconds."""
    _set(endpoint, allowed=True)


@model.command("deny")
def model_deny(endpoint: Endpoint) -> None:
    """Take no more orders for a model. What is under way goes on. Takes effect within ten seconds."""
    _set(endpoint, allowed=False)


@model.command("price")
def model_price(
    endpoint: Endpoint,
    usd: Annotated[
        Decimal | None, typer.Argument(parser=positive, metavar="USD", help="Of a call. Default: as its card says.")
    ] = None,
) -> None:
    """Say what a call of a model is taken to cost, before its provider says it. Takes effect within ten seconds."""
    _set(endpoint, call_usd=None if usd is None else str(usd))


def _set(endpoint: str, **choice: Any) -> None:
    with open_api() as api:
        api.post(f"{ADMIN}/models", {"endpoint": endpoint, **choice})
