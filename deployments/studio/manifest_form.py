"""The form of a new batch: what was filled in becomes the body of `POST /v1/batches`, and the form again with it.

A manifest comes as a file or is pasted. A batch that is ordered again has its rows in the form where they are small.
"""

from __future__ import annotations

import json
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
from darkroom.deployments.studio.hidden import HIDDEN, is_hidden
from darkroom.deployments.studio.parts import banner, choice, field, money, plain
from darkroom.nesting import read_json

LARGEST_PASTED = 150_000  # characters of a file that are put into the page
OBJECTS = {
    "defaults": "For all rows",
    "draft_arguments": "Arguments of the drafts",
    "final_arguments": "Arguments of the finals",
}
IF_FLAGGED = {"keep": "Keep it, marked", "hide": "Hide it", "fail": "Fail the row"}
IF_NOBODY = {"wait": "Wait on", "all": "Take all drafts", "none": "Take none"}
EXAMPLE = "id,prompt,image_size\nsku-1,a red mug on oak,square_hd\nsku-2,a blue mug on oak,square_hd"


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What the form has in it: text by name, and the manifest of a file. `notes`: how it was understood.

    `lacking`: the fields of a batch that is ordered again of which something was hidden.
    """

    given: Mapping[str, str]
    file: str | None = None
    notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Return the manifest as the form has it again."""
        # No page can fill in a field for files. So a small one is text from now on, and who corrects another field need
        # not choose it again; a large one has to be chosen once more, as pages stay small.
        return self.given.get("manifest") or (self.file if self.file and len(self.file) <= LARGEST_PASTED else "") or ""

    @property
    def has_rows(self) -> bool:
        return bool(self.file or self.given.get("manifest", "").strip() or self.given.get("rows_of"))

    def body(self) -> dict[str, Any]:
        """Return the order. Raise ApiProblem for what is no JSON."""
        # A file goes before what is still pasted below it, and rows before those of the batch that is ordered again.
        text, given = self.file or self.given.get("manifest", ""), self.given
        rows_of = given.get("rows_of") if not text.strip() else None
        model, defaults = given.get("model", "").strip(), _object(given, "defaults")
        name, metadata = given.get("name", "").strip(), _object(given, "metadata")
        body = {
            "manifest": None if rows_of else text,
            "rows_of": rows_of,
            "defaults": ({"model": model} if model else {}) | defaults,
            "draft": _pass(given, "draft"),
            "final": _pass(given, "final"),
            "deduplicate": "deduplicate" in given,
            "answer_within_hours": _number(given, "answer_within_hours"),
            "if_nobody_answers": given.get("if_nobody_answers", "wait"),
            "flagged": given.get("flagged") or None,
            "max_usd": _number(given, "max_usd"),
            "tags": [each.strip() for each in given.get("tags", "").split(",") if each.strip()],
            "metadata": metadata | ({"name": name} if name else {}),
        }
        return {name: value for name, value in body.items() if value not in (None, {}, [])}


EMPTY = Filled(given={})


async def filled(form: FormData) -> Filled:
    """Read what was filled in. Raise ApiProblem for a file that is no text."""
    given = {name: value for name, value in form.items() if isinstance(value, str) and name != "csrf"}
    file = form.get("file")
    # Where nothing was chosen browsers send a file all the same: an empty one, without a name.
    if not isinstance(file, UploadFile) or not file.filename:
        return Filled(given=given)
    notes = list[str]()
    try:
        text = decode(await file.read(), notes)
    except Unreadable as error:
        raise _problem("file", f"The file cannot be read: {error.problem.problem}.", error.problem.remedy) from None
    return Filled(given=given, file=text, notes=tuple(notes))


def again(job: Any, rows: Any) -> Filled:
    """Return the form of a batch as it was ordered. `rows`: its manifest."""
    order, metadata = job["order"], dict(job["metadata"] or {})
    defaults, text = dict(order.get("defaults") or {}), "\n".join(_as_json(row) for row in rows)
    model = str(defaults.pop("model", ""))
    passes = {each: order.get(each) or {} for each in ("draft", "final")}
    arguments = {f"{each}_arguments": said.get("arguments") or {} for each, said in passes.items()}
    objects = {"defaults": defaults} | arguments
    # Else the order names the batch, and the rows never leave the ledger. Also where people have written the sign: an
    # address that cannot be read is hidden as a whole, within a text, too.
    is_shown = len(text) <= LARGEST_PASTED and HIDDEN not in text
    given = {
        "manifest": text if is_shown else "",
        "rows_of": "" if is_shown else job["id"],
        "rows": f"{len(rows):,}",
        "name": str(metadata.pop("name", "")),
        "metadata": _as_json(metadata),
        "tags": ", ".join(job["tags"]),
        "model": model,
        "flagged": order.get("flagged", ""),
        "if_nobody_answers": order.get("if_nobody_answers", ""),
        **{name: _plainly(order.get(name)) for name in ("answer_within_hours", "max_usd")},
        # As browsers send a box that is ticked; one that is not they leave out.
        **({"deduplicate": "on"} if order.get("deduplicate") else {}),
        **{f"{each}_model": said.get("model") or "" for each, said in passes.items()},
        **{name: _as_json(_sendable(found)) for name, found in objects.items()},
    }
    lacking = tuple(OBJECTS[name] for name, found in objects.items() if is_hidden(found))
    return Filled(given=given, lacking=lacking)


def _sendable(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if not is_hidden(value)}


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""


def _plainly(number: Any) -> str:
    return "" if number is None else plain(float(number))


def form_fields(entered: Filled, models: Any) -> Node:
    """Return the fields, with what was filled in."""
    given = entered.given
    known = h.datalist("#models")[
        (h.option(value=each["endpoint"])[each["title"]] for each in models["items"] if each["allowed"])
    ]
    return [
        # The order's idempotency key: a form that is sent twice is one batch.
        h.input(type="hidden", name="key", value=given.get("key") or uuid4().hex),
        # What the form has no field for and the batch before had.
        (
            h.input(type="hidden", name=name, value=given[name])
            for name in ("rows_of", "rows", "metadata")
            if given.get(name)
        ),
        known,
        h.div(".columns")[
            field("Name", _text("name", given, maxlength="200"), hint="For you to find it again."),
            field("Tags", _text("tags", given, maxlength="2200"), hint="Words of your own, with commas between."),
        ],
        h.div(".drop-area")[
            field(
                "Manifest",
                # By endings, too: what type a .csv is of is up to what else is installed.
                h.input(type="file", name="file", accept=".csv,.tsv,.txt,.jsonl,.ndjson,text/csv,text/plain"),
                hint="CSV with a header, or JSON lines: a column “prompt”, or what else the rows’ models take. Up to "
                "10,000 rows. Drop a file here.",
            )
        ],
        _kept(given),
        field(
            "Or paste the rows",
            h.textarea(name="manifest", rows="8", spellcheck="false", dir="auto", placeholder=EXAMPLE)[entered.shown],
        ),
        h.div(".columns")[
            field("Model", _model("model", given), hint="For rows that name none. Empty: the usual one."),
            field("Model of the drafts", _model("draft_model", given), hint="Empty: the same at low quality."),
            field("Model of the finals", _model("final_model", given), hint="Empty: the same at high quality."),
        ],
        # Open where one is filled in: nothing is ordered that is out of sight.
        h.details(".more-fields", open=any(given.get(name) for name in _FOLDED))[
            h.summary["More: defaults, time to choose, bounds"], _folded(given)
        ],
    ]


def _kept(given: Mapping[str, str]) -> Node:
    """Say which rows it has where none are given here."""
    if not given.get("rows_of") or given.get("manifest"):
        return None
    return h.p(".waiting")[f"It has the rows of the batch before it ({given.get('rows', '')}), unless you give others."]


_FOLDED = (
    *("defaults", "draft_arguments", "final_arguments", "deduplicate"),
    *("answer_within_hours", "max_usd"),
)


def _folded(given: Mapping[str, str]) -> Node:
    twins = h.input(type="checkbox", name="deduplicate", checked="deduplicate" in given)
    # A year at most, as the API takes it. By itself `step` is 1, so that half an hour could not be sent.
    hours = _text("answer_within_hours", given, type="number", min="0.1", max="8760", step="any")
    return h.div(".columns")[
        field(OBJECTS["defaults"], _json("defaults", given), hint='JSON, e.g. {"image_size": "square_hd"}'),
        field(OBJECTS["draft_arguments"], _json("draft_arguments", given), hint='e.g. {"quality": "low"}'),
        field(OBJECTS["final_arguments"], _json("final_arguments", given), hint='e.g. {"quality": "high"}'),
        field("Hours to choose", hours, hint="Empty: as long as it takes."),
        field("If nobody chooses in time", choice("if_nobody_answers", IF_NOBODY, given.get("if_nobody_answers"))),
        field("If a picture is flagged", choice("flagged", IF_FLAGGED, given.get("flagged"))),
        field(
            "At most, in USD",
            _text("max_usd", given, type="number", min="0.01", step="any"),
            hint="A batch that may cost more is refused.",
        ),
        h.label(".check")[twins, " Pay identical rows once"],
    ]


def price(quote: Any, notes: tuple[str, ...] = ()) -> Node:
    """Return what the batch would cost."""
    # A pass has a part for each of its models, and for each way to know a price.
    drafts, finals = (
        sum(each["usd"] for each in quote["parts"] if each["step"] == step) for step in ("draft", "final")
    )
    return h.div(".quote")[
        h.p["At most ", h.strong(".money")[money(quote["estimate_usd"])], ", with every row chosen."],
        h.p(".hint")[f"Drafts {money(drafts)}, finals {money(finals)}: you choose from the drafts."],
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
