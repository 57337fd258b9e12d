"""The gallery's pages: found by what made them, compared, deleted, and nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from asset_rows import brought, made
from running_gateway import RunningGateway
from shared_gateway import ann as ann
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger_url as ledger_url
from shared_gateway import store as store
from shared_gateway import visitor as visitor
from studio_browser import Visitor, visiting

from darkroom.ledger import Ledger, NewKey, Scope, new_id
from darkroom.media.store import MediaStore

FLUX, KLING = "fal-ai/flux/dev", "fal-ai/kling-video/v2.5-turbo/pro/text-to-video"
HOSTILE = "<script>alert('a')</script>\"' onload=x"
AT = "/studio/gallery"


def test_an_empty_gallery_says_what_to_do(visitor: Visitor) -> None:
    """And so does a filter that finds nothing."""
    assert "No files yet" in visitor.get(AT).text and "/studio/order" in visitor.get(AT).text
    assert "No file is like that" in visitor.get(f"{AT}?q=fox").text


def test_each_kind_of_file_is_shown_as_what_it_is(
    visitor: Visitor, ledger: Ledger, store: MediaStore, ann: NewKey
) -> None:
    """Pictures small, films and sound to play, 3D as a file; and what a user wrote is text."""
    fox = made(ledger, store, ann, prompt=HOSTILE, model=FLUX, tags=("spring",))
    film = made(ledger, store, ann, prompt="an owl", model=KLING, content_type="video/mp4", size=(640, 360), seconds=5)
    tune = made(ledger, store, ann, prompt="a tune", model="fal-ai/stable-audio", content_type="audio/mpeg", seconds=9)
    mesh = made(ledger, store, ann, prompt="a chair", model="fal-ai/trellis", content_type="model/gltf-binary")
    logo = brought(ledger, store, ann)
    page = visitor.get(AT).text
    assert "<script>alert(" not in page and "&lt;script&gt;alert(" in page
    for shown in ("w=480", "<video", "<audio", ">GLB<", "5.0 s", ">brought<"):
        assert shown in page
    for asset in (fox, film, tune, mesh, logo):
        one = visitor.get(f"{AT}/{asset.id}")
        assert one.status_code == 200 and "Download" in one.text and "<script>alert(" not in one.text
    assert "Make larger" in visitor.get(f"{AT}/{fox.id}").text
    assert "Make larger" not in visitor.get(f"{AT}/{tune.id}").text
    for query, found in {
        "kind=video": film,
        "tag=spring": fox,
        f"model={KLING}": film,
        f"job={mesh.job_id}": mesh,
    }.items():
        filtered = visitor.get(f"{AT}?{query}").text
        assert filtered.count('class="file"') == 1 and found.id in filtered, query


@pytest.mark.parametrize("content_type", ["image/gif", "image/avif", "video/webm"])
def test_what_has_no_small_picture_is_not_asked_for_one(
    visitor: Visitor, ledger: Ledger, store: MediaStore, ann: NewKey, content_type: str
) -> None:
    """On no page: the gateway refuses, and the page would have a broken picture."""
    size, name = (640, 360), f"images/{content_type}"
    asset = made(ledger, store, ann, prompt="an owl", model=KLING, content_type=content_type, size=size, name=name)
    for at in ("/studio/jobs", f"/studio/jobs/{asset.job_id}", AT, f"{AT}/{asset.id}"):
        page = visitor.get(at).text
        assert "an owl" in page and "&amp;w=" not in page, at


def test_the_older_files_are_behind_a_link(visitor: Visitor, ledger: Ledger, store: MediaStore, ann: NewKey) -> None:
    """Without scripts, too; each is shown once, and a page is small."""
    files = [made(ledger, store, ann, prompt=f"fox {n}", model=FLUX) for n in range(50)]
    first = visitor.get(f"{AT}?q=fox")
    link = first.text.partition(f'href="{AT}?q=fox&amp;cursor=')[2].partition('"')[0]
    second = visitor.get(f"{AT}?q=fox&cursor={link}").text
    assert (first.text.count('class="file"'), second.count('class="file"')) == (48, 2)
    assert visitor.get(f"{AT}/rows?q=fox&cursor={link}").text.count('class="file"') == 2
    assert files[0].id in second and files[0].id not in first.text and len(first.content) < 300_000


def test_two_are_compared_with_what_differs(visitor: Visitor, ledger: Ledger, store: MediaStore, ann: NewKey) -> None:
    """Two, and not one or three."""
    fox = made(ledger, store, ann, prompt="a fox at dawn", model=FLUX)
    owl = made(ledger, store, ann, prompt="an owl at dawn", model=FLUX)
    page = visitor.get(f"{AT}/compare?id={fox.id}&id={owl.id}").text
    assert page.count("(differs)") >= 2 and "a fox at dawn" in page and "an owl at dawn" in page
    for query in ("", f"?id={fox.id}", f"?id={fox.id}&id={owl.id}&id={fox.id}"):
        assert "tick two" in visitor.get(f"{AT}/compare{query}").text


def test_a_file_is_deleted_for_good(
    visitor: Visitor, ledger: Ledger, store: MediaStore, home: Path, ann: NewKey
) -> None:
    """Unless a job needs it, which is said."""
    fox = made(ledger, store, ann, prompt="a fox", model=FLUX)
    busy = made(ledger, store, ann, prompt="a hen", model=FLUX, ended=False)
    refused = visitor.send(f"{AT}/{busy.id}/delete")
    assert refused.status_code == 409 and "needs this file" in refused.text
    assert visitor.send(f"{AT}/{fox.id}/delete").headers["Location"] == AT
    assert "The file is deleted." in visitor.get(AT).text and not (home / fox.key).exists()
    assert visitor.get(f"{AT}/{fox.id}").status_code == 404


def test_nobody_sees_anothers_files(
    gateway: RunningGateway, ledger: Ledger, store: MediaStore, ann: NewKey, visitor: Visitor
) -> None:
    """On no page, and nothing comes of trying; a key that only reads is offered no deletion."""
    fox = made(ledger, store, ann, prompt="annes secret", model=FLUX)
    with visiting(gateway, ledger.users.add(new_id("bob_")).key) as bob:
        for path in ("", "/rows", f"?job={fox.job_id}", "?q=secret"):
            assert "annes secret" not in bob.get(f"{AT}{path}").text
        for path in (f"/{fox.id}", f"/compare?id={fox.id}&id={fox.id}"):
            assert bob.get(f"{AT}{path}").status_code == 404
        assert bob.send(f"{AT}/{fox.id}/delete").status_code == 404
        assert bob.get(f"/studio/order/again/{fox.job_id}").status_code == 404
    reader = ledger.users.add(new_id("eve_"), scopes=[Scope.READ])
    own = made(ledger, store, reader, prompt="a fox", model=FLUX)
    with visiting(gateway, reader.key) as eve:
        assert "Delete" not in eve.get(f"{AT}/{own.id}").text
        assert eve.send(f"{AT}/{own.id}/delete").status_code == 403
