"""What becomes of the pictures of an order before they are checked: by the files that a job would read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import cast

import pytest
from PIL import Image, ImageDraw
from prefect.logging import disable_run_logger

from darkroom import Job
from darkroom.errors import BadInput, DarkroomError, Refused
from darkroom.flows.orders.training import CHECK, NOTES, ZIPPED, Given, Training
from darkroom.flows.parts.training_pictures import Brought, check
from darkroom.flows.train_lora import _archive, _notes
from darkroom.ledger import Asset
from darkroom.media.archives import told, write_archive
from darkroom.media.formats import Kind, verify

URL = "https://example.com/"


def drawn(number: int, *, lighter: int = 0) -> bytes:
    image = Image.new("RGB", (300, 300), (10, 30 * number, 200))
    ImageDraw.Draw(image).ellipse((20 * number, 40, 20 * number + 150, 250), fill=(240, 240 - 30 * number, 40))
    out = BytesIO()
    image.point(lambda value: min(255, value + lighter)).save(out, "PNG")
    return out.getvalue()


class Shelf:
    """Reads what is in the asset's key: all that is asked of a job here."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def asset(self, content: bytes, content_type: str = "image/png") -> Asset:
        asset_id = f"ast_{len(self.files)}"
        self.files[asset_id] = content
        return Asset(
            id=asset_id,
            user_id="u",
            step="upload",
            n=0,
            key="",
            sha256="",
            content_type=content_type,
            bytes=len(content),
        )

    def read(self, asset: Asset) -> bytes:
        return self.files[asset.id]

    def as_job(self) -> Job:
        return cast(Job, self)


def zipped(*names: str) -> bytes:
    return write_archive((name, drawn(n)) for n, name in enumerate(names))


def check_images(*brought: Asset | DarkroomError, shelf: Shelf, **captions: str) -> list[str | None]:
    given = Given(sources={f"images.{n}": URL for n in range(len(brought))}, captions=captions)
    images = check(shelf.as_job(), given, {f"images.{n}": each for n, each in enumerate(brought)})
    return [image.caption for image in images.images]


def check_zip(content: bytes, captions: dict[str, str], *, content_type: str = "application/zip") -> list[str | None]:
    shelf = Shelf()
    given = Given(sources={ZIPPED: URL}, captions=captions)
    images = check(shelf.as_job(), given, {ZIPPED: shelf.asset(content, content_type)})
    return [image.caption for image in images.images]


def test_captions_go_by_the_place_of_a_picture() -> None:
    """From 0, as in the order."""
    shelf = Shelf()
    assets = [shelf.asset(drawn(n)) for n in range(4)]
    assert check_images(*assets, shelf=shelf, **{"1": "one", "3": "three"}) == [None, "one", None, "three"]


def test_what_cannot_be_had_and_what_is_no_picture_is_told_with_the_rest() -> None:
    """By their places; one that is missing does not shift the captions of the others."""
    shelf = Shelf()
    good = [shelf.asset(drawn(n)) for n in range(3)]
    gone, text = Refused("there is no such file (HTTP 404)"), shelf.asset(b"%PDF", "application/pdf")
    with pytest.raises(BadInput) as caught:
        check_images(gone, *good, text, shelf=shelf, **{"3": "the last"})
    assert caught.value.field == "images"
    assert caught.value.message == (
        "2 files cannot be used: images.0 cannot be had: there is no such file (HTTP 404); "
        "images.4 is a file of another kind: application/pdf. Replace them or leave them out."
    )


def test_captions_of_an_archive_go_by_name_with_or_without_the_folder() -> None:
    """And before those that lie in it; in any case, and with the slashes of any system."""
    content = write_archive(
        [*((f"set/{n}.png", drawn(n)) for n in range(4)), ("set/0.txt", b"lies there"), ("set/1.txt", b"this too")]
    )
    captions = {"set/0.png": "given", "SET\\3.PNG": "by its name"}
    assert check_zip(content, captions) == ["given", "this too", None, "by its name"]


def test_a_caption_of_no_picture_in_the_archive_is_told() -> None:
    """It would be lost without a word."""
    with pytest.raises(BadInput, match=r"9\.png is in captions, and no picture in the archive"):
        check_zip(zipped("0.png", "1.png", "2.png", "3.png"), {"9.png": "of nobody"})


def test_an_archive_that_is_none_is_told_by_its_field() -> None:
    """Whatever it is instead."""
    with pytest.raises(BadInput) as caught:
        check_zip(drawn(1), {}, content_type="image/png")
    assert (caught.value.field, "archive is a file of another kind" in caught.value.message) == ("archive", True)


def test_what_is_noticed_of_an_archive_and_of_its_pictures_is_told_together() -> None:
    """What was passed over, what a picture was, what looks alike; unless that is wanted."""
    files = [*((f"{n}.png", drawn(n)) for n in range(4)), ("._0.png", b"x"), ("9.txt", b"of nobody")]
    files += [("4.tiff", tiff(drawn(5))), ("5.png", drawn(3, lighter=2))]
    shelf = Shelf()
    given = Given(sources={ZIPPED: URL}, captions={})
    brought = {ZIPPED: shelf.asset(write_archive(files), "application/zip")}
    notes = told(check(shelf.as_job(), given, brought).notes)
    assert notes == [
        "._0.png was passed over.",
        "9.txt is the caption of no picture: none has its name; it was passed over.",
        "4.tiff was TIFF.",
        "4.tiff is kept as PNG.",
        "5.png looks like 3.png.",
    ]
    assert told(check(shelf.as_job(), given, brought, allow_similar=True).notes) == notes[:-1]


def tiff(content: bytes) -> bytes:
    out = BytesIO()
    with Image.open(BytesIO(content)) as image:
        image.save(out, "TIFF")
    return out.getvalue()


class Noted(Shelf):
    """A job that makes files, and shows texts. `dies_at`: at which step its process does."""

    def __init__(self, *, dies_at: str | None = None) -> None:
        super().__init__()
        self.assets: list[Asset] = []
        self.shown: list[str] = []
        self.dies_at = dies_at

    def make(self, step: str, build: Callable[[], bytes], *, kind: Kind) -> Asset:
        made = self.asset(verify(build(), kind).content).model_copy(update={"step": step})
        if step == self.dies_at:
            self.dies_at = None
            raise Killed
        self.assets.append(made)
        return made

    def require_going_on(self) -> None:
        pass

    def progress(self, percent: float, text: str) -> None:
        pass

    def show(self, name: str, markdown: str, *, description: str) -> None:
        self.shown.append(markdown)


class Killed(BaseException):
    """A process that ended."""


@pytest.mark.parametrize("dies_at", [None, CHECK, NOTES])
def test_notes_are_in_the_result_whichever_call_of_the_job_ends_it(dies_at: str | None) -> None:
    """Those of the pictures come in the call that checks them, those of the web in each; they are told together, once.

    The training ends in another call, half an hour later, and perhaps in another process.
    """
    job = Noted(dies_at=dies_at)
    brought: Brought = {f"images.{n}": job.asset(drawn(n)) for n in range(3)}
    brought["images.3"] = job.asset(drawn(2, lighter=2))
    order = Training(trigger_word="mochi", images=[f"ast_{n}" for n in range(4)])
    with disable_run_logger():
        assert _notes(job.as_job()) == {}
        for _ in range(3):
            with suppress(Killed):
                _archive(job.as_job(), order, brought, ["images.0 was turned upright, Füchsin."])
    notes = ["images.0 was turned upright, Füchsin.", "images.3 looks like images.2."]
    assert _notes(job.as_job()) == {"notes": notes}
    assert {*job.shown} == {f"- {notes[0]}\n- {notes[1]}"}
    assert len(job.shown) == (2 if dies_at == NOTES else 1)
    assert [asset.step for asset in job.assets] == [NOTES, CHECK]
