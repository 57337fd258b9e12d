"""The form of a new batch: what was filled in becomes the body of `POST /v1/batches`, and the form again with it.

A manifest comes as a file or is pasted. A small file is put into the form as text, so that who corrects a field does
not choose it again; a large one has to be chosen once more, as pages stay small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import htpy as h
from htpy import Node
from starlette.datastructures import FormData, UploadFile

from darkroom.batches.decoding import decode
from darkroom.batches.raw import Unreadable
from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.parts import banner, choice, field, money
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.nesting import read_json

NEW = f"{PREFIX}/batches/new"
LARGEST_PASTED = 150_000  # characters of a file that are put into the page
IF_NOBODY = {"wait": "Wait on", "all": "Take all drafts", "none": "Take none"}
EXAMPLE = "id,prompt,image_size\nsku-1,a red mug on oak,square_hd\nsku-2,a blue mug on oak,square_hd"


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What the form has in it: text by name, and the manifest of a file. `notes`: how it was understood."""

    given: Mapping[str, str]
    file: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Return the manifest as the form has it again."""
        return self.given.get("manifest") or (self.file if self.file and len(self.file) <= LARGEST_PASTED else "") or ""

    def body(self) -> dict[str, Any]:
        """Return the order. Raise ApiProblem for what is no JSON."""
        text, given = self.file or self.given.get("manifest", ""), self.given
        model, defaults = given.get("model", "").strip(), _object(given, "defaults")
        body = {
            "manifest": text,
            "defaults": ({"model": model} if model else {}) | defaults,
            "draft": _pass(given, "draft"),
            "final": _pass(given, "final"),
            "deduplicate": "deduplicate" in given,
            "answer_within_hours": _number(given, "answer_within_hours"),
            "if_nobody_answers": given.get("if_nobody_answers", "wait"),
            "max_usd": _number(given, "max_usd"),
            "metadata": {"name": given["name"].strip()} if given.get("name", "").strip() else None,
        }
        return {name: value for name, value in body.items() if value not in (None, {})}


EMPTY = Filled(given={})


async def filled(form: FormData) -> Filled:
    """Read what was filled in. Raise ApiProblem for a file that is no text."""
    given = {name: value for name, value in form.items() if isinstance(value, str) and name != "csrf"}
    file = form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        return Filled(given=given)
    notes = list[str]()
    try:
        text = decode(await file.read(), notes)
    except Unreadable as error:
        raise _problem("file", f"The file cannot be read: {error.problem.problem}.", error.problem.remedy) from None
    return Filled(given=given, file=text, notes=tuple(notes))


def form_fields(entered: Filled, models: Any) -> Node:
    """Return the fields, with what was filled in."""
    given = entered.given
    known = h.datalist("#models")[
        (h.option(value=each["endpoint"])[each["title"]] for each in models["items"] if each["allowed"])
    ]
    return [
        h.input(type="hidden", name="key", value=given.get("key") or uuid4().hex),
        known,
        field("Name", _text("name", given, maxlength="200"), hint="For you to find it again."),
        h.div(".drop-area")[
            field(
                "Manifest",
                h.input(type="file", name="file", accept=".csv,.tsv,.txt,.jsonl,.ndjson,text/csv,text/plain"),
                hint="CSV with a header, or JSON lines: a column “prompt”, or what else the rows’ models take. Up to "
                "10,000 rows. Drop a file here.",
            )
        ],
        field(
            "Or paste the rows",
            h.textarea(name="manifest", rows="8", spellcheck="false", dir="auto", placeholder=EXAMPLE)[entered.shown],
        ),
        h.div(".columns")[
            field("Model", _model("model", given), hint="For rows that name none. Empty: the usual one."),
            field("Model of the drafts", _model("draft_model", given), hint="Empty: the same at low quality."),
            field("Model of the finals", _model("final_model", given), hint="Empty: the same at high quality."),
        ],
        h.details(".more-fields", open=any(given.get(name) for name in _FOLDED))[
            h.summary["More: defaults, time to choose, bounds"], _folded(given)
        ],
    ]


_FOLDED = (
    *("defaults", "draft_arguments", "final_arguments", "deduplicate"),
    *("answer_within_hours", "max_usd"),
)


def _folded(given: Mapping[str, str]) -> Node:
    twins = h.input(type="checkbox", name="deduplicate", checked="deduplicate" in given)
    hours = _text("answer_within_hours", given, type="number", min="0.1", max="8760", step="any")
    return h.div(".columns")[
        field("For all rows", _json("defaults", given), hint='JSON, e.g. {"image_size": "square_hd"}'),
        field("Arguments of the drafts", _json("draft_arguments", given), hint='e.g. {"quality": "low"}'),
        field("Arguments of the finals", _json("final_arguments", given), hint='e.g. {"quality": "high"}'),
        field("Hours to choose", hours, hint="Empty: as long as it takes."),
        field("If nobody chooses in time", choice("if_nobody_answers", IF_NOBODY, given.get("if_nobody_answers"))),
        field(
            "At most, in USD",
            _text("max_usd", given, type="number", min="0.01", step="any"),
            hint="A batch that may cost more is refused.",
        ),
        h.label(".check")[twins, " Pay identical rows once"],
    ]


def price(quote: Any, notes: tuple[str, ...] = ()) -> Node:
    """Return what the batch would cost."""
    parts = {each["step"]: each["usd"] for each in quote["parts"]}
    return h.div(".quote")[
        h.p["At most ", h.strong(".money")[money(quote["estimate_usd"])], ", with every row chosen."],
        h.p(".hint")[
            f"Drafts {money(parts.get('draft', 0))}, finals {money(parts.get('final', 0))}: you choose from the drafts."
        ],
        (h.p(".hint", dir="auto")[each] for each in notes),
    ]


def refusal(problem: ApiProblem) -> Node:
    return h.div(".quote")[banner(problem)]


def _text(name: str, given: Mapping[str, str], **attributes: str) -> Node:
    return h.input(name=name, value=given.get(name, ""), dir="auto", **attributes)


def _model(name: str, given: Mapping[str, str]) -> Node:
    return h.input(name=name, value=given.get(name, ""), list="models", maxlength="200", autocomplete="off")


def _json(name: str, given: Mapping[str, str]) -> Node:
    return h.textarea(".short", name=name, rows="2", spellcheck="false")[given.get(name, "")]


def _pass(given: Mapping[str, str], name: str) -> dict[str, Any] | None:
    model, arguments = given.get(f"{name}_model", "").strip(), _object(given, f"{name}_arguments")
    said = ({"model": model} if model else {}) | ({"arguments": arguments} if arguments else {})
    return said or None


def _object(given: Mapping[str, str], name: str) -> dict[str, Any]:
    text = given.get(name, "").strip()
    try:
        found = read_json(text) if text else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        label = name.replace("_", " ")
        raise _problem(name, f"{label}: it is no JSON object.", 'Write it as {"name": "value"}, or leave it empty.')
    return found


def _number(given: Mapping[str, str], name: str) -> float | str | None:
    """Return the number; what is none as it is, which the API is to say."""
    text = given.get(name, "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _problem(name: str, detail: str, remedy: str) -> ApiProblem:
    return ApiProblem(422, {"title": "Bad input", "detail": detail, "field": name, "remedy": remedy})
