"""Order: pick a model or a pipeline, fill in its form with the price beside it, and order.

The form is made from the schema that the API tells, the quote is the API's too, told as one types. Without scripts a
file is brought with the form; whatever is refused is shown at its field, with all that was typed.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlencode

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node
from starlette.datastructures import FormData, UploadFile

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.form_controls import FILE, Filled, error_of, show_field, show_fields
from darkroom.deployments.studio.hidden import as_ordered
from darkroom.deployments.studio.order_forms import ANY_MODEL, AT, OrderForm, in_words, load_form, price, usual
from darkroom.deployments.studio.parts import (
    banner,
    button,
    card,
    choice,
    empty,
    facts,
    field,
    further,
    link,
    money,
    plain,
)
from darkroom.deployments.studio.schema_forms import FormField, Raw, hidden_in, raw_of
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.deployments.studio.visit import FormOf, Visit, VisitOf

router = APIRouter()
SCREEN = Screen("Order", "/order", router)

MODELS_OF_A_PAGE = 30
NO_FIELD = {"title": "Bad input", "field": "field", "remedy": "Load the form anew: its model may have changed."}
ONCE = "once"  # the order's idempotency key: a form that is sent twice is one order
SOURCES = {
    "list_price": "list price",
    "own_calls": "your own calls so far",
    "platform": "what others' calls usually come to",
    "operator": "the operator's word",
    "max_usd": "your own bound",
    "guess": "a guess",
    "pipeline": "the pipeline's word",
}


@router.get("")
async def models(visit: VisitOf, q: str = "", category: str = "", cursor: str = "", file: str = "") -> Response:
    """Show models to choose from. `file`: an asset that the order is to be made with."""
    found = await _models(visit, q=q, category=category, cursor=cursor)
    categories = (await visit.api.get("/v1/model-categories"))["items"]
    rows = _rows(found, q=q, category=category, file=file)
    nothing = empty(
        "No model is like that", "Try another category, or fewer words.", link("Show all", AT, kind="quiet")
    )
    return visit.page(
        "Order",
        h.p(".quiet-text")["Choose a model, or ", h.a(href=f"{AT}/pipelines")["a pipeline of several steps"], "."],
        _filter(q, category, file, categories),
        h.ul(".rows")[rows] if found["items"] else nothing,
    )


@router.get("/models")
async def more(visit: VisitOf, q: str = "", category: str = "", cursor: str = "", file: str = "") -> Response:
    found = await _models(visit, q=q, category=category, cursor=cursor)
    return visit.part(_rows(found, q=q, category=category, file=file))


@router.get("/pipelines")
async def pipelines(visit: VisitOf) -> Response:
    found = (await visit.api.get("/v1/pipelines"))["items"]
    rows = (
        h.li(".row.plain")[
            h.div(".row-text")[
                h.a(".row-title", href=f"{AT}/form?{urlencode({'kind': each['kind']})}")[each["title"]],
                h.p(".row-facts")[each["description"].partition("\n\n")[0]],
            ]
        ]
        for each in found
        if each["kind"] != ANY_MODEL  # whose forms are those of the models
    )
    return visit.page("Pipelines", h.p[h.a(href=AT)["← All models"]], h.ul(".rows")[rows])


@router.get("/form")
async def form(visit: VisitOf, kind: str, model: str = "", file: str = "", post: str = "") -> Response:
    """Show the form. `file`: an asset it is filled in with. `post`: a step afterwards that is chosen already."""
    made = await load_form(visit, kind, model)
    raw = (made.with_file(file) if file else {}) | ({"post": [post]} if post else {})
    return _page(visit, made, Filled(raw=raw))


@router.get("/again/{job_id}")
async def again(visit: VisitOf, job_id: str) -> Response:
    """Show the form of a job, filled in as it was ordered."""
    job = await visit.api.get(f"/v1/jobs/{job_id}")
    if job["batch"] is not None:
        return visit.go(f"{PREFIX}/batches/{job_id}/again")  # the form that has its rows
    made = await load_form(visit, job["kind"], str(job["order"].get("model", "")))
    # Tags are the job's, and not in its order.
    order = job["order"] | {"tags": job["tags"]}
    said = as_ordered([each.label for each in hidden_in(made.fields, order)])
    return _page(visit, made, Filled(raw=raw_of(made.fields, order)), said=said)


@router.post("/form")
async def order(visit: VisitOf, given: FormOf, kind: str, model: str = "") -> Response:
    """Order, or show what is wrong."""
    made = await load_form(visit, kind, model)
    raw, wrong = await _with_files(visit, made, given)
    order, unreadable, lacking = made.read(raw)
    # The later ones go before: the field of a file that was refused is empty, and that is not what is wrong with it.
    wrong = {each.name: "Fill this in." for each in lacking} | unreadable | wrong
    if wrong:
        return _page(visit, made, Filled(raw=raw, wrong=wrong), status=422)
    try:
        job_id = await _place(visit, made, order, once=str(given.get(ONCE) or secrets.token_hex(16)))
    except ApiProblem as problem:
        filled = Filled(raw=raw, wrong=made.wrong_of(problem))
        return _page(visit, made, filled, problem=problem, status=problem.status)
    return visit.go(f"{PREFIX}/jobs/{job_id}", said="Ordered. It is shown here as it happens.")


@router.post("/quote")
async def quote(visit: VisitOf, given: FormOf, kind: str, model: str = "") -> Response:
    """Show what the form would cost as it is filled in, and put each error beside its field."""
    made = await load_form(visit, kind, model)
    shown, wrong = await _quoted(visit, made, _raw(given))
    # All fields, not only those that are wrong: one that was mended loses its error by that.
    parts = (part for each in made.fields for part in (each, *each.inside))
    return visit.part(
        shown, (error_of(each, wrong.get(each.name), live=True) for each in parts if each.kind != "group")
    )


@router.post("/upload")
async def upload(visit: VisitOf, given: FormOf, kind: str, field: str, model: str = "") -> Response:
    """Bring the files of one field, and show the field with them."""
    made = await load_form(visit, kind, model)
    own = next((each for each in made.fields if each.name == field), None)
    if own is None:  # before anything is brought for it
        raise ApiProblem(422, NO_FIELD | {"detail": f"field: this form has none that is called “{field[:100]}”."})
    raw, wrong = await _with_files(visit, made, given)
    answer = visit.part(show_field(own, Filled(raw=raw, wrong=wrong, upload=made.address("upload"))))
    answer.headers["HX-Trigger"] = "brought"  # the price is asked anew (`_aside`)
    return answer


async def _place(visit: Visit, made: OrderForm, order: dict[str, Any], *, once: str) -> str:
    path = "/v1/generations" if made.kind == ANY_MODEL else f"/v1/orders/{made.kind}"
    try:
        answer = await visit.api.post(path, order, headers={"Idempotency-Key": once})
    except ApiProblem as problem:
        if problem.field != "Idempotency-Key":
            raise
        # The form of an order that was placed, changed after going back to it: another order.
        answer = await visit.api.post(path, order, headers={"Idempotency-Key": secrets.token_hex(16)})
    return str(answer["job_id"])


def _raw(given: FormData) -> Raw:
    found: Raw = {}
    # Boxes of one list send one name several times, and one that says yes or no sends two values.
    for name, value in given.multi_items():
        if isinstance(value, str):
            found.setdefault(name, []).append(value)
    return found


async def _with_files(visit: Visit, made: OrderForm, given: FormData) -> tuple[Raw, dict[str, str]]:
    """Return what was filled in, with each file that came along brought and named in its field."""
    raw, wrong = _raw(given), {}
    for each in (each for each in made.fields if each.takes_files):
        for file in given.getlist(f"{FILE}{each.name}"):
            # Where nothing was chosen browsers send a file all the same: an empty one, without a name.
            if not isinstance(file, UploadFile) or not file.filename:
                continue
            try:
                kept = await visit.api.upload(await file.read(), declared=file.content_type)
            except ApiProblem as problem:
                wrong[each.name] = f"{file.filename}: {in_words(problem.detail, problem.remedy)}"
                continue
            name = kept["id"] if each.bare else f"asset:{kept['id']}"
            # A field of one file has the new one instead.
            before = [text for text in raw.get(each.name, []) if text.strip()] if each.kind == "files" else []
            raw[each.name] = ["\n".join([*before, name])]
    return raw, wrong


async def _quoted(visit: Visit, made: OrderForm, raw: Raw) -> tuple[Node, dict[str, str]]:
    order, wrong, lacking = made.read(raw)
    if wrong:
        return _no_price("What is marked has to be mended first."), wrong
    if lacking:
        return _no_price(f"Fill in: {', '.join(each.label for each in lacking)}."), {}
    try:
        found = await visit.api.post("/v1/quotes", {"kind": made.kind, "order": order})
    except ApiProblem as problem:
        wrong = made.wrong_of(problem)
        told = "What is marked has to be mended first." if wrong else in_words(problem.detail, problem.remedy)
        return _no_price(told), wrong
    return _price_shown(found), {}


def _no_price(why: str) -> Node:
    return [h.p(".price")["–"], h.p(".quiet-text", dir="auto")[why]]


def _price_shown(found: Any) -> Node:
    parts = found["parts"]
    if found["estimate_usd"] is None:
        return _no_price("Nobody can say what it costs before it is done.")
    if found["estimate_usd"] == 0 and not parts:
        return [h.p(".price")["$0.00"], h.p(".quiet-text")["Nothing of it is paid by call."]]
    return [
        h.p(".price")[money(found["estimate_usd"])],
        h.p(".quiet-text")["At most, as far as is known."],
        h.ul(".price-parts", aria_label="What the price is made of")[(_part(each) for each in parts)],
    ]


def _part(each: Any) -> Node:
    known = ", ".join(word for word in (_units(each), SOURCES.get(each["source"])) if word)
    return h.li[h.span[each["endpoint"] or each["step"]], h.span(".money")[money(each["usd"])], h.span(".hint")[known]]


def _units(part: Any) -> str:
    units, unit = part["units"], part["unit"] or ""
    return "" if units is None else f"{plain(units)} {unit.removesuffix('s') if units == 1 else unit}".strip()


def _page(
    visit: Visit,
    made: OrderForm,
    filled: Filled,
    *,
    problem: ApiProblem | None = None,
    said: str | None = None,
    status: int = 200,
) -> Response:
    filled = Filled(raw=filled.raw, wrong=filled.wrong, upload=made.address("upload"))
    back = h.p[h.a(href=f"{AT}/pipelines")["← All pipelines"] if made.model is None else h.a(href=AT)["← All models"]]
    wrong = problem is None and filled.wrong
    return visit.page(
        made.title,
        back,
        made.about and h.p(".quiet-text", dir="auto")[made.about],
        banner(problem) if problem else None,
        wrong and h.p(".banner", role="alert")["Nothing was ordered: mend what is marked, and send it again."],
        said and h.p(".waiting")[said],
        made.facts and facts(made.facts),
        _form(visit, made, filled),
        status=status,
    )


def _form(visit: Visit, made: OrderForm, filled: Filled) -> Node:
    first = [each for each in made.own if each.required]
    rest = [each for each in made.own if not each.required]
    if not first:  # what asks for nothing shows what it has
        first, rest = rest, []
    # Without scripts files come with it. What is wrong is said at each field, and not by the browser.
    return h.form(".order", method="post", action=made.address("form"), enctype="multipart/form-data", novalidate=True)[
        h.input(type="hidden", name="csrf", value=visit.csrf),
        h.input(type="hidden", name=ONCE, value=secrets.token_hex(16)),
        h.div(".order-fields")[
            card(h.div(".fields")[show_fields(first, filled)], title="What is made"),
            _folded("More settings", rest, filled),
            _folded("Afterwards, price and tags", made.common, filled),
        ],
        _aside(made, visit),
    ]


def _folded(title: str, fields: list[FormField] | Any, filled: Filled) -> Node:
    """Fold fields away; open where one is filled in or wrong."""
    names = {name for each in fields for name in (each.name, *(part.name for part in each.inside))}
    is_open = bool(names & set(filled.wrong)) or any(any(filled.raw.get(name, ())) for name in names)
    return (
        bool(fields)
        and h.details(".card.folded", open=is_open)[h.summary[title], h.div(".fields")[show_fields(fields, filled)]]
    )


def _aside(made: OrderForm, visit: Visit) -> Node:
    may = "orders" in visit.scopes
    files = ", ".join(f"{FILE}{each.name}" for each in made.fields if each.takes_files)
    # Files are brought by their own fields: they are not sent once more for each price.
    live = {
        "hx_post": made.address("quote"),
        "hx_trigger": "load, input from:closest form delay:400ms, brought from:closest form delay:400ms",
        "hx_include": "closest form",
        "hx_params": f"not {files}" if files else None,
        "hx_sync": "this:replace",  # else the price of what was typed before may come last
    }
    return h.aside(".card.order-price")[
        h.h2["Price"],
        h.div("#quote", aria_live="polite", **live)[_no_price("Shown as you fill in the form.")],
        button("Order") if may else h.p(".quiet-text")["This key may look, and not order."],
    ]


async def _models(visit: Visit, *, q: str, category: str, cursor: str) -> Any:
    return await visit.api.get("/v1/models", limit=MODELS_OF_A_PAGE, q=q.strip(), category=category, cursor=cursor)


def _rows(found: Any, *, q: str, category: str, file: str) -> Node:
    query = {"q": q, "category": category, "file": file, "cursor": found["next"]}
    following = urlencode({name: value for name, value in query.items() if value})
    rest = found["next"] and further("Show more models", f"{AT}?{following}", f"{AT}/models?{following}")
    return [(_row(each, file) for each in found["items"]), rest]


def _row(each: Any, file: str) -> Node:
    query = {"kind": ANY_MODEL, "model": each["endpoint"]} | ({"file": file} if file else {})
    title = h.a(".row-title", href=f"{AT}/form?{urlencode(query)}")[each["title"]]
    return h.li(".row.plain")[
        h.div(".row-text")[
            title if each["allowed"] else h.span(".row-title")[each["title"]],
            h.p(".row-facts")[h.code[each["endpoint"]], h.span[each["category"]], h.span[usual(each)]],
            h.p(".row-facts", dir="auto")[each["description"]],
        ],
        h.div(".row-end")[h.span(".money")[price(each)] if each["allowed"] else h.span(".badge")["not allowed here"]],
    ]


def _filter(q: str, category: str, file: str, categories: Any) -> Node:
    known = {each["category"]: f"{each['category']} ({each['models']})" for each in categories}
    text = h.input(type="search", name="q", value=q, maxlength="100", dir="auto")
    return h.form(".filter", method="get", action=AT, role="search")[
        file and h.input(type="hidden", name="file", value=file),
        field("Category", choice("category", {"": "All"} | known, category)),
        field("Name or words", text),
        button("Search", kind="quiet"),
    ]
