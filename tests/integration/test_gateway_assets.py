"""Files as people use them: in parts, by HEAD, as small pictures, and from S3 itself."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import media_files
import pytest
from ledger_databases import Db
from PIL import Image
from pydantic import SecretStr
from running_gateway import NO_PREFECT, Customer, GivenBlocks, RunningGateway, running_gateway

from darkroom.ledger import Asset, Ledger, StoredFile, new_id
from darkroom.media.links import asset_url
from darkroom.media.store import LocalFolder, MediaStore
from darkroom.settings import Settings

Kept = Callable[..., Asset]


def drawn(size: tuple[int, int] = (1200, 600), mode: str = "RGB") -> bytes:
    out = BytesIO()
    Image.new(mode, size, "red" if mode == "RGB" else (255, 0, 0, 0)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def settings(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PREFECT_API_URL", NO_PREFECT)
    return Settings(ledger_url=ledger_url, home=tmp_path, signing_key=SecretStr("a long random text"))


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add("ann"))


@pytest.fixture
def kept(ann: Customer, ledger: Ledger, store: MediaStore) -> Kept:
    """Put a file of ann's into the store and on record. `width=None`: as one that nobody has read."""

    def keep(content: bytes, content_type: str, extension: str, *, width: int | None = 64) -> Asset:
        user_id, asset_id = ledger.users.find("ann").id, new_id("ast_")
        key = f"uploads/{user_id}/{asset_id}.{extension}"
        store.write(key, content)
        sha256 = hashlib.sha256(content).hexdigest()
        file = StoredFile(
            key=key, sha256=sha256, content_type=content_type, bytes=len(content), width=width, height=width
        )
        return ledger.assets.add_upload(user_id, asset_id=asset_id, file=file)

    return keep


def relative(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def test_a_player_gets_the_part_it_seeks(gateway: RunningGateway, kept: Kept, settings: Settings) -> None:
    """By a signed link, with the length of the part and of the whole; and the whole in pieces."""
    content = os.urandom(1_000_000)
    asset = kept(content, "video/mp4", "mp4")
    link = relative(asset_url(asset.id, settings))

    whole = gateway.http.get(link)
    part = gateway.http.get(link, headers={"Range": "bytes=500000-500099", "If-Range": whole.headers["ETag"]})
    beyond = gateway.http.get(link, headers={"Range": "bytes=1000000-"})

    assert (whole.status_code, whole.content, whole.headers["Accept-Ranges"]) == (200, content, "bytes")
    assert (part.status_code, part.content) == (206, content[500_000:500_100])
    assert part.headers["Content-Range"] == "bytes 500000-500099/1000000"
    assert (part.headers["Content-Length"], part.headers["Content-Type"]) == ("100", "video/mp4")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */1000000")


def test_head_says_what_get_would_bring(ann: Customer, kept: Kept, store: MediaStore) -> None:
    """Length, type and tag, and no body; 404 where the file is gone."""
    path = f"/v1/assets/{kept(b'12345', 'video/mp4', 'mp4').id}"
    headers = {"Authorization": f"Bearer {ann.key}"}

    answer = ann.http.head(path, headers=headers)

    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "5")
    assert answer.headers["ETag"] == ann.get(path).headers["ETag"]
    assert ann.http.head("/v1/assets/ast_nonesuch", headers=headers).status_code == 404
    assert ann.http.head(path).status_code == 401


def test_what_could_run_is_a_download_in_a_sandbox(ann: Customer, kept: Kept) -> None:
    """An SVG with a script in it is never a page of ours."""
    answer = ann.get(f"/v1/assets/{kept(b'<svg><script/></svg>', 'image/svg+xml', 'svg').id}")

    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("accept", "content_type", "form"),
    [("image/avif,image/webp,*/*;q=0.8", "image/webp", "WEBP"), ("*/*", "image/jpeg", "JPEG")],
)
def test_a_small_picture_is_made_once_and_kept(
    ann: Customer, kept: Kept, tmp_path: Path, accept: str, content_type: str, form: str
) -> None:
    """In the form that is accepted, as wide as asked, for many at once; from then on it comes from the store."""
    asset = kept(drawn(), "image/png", "png", width=1200)
    path = f"/v1/assets/{asset.id}?w=480"

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ann.get(path, Accept=accept), range(12)))
    (tmp_path / asset.key).unlink()
    answers.append(ann.get(path, Accept=accept))

    for answer in answers:
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, content_type)
        assert "immutable" in answer.headers["Cache-Control"] and "Accept" in answer.headers["Vary"]
        with Image.open(BytesIO(answer.content)) as small:
            assert (small.format, small.size) == (form, (480, 240))
    assert len(list((tmp_path / "thumbnails").rglob("480.*"))) == 1
    assert ann.get(path, Accept=accept, If_None_Match=answers[0].headers["ETag"]).status_code == 304


def test_a_small_picture_of_a_film_is_its_first(ann: Customer, kept: Kept) -> None:
    """Never larger than the film is."""
    asset = kept(media_files.film(size=(320, 180)), "video/mp4", "mp4", width=320)
    for width, size in ((160, (160, 90)), (960, (320, 180))):
        with Image.open(BytesIO(ann.get(f"/v1/assets/{asset.id}?w={width}").content)) as small:
            assert small.size == size


def test_what_was_transparent_is_white_in_a_jpeg(ann: Customer, kept: Kept) -> None:
    """Not black, as the pixels behind it may be."""
    asset = kept(drawn(mode="RGBA"), "image/png", "png", width=1200)
    with Image.open(BytesIO(ann.get(f"/v1/assets/{asset.id}?w=160").content)) as small:
        assert small.getpixel((5, 5)) == (255, 255, 255)


def test_what_has_no_small_picture_says_so(ann: Customer, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other widths, other files, files that nobody has read, and films where nothing reads them."""
    picture, film = kept(drawn(), "image/png", "png"), kept(media_files.film(), "video/mp4", "mp4", width=160)
    monkeypatch.setitem(sys.modules, "darkroom.media.formats.films", None)
    for path, remedy in {
        f"{picture.id}?w=481": "480",
        f"{kept(b'%PDF-1', 'application/pdf', 'pdf').id}?w=480": "Leave w out",
        f"{kept(drawn(), 'image/png', 'png', width=None).id}?w=480": "Leave w out",
        f"{film.id}?w=480": "darkroom-media[film]",
    }.items():
        answer = ann.get(f"/v1/assets/{path}")
        assert (answer.status_code, answer.json()["field"]) == (422, "w")
        assert remedy in answer.json()["detail"] + answer.json()["remedy"]


class InAnotherPlace(LocalFolder):
    """A store that has addresses of its own, as S3 has."""

    def link(self, path: str, *, method: str, **said: object) -> str:
        return f"https://bucket.example/{path}?for={method}"


def test_s3_sends_its_files_itself_where_that_is_set(
    ledger: Ledger, store: MediaStore, kept: Kept, ann: Customer, settings: Settings, tmp_path: Path
) -> None:
    """The gateway leads there, once the link or the key has been looked at; a folder's files it sends all the same."""
    asset = kept(b"12345", "video/mp4", "mp4")
    presigned = settings.model_copy(update={"asset_links": "presigned"})

    def answer(store: MediaStore, link: str) -> httpx.Response:
        with running_gateway(presigned, blocks=GivenBlocks(media=store)) as gateway:
            return gateway.http.get(link)

    link, elsewhere = relative(asset_url(asset.id, settings)), MediaStore(InAnotherPlace(str(tmp_path)))
    led = answer(elsewhere, link)
    assert (led.status_code, led.headers["Location"]) == (307, f"https://bucket.example/{asset.key}?for=GET")
    assert led.headers["Cache-Control"] == "no-store"
    assert answer(elsewhere, f"{link}0").status_code == 403
    assert answer(store, link).content == b"12345"


def test_a_hidden_file_is_on_record_and_not_served(settings: Settings, ann: Customer, kept: Kept, db: Db) -> None:
    """Its document has no link; neither a key nor a link that was made before brings it, as a whole or small."""
    asset = kept(drawn(), "image/png", "png")
    before = asset_url(asset.id, settings)
    db.execute("UPDATE asset SET flagged = true, hidden = true WHERE id = %s", [asset.id])
    headers = {"Authorization": f"Bearer {ann.key}"}
    about = ann.http.get(f"/v1/assets/{asset.id}", headers={**headers, "Accept": "application/json"}).json()
    assert (about["url"], about["flagged"], about["hidden"]) == (None, True, True)
    link = urlsplit(before)
    for answer in (
        ann.http.get(f"/v1/assets/{asset.id}", headers=headers),
        ann.http.get(f"/v1/assets/{asset.id}?w=320", headers=headers),
        ann.http.get(f"{link.path}?{link.query}"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:darkroom:problem:hidden-file")
