"""LoRAs as pages show them: versions with their sample grid, and the form of a training with its pictures.

Pictures are brought as they are chosen (`POST /v1/uploads`), and what each has become is in the form from then on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import htpy as h
from htpy import Node
from starlette.datastructures import FormData

from darkroom.deployments.studio.api import ApiProblem
from darkroom.deployments.studio.parts import (
    badge,
    banner,
    facts,
    further,
    link,
    local,
    moment,
    money,
    said,
    small_picture,
)
from darkroom.deployments.studio.parts import field as labelled
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.nesting import read_json

AT = f"{PREFIX}/loras"
SAMPLE_WIDTH, PICTURE_WIDTH = 480, 160  # two of those that the gateway makes
ARCHIVE = "application/zip"
LONGEST_VALUE = 2000  # of a hidden field: a name of a hundred characters, as escapes at worst, beside id and link
# As errors of the API name a picture: by its place from 0.
_PLACE = re.compile(r"\bimages\.([0-9]{1,3})\b")


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A file that was brought for a training, as the form has it. `url`: of what shows it; empty where nothing does."""

    id: str
    url: str
    name: str
    kind: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of_upload(cls, name: str, made: Any) -> Brought:
        url, notes = small_picture(made, width=PICTURE_WIDTH), tuple(made["notes"])
        return cls(id=made["id"], url=url or "", name=name[:100], kind=made["content_type"], notes=notes)

    @classmethod
    def read(cls, value: str) -> Brought | None:
        """Read what the form had. What it had not is passed over."""
        try:
            found = read_json(value[:LONGEST_VALUE])
            texts = [str(found[name]) for name in ("id", "url", "name", "kind")]
            # Anybody can change a form: its address leads to no other host.
            return cls(id=texts[0], url=local(texts[1]), name=texts[2], kind=texts[3])
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def value(self) -> str:
        return json.dumps({"id": self.id, "url": self.url, "name": self.name, "kind": self.kind})


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the form has in it. `refused`: files that could not be brought, by name, and why."""

    given: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Brought] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
    refused: Sequence[tuple[str, str]] = ()

    @property
    def pictures(self) -> list[Brought]:
        return [each for each in self.files if each.kind != ARCHIVE]

    def body(self) -> dict[str, Any]:
        """Return the order, as it was filled in: whether it is right the API says."""
        captions = {str(n): self.captions.get(each.id, "").strip() for n, each in enumerate(self.pictures)}
        tests = [line.strip() for line in self.given.get("test_prompts", "").splitlines() if line.strip()]
        archive = next((each.id for each in self.files if each.kind == ARCHIVE), None)
        body = {
            "trigger_word": self.given.get("trigger_word", "").strip(),
            "images": [each.id for each in self.pictures],
            "archive": archive,
            "captions": {place: words for place, words in captions.items() if words},
            "steps": _number(self.given.get("steps", "")),
            "style": "style" in self.given,
            "test_prompts": tests,
            "allow_similar": "allow_similar" in self.given,
            "max_usd": _number(self.given.get("max_usd", "")),
        }
        return {name: value for name, value in body.items() if value not in (None, "", [], {}, False)}


def read_training(form: FormData) -> Training:
    """Read the form. Files that are ticked to be left out are left out."""
    texts = {name: value for name, value in form.items() if isinstance(value, str)}
    brought = [Brought.read(each) for each in form.getlist("picture") if isinstance(each, str)]
    out = set(form.getlist("leave_out"))
    captions = {name.removeprefix("caption-"): text for name, text in texts.items() if name.startswith("caption-")}
    return Training(given=texts, files=[each for each in brought if each and each.id not in out], captions=captions)


def training_fields(training: Training, problem: ApiProblem | None, price: Node) -> Node:
    """Return the fields of the form, with what is wrong beside the picture that it is wrong with."""
    given, faults = training.given, _by_field(problem)
    bring = {"hx_post": f"{AT}/new/files", "hx_trigger": "change", "hx_include": "closest form"}
    # What comes is the whole page, as it does without scripts: of it the form is taken.
    into = {"hx_encoding": "multipart/form-data", "hx_target": "#training", "hx_select": "#training"}
    return [
        # The order's idempotency key: a form that is sent twice is one training.
        h.input(type="hidden", name="key", value=given.get("key", "")),
        h.div(".drop-area")[
            labelled(
                "Pictures",
                h.input(
                    type="file",
                    name="files",
                    multiple=True,
                    accept="image/*,.heic,.heif,.avif,.zip,application/zip",
                    hx_swap="outerHTML",
                    **bring,
                    **into,
                ),
                hint="4 to 50 pictures of at least 256 pixels a side, or a zip of them with captions. Drop them here.",
            ),
            # Without scripts nothing is sent as files are chosen.
            h.button(".button.quiet", type="submit", formaction=f"{AT}/new/files")["Bring the files"],
        ],
        [h.p(".row-error", dir="auto")[h.strong[name], ": ", why] for name, why in training.refused],
        _files(training, faults) if training.files else None,
        labelled(
            "Trigger word",
            _text("trigger_word", given, maxlength="40", spellcheck="false", autocapitalize="off"),
            hint=faults.get("trigger_word") or "A word of no meaning that calls it up in a prompt, e.g. mochi_cat.",
        ),
        h.div(".columns")[
            labelled(
                "Steps",
                _text("steps", given, type="number", min="100", max="4000", placeholder="1000"),
                hint="More: closer to the pictures, and less free.",
            ),
            labelled("At most, in USD", _text("max_usd", given, type="number", min="0.01", step="any")),
            _check("style", given, "It is a style, not somebody or something"),
            _check("allow_similar", given, "Do not tell which pictures look alike"),
        ],
        labelled(
            "Test prompts",
            h.textarea(".short", name="test_prompts", rows="3", dir="auto")[given.get("test_prompts", "")],
            hint="Up to four, one to a line: what the samples show. Empty: four of ours.",
        ),
        price,
    ]


def _files(training: Training, faults: Mapping[str, str]) -> Node:
    # As the API counts them, which does not count a zip; the form counts every file, from 1.
    places = {each.id: f"images.{n}" for n, each in enumerate(training.pictures)}
    count = len(training.pictures)
    words = f"{count} picture{'' if count == 1 else 's'}" if count else "A zip"
    return [
        h.p(".quiet-text")[f"{words}. A caption says what a picture shows beside what is to be learned."],
        h.ul(".pictures")[
            (
                _file(each, training, faults.get(places.get(each.id, "archive")), number=n)
                for n, each in enumerate(training.files, start=1)
            )
        ],
    ]


def _file(each: Brought, training: Training, fault: str | None, *, number: int) -> Node:
    picture = each.kind.startswith("image/")
    caption = h.input(
        name=f"caption-{each.id}",
        value=training.captions.get(each.id, ""),
        maxlength="2000",
        dir="auto",
        placeholder="Caption",
        aria_label=f"Caption of {number}",
    )
    return h.li(".picture.bad" if fault else ".picture")[
        # The form has all of its state in itself: one that was refused still has its pictures, on any gateway.
        h.input(type="hidden", name="picture", value=each.value),
        h.img(src=each.url, alt="", loading="lazy")
        if each.url
        else h.span(".zip")[each.kind.partition("/")[2].upper()],
        h.div(".picture-text")[
            h.p(".picture-name", dir="auto", title=each.name)[f"{number}. {each.name}"],
            fault and h.p(".row-error", dir="auto")[fault],
            (h.p(".hint", dir="auto")[note] for note in each.notes),
            caption if picture else None,
            h.label(".check")[h.input(type="checkbox", name="leave_out", value=each.id), " Leave out"],
        ],
    ]


def _by_field(problem: ApiProblem | None) -> dict[str, str]:
    """Return what is wrong by field, the first of each."""
    if problem is None:
        return {}
    # From the last to the first, so that the first one of a field is kept.
    found = {each.field: sentences(each.detail, each.remedy) for each in reversed(problem.errors)}
    if not found and problem.field:
        found = {problem.field: problem.detail.removeprefix(f"{problem.field}: ")}
    return {name: in_words(text) for name, text in found.items()}


def sentences(detail: str, remedy: str | None) -> str:
    """Return what is wrong and what to do about it, which may be in it already."""
    return detail if not remedy or remedy in detail else f"{detail.rstrip('.')}. {remedy}"


def in_words(text: str) -> str:
    """Name pictures as the form counts them: `images.0` is picture 1."""
    return _PLACE.sub(lambda found: f"picture {int(found[1]) + 1}", text)


def price_view(quote: Any) -> Node:
    """Return what the training would cost, part by part."""
    parts = " + ".join(f"{each['step']} {money(each['usd'])}" for each in quote["parts"])
    return h.div(".quote")[
        h.p["At most ", h.strong(".money")[money(quote["estimate_usd"])]], h.p(".hint")[f"{parts}. 15 to 30 minutes."]
    ]


def refusal(problem: ApiProblem) -> Node:
    errors = [{"field": in_words(each.field), "detail": in_words(each.detail)} for each in problem.errors]
    said_so = {"title": problem.title, "detail": in_words(problem.detail), "remedy": problem.remedy, "errors": errors}
    return h.div(".quote")[banner(ApiProblem(problem.status, said_so))]


# -- what came of trainings -------------------------------------------------------------------------------------------


def lora_card(lora: Any) -> Node:
    """Return one version in the list."""
    name, at = lora["trigger_word"], f"{AT}/{lora['id']}"
    return h.li(".card.lora")[
        # The heading leads there, too: one stop of Tab.
        h.a(href=at, tabindex="-1", aria_hidden="true")[_sample(lora, f"Samples of {name}")],
        h.div(".lora-text")[
            h.h2[h.a(href=at)[h.code[name]], f" version {lora['version']}"],
            h.p(".row-facts")[badge(lora["status"]), moment(lora["created_at"])],
        ],
    ]


def _sample(lora: Any, alt: str, *, width: int = SAMPLE_WIDTH) -> Node:
    if lora["sample_url"] is None:
        return h.span(".sample.none")["Samples are being made"]
    return h.img(".sample", src=f"{local(lora['sample_url'])}&w={width}", alt=alt, loading="lazy", decoding="async")


def lora_view(lora: Any, job: Any, versions: Sequence[Any]) -> Node:
    """Return all that is on record of a version: its samples, what it was trained with, and its other versions."""
    order, notes = job["order"], (job["result"] or {}).get("notes") or []
    sample = lora["sample_url"] and local(lora["sample_url"])
    return [
        h.section(".card")[
            h.h2["Samples"],
            h.a(href=sample)[_sample(lora, f"Samples of {lora['trigger_word']}", width=960)]
            if sample
            else _sample(lora, ""),
        ],
        h.section(".card")[
            h.h2["Training"],
            facts(
                {
                    "Cost": money(job["cost_usd"]),
                    # An order has nothing on record that is as by default.
                    "Steps": str(order.get("steps", 1000)),
                    "Pictures": str(len(order.get("images") or ())) if order.get("images") else "a zip",
                    "Trained": moment(lora["created_at"]),
                }
            ),
            notes and h.ul(".notes")[(h.li[said(in_words(each))] for each in notes)],
            h.div(".actions")[link("The training on record", f"{PREFIX}/jobs/{lora['job_id']}", kind="quiet")],
        ],
        len(versions) > 1
        and h.section(".card")[
            h.h2["Versions"],
            h.ul(".versions")[
                (
                    h.li[
                        h.a(href=f"{AT}/{each['id']}", aria_current="page" if each["id"] == lora["id"] else None)[
                            f"Version {each['version']}"
                        ],
                        " ",
                        badge(each["status"]),
                        " ",
                        moment(each["created_at"]),
                    ]
                    for each in versions
                )
            ],
        ],
    ]


def try_fields(given: Mapping[str, str]) -> Node:
    scale = {"type": "number", "min": "0", "max": "2", "step": "0.05"}
    return [
        h.input(type="hidden", name="key", value=given.get("key", "")),
        labelled(
            "Prompt",
            h.textarea(".short", name="prompt", rows="3", required=True, maxlength="4000", dir="auto")[
                given.get("prompt", "")
            ],
            hint="The trigger word is put in front where it is missing.",
        ),
        labelled("Strength", h.input(name="lora_scale", value=given.get("lora_scale", "1"), **scale)),
    ]


def more(following: str | None) -> Node:
    query = urlencode({"cursor": following or ""})
    return following and further("Show older versions", f"{AT}?{query}", f"{AT}/cards?{query}")


def _check(name: str, given: Mapping[str, str], label: str) -> Node:
    return h.label(".check")[h.input(type="checkbox", name=name, checked=name in given), f" {label}"]


def _text(name: str, given: Mapping[str, str], **attributes: str) -> Node:
    return h.input(name=name, value=given.get(name, ""), **attributes)


def _number(text: str) -> float | str | None:
    """Return the number; what is none as it is, which the API is to say."""
    try:
        return float(text) if text.strip() else None
    except ValueError:
        return text
