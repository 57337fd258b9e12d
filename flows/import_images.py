"""A product's pictures, by their addresses on the web, become files of the media store: checked, smaller, clean.

Triggered by `POST /v1/imports`, the Prefect UI, `prefect deployment run import-images/on-demand -p 'urls=["https://…"]'`,
or `python flows/import_images.py https://…` on a running stack. Needs the media store, and no key. Each address is a
call of its own at the account `web`, of which a user has ten under way at most; it costs nothing. An address that is
refused, or that fails again and again, is listed in the result and stops none of the others. Fails where no picture
came at all.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from darkroom import Call, Inference, Job, RetryPolicy, pipeline
from darkroom.errors import DarkroomError, Permanent, Retry
from darkroom.flows.orders.imports import Came, Given, Import
from darkroom.ledger import Asset
from darkroom.providers.web.model import ENDPOINT, notes_of
from darkroom.shown_addresses import without_secrets

# A shop that fails is up again in a minute, or not today.
PATIENT = RetryPolicy(attempts=3, longest=timedelta(seconds=30))
TOLD = 20  # times that an import of any size says how far it has come
SHOWN = 12  # pictures that are seen at once; the others are links
THUMBNAIL = 200  # pixels
LONGEST_PLACE = 100  # characters of an address in the list
NO_NOTES: Mapping[int, list[str]] = MappingProxyType({})
NO_MARKUP = str.maketrans(dict.fromkeys("`|<>[]\\\n\r", "_"))  # what would end its cell, or be read as Markdown


# Up to 500 calls: a task run for each would cost more than the fetch that it shows.
@pipeline(Import, as_tasks=False)
def import_images(job: Job, order: Import) -> dict[str, Any]:
    """Pictures from the web become files of the media store."""
    calls = calls_of(order)
    came: dict[str, Asset | DarkroomError] = {}
    notes: dict[str, list[str]] = {}
    try:
        for call, outcome in job.each(calls):
            came[call.step] = _kept(job, outcome)
            if isinstance(outcome, Inference) and (told := notes_of(outcome.output)):
                notes[call.step] = told
    finally:  # also where the rest has yet to come
        _tell(job, done=len(came), of=len(calls))
    given = order.given(came)
    job.show("imported", _markdown(job, given), description=_headline(order, came))
    if not any(isinstance(outcome, Asset) for outcome in came.values()):
        raise nothing_imported(came)
    return summary(given, came, {n: notes[step] for n, step in enumerate(order.steps(), 1) if step in notes})


def calls_of(order: Import) -> list[Call]:
    options = {"max_width": order.max_width, "quality": order.quality}
    urls: dict[str, str] = {}
    for step, url in zip(order.steps(), order.urls, strict=True):
        urls.setdefault(step, url)  # those that differ in their fragment alone are one call
    return [
        Call(step=step, endpoint=ENDPOINT, arguments={"url": url, **options}, retry=PATIENT)
        for step, url in urls.items()
    ]


def _kept(job: Job, outcome: Inference | DarkroomError) -> Asset | DarkroomError:
    if isinstance(outcome, DarkroomError):
        return outcome
    try:
        (asset,) = job.store(outcome)
        return asset
    except DarkroomError as error:
        return error


def _tell(job: Job, *, done: int, of: int) -> None:
    """Tell how far it has come in some steps, not with each picture."""
    # Showing it in Prefect costs more than fetching one.
    step = max(1, of // TOLD)
    told = done if done == of else done - done % step
    job.progress(100 * told / of, f"{told} of {of} addresses")


def summary(given: Sequence[Given], came: Came, notes: Mapping[int, list[str]] = NO_NOTES) -> dict[str, Any]:
    """Return the job's result.

    `imported` counts pictures; `images` and `refused` have each address, by its place `n` and without secrets;
    `notes` of a picture, where there are any, what was passed over or changed in it beside its size.
    """
    return {
        "imported": _count(came),
        "images": [
            {"n": n, "url": without_secrets(url), "asset_id": outcome.id} | ({"notes": notes[n]} if n in notes else {})
            for n, url, outcome in given
            if isinstance(outcome, Asset)
        ],
        "refused": [
            {"n": n, "url": without_secrets(url), "code": outcome.code, "reason": outcome.message}
            for n, url, outcome in given
            if isinstance(outcome, DarkroomError)
        ],
    }


def nothing_imported(came: Came) -> DarkroomError:
    """Return the error of an import that has brought nothing."""
    errors = [outcome for outcome in came.values() if isinstance(outcome, DarkroomError)]
    why = ", ".join(f"{count} × {code}" for code, count in Counter(error.code for error in errors).most_common())
    # A replay is worth it where it may bring some of them.
    kind = Retry if any(isinstance(error, Retry) for error in errors) else Permanent
    return kind(f"None of the addresses gave a picture: {why}.", code="nothing_imported")


def _headline(order: Import, came: Came) -> str:
    imported = f"{_count(came)} of {len(came)} pictures imported"
    return f"{order.product}: {imported}" if order.product else imported


def _count(came: Came) -> int:
    return sum(isinstance(outcome, Asset) for outcome in came.values())


def _markdown(job: Job, given: Sequence[Given]) -> str:
    """Show the gallery, then list what was refused before what was imported."""
    refused = [
        f"| {n} | {place(url)} | `{outcome.code}`: {outcome.message} |"
        for n, url, outcome in given
        if isinstance(outcome, DarkroomError)
    ]
    imported = [
        f"| {n} | {place(url)} | {outcome.width} × {outcome.height}, {outcome.bytes // 1024:,} KB "
        f"| [open]({job.link(outcome)}) |"
        for n, url, outcome in given
        if isinstance(outcome, Asset)
    ]
    parts = [_gallery(job, [outcome for _, _, outcome in given if isinstance(outcome, Asset)]), ""]
    # First, as somebody has to look after it.
    if refused:
        parts += ["### Refused", "", "| | Address | Why |", "| ---: | --- | --- |", *refused, ""]
    if imported:
        parts += ["### Imported", "", "| | Address | Size | Picture |", "| ---: | --- | --- | --- |", *imported]
    return "\n".join(parts)


def _gallery(job: Job, assets: Sequence[Asset]) -> str:
    """Draw the pictures in a row, each as small as a thumbnail."""
    # As HTML: Prefect's UI shows that as small as it is told, and Markdown's pictures as they are.
    shown = list({asset.id: asset for asset in assets}.values())[:SHOWN]
    return " ".join(f'<img src="{job.link(asset)}" width="{THUMBNAIL}">' for asset in shown)


def place(url: str) -> str:
    """Return host and path, which is what a person knows an address by."""
    # Never what is before the host or behind the path: passwords and signatures are there, and artifacts are read by
    # many. By hand, as what is no address is listed, too.
    whole = re.split(r"[?#]", url, maxsplit=1)[0].removeprefix("https://").removeprefix("http://")
    host, slash, path = whole.partition("/")
    whole = host.rpartition("@")[2] + slash + path
    return f"`{whole.translate(NO_MARKUP)[:LONGEST_PLACE]}`"


if __name__ == "__main__":
    import_images(sys.argv[1:])
