"""What an order's form is made from: the card of a model, or a pipeline's own schema, as the API tells them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.parts import money
from darkroom.deployments.studio.schema_forms import FormField, Raw, fields_of, missing, read_fields
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.deployments.studio.visit import Visit

AT = f"{PREFIX}/order"
ANY_MODEL = "run-model"
INPUT = "input"
NOT_ASKED = ("metadata", "callback_events")  # for applications
NO_SCHEMA = FormField(
    name=INPUT, kind="json", label="Input", hint="The model's own fields, as its page says.", required=True
)


@dataclass(frozen=True, kw_only=True)
class OrderForm:
    """`model`: the model it is of; None for a pipeline. `common`: fields that every order has, folded."""

    kind: str
    model: str | None
    title: str
    about: str
    facts: Mapping[str, str | None]
    own: Sequence[FormField]
    common: Sequence[FormField]

    @property
    def fields(self) -> Sequence[FormField]:
        return [*self.own, *self.common]

    def address(self, page: str) -> str:
        query = {"kind": self.kind} | ({"model": self.model} if self.model else {})
        return f"{AT}/{page}?{urlencode(query)}"

    def read(self, raw: Raw) -> tuple[dict[str, Any], dict[str, str], list[FormField]]:
        """Return the order, what of it is unreadable by field, and which fields are still to be filled in."""
        order, wrong = read_fields(self.fields, raw)
        # What cannot be read was filled in: it is wrong, and not lacking.
        lacking = [each for each in missing(self.fields, order) if each.name not in wrong]
        return ({"model": self.model} if self.model else {}) | order, wrong, lacking

    def wrong_of(self, problem: ApiProblem) -> dict[str, str]:
        """Return what the API refused, at the fields it is about, as far as it is about one that is shown."""
        told = [(each.field, in_words(each.detail, each.remedy)) for each in problem.errors]
        if not told and problem.field:
            told = [(problem.field, in_words(problem.detail, problem.remedy))]
        names = [name for each in self.fields for name in (each.name, *(part.name for part in each.inside))]
        found: dict[str, str] = {}
        for field, text in told:
            # An error may be about what is within a field: it stands at the closest that is shown.
            # In a quote the order is a part of the body, and errors name it by that.
            path = field.removeprefix("order.")
            if at := max((name for name in names if f"{path}.".startswith(f"{name}.")), key=len, default=None):
                found.setdefault(at, text)
        return found

    def with_file(self, asset_id: str) -> Raw:
        """Return the form with that file where it takes one first."""
        takes = next((each for each in self.own if each.takes_files), None)
        return {} if takes is None else {takes.name: [asset_id if takes.bare else f"asset:{asset_id}"]}


def in_words(detail: str, remedy: str | None) -> str:
    """Return an error as it is said beside its field: without the field's name, and nothing twice."""
    words = re.sub(r"^[\w.\[\]]+: ", "", detail)
    said = words if "/" in words.partition(" ")[0] else f"{words[:1].upper()}{words[1:]}"  # a model is written as it is
    said = f"{said.rstrip('.')}."
    return said if not remedy or remedy.rstrip(".").lower() in said.lower() else f"{said} {remedy}"


async def load_form(visit: Visit, kind: str, model: str) -> OrderForm:
    pipeline = await visit.api.get(f"/v1/pipelines/{kind}")
    schema = pipeline["order_schema"]
    if kind != ANY_MODEL:
        every = fields_of(schema, without=NOT_ASKED)
        return OrderForm(
            kind=kind,
            model=None,
            title=pipeline["title"],
            # The docstring of the flow, whose first paragraph is for whoever orders.
            about=pipeline["description"].partition("\n\n")[0],
            facts={},
            own=[each for each in every if each.name not in _COMMON],
            common=[each for each in every if each.name in _COMMON],
        )
    card = await visit.api.get(f"/v1/models/{model}")
    given = card["input_schema"]
    return OrderForm(
        kind=kind,
        model=card["endpoint"],
        title=card["title"],
        about=card["description"],
        facts={"Model": card["endpoint"], "Category": card["category"], "Price": price(card), "Takes": usual(card)},
        own=[NO_SCHEMA] if given is None else fields_of(given, within=INPUT),
        common=fields_of(schema, without=("model", INPUT, *NOT_ASKED)),
    )


# By name: in a pipeline's schema they stand among its own fields.
_COMMON = frozenset({"max_usd", "tags", "callback_url"})


def price(card: Mapping[str, Any]) -> str:
    """Say what a model costs, as its card says."""
    if card["call_usd"] is not None:
        return f"{money(card['call_usd'])} a call"
    return unit_price(card)


def unit_price(card: Mapping[str, Any]) -> str:
    """Say what a unit of a model's costs at its provider."""
    if card["unit_price_usd"] is None:
        return "Price unknown"
    unit = str(card["unit"] or "call")
    # Units are an open vocabulary of the platform: `images`, and `1000 characters`, which stay many.
    return f"{money(card['unit_price_usd'])} / {unit if unit[:1].isdigit() else unit.removesuffix('s')}"


def usual(card: Mapping[str, Any]) -> str | None:
    seconds = card["usual_seconds"]
    if seconds is None:
        return None
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"
