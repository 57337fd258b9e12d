"""Batches in the Studio: ordered from a form, looked at as a wall, chosen by forms, clicks and keys."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from ledger_scenes import FAILURE, SUCCESS
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
from studio_browser import OWN, Visitor, browsing, filled_in, in_a_browser, rest_of, visiting
from support import SLOW

from darkroom.batches.winners import parse_winners
from darkroom.deployments.studio.batch_parts import tile
from darkroom.ledger import Job, JobStatus, Ledger, NewKey, StoredFile
from darkroom.media.store import LocalFolder, MediaStore

WAIT = SLOW * 15_000
CSV = "id,prompt\nsku-1,a red mug\nsku-2,a blue mug\nsku-3,a green mug\n"
PROMPTS = ("كوب أحمر على خشب البلوط", "橡木上的红色杯子", "a mug " + "x" * 150, "<script>alert('a')</script>")


@pytest.fixture(scope="module", autouse=True)
def no_slots(ledger: Ledger) -> None:
    """Nothing is granted but by the test."""
    ledger.users.set_account("fal", slots=0)


def ordered(gateway: RunningGateway, key: NewKey, *, rows: int | list[dict[str, str]] = 4, **given: Any) -> str:
    if isinstance(rows, int):
        prompts = [*PROMPTS, *(f"a mug, number {n}" for n in range(len(PROMPTS), rows))][:rows]
        rows = [{"prompt": each} for each in prompts]
    body = {"rows": rows, "defaults": {"model": "openai/gpt-image-2"}} | given
    answer = gateway.http.post("/v1/batches", json=body, headers={"Authorization": f"Bearer {key.key}"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def picture(n: int) -> bytes:
    image = Image.new("RGB", (256, 256), (40 + n * 53 % 180, 60 + n * 97 % 160, 50 + n * 31 % 190))
    ImageDraw.Draw(image).ellipse((60, 60, 196, 196), fill=(235, 225, 205), outline="white", width=4)
    with BytesIO() as file:
        image.save(file, "JPEG")
        return file.getvalue()


def render(ledger: Ledger, home: Path, job: Job, *, bad: bool = False) -> None:
    """Let the row end, with a picture unless it is bad."""
    (row,) = ledger.requests.of_job(job.id)
    ledger.requests.settle(row.ref, FAILURE if bad else SUCCESS, via="poll")
    if bad:
        error = {"code": "content_policy", "class": "permanent", "message": "Flagged.", "step": None, "ref": None}
        ledger.jobs.finish(job.id, JobStatus.FAILED, error=error | {"retryable": False})
        return
    content = picture(job.manifest_row or 0)
    key = f"images/{job.id}.jpg"
    MediaStore(LocalFolder(str(home))).write(key, content)
    digest = hashlib.sha256(content).hexdigest()
    file = StoredFile(key=key, sha256=digest, content_type="image/jpeg", bytes=len(content), width=256, height=256)
    ledger.assets.add(job, ref=row.ref, step="generate", n=0, file=file)
    ledger.jobs.finish(job.id, JobStatus.COMPLETED)


def drafted(gateway: RunningGateway, ledger: Ledger, home: Path, key: NewKey, *, rows: int = 4, bad: int = -1) -> str:
    """A batch of which every draft has come, but that one, and of which a person was asked."""
    batch_id = ordered(gateway, key, rows=rows, metadata={"name": "Mugs for spring"})
    for job in ledger.batches.page(batch_id, limit=rows):
        render(ledger, home, job, bad=job.manifest_row == bad)
    ledger.batches.await_selection(batch_id, patience=None)
    return batch_id


def test_a_batch_is_ordered_from_a_form_with_a_file(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """Or from pasted rows; what both passes would cost is told before, and sent twice it is ordered once."""
    page = visitor.get("/studio/batches/new").text
    assert 'name="manifest"' in page and "openai/gpt-image-2" in page
    given = {"manifest": CSV, "model": "openai/gpt-image-2", "name": "Mugs", "key": "once"}
    quote = visitor.send("/studio/batches/new/quote", **given)
    assert "$0.63" in quote.text and "a blue mug" in quote.text and 'value="Mugs"' in quote.text
    assert ledger.jobs.page(ann.user_id, limit=1) == []
    at = [visitor.send("/studio/batches/new", **given).headers["Location"] for _ in range(2)]
    assert at[0] == at[1] and ">Mugs</h1>" in visitor.get(at[0]).text
    token = visitor.token()
    answer = visitor.http.post(
        "/studio/batches/new", data={"csrf": token}, files={"file": ("m.csv", CSV.encode("utf-16"))}, headers=OWN
    )
    assert answer.status_code == 303, answer.text
    assert "3 rows" in visitor.get("/studio/batches").text


def test_a_batch_is_ordered_again_with_one_change(
    gateway: RunningGateway, visitor: Visitor, ledger: Ledger, ann: NewKey
) -> None:
    """From its own form, filled in as it was ordered, with its rows, tags and what else there was."""
    common = {"metadata": {"name": "Mugs", "shop": 7}, "tags": ["spring", "ربيع"], "answer_within_hours": 2.5}
    first = ordered(gateway, ann, final={"arguments": {"quality": "medium"}}, flagged="hide", **common)
    for page in (f"/studio/jobs/{first}", f"/studio/batches/{first}"):
        assert "Again, with a change" in visitor.get(page).text
    assert visitor.get(f"/studio/order/again/{first}").headers["Location"] == f"/studio/batches/{first}/again"
    filled = filled_in(visitor.get(f"/studio/batches/{first}/again").text, "/studio/batches/new")
    assert [json.loads(line) for line in filled["manifest"].split("\n")] == [{"prompt": each} for each in PROMPTS]
    sent = visitor.send("/studio/batches/new", **filled | {"final_arguments": '{"quality": "high"}'})
    before, job = ledger.jobs.get(first), ledger.jobs.get(sent.headers["Location"].rpartition("/")[2])
    assert before is not None and job is not None
    assert job.parameters == before.parameters | {"final": {"arguments": {"quality": "high"}}}
    assert (job.tags, job.meta) == (["spring", "ربيع"], {"shop": 7, "name": "Mugs"})


def test_rows_that_are_not_shown_are_ordered_again_nevertheless(
    gateway: RunningGateway, visitor: Visitor, ledger: Ledger, ann: NewKey
) -> None:
    """What opens something is in no page; the order names the batch whose rows it has."""
    signed = "https://bucket.example/a.png?X-Amz-Signature=abc"
    rows, defaults = [{"id": "sku-1", "image_url": signed}], {"model": "fal-ai/esrgan"}
    first = ordered(gateway, ann, rows=rows, defaults=defaults)
    page = visitor.get(f"/studio/batches/{first}/again").text
    filled = filled_in(page, "/studio/batches/new")
    assert "Signature=abc" not in page and "the rows of the batch before it (1)" in page and not filled["manifest"]
    at = visitor.send("/studio/batches/new", **filled | {"name": "Once more"}).headers["Location"]
    (row,) = ledger.batches.rows(at.rpartition("/")[2])
    assert (row.name, row.picture) == ("sku-1", {"model": "fal-ai/esrgan", "arguments": {"image_url": signed}})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"manifest": "id,prompt\na,\nb,a mug\nb,a cup\n"}, ("line 2", "line 4")),
        ({"manifest": CSV, "defaults": "{"}, ("it is no JSON object",)),
        ({"manifest": CSV, "model": "nobody/nothing-such"}, ("model",)),
        ({"manifest": ""}, ("it is empty",)),
        ({"manifest": CSV, "max_usd": "0.01"}, ("more than $0.01",)),
    ],
)
def test_what_is_wrong_is_told_by_line_and_nothing_typed_is_lost(
    visitor: Visitor, ledger: Ledger, ann: NewKey, given: dict[str, str], said: tuple[str, ...]
) -> None:
    """By the API's words, above the form as it was filled in."""
    answer = visitor.send("/studio/batches/new", **given, name="My <mugs>")
    assert answer.status_code == 422 and 'role="alert"' in answer.text
    assert all(each in answer.text for each in said), answer.text
    assert "My &lt;mugs&gt;" in answer.text and all(line in answer.text for line in given["manifest"].split("\n"))
    assert ledger.jobs.page(ann.user_id, limit=1) == []


def test_a_file_that_is_no_text_is_told(visitor: Visitor) -> None:
    """With what to save it as."""
    files = {"file": ("m.xlsx", b"PK\x03\x04 and more")}
    data = {"csrf": visitor.token(), "name": "Mugs"}
    answer = visitor.http.post("/studio/batches/new", data=data, files=files, headers=OWN)
    assert answer.status_code == 422 and "CSV UTF-8" in answer.text and 'value="Mugs"' in answer.text


def test_the_older_batches_are_behind_a_link(gateway: RunningGateway, visitor: Visitor, ann: NewKey) -> None:
    """Without scripts, too."""
    batches = [ordered(gateway, ann, rows=1, metadata={"name": f"Mug {n}"}) for n in range(14)]
    first = visitor.get("/studio/batches").text
    older = rest_of(visitor, first)
    assert [first.count('class="row"'), older.count('class="row"')] == [12, 2]
    assert all(id in older for id in batches[:2]) and "New batch" in older


def test_winners_are_chosen_without_scripts(
    gateway: RunningGateway, visitor: Visitor, ledger: Ledger, home: Path, ann: NewKey
) -> None:
    """Ticks and numbers become the choice; its price is told before, and what was refused stays to be corrected."""
    batch_id = drafted(gateway, ledger, home, ann, bad=3)
    at = f"/studio/batches/{batch_id}"
    page = visitor.get(at).text
    assert page.count('type="checkbox"') == 3 and "content policy" in page and "&amp;w=320" in page
    priced = visitor.send(f"{at}/choice", row="2", numbers="1")
    assert "$0.38" in priced.text and priced.text.count('checked="" ') + priced.text.count(" checked>") == 2
    wrong = visitor.send(f"{at}/selection", numbers="1, 4")
    assert wrong.status_code == 422 and "as it failed: 4" in wrong.text and 'value="4"' in wrong.text
    assert visitor.send(f"{at}/selection", numbers="").status_code == 422
    for text, chosen in {"all": 3, "all but 2": 2}.items():
        again = filled_in(visitor.send(f"{at}/choice", numbers=text).text, f"{at}/selection")
        assert f"<strong>{chosen}</strong> chosen" in visitor.send(f"{at}/selection/quote", **again).text
    assert visitor.send(f"{at}/selection", row="3").headers["Location"] == at
    batch = ledger.batches.get(batch_id)
    assert batch is not None and batch.winners == [2]
    assert visitor.get(f"{at}/head?phase=choice").headers["HX-Refresh"] == "true"
    assert 'type="checkbox"' not in visitor.get(at).text


def test_rows_that_have_ended_take_the_place_of_their_tiles(
    gateway: RunningGateway, visitor: Visitor, ledger: Ledger, home: Path, ann: NewKey
) -> None:
    """Those alone that have ended since; a page of a wall goes on where the one before ended."""
    batch_id = ordered(gateway, ann, rows=203)
    at = f"/studio/batches/{batch_id}"
    render(ledger, home, ledger.batches.page(batch_id, limit=2)[1])
    fresh = visitor.get(f"{at}/fresh?stage=draft&since=2020-01-01T00:00:00Z").text
    assert fresh.count("<li") == 1 and 'id="draft-2"' in fresh and 'hx-swap-oob="true"' in fresh
    assert visitor.get(f"{at}/fresh?stage=draft&since=2120-01-01T00:00:00Z").text.count("<li") == 0
    first, rest = visitor.get(at).text, visitor.get(f"{at}/wall?stage=draft&choice=1&cursor=draft-199").text
    assert len(first) < 300_000 and first.count('class="tile ') == 200 and rest.count('class="tile ') == 3
    kept = visitor.send(f"{at}/choice", cursor="draft-199", row="2").text
    assert 'name="numbers" value="2"' in kept and 'id="draft-203"' in kept


@pytest.mark.parametrize(
    ("content_type", "is_seen"),
    [("image/png", True), ("video/mp4", True), ("image/gif", False), ("audio/mpeg", False), (None, False)],
)
def test_a_wall_shows_films_and_names_what_cannot_be_seen(content_type: str | None, is_seen: bool) -> None:
    """By their first picture; sound, 3D and text by what was ordered."""
    url = "https://gateway.example/v1/assets/ast_1?s=1"
    preview = content_type and {"url": url, "content_type": content_type, "width": 640}
    row = {"number": 7, "status": "completed", "stage": "draft", "id": "job_1", "kind": "run-model"}
    shown = str(tile(row | {"order": {"input": {"text": "a fox"}}, "preview": preview}, chosen=None))
    assert ("<img" in shown, "tile-text" in shown) == (is_seen, not is_seen)
    assert "7: a fox" in shown


def test_a_batch_is_paused_goes_on_and_is_cancelled(gateway: RunningGateway, visitor: Visitor, ann: NewKey) -> None:
    """Each says so on the page."""
    at = f"/studio/batches/{ordered(gateway, ann)}"
    for action, said in {"pause": "It is paused", "resume": "It goes on.", "cancel": "It is being cancelled"}.items():
        assert visitor.send(f"{at}/{action}").headers["Location"] == at
        assert said in visitor.get(at).text


def test_what_remains_of_a_batch_can_be_downloaded(
    gateway: RunningGateway, visitor: Visitor, ledger: Ledger, home: Path, ann: NewKey
) -> None:
    """The audit trail, by links that need no key."""
    batch_id = drafted(gateway, ledger, home, ann)
    MediaStore(LocalFolder(str(home))).write("audit.csv", b"row,step\n")
    file = StoredFile(key="audit.csv", sha256="0" * 64, content_type="text/csv", bytes=9)
    job = ledger.jobs.get(batch_id)
    assert job is not None
    trail = ledger.assets.add(job, ref=None, step="audit-1", n=0, file=file)
    result = {"audit": {"csv": trail.id, "json_lines": "ast_gone"}, "contact_sheet": [], "saved_usd": 0.42}
    ledger.jobs.finish(batch_id, JobStatus.COMPLETED, result=result)
    page = visitor.get(f"/studio/batches/{batch_id}").text
    assert "$0.42" in page and "JSON lines" not in page
    href = page.partition("Audit trail (CSV)")[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
    assert visitor.http.get(href).content == b"row,step\n"


def test_nobody_sees_what_is_anothers(gateway: RunningGateway, ledger: Ledger, home: Path, ann: NewKey) -> None:
    """Neither a tile nor a price, and nothing comes of trying; what a user wrote is text."""
    batch_id = drafted(gateway, ledger, home, ann)
    at = f"/studio/batches/{batch_id}"
    with visiting(gateway, ann.key) as own:
        page = own.get(at).text
        assert "&lt;script&gt;alert(" in page and "<script>alert(" not in page
    with visiting(gateway, ledger.users.add("bob").key) as bob:
        assert "Mugs for spring" not in bob.get("/studio/batches").text
        for path in ("", "/head", "/wall?stage=draft", "/fresh?stage=draft&since=2020-01-01T00:00:00Z"):
            assert bob.get(at + path).status_code == 404
        assert bob.get(f"/studio/batches/rows/{batch_id}").status_code == 404
        for action in ("selection", "choice", "pause", "resume", "cancel", "replay"):
            assert bob.send(f"{at}/{action}", numbers="1").status_code == 404
        assert "$" not in bob.send(f"{at}/selection/quote", numbers="1").text
    batch = ledger.batches.get(batch_id)
    assert batch is not None and (batch.winners, batch.paused_at) == (None, None)


# -- in a browser ------------------------------------------------------------------------------------------------------


@in_a_browser
def test_pages_are_for_everybody(
    gateway: RunningGateway,
    chromium: Chromium,
    ledger: Ledger,
    home: Path,
    ann: NewKey,
) -> None:
    """No violation of axe-core's, nothing cut off, no complaint of the browser, and nothing asked of another host."""
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        browser.page.goto(f"{gateway.url}/studio/batches")
        assert browser.flaws("batches-empty") == []
        batch_id = drafted(gateway, ledger, home, ann, rows=24, bad=5)
        for name in ("", "/new", f"/{batch_id}"):
            browser.page.goto(f"{gateway.url}/studio/batches{name}")
            expect(browser.page.locator("h1")).to_be_visible(timeout=WAIT)
            if name.startswith("/bat") or name == f"/{batch_id}":
                browser.page.locator("#draft-3 label").click()
                expect(browser.page.locator("#quote")).to_contain_text("$0.19", timeout=WAIT)
            assert browser.flaws(f"batches{name.replace(batch_id, 'one').replace('/', '-')}") == []
        assert browser.strangers() == [] and browser.complaints == []


@in_a_browser
def test_winners_are_chosen_by_keys_and_clicks(
    gateway: RunningGateway, chromium: Chromium, ledger: Ledger, home: Path, ann: NewKey
) -> None:
    """Arrows move, space toggles, shift takes ranges, a and n all and none; the price follows."""
    batch_id = drafted(gateway, ledger, home, ann, rows=12, bad=2)
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page, press = browser.page, browser.page.keyboard.press
        page.goto(f"{gateway.url}/studio/batches/{batch_id}")
        numbers = page.locator("#numbers")
        page.locator("#draft-1 input").focus()
        press("Space")
        expect(numbers).to_have_value("1")
        press("ArrowRight")
        press("ArrowRight")  # past the one that failed
        expect(page.locator("#draft-4 input")).to_be_focused()
        press("Shift+ArrowRight")
        expect(numbers).to_have_value("1, 4-5")
        expect(page.locator("#quote")).to_contain_text("$0.57", timeout=WAIT)
        press("a")
        expect(numbers).to_have_value("all")
        page.locator("#draft-8 label").click()
        expect(numbers).to_have_value("all but 8")
        expect(page.locator("#quote")).to_contain_text("10 chosen", timeout=WAIT)  # and neither the one that failed
        press("n")
        expect(numbers).to_have_value("")
        page.locator("#draft-7 label").click()
        page.locator("#draft-9 label").click(modifiers=["Shift"])
        expect(numbers).to_have_value("7-9")
        page.locator("#draft-8 label").click()
        expect(numbers).to_have_value("7, 9")
        numbers.fill("2, 11-12")
        expect(page.locator("#draft-12 input")).to_be_checked()
        page.locator("#confirm button").focus()
        press("Enter")
        expect(page.locator(".toast")).to_contain_text("Chosen", timeout=WAIT)
        expect(page.locator(".winner .chosen-mark:visible")).to_have_count(3)
        assert browser.violations() == []
        page.locator("#draft-2 .tile-again").click()
        expect(page.get_by_label("Prompt (required)")).to_have_value(PROMPTS[1], timeout=WAIT)
        assert browser.complaints == []
    batch = ledger.batches.get(batch_id)
    assert batch is not None and batch.winners == [1, 10, 11]


@in_a_browser
def test_a_text_is_ticked_as_the_api_reads_it(
    gateway: RunningGateway, chromium: Chromium, ledger: Ledger, home: Path, ann: NewKey
) -> None:
    """With every dash of keyboards and word processors; the next click writes it again as it was meant."""
    batch_id = drafted(gateway, ledger, home, ann, rows=12, bad=2)
    texts = [
        "2, 4 - 6",
        "4\u20105;7\u2011 8 10 \u2012 11",
        "4\u20136 8 \u2014 9",
        "ALL",
        "all but 5 \u2013 12",
        "none",
        "04",
    ]
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page = browser.page
        page.goto(f"{gateway.url}/studio/batches/{batch_id}")
        ticked = dict[str, list[int]]()
        for text in texts:
            page.locator("#numbers").fill(text)
            found = page.evaluate("[...document.querySelectorAll('.wall input:checked')].map((box) => box.value - 1)")
            ticked[text] = found
        page.locator("#numbers").fill("4 \u2013 6")
        page.locator("#draft-12 label").click()
        expect(page.locator("#numbers")).to_have_value("4-6, 12")
        assert browser.complaints == []
    assert ticked == {text: list(parse_winners(text, rows=12, failed=[2])) for text in texts}


@in_a_browser
def test_the_wall_fills_as_drafts_come(
    gateway: RunningGateway, chromium: Chromium, ledger: Ledger, home: Path, ann: NewKey
) -> None:
    """By the batch's news, without asking; what is chosen meanwhile stays, and in the end it can be sent."""
    batch_id = ordered(gateway, ann, rows=6)
    rows = ledger.batches.page(batch_id, limit=6)
    with browsing(gateway, chromium) as browser:
        browser.sign_in(ann.key)
        page = browser.page
        page.goto(f"{gateway.url}/studio/batches/{batch_id}")
        expect(page.locator("body[data-live=yes]")).to_be_attached(timeout=WAIT)
        render(ledger, home, rows[0])
        ledger.jobs.progress(batch_id, 10, "1 of 6 drafts")
        page.locator("#draft-1 label").click(timeout=WAIT)
        for each in rows[1:]:
            render(ledger, home, each)
        ledger.batches.await_selection(batch_id, patience=None)
        expect(page.locator(".tile.completed")).to_have_count(6, timeout=WAIT)
        expect(page.locator("#draft-1 input")).to_be_checked()
        expect(page.locator("#confirm button")).to_be_enabled(timeout=WAIT)
        expect(page.locator("#state")).to_have_text("choose the winners")
        assert browser.complaints == []
