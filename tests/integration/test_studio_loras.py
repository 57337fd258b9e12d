"""LoRAs in the Studio: pictures brought and judged one by one, a training ordered, its versions shown and tried."""

from __future__ import annotations

import hashlib
import html
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect
from running_gateway import RunningGateway
from shared_gateway import ann as ann
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger as ledger
from shared_gateway import ledger_url as ledger_url
from shared_gateway import visitor as visitor
from studio_browser import OWN, Visitor, browsing, in_a_browser, rest_of, visiting
from support import SLOW
from zip_files import zipped

from darkroom.deployments.studio.lora_parts import sentences
from darkroom.ledger import JobStatus, Ledger, Lora, NewKey, StoredFile
from darkroom.media.store import LocalFolder, MediaStore

WAIT = SLOW * 15_000


def picture(n: int, *, side: int = 320) -> bytes:
    image = Image.new("RGB", (side, side), (40 + n * 53 % 180, 60 + n * 97 % 160, 50 + n * 31 % 190))
    ImageDraw.Draw(image).regular_polygon((side / 2, side / 2, side / 3), 3 + n, fill=(235, 225, 205))
    with BytesIO() as file:
        image.save(file, "JPEG")
        return file.getvalue()


def send(visitor: Visitor, path: str, files: list[tuple[str, bytes]], **given: Any) -> httpx.Response:
    """The form of a training as a browser sends it."""
    parts = [("files", (name, content)) for name, content in files]
    data = {"csrf": visitor.token()} | given
    return visitor.http.post(f"/studio/loras/new{path}", data=data, files=parts or None, headers=OWN)


def brought(page: str) -> list[str]:
    """The hidden fields of the form, as a browser sends them again."""
    return [html.unescape(each.partition('"')[0]) for each in page.split('name="picture" value="')[1:]]


def trained(ledger: Ledger, home: Path, user_id: str, word: str = "mochi_cat", *, ready: bool = True) -> Lora:
    """A LoRA with its samples, as a training leaves it."""
    job = ledger.jobs.post(user_id=user_id, kind="train-lora", parameters={"trigger_word": word, "steps": 1500}).job
    content = picture(len(word), side=640)
    key, digest = f"{job.id}.jpg", hashlib.sha256(content).hexdigest()
    MediaStore(LocalFolder(str(home))).write(key, content)
    file = StoredFile(key=key, sha256=digest, content_type="image/jpeg", bytes=len(content), width=640, height=640)
    grid = ledger.assets.add(job, ref=None, step="grid", n=0, file=file)
    lora = ledger.loras.register(job.id, user_id=user_id, trigger_word=word, weights=grid.id, config=grid.id)
    if ready:
        lora = ledger.loras.ready(lora.id, sample=grid.id)
        notes = ["images.3 looks like images.1.", "images.2 was HEIC."]
        ledger.jobs.finish(job.id, JobStatus.COMPLETED, result={"lora_id": lora.id, "notes": notes})
    return lora


def test_a_training_is_ordered_without_scripts(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """Pictures are brought in parts and stay in the form; the price is told before, and sent twice it is one order."""
    assert "any_word" not in visitor.get("/studio/loras/new").text
    first = send(visitor, "/files", [(f"{n}.jpg", picture(n)) for n in range(3)])
    assert first.status_code == 200 and "3 pictures" in first.text and "4 to 50 pictures" in first.text
    kept = brought(first.text)
    more = send(visitor, "/quote", [("<four>.jpg", picture(3))], picture=kept, trigger_word="mochi_cat", key="once")
    assert "4 pictures" in more.text and "$2.14" in more.text and "&lt;four&gt;.jpg" in more.text
    kept = brought(more.text)
    asset_id = kept[1].partition('"id": "')[2].partition('"')[0]
    given = {"picture": kept, "trigger_word": "mochi_cat", "key": "once", f"caption-{asset_id}": "قطة نائمة"}
    at = [send(visitor, "", [], **given, test_prompts="on the moon\n\nin a hat").headers["Location"] for _ in "ab"]
    assert at[0] == at[1] and at[0].startswith("/studio/jobs/job_")
    job = ledger.jobs.get(at[0].rpartition("/")[2])
    assert job is not None and job.parameters["captions"] == {"1": "قطة نائمة"}
    assert len(job.parameters["images"]) == 4 and job.parameters["test_prompts"] == ["on the moon", "in a hat"]
    assert "Trainings" in visitor.get("/studio/loras").text


def test_a_second_zip_is_refused_with_what_to_do(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """A training takes one; nothing that was brought is passed over without a word."""
    zips = [(f"{each}.zip", zipped(*((f"{each}{n}.jpg", picture(n)) for n in range(4)))) for each in ("cats", "dogs")]
    first = send(visitor, "/files", zips[:1])
    kept = brought(first.text)
    both = send(visitor, "", zips[1:], picture=kept, trigger_word="mochi_cat")
    assert both.status_code == 422 and "<strong>dogs.zip</strong>" in both.text and "takes one zip" in both.text
    assert [json.loads(each)["name"] for each in brought(both.text)] == ["cats.zip"]
    assert ledger.jobs.page(ann.user_id, limit=1) == []


def test_what_is_wrong_is_said_in_sentences() -> None:
    """With what to do about it, once."""
    assert sentences("It has 100 × 100 pixels", "Replace it.") == "It has 100 × 100 pixels. Replace it."
    assert sentences("Too small. Replace it.", "Replace it.") == "Too small. Replace it."


def test_what_is_wrong_is_told_beside_its_picture(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """What cannot be read, what is too small and what is there twice, all at once; nothing that was given is lost."""
    files = [(f"{n}.jpg", picture(n)) for n in range(3)]
    files += [("tiny.jpg", picture(8, side=100)), ("twin.jpg", picture(1)), ("notes.txt", b"no picture")]
    page = send(visitor, "/files", files, style="on", test_prompts="<b>a fox</b>").text
    assert page.count('class="picture bad"') == 2
    assert "100 × 100 pixels" in page and "the same picture as picture 2" in page
    assert "notes.txt" in page and "&lt;b&gt;a fox&lt;/b&gt;" in page
    kept = brought(page)
    refused = send(visitor, "", [], picture=kept, trigger_word="two words")
    assert refused.status_code == 422 and len(brought(refused.text)) == 5 and 'value="two words"' in refused.text
    out = [each.partition('"id": "')[2].partition('"')[0] for each in kept[3:]]
    left = send(visitor, "/files", [("more.jpg", picture(5))], picture=kept, leave_out=out).text
    assert len(brought(left)) == 4 and "picture bad" not in left and "$2.14" in left
    assert ledger.jobs.page(ann.user_id, limit=1) == []


def test_the_older_versions_are_behind_a_link(visitor: Visitor, ledger: Ledger, home: Path, ann: NewKey) -> None:
    """Without scripts, too."""
    made = [trained(ledger, home, ann.user_id).id for _ in range(26)]
    first = visitor.get("/studio/loras").text
    older = rest_of(visitor, first)
    assert [first.count('class="card lora"'), older.count('class="card lora"')] == [24, 2]
    assert all(id in older for id in made[:2])


def test_a_version_is_shown_and_tried(visitor: Visitor, ledger: Ledger, home: Path, ann: NewKey) -> None:
    """With its samples, what was noticed of its pictures, and the other versions of its word."""
    first, second = (trained(ledger, home, ann.user_id) for _ in range(2))
    young = trained(ledger, home, ann.user_id, "owl", ready=False)
    page = visitor.get("/studio/loras").text
    assert page.count("mochi_cat") >= 2 and "Samples are being made" in page
    page = visitor.get(f"/studio/loras/{second.id}").text
    assert "picture 4 looks like picture 2." in page and f"/studio/loras/{first.id}" in page and young.id not in page
    at = f"/studio/loras/{second.id}/try"
    refused = visitor.send(at, prompt="asleep", lora_scale="9")
    assert refused.status_code == 422 and "asleep" in refused.text and 'role="alert"' in refused.text
    led = visitor.send(at, prompt="asleep", lora_scale="0.8").headers["Location"]
    job = ledger.jobs.get(led.rpartition("/")[2])
    assert job is not None and job.parameters == {"prompt": "asleep", "lora": second.id, "lora_scale": 0.8}


def test_nobody_sees_what_is_anothers(gateway: RunningGateway, ledger: Ledger, home: Path, ann: NewKey) -> None:
    """Neither a version nor its samples, and it cannot be tried nor its pictures be trained with."""
    lora = trained(ledger, home, ann.user_id)
    with visiting(gateway, ann.key) as own:
        kept = brought(send(own, "/files", [(f"{n}.jpg", picture(n)) for n in range(4)]).text)
    with visiting(gateway, ledger.users.add("bob", plan="studio").key) as bob:
        assert "mochi_cat" not in bob.get("/studio/loras").text
        assert bob.get(f"/studio/loras/{lora.id}").status_code == 404
        assert bob.send(f"/studio/loras/{lora.id}/try", prompt="asleep").status_code == 404
        page = send(bob, "", [], picture=kept, trigger_word="fox").text
        assert page.count("You have no file of this id") >= 4


# -- in a browser ------------------------------------------------------------------------------------------------------


@in_a_browser
def test_pages_are_for_everybody(
    gateway: RunningGateway,
    chromium: Chromium,
    ledger: Ledger,
    home: Path,
    ann: NewKey,
    tmp_path: Path,
) -> None:
    """No violation of axe-core's, nothing cut off; pictures are brought as they are dropped, and judged by keyboard."""
    names = ["a-very-long-name-" + "x" * 80, "猫", "قطة", "tiny"]
    for n, name in enumerate(names):
        (tmp_path / f"{name}.jpg").write_bytes(picture(n, side=100 if name == "tiny" else 320))
    with browsing(gateway, chromium) as browser:
        page = browser.page
        browser.sign_in(ann.key)
        page.goto(f"{gateway.url}/studio/loras")
        assert browser.flaws("loras-empty") == []
        page.get_by_role("link", name="Train a new one").focus()
        page.keyboard.press("Enter")
        page.locator("input[name=files]").set_input_files([tmp_path / f"{name}.jpg" for name in names])
        expect(page.locator(".picture.bad")).to_contain_text("100 × 100", timeout=WAIT)
        page.locator("input[name=trigger_word]").fill("mochi_cat")
        assert browser.flaws("lora-new") == []
        lora = [trained(ledger, home, ann.user_id, word) for word in ("mochi_cat", "mochi_cat", "ukiyo-9")][1]
        for name, path in {"loras": "", "lora": f"/{lora.id}"}.items():
            page.goto(f"{gateway.url}/studio/loras{path}")
            expect(page.locator("h1")).to_be_visible(timeout=WAIT)
            assert browser.flaws(name) == []
        assert browser.strangers() == [] and browser.complaints == []
