"""Imports on the real stack, from a shop that serves good pictures and bad ones and keeps a book of who came.

All orders at once, each by a user and so in a run of its own. What has to happen in the middle of one, a kill and a
cancel, happens before the tests begin; the shop holds the pictures for as long.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from PIL import Image
from running import Stack, leaves_nothing
from support import wait_until
from web_shop import Answer, Shop, after, content, held, in_turn, open_shop, picture, redirect, status

AT_ONCE = 10  # for each user
FEW, HELD = 6, 14  # pictures that come at once, and that the shop holds
WIDEST = 400
FORMATS = ("JPEG", "PNG", "WEBP")
COLOURS = ((200, 30, 30), (30, 160, 30), (30, 30, 200), (220, 200, 40), (20, 160, 160))
SECRET = "a-signature-nobody-else-should-read"
PATIENCE_SECONDS = 240  # a lost process is missed after 30 s, its fetches a minute later, both by a cron of a minute


@dataclass(frozen=True)
class Scene:
    stack: Stack
    shop: Shop
    orders: dict[str, tuple[str, list[str]]] = field(default_factory=dict)  # case → its job and addresses

    def user(self, case: str) -> str:
        return f"importer, {case}"

    def lay_out(self, case: str, name: str, answer: Answer) -> str:
        return self.shop.lay_out(f"/{case}/{name}", answer)

    def order(self, case: str, urls: list[str]) -> None:
        body = {"urls": urls, "max_width": WIDEST, "product": f"Fox mug, {case}"}
        answer = self.stack.gateway.post("/v1/imports", json=body, headers=self.stack.bearer(self.user(case)))
        assert answer.status_code == 202, answer.text
        self.orders[case] = (answer.json()["job_id"], urls)

    def ended(self, case: str) -> dict[str, Any]:
        return self.stack.ended(self.orders[case][0], user=self.user(case), timeout=PATIENCE_SECONDS)

    def ask(self, case: str, how: str) -> None:
        """For a cancel or a replay."""
        path = f"/v1/jobs/{self.orders[case][0]}/{how}"
        answer = self.stack.gateway.post(path, headers=self.stack.bearer(self.user(case)))
        assert answer.status_code == 202, answer.text

    def visits(self, case: str) -> list[int]:
        """How often each address was asked for."""
        root = self.shop.url("")
        return [self.shop.visited(url.removeprefix(root).partition("#")[0]) for url in self.orders[case][1]]

    def until_held(self, case: str) -> None:
        """What came at once is stored, and all the user's places are taken by pictures that the shop holds."""
        job_id = self.orders[case][0]
        stored = self.stack.ledger.assets.of_job
        wait_until(lambda: len(stored(job_id)) == FEW, timeout=60, every=0.02, what="the first")
        wait_until(lambda: self.shop.inside[case] == AT_ONCE, timeout=8, every=0.02, what=f"ten held, {case}")

    def image(self, asset_id: str) -> Image.Image:
        asset = self.stack.ledger.assets.get(asset_id)
        assert asset is not None
        return Image.open(BytesIO((self.stack.home / "media" / asset.key).read_bytes()))


def coloured(n: int, *, width: int = 800) -> Answer:
    name = FORMATS[n % len(FORMATS)]
    body = picture(name, size=(width, width // 2), colour=COLOURS[n % len(COLOURS)])
    return content(body, f"image/{name.lower()}")


def meeting(others: threading.Barrier, then: Answer) -> Answer:
    """The visitors wait for each other: all of them are there at one moment, or none gets anything."""

    def answer(handler: Any) -> None:
        others.wait(8)
        then(handler)

    return answer


def mixed(scene: Scene, elsewhere: Shop) -> list[str]:
    """Ten that come together, slow ones, one that is given twice, one behind a signature; then the bad ones."""
    others = threading.Barrier(AT_ONCE)
    good = [scene.lay_out("mixed", f"{n}", meeting(others, coloured(n))) for n in range(AT_ONCE)]
    good += [scene.lay_out("mixed", f"slow-{n}", after(0.3, coloured(n))) for n in range(20)]
    good += [scene.lay_out("mixed", "small", coloured(0, width=100)), f"{good[0]}#again"]
    good += [scene.lay_out("mixed", f"signed?signature={SECRET}", coloured(1))]
    good += [scene.lay_out("mixed", "once", in_turn(status(500), coloured(2)))]
    return good + list(bad(scene, elsewhere))


def bad(scene: Scene, elsewhere: Shop) -> dict[str, str]:
    """Addresses and the codes they are refused with."""

    def lay_out(name: str, answer: Answer) -> str:
        return scene.lay_out("mixed", name, answer)

    whole = picture("PNG", size=(300, 300))
    return {
        lay_out("gone", status(404)): "not_found",
        lay_out("kept", status(403)): "not_given",
        lay_out("page", content(b"<html>buy now</html>")): "wrong_type",
        lay_out("inner", redirect("http://169.254.169.254/latest/meta-data/")): "private_address",
        lay_out("elsewhere", redirect(elsewhere.url("/inner"))): "bad_url",
        lay_out("huge", content(b"", Content_Length=str(10**9))): "too_large",
        lay_out("bomb", content(picture("PNG", size=(9000, 9000), mode="1", colour=0))): "too_many_pixels",
        lay_out("loop", redirect("/mixed/loop")): "too_many_redirects",
        lay_out("packed", content(whole, Content_Encoding="gzip")): "packed",
        lay_out("cut", content(whole, Content_Length=str(len(whole) + 9))): "file_unverified",
        lay_out("down", status(503)): "host_failed",
        "http://10.0.0.1/mug.jpg": "private_address",
        "http://localhost:5432/": "bad_url",
        "file:///etc/passwd": "bad_url",
    }


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Shop]:
    """Another server of this machine, which nobody allowed."""
    with open_shop() as other:
        other.lay_out("/inner", content(picture()))
        yield other


@pytest.fixture(scope="module")
def scene(running: Stack, shop: Shop, elsewhere: Shop) -> Iterator[Scene]:
    scene = Scene(stack=running, shop=shop)
    for case in ("killed", "cancelled"):
        go = threading.Event()
        few = [scene.lay_out(case, f"{n}", coloured(n)) for n in range(FEW)]
        scene.order(case, few + [scene.lay_out(case, f"held-{n}", held(go, coloured(n))) for n in range(HELD)])
        scene.until_held(case)
        if case == "killed":
            for process in running.flow_processes(running.flow_run_id(scene.orders[case][0])):
                process.kill()
        else:
            scene.ask(case, "cancel")
        go.set()
    scene.order("mixed", mixed(scene, elsewhere))
    scene.order("partly", [scene.lay_out("partly", f"{n}", coloured(n) if n else status(404)) for n in range(3)])
    scene.order("nothing", [scene.lay_out("nothing", f"{n}", status(404)) for n in range(3)])
    yield scene
    leaves_nothing(running)


def shown(url: str) -> str:
    """Return the address as it stands in a result: without what opens something."""
    return re.sub(r"(?<=\?signature=).*", "…", url)


def test_what_is_good_is_imported_whatever_is_not(scene: Scene, elsewhere: Shop) -> None:
    """Each picture is in the store as wide as it may be, by the place its address had in the order."""
    job = scene.ended("mixed")
    assert job["status"] == "completed", job["error"]
    urls = scene.orders["mixed"][1]
    refused = bad(scene, elsewhere)
    good = [shown(url) for url in urls if url not in refused]
    assert [each["url"] for each in job["result"]["images"]] == good
    assert job["result"]["imported"] == len(job["assets"]) == len(urls) - len(refused) - 1
    for each in job["result"]["images"][:AT_ONCE]:
        n = each["n"] - 1
        with scene.image(each["asset_id"]) as image:
            assert (image.format, image.size) == (FORMATS[n % len(FORMATS)], (WIDEST, WIDEST // 2))
            seen = image.convert("RGB").getpixel((9, 9))
        assert isinstance(seen, tuple)
        assert all(abs(a - b) < 8 for a, b in zip(seen, COLOURS[n % len(COLOURS)], strict=True))
    small = next(each for each in job["result"]["images"] if each["url"].endswith("small"))
    assert scene.image(small["asset_id"]).size == (100, 50)
    assert job["cost_usd"] == 0


def test_what_is_bad_is_listed_with_its_reason(scene: Scene, elsewhere: Shop) -> None:
    """Where it stood in the order, and why; what may pass was tried three times, what is refused was asked once."""
    job = scene.ended("mixed")
    listed = {each["url"]: each["code"] for each in job["result"]["refused"]}
    assert listed == bad(scene, elsewhere)
    urls = scene.orders["mixed"][1]
    assert all(urls[each["n"] - 1] == each["url"] and each["reason"] for each in job["result"]["refused"])
    visits = dict(zip(urls, scene.visits("mixed"), strict=True))
    assert {url: visits[url] for url in listed if "/mixed/" in url} == {
        scene.shop.url(f"/mixed/{name}"): count
        for name, count in {
            **dict.fromkeys(("gone", "kept", "page", "inner", "elsewhere", "huge", "bomb", "packed"), 1),
            **dict.fromkeys(("cut", "down"), 3),
            "loop": 4,
        }.items()
    }
    assert elsewhere.visits == []


def test_ten_of_a_user_are_under_way_at_a_time(scene: Scene) -> None:
    """By the shop's own book: the first ten met each other, and never was there an eleventh."""
    scene.ended("mixed")
    assert scene.shop.most_at_once["mixed"] == AT_ONCE


def test_an_address_is_fetched_once_and_again_only_if_it_failed(scene: Scene) -> None:
    """One given twice is one picture in both places; one that failed in passing comes with its second try."""
    job = scene.ended("mixed")
    by_url = {each["url"]: each["asset_id"] for each in job["result"]["images"]}
    first = scene.orders["mixed"][1][0]
    assert by_url[first] == by_url[f"{first}#again"]
    visits = dict(zip(map(shown, scene.orders["mixed"][1]), scene.visits("mixed"), strict=True))
    assert {visits[url] for url in by_url if not url.endswith("/once")} == {1}
    assert visits[scene.shop.url("/mixed/once")] == 2


def test_prefect_shows_what_came_and_what_did_not(scene: Scene) -> None:
    """A list with its links, and a bar at its end; of an address no query, where signatures are."""
    job = scene.ended("mixed")
    flow_run_id = scene.stack.flow_run_id(job["id"])
    scene.stack.in_state(flow_run_id, "Completed")
    of_run = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}}
    artifacts = scene.stack.prefect.post("/artifacts/filter", json=of_run).json()
    shown = {artifact["type"]: artifact for artifact in artifacts}
    assert shown["progress"]["data"] == 100
    listed = shown["markdown"]["data"]
    assert shown["markdown"]["description"] == "Fox mug, mixed: 33 of 47 pictures imported"
    assert "`private_address`: the address is not on the public internet" in listed
    assert f"127.0.0.1:{scene.shop.port}/mixed/signed`" in listed
    logs = scene.stack.prefect.post("/logs/filter", json={"logs": {"flow_run_id": {"any_": [str(flow_run_id)]}}}).json()
    assert SECRET not in json.dumps([artifacts, logs])
    assert not [log["message"] for log in logs if log["level"] > 20]


def test_a_killed_process_loses_nothing_and_fetches_nothing_twice_that_is_stored(scene: Scene) -> None:
    """What was on its way is fetched again, what was stored is not, what had not begun begins."""
    job = scene.ended("killed")
    assert (job["status"], job["result"]["imported"]) == ("completed", FEW + HELD)
    assert "Recovering" in scene.stack.history(scene.stack.flow_run_id(job["id"]))
    assert scene.visits("killed") == [1] * FEW + [2] * AT_ONCE + [1] * (HELD - AT_ONCE)


def test_a_cancel_ends_it_and_a_replay_brings_what_is_missing(scene: Scene) -> None:
    """What had not begun is not asked for; what was on its way came, and is not fetched again."""
    assert scene.ended("cancelled")["status"] == "cancelled"
    rows = scene.stack.rows(scene.orders["cancelled"][0])
    wait_until(lambda: not scene.shop.inside["cancelled"], timeout=20, every=0.05, what="the last visitor to leave")
    assert scene.visits("cancelled") == [1] * (FEW + AT_ONCE) + [0] * (HELD - AT_ONCE)
    wait_until(
        lambda: all(row.status.terminal for row in scene.stack.rows(rows[0].job_id)), timeout=20, every=0.1, what="ends"
    )
    scene.ask("cancelled", "replay")
    job = scene.ended("cancelled")
    assert (job["status"], job["result"]["imported"]) == ("completed", FEW + HELD)
    assert scene.visits("cancelled") == [1] * (FEW + HELD)


def test_a_completed_import_can_be_replayed_for_what_was_refused(scene: Scene) -> None:
    """Once the shop has it after all; the others are not fetched again."""
    job = scene.ended("partly")
    assert (job["result"]["imported"], [each["n"] for each in job["result"]["refused"]]) == (2, [1])
    scene.lay_out("partly", "0", coloured(0))
    scene.ask("partly", "replay")
    job = scene.ended("partly")
    assert (job["status"], job["result"]["imported"], job["result"]["refused"]) == ("completed", 3, [])
    assert scene.visits("partly") == [2, 1, 1]


def test_an_import_of_which_nothing_came_has_failed(scene: Scene) -> None:
    """It says why, and a replay tries all of it again."""
    job = scene.ended("nothing")
    assert (job["status"], job["error"]["code"]) == ("failed", "nothing_imported")
    assert "3 × not_found" in job["error"]["message"]
    for n in range(3):
        scene.lay_out("nothing", f"{n}", coloured(n))
    scene.ask("nothing", "replay")
    job = scene.ended("nothing")
    assert (job["status"], job["result"]["imported"]) == ("completed", 3)


def test_a_run_from_prefect_imports_too(scene: Scene) -> None:
    """For the operator, where no user is named."""
    stack, url = scene.stack, scene.shop.lay_out("/by-hand/mug.jpg", coloured(0))
    found = stack.prefect.get("/deployments/name/import-images/on-demand").raise_for_status().json()["id"]
    made = stack.prefect.post(f"/deployments/{found}/create_flow_run", json={"parameters": {"urls": [url]}})
    stack.in_state(UUID(made.raise_for_status().json()["id"]), "Completed")
    (job,) = [job for job in stack.ledger.jobs.page("operator", limit=50) if job.kind == "import-images"]
    assert (job.status, job.result and job.result["imported"]) == ("completed", 1)


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"urls": []}, "urls"),
        ({"urls": ["https://shop.example/a.jpg"] * 501}, "urls"),
        ({"urls": ["https://shop.example/" + "a" * 2048]}, "urls.0"),
        ({"urls": [" "]}, "urls.0"),
        ({"urls": ["https://shop.example/" + "ü" * 200] * 500}, "urls"),
        ({"urls": ["https://shop.example/a.jpg"], "max_width": 8}, "max_width"),
        ({"urls": ["https://shop.example/a.jpg"], "quality": 101}, "quality"),
        ({"urls": ["https://shop.example/a.jpg"], "headers": {}}, "headers"),
    ],
)
def test_an_order_that_is_none_is_refused_with_its_field(scene: Scene, body: dict[str, Any], at: str) -> None:
    """And nothing of it is on record."""
    answer = scene.stack.gateway.post("/v1/imports", json=body, headers=scene.stack.bearer("importer of nonsense"))
    assert (answer.status_code, answer.json()["field"]) == (422, at), answer.text
    assert answer.json()["remedy"]
