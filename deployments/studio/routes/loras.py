"""LoRAs: pictures become a trigger word that can be asked for in prompts, version by version.

A form brings the pictures, says what is wrong with which, and orders the training; its progress is the job's. What
cannot be known before the pictures are looked at, e.g. which look alike, stands on the training's page.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import htpy as h
from fastapi import APIRouter, Response
from htpy import Node
from starlette.datastructures import FormData, UploadFile

from darkroom.deployments.studio import lora_parts as parts
from darkroom.deployments.studio.api import ZIP, ApiProblem
from darkroom.deployments.studio.job_parts import job_row
from darkroom.deployments.studio.lora_parts import ARCHIVE, AT, Brought, Training
from darkroom.deployments.studio.parts import banner, card, empty, link
from darkroom.deployments.studio.screens import Screen
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.deployments.studio.visit import FormOf, Visit, VisitOf

router = APIRouter()
SCREEN = Screen("LoRAs", "/loras", router)

KIND = "train-lora"
LORAS_OF_A_PAGE, TRAININGS_SHOWN, VERSIONS_SHOWN = 24, 5, 50
MOST_FILES = 50  # as the API takes them
ANY_WORD = "any_word"  # of a quote before there is a word, so that what is wrong with the pictures is told already
ONE_ZIP = "a training takes one zip. Leave out the one that is here, and bring this one again, or put all into one."
PICTURE = "image/jpeg"  # of any kind: which it is, its bytes say


@router.get("")
async def loras(visit: VisitOf, cursor: str = "") -> Response:
    """Show the newest versions, and the trainings that are no LoRA yet; with a cursor older versions alone."""
    found = await visit.api.get("/v1/loras", limit=LORAS_OF_A_PAGE, cursor=cursor)
    if cursor:
        return visit.page("LoRAs", h.ul(".loras")[_cards(found)])
    jobs = await visit.api.get("/v1/jobs", kind=KIND, limit=TRAININGS_SHOWN)
    open_ones = [each for each in jobs["items"] if each["status"] != "completed"]
    new = h.p[link("Train a new one", f"{AT}/new")] if "orders" in visit.scopes else None
    if not found["items"] and not open_ones:
        hint = "Four to fifty pictures of somebody, something or a style become a word that you can use in prompts."
        return visit.page("LoRAs", empty("No LoRAs yet", hint, new))
    trainings = open_ones and [
        h.h2["Trainings"],
        h.ul(".rows")[(job_row(each, f"{PREFIX}/jobs") for each in open_ones)],
    ]
    return visit.page("LoRAs", new, trainings, h.ul(".loras")[_cards(found)])


@router.get("/cards")
async def cards(visit: VisitOf, cursor: str = "") -> Response:
    return visit.part(_cards(await visit.api.get("/v1/loras", limit=LORAS_OF_A_PAGE, cursor=cursor)))


@router.get("/new")
async def new(visit: VisitOf) -> Response:
    return _form(visit, Training(given={"key": uuid4().hex}))


@router.post("/new/files")
async def files(visit: VisitOf, form: FormOf) -> Response:
    """Bring the files that were chosen, and show the form again with them, and with what is wrong with which."""
    return await _checked(visit, await _bring(visit, form))


@router.post("/new/quote")
async def quote(visit: VisitOf, form: FormOf) -> Response:
    """Show the price; without scripts the form with it."""
    # Without scripts files that were chosen a moment ago come with the form.
    if not visit.by_htmx:
        return await _checked(visit, await _bring(visit, form))
    training = parts.read_training(form)
    if not training.files:
        return visit.part()
    try:
        return visit.part(parts.price_view(await _quoted(visit, training)))
    except ApiProblem as problem:
        return visit.part(parts.refusal(problem))


@router.post("/new")
async def order(visit: VisitOf, form: FormOf) -> Response:
    """Order the training, or show the form again with what is wrong."""
    training = await _bring(visit, form)
    # Whether a training is worth its price without those files, only its user can say.
    if training.refused:
        return _form(visit, training, status=422)
    key = training.given.get("key")
    headers = {"Idempotency-Key": key} if key else {}
    try:
        made = await visit.api.post("/v1/loras", training.body(), headers=headers)
    except ApiProblem as problem:
        return _form(visit, training, problem=problem, status=422)
    return visit.go(f"{PREFIX}/jobs/{made['job_id']}", said="The training is on record. It takes 15 to 30 minutes.")


@router.get("/{id}")
async def lora(id: str, visit: VisitOf) -> Response:
    return await _page(visit, id)


@router.post("/{id}/try")
async def try_it(id: str, visit: VisitOf, form: FormOf) -> Response:
    """Order one picture with it."""
    given = {name: value for name, value in form.items() if isinstance(value, str)}
    headers = {"Idempotency-Key": given["key"]} if given.get("key") else {}
    body = {"prompt": given.get("prompt", ""), "lora": id, "lora_scale": given.get("lora_scale") or 1}
    try:
        made = await visit.api.post("/v1/images", body, headers=headers)
    except ApiProblem as problem:
        return await _page(visit, id, given=given, problem=problem)
    return visit.go(f"{PREFIX}/jobs/{made['job_id']}", said="Ordered: it is shown here as soon as it has come.")


def _cards(found: Any) -> Node:
    return [(parts.lora_card(each) for each in found["items"]), parts.more(found["next"])]


async def _page(
    visit: Visit, id: str, *, given: dict[str, str] | None = None, problem: ApiProblem | None = None
) -> Response:
    """Show a version, and the form to try it for who may order."""
    found = await visit.api.get(f"/v1/loras/{id}")
    word = found["trigger_word"]
    job = await visit.api.get(f"/v1/jobs/{found['job_id']}")
    versions = await visit.api.get("/v1/loras", trigger_word=word, limit=VERSIONS_SHOWN)
    fields = parts.try_fields({"key": uuid4().hex} | (given or {}))
    form = visit.form(f"{AT}/{id}/try", fields, submit="Make a picture", class_="stack")
    return visit.page(
        f"{word}, version {found['version']}",
        h.p[h.a(href=AT)["← All LoRAs"]],
        banner(problem) if problem else None,
        card(form, title="Try it") if "orders" in visit.scopes else None,
        parts.lora_view(found, job, versions["items"]),
        status=problem.status if problem else 200,
    )


def _form(
    visit: Visit, training: Training, *, problem: ApiProblem | None = None, price: Node = None, status: int = 200
) -> Response:
    """Show the form of a training. `problem`: what the API says of it as it is."""
    asked = {"hx_post": f"{AT}/new/quote", "hx_target": "#cost"}
    live = {"hx_include": "closest form", "hx_trigger": "change from:#training delay:400ms", "hx_sync": "this:replace"}
    shown = price or (parts.refusal(problem) if problem else None)
    # Files are brought as they are chosen: they are not sent once more for each price.
    cost = h.div("#cost", aria_live="polite", hx_params="not files", **asked, **live)[shown]
    priced = h.button(".button.quiet", type="submit", formaction=f"{AT}/new/quote")["Show the price"]
    fields = [parts.training_fields(training, problem, cost), priced]
    form = visit.form(
        f"{AT}/new", fields, submit="Order the training", enctype="multipart/form-data", id="training", class_="stack"
    )
    return visit.page("Train a LoRA", h.p[h.a(href=AT)["← All LoRAs"]], h.section(".card")[form], status=status)


async def _checked(visit: Visit, training: Training) -> Response:
    """Show the form with its price, or with what the API says is wrong with it by now."""
    if not training.files:
        return _form(visit, training)
    try:
        return _form(visit, training, price=parts.price_view(await _quoted(visit, training)))
    except ApiProblem as problem:
        return _form(visit, training, problem=problem)


async def _quoted(visit: Visit, training: Training) -> Any:
    """Quote the training, also before it has a word."""
    return await visit.api.post("/v1/quotes", {"kind": KIND, "order": {"trigger_word": ANY_WORD} | training.body()})


async def _bring(visit: Visit, form: FormData) -> Training:
    """Return what the form has, with the files that came with it brought one after the other."""
    training = parts.read_training(form)
    chosen = [each for each in form.getlist("files") if isinstance(each, UploadFile) and each.filename]
    files, refused = list(training.files), list[tuple[str, str]]()
    for file in chosen:
        name = str(file.filename)
        if len(files) >= MOST_FILES:
            refused.append((name, f"a training takes at most {MOST_FILES} pictures"))
            continue
        try:
            # Browsers declare zips in several ways, and some pictures not at all.
            declared = ZIP if name.lower().endswith(".zip") else PICTURE
            made = await visit.api.upload(await file.read(), declared=declared)
        except ApiProblem as problem:
            refused.append((name, parts.sentences(problem.detail, problem.remedy)))
        else:
            files.append(Brought.of_upload(name, made))
    # By what the API says that they are, and not by their names.
    zips = [each for each in files if each.kind == ARCHIVE]
    refused += [(each.name, ONE_ZIP) for each in zips[1:]]
    return replace(training, files=[each for each in files if each not in zips or each is zips[0]], refused=refused)
