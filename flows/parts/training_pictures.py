"""The pictures of a training: brought from wherever they are, checked, and put into the archive that a trainer takes.

Given as files of the user's or by their addresses on the web, one by one or as a zip. All that is wrong with them comes
back in one error, whether a picture cannot be had, cannot be read, or is none to train with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO

from blocks.archives import MIB, MOST_BYTES, Flaw, NamedImage, read_archive
from blocks.errors import BadInput, DarkroomError
from blocks.ledger import Asset
from blocks.media import Kind
from blocks.training_images import TrainingImage, check_training_images
from blocks.web import Reach, Web
from blocks.web.model import ENDPOINT as WEB_IMAGE
from flows.engine import Call, Inference, Job
from flows.engine.resources import current

FETCH = "fetch"
WEB_SIZE = {"max_width": 2048, "quality": 95}  # trainers make pictures smaller than that
ARCHIVE_PATIENCE = timedelta(minutes=5)
ARCHIVE = "archive"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What was ordered. `sources`: ids of files and addresses on the web, by the field they were given in."""

    sources: Mapping[str, str]
    captions: Mapping[str, str]

    @property
    def zipped(self) -> bool:
        return ARCHIVE in self.sources


Brought = Mapping[str, Asset | DarkroomError]  # by the field it was given in


def is_asset(source: str) -> bool:
    return source.startswith("ast_")


def bring(job: Job, given: Given) -> Brought:
    """The user's own files, and those on the web once all of them have come, or not."""
    own = {field: _own(job, source) for field, source in given.sources.items() if is_asset(source)}
    if given.zipped:
        return own or {ARCHIVE: job.make(FETCH, lambda: _download(given.sources[ARCHIVE]), kind=Kind.ARCHIVE)}
    return {**own, **_fetched(job, {field: url for field, url in given.sources.items() if field not in own})}


def check(job: Job, given: Given, brought: Brought) -> list[TrainingImage]:
    """Raises BadInput, which names every picture that is no good."""
    if given.zipped:
        contents = read_archive(BytesIO(_content(job, brought[ARCHIVE], kind="application/zip")), field=ARCHIVE)
        images, flaws = list(contents.images), list(contents.flaws)
    else:
        images, flaws = _read_each(job, given, brought)
    return check_training_images(_captioned(given, images), flaws=flaws, field=ARCHIVE if given.zipped else "images")


def _own(job: Job, asset_id: str) -> Asset | DarkroomError:
    try:
        return job.asset(asset_id)
    except BadInput as error:
        return error


def _fetched(job: Job, urls: Mapping[str, str]) -> Brought:
    fields = {f"{FETCH}-{field.partition('.')[2]}": field for field in urls}
    calls = [
        Call(step=step, endpoint=WEB_IMAGE, arguments={"url": urls[field], **WEB_SIZE})
        for step, field in fields.items()
    ]
    return {fields[call.step]: _kept(job, outcome) for call, outcome in job.each(calls)}


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


def _read_each(job: Job, given: Given, brought: Brought) -> tuple[list[NamedImage], list[Flaw]]:
    """In the order they were given in."""
    if sum(asset.bytes for asset in brought.values() if isinstance(asset, Asset)) > MOST_BYTES:
        # Before all of them are in memory.
        raise BadInput(f"Together they have more than {MOST_BYTES // MIB} MiB. Make them smaller.", field="images")
    images, flaws = list[NamedImage](), list[Flaw]()
    for field in given.sources:
        try:
            images.append(NamedImage(name=field, content=_content(job, brought[field], kind="image/")))
        except BadInput as error:
            flaws.append(Flaw(name=field, reason=error.message))
    return images, flaws


def _content(job: Job, brought: Asset | DarkroomError, *, kind: str) -> bytes:
    """Raises BadInput, whose message goes on from the name of the file."""
    if isinstance(brought, DarkroomError):
        raise BadInput(f"cannot be had: {brought.message}", field=ARCHIVE)
    if not brought.content_type.startswith(kind):
        raise BadInput(f"is a file of another kind: {brought.content_type}", field=ARCHIVE)
    return job.read(brought)


def _captioned(given: Given, images: Sequence[NamedImage]) -> list[NamedImage]:
    """With the captions of the order. They name a picture by its place, or by its name, with or without its folder."""
    places: dict[str, int] = {}
    for place, image in enumerate(images):
        names = [image.name, image.name.rpartition("/")[2]] if given.zipped else [image.name.partition(".")[2]]
        for name in names:
            places.setdefault(name, place)
    captions: dict[int, str] = {}
    for name, caption in given.captions.items():
        if name not in places:
            remedy = "Name a picture as in the archive" if given.zipped else "Name its place among the images, from 0"
            raise BadInput(f"There is no such picture. {remedy}.", field=f"captions.{name[:80]}")
        captions[places[name]] = caption
    return [
        NamedImage(name=image.name, content=image.content, caption=captions.get(place, image.caption))
        for place, image in enumerate(images)
    ]
