"""The pictures of a training: brought from wherever they are, checked, and put into the archive that a trainer takes.

Given as files of the user's or by their addresses on the web, one by one or as a zip. All that is wrong with them comes
back in one error, whether a picture cannot be had, cannot be read, or is none to train with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from io import BytesIO

from darkroom import Call, Inference, Job
from darkroom.engine.resources import current
from darkroom.errors import BadInput, DarkroomError
from darkroom.flows.orders.training import ZIPPED, Given, is_asset
from darkroom.ledger import Asset
from darkroom.media.archive_names import key
from darkroom.media.archives import MIB, MOST_BYTES, Flaw, NamedImage, read_archive
from darkroom.media.formats import Kind
from darkroom.media.training_images import Checked, check_training_images
from darkroom.providers.web import Reach, Web
from darkroom.providers.web.model import ENDPOINT as WEB_IMAGE
from darkroom.providers.web.model import notes_of

FETCH = "fetch"
WEB_SIZE = {"max_width": 2048, "quality": 95}  # trainers make pictures smaller than that
ARCHIVE_PATIENCE = timedelta(minutes=5)

Brought = Mapping[str, Asset | DarkroomError]  # by the field it was given in


def bring(job: Job, given: Given, notes: list[Flaw]) -> Brought:
    """Return the user's own files, and those on the web once all of them have come, or not.

    Add to the notes what was to be told of those from the web.
    """
    own = {field: _own(job, source) for field, source in given.sources.items() if is_asset(source)}
    if given.zipped:
        return own or {ZIPPED: job.make(FETCH, lambda: _download(given.sources[ZIPPED]), kind=Kind.ARCHIVE)}
    return {**own, **_fetched(job, {field: url for field, url in given.sources.items() if field not in own}, notes)}


def check(job: Job, given: Given, brought: Brought, *, allow_similar: bool = False) -> Checked:
    """Check the pictures. Raise BadInput, which names every picture that is no good."""
    read = _read_archive if given.zipped else _read_each
    images, flaws, notes = read(job, given, brought)
    field = ZIPPED if given.zipped else "images"
    return check_training_images(images, flaws=flaws, notes=notes, field=field, allow_similar=allow_similar)


def _own(job: Job, asset_id: str) -> Asset | DarkroomError:
    try:
        return job.asset(asset_id)
    except BadInput as error:
        return error


def _fetched(job: Job, urls: Mapping[str, str], notes: list[Flaw]) -> Brought:
    fields = {f"{FETCH}-{field.partition('.')[2]}": field for field in urls}
    calls = [
        Call(step=step, endpoint=WEB_IMAGE, arguments={"url": urls[field], **WEB_SIZE})
        for step, field in fields.items()
    ]
    brought = dict[str, Asset | DarkroomError]()
    for call, outcome in job.each(calls):
        field = fields[call.step]
        brought[field] = _kept(job, outcome)
        if isinstance(outcome, Inference):
            notes += [Flaw(name=field, reason=note) for note in notes_of(outcome.output)]
    return brought


def _kept(job: Job, outcome: Inference | DarkroomError) -> Asset | DarkroomError:
    if isinstance(outcome, DarkroomError):
        return outcome
    try:
        return job.store(outcome)[0]
    except DarkroomError as error:
        return error


def _download(url: str) -> bytes:
    web = Web(Reach.parse(current().settings.web_allow))
    return web.fetch(url, Kind.ARCHIVE, max_bytes=MOST_BYTES, patience=ARCHIVE_PATIENCE).content


Read = tuple[list[NamedImage], list[Flaw], list[Flaw]]  # with flaws and notes


def _read_archive(job: Job, given: Given, brought: Brought) -> Read:
    """Read the archive's pictures and captions.

    A caption of the order goes before one in the archive, and names a picture with or without its folder, in any case.
    """
    try:
        content = _content(job, brought[ZIPPED], kind="application/zip")
    except BadInput as error:
        return [], [Flaw(name=ZIPPED, reason=error.message)], []
    contents = read_archive(BytesIO(content), field=ZIPPED)
    captions = {key(name): name for name in given.captions}
    images, used = list[NamedImage](), set[str]()
    for image in contents.images:
        # With its folder first: two folders may have pictures of one name.
        keys = [each for each in (key(image.name), key(image.name.rpartition("/")[2])) if each in captions]
        used.update(captions[each] for each in keys)
        images.append(replace(image, caption=given.captions[captions[keys[0]]]) if keys else image)
    unused = [Flaw(name=name, reason="is in captions, and no picture in the archive") for name in given.captions]
    # A caption may be that of a picture which was refused; that is told then, and not the caption.
    flaws = [*contents.flaws, *(flaw for flaw in unused if flaw.name not in used and not contents.flaws)]
    return images, flaws, list(contents.notes)


def _read_each(job: Job, given: Given, brought: Brought) -> Read:
    """Read them in the order they were given in; captions go by that."""
    if sum(asset.bytes for asset in brought.values() if isinstance(asset, Asset)) > MOST_BYTES:
        # Before all of them are in memory.
        raise BadInput(f"Together they have more than {MOST_BYTES // MIB} MiB. Make them smaller.", field="images")
    images, flaws = list[NamedImage](), list[Flaw]()
    for place, field in enumerate(given.sources):
        try:
            content = _content(job, brought[field], kind="image/")
        except BadInput as error:
            flaws.append(Flaw(name=field, reason=error.message))
        else:
            images.append(NamedImage(name=field, content=content, caption=given.captions.get(str(place))))
    return images, flaws, []


def _content(job: Job, brought: Asset | DarkroomError, *, kind: str) -> bytes:
    """Read the file. Raise BadInput, whose message goes on from the name of the file."""
    if isinstance(brought, DarkroomError):
        raise BadInput(f"cannot be had: {brought.message.removesuffix('.')}")
    if not brought.content_type.startswith(kind):
        raise BadInput(f"is a file of another kind: {brought.content_type}")
    return job.read(brought)
