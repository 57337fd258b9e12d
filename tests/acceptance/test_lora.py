"""A LoRA from order to picture: killed on its way, failed, cancelled.

Most cases are ordered at once, each by a user and so with a run of its own, and told apart at the provider by their
trigger words. Where a process is to be killed it is held first, by a picture that is held at the provider or in a shop.
That it may die at any other point is shown without processes, in `tests/integration/test_dying_orders.py`.
"""

from __future__ import annotations

import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from PIL import Image, ImageDraw
from running import Stack, leaves_nothing
from support import wait_until
from web_shop import Answer, Shop, content, status

from darkroom.ledger import RequestStatus

TRAINER, PAINTER = "fal-ai/flux-lora-fast-training", "fal-ai/flux-lora"
SECONDS_OF_A_TRAINING = 12  # of the one that is looked at
SECONDS_TO_A_POINT = 240
pytestmark = pytest.mark.timeout(1800)  # all the cases together are what the first test waits for
IN_FLIGHT = RequestStatus.IN_FLIGHT

KILLED = "killed"  # twice: while it fetches its pictures, which the shop holds, and while it paints the last one
POINTS = ("fetching", "painting-the-last")
# Case → what the provider does.
HELD: dict[str, list[dict[str, Any]]] = {
    KILLED: [{"endpoint": PAINTER, "hold": True, "match": "watercolour"}],
    "cancelled": [{"endpoint": TRAINER, "hold": True}],
}
FAILED: dict[str, list[dict[str, Any]]] = {
    "bad-pictures": [],
    "picture-rejected": [{"endpoint": PAINTER, "result": "422_content_policy", "match": "quiet street"}],
}
ENDS = "SELECT event FROM notification WHERE job_id = %s AND event IN ('job.completed', 'job.failed', 'job.cancelled')"
CASES = (*HELD, *FAILED, "normal")


@cache
def pictures(count: int = 4, *, size: int = 320) -> list[bytes]:
    """Each with a disc at a place of its own, all in warm colours."""
    made = []
    for number in range(count):
        image = Image.effect_noise((size, size), 20).convert("RGB")
        left = 20 + 50 * number
        ImageDraw.Draw(image).ellipse((left, 30, left + 110, 260), fill=(220, 90 + 20 * number, 30))
        out = BytesIO()
        image.save(out, "JPEG")
        made.append(out.getvalue())
    return made


@dataclass(frozen=True)
class Failed:
    """What there was of a failed job at its end: tests go on with it."""

    job: dict[str, Any]
    stored: set[str]  # steps
    paid: Counter[str]


@dataclass
class Studio:
    stack: Stack
    shop: Shop
    jobs: dict[str, str] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    progress: list[dict[str, Any] | None] = field(default_factory=list)
    slept: bool = False  # the one that is held while it trains, without a process
    failed: dict[str, Failed] = field(default_factory=dict)

    def user(self, case: str) -> str:
        return f"trainer of {case}"

    def word(self, case: str) -> str:
        return f"{case}-word"

    def upload(self, case: str, picture: bytes, kind: str = "image/jpeg") -> str:
        headers = self.stack.bearer(self.user(case)) | {"Content-Type": kind}
        answer = self.stack.gateway.post("/v1/uploads", content=picture, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def order(self, case: str, **changes: Any) -> None:
        given = {} if "images" in changes or "archive" in changes else {"images": self.uploads(case)}
        body = {"trigger_word": self.word(case), "steps": 500} | given | changes
        answer = self.stack.gateway.post("/v1/loras", json=body, headers=self.stack.bearer(self.user(case)))
        assert answer.status_code == 202, answer.text
        assert answer.json()["estimate_usd"] == 2.14
        self.jobs[case] = answer.json()["job_id"]

    def uploads(self, case: str) -> list[str]:
        return [self.upload(case, picture) for picture in pictures()]

    def misbehave(self, case: str, rule: dict[str, Any]) -> None:
        """For this case's calls alone; `match`: words of the prompt that follow on the trigger word."""
        word = self.word(case)
        match = {"watercolour": f"{word}, watercolour", "quiet street": f"{word} in a quiet street"}
        self.stack.simulator.post(
            "/_sim/rules", json=rule | {"match": match.get(rule.get("match", ""), word)}
        ).raise_for_status()

    def ended(self, case: str, *, timeout: float = 150) -> dict[str, Any]:
        return self.stack.ended(self.jobs[case], user=self.user(case), timeout=timeout)

    def ask(self, case: str, method: str, path: str, **sent: Any) -> httpx.Response:
        return self.stack.gateway.request(method, path, headers=self.stack.bearer(self.user(case)), **sent)

    def loras(self, case: str) -> list[dict[str, Any]]:
        return list(self.ask(case, "GET", "/v1/loras").json()["items"])

    def paid(self, case: str) -> Counter[str]:
        """The provider's own count."""
        return Counter(request["endpoint"] for request in self.stack.at_provider(self.word(case)))

    def statuses(self, case: str, step: str) -> list[RequestStatus]:
        return [row.status for row in self.stack.rows(self.jobs[case]) if row.step.startswith(step)]

    def steps_stored(self, case: str) -> set[str]:
        return {asset.step for asset in self.stack.ledger.assets.of_job(self.jobs[case])}

    def processes(self, case: str) -> list[psutil.Process]:
        return self.stack.flow_processes(self.stack.flow_run_id(self.jobs[case]))

    def completed(self, case: str) -> dict[str, Any]:
        job = self.ended(case)
        assert job["status"] == "completed", job["error"]
        return job

    def lora(self, case: str) -> dict[str, Any]:
        (lora,) = self.loras(case)
        assert lora["status"] == "ready"
        return lora

    def asset(self, case: str, step: str) -> str:
        (asset,) = [each for each in self.stack.ledger.assets.of_job(self.jobs[case]) if each.step == step]
        return asset.id

    def content(self, case: str, step: str) -> bytes:
        answer = self.ask(case, "GET", f"/v1/assets/{self.asset(case, step)}")
        return answer.raise_for_status().content

    def look_at(self, case: str) -> None:
        """What a user sees of it just now."""
        self.progress.append(self.stack.job(self.jobs[case], user=self.user(case))["progress"])

    def sleeps(self, case: str) -> bool:
        run = self.stack.flow_run(self.stack.flow_run_id(self.jobs[case]))
        return run["state_name"] == "Suspended" and not self.processes(case)

    def is_at(self, point: str) -> bool:
        """Whether the run that is killed has come to that point."""
        if point == "fetching":
            return self.shop.inside[KILLED] > 0 and bool(self.processes(KILLED))
        return {"test-1", "test-2", "test-3"} <= self.steps_stored(KILLED)


def from_the_shop(studio: Studio) -> dict[str, Any]:
    """Four pictures that come only when the gate opens."""
    given = [studio.shop.lay_out(f"/{KILLED}/{n}.jpg", held_back(studio, p)) for n, p in enumerate(pictures())]
    return {"images": given, "captions": {"0": "asleep on a sofa"}}


def bad_pictures(studio: Studio) -> dict[str, Any]:
    """Those of the web, which only the run fetches. What is wrong with an upload refuses the order itself."""
    case = "bad-pictures"
    small, twice = pictures(1, size=200)[0], pictures()[2]
    web = [studio.shop.lay_out(f"/{case}/{n}.jpg", content(each)) for n, each in enumerate((small, twice, twice))]
    gone = studio.shop.lay_out(f"/{case}/gone.jpg", status(404))
    return {"images": [*studio.uploads(case), *web, gone, "http://10.0.0.1/private.jpg"]}


GIVEN = {KILLED: from_the_shop, "bad-pictures": bad_pictures}


def zipped() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number, picture in enumerate(pictures()):
            archive.writestr(f"mochi/{number}.jpg", picture)
        archive.writestr("mochi/1.txt", "in the garden")
        archive.writestr("__MACOSX/mochi/._1.txt", "resource fork")
    return out.getvalue()


def held_back(studio: Studio, picture: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        studio.gate.wait(60)
        content(picture)(handler)

    return answer


@pytest.fixture(scope="module")
def studio(running: Stack, shop: Shop) -> Iterator[Studio]:
    running.ledger.users.set_account("fal", slots=40)
    studio = Studio(stack=running, shop=shop)
    for case in (*CASES, "stranger"):
        running.keys[studio.user(case)] = running.ledger.users.add(studio.user(case), plan="studio").key
    order_all(studio)
    kill_at_each_point(studio)
    let_go(studio)
    bring_back(studio)
    train_in_peace(studio)
    yield studio
    leaves_nothing(running)
    running.ledger.users.set_account("fal", slots=10)


def order_all(studio: Studio) -> None:
    for case, rules in (HELD | FAILED).items():
        for rule in rules:
            studio.misbehave(case, rule)
        studio.order(case, **GIVEN.get(case, lambda _: {})(studio))


def kill_at_each_point(studio: Studio) -> None:
    for point in POINTS:  # where it waits for the provider it is asleep two seconds later
        wait_until(lambda point=point: studio.is_at(point), timeout=SECONDS_TO_A_POINT, every=0.05, what=point)
        flow_run_id = studio.stack.flow_run_id(studio.jobs[KILLED])
        studio.stack.kill_run(flow_run_id)
        studio.gate.set()


def let_go(studio: Studio) -> None:
    """What held them is out of the way; one is cancelled before."""
    cancel(studio)
    for case in HELD:
        studio.stack.release(studio.word(case))


def cancel(studio: Studio) -> None:
    """While it trains, and sleeps. The provider hears of it, and trains on, as most models do."""
    wait_until(lambda: studio.statuses("cancelled", "train") == [IN_FLIGHT], timeout=60, every=0.1, what="the training")
    studio.slept = wait_until(lambda: studio.sleeps("cancelled"), timeout=60, every=0.1, what="its run to sleep")
    studio.ask("cancelled", "POST", f"/v1/jobs/{studio.jobs['cancelled']}/cancel").raise_for_status()

    def heard() -> bool:
        return any(request["cancel_requested"] for request in studio.stack.at_provider(studio.word("cancelled")))

    wait_until(heard, timeout=90, every=0.2, what="the cancel at the provider")


def bring_back(studio: Studio) -> None:
    """Until all have ended: what was lost is found by reconcile."""

    def ended() -> bool:
        return all(map(studio.stack.has_ended, studio.jobs.values()))

    wait_until(ended, timeout=240, every=0.5, what="the end of every training")
    studio.failed = {case: Failed(studio.ended(case), studio.steps_stored(case), studio.paid(case)) for case in FAILED}


def train_in_peace(studio: Studio) -> None:
    """With a look at it after each turn of reconcile while it trains."""
    studio.misbehave("normal", {"endpoint": TRAINER, "latency": SECONDS_OF_A_TRAINING})
    address = studio.shop.lay_out("/zipped/mochi.zip", content(zipped(), "application/zip"))
    studio.order("normal", archive=address, captions={"2.jpg": "in the rain"})
    wait_until(lambda: studio.statuses("normal", "train") == [IN_FLIGHT], timeout=60, every=0.1, what="the training")

    def has_trained() -> bool:
        studio.stack.reconcile()
        studio.look_at("normal")
        return studio.statuses("normal", "train") != [IN_FLIGHT]

    wait_until(has_trained, timeout=120, every=1.5, what="the end of the training")
    studio.ended("normal")


def test_a_training_comes_to_weights_test_pictures_and_a_version(studio: Studio) -> None:
    """All of it in the media store; the trainer got one archive, which will not lie about for ever."""
    job = studio.completed("normal")
    assert job["cost_usd"] == 2.14
    lora = studio.lora("normal")
    assert job["result"]["lora_id"] == lora["id"]
    assert (job["result"]["trigger_word"], job["result"]["version"]) == (studio.word("normal"), 1)
    (training,) = [row for row in studio.stack.at_provider(studio.word("normal")) if row["endpoint"] == TRAINER]
    (archive,) = studio.stack.simulator.get("/_sim/uploads", params={"match": studio.asset("normal", "check")}).json()
    assert training["input"]["images_data_url"] == archive["url"]
    assert 0 < archive["lifetime_seconds"] <= 6 * 3600
    with Image.open(BytesIO(studio.content("normal", "grid"))) as grid:
        assert grid.size > (1024, 1024)


def test_the_user_is_told_once(studio: Studio) -> None:
    """One piece of news, also where the run was killed on the way."""
    with psycopg.connect(studio.stack.environment["DARKROOM_LEDGER_URL"]) as connection:
        for case in ("normal", KILLED):
            studio.completed(case)
            job_id = studio.jobs[case]
            news = connection.execute(ENDS, [job_id]).fetchall()
            assert news == [("job.completed",)]


def test_while_it_trains_no_process_waits_and_its_progress_is_told(studio: Studio) -> None:
    """Read by reconcile from the trainer's log: on the job, and as a bar in Prefect's UI."""
    steps = [progress for progress in studio.progress if progress and "step" in progress["text"]]
    assert steps and all("of 500" in progress["text"] for progress in steps)
    assert [progress["percent"] for progress in steps] == sorted(progress["percent"] for progress in steps)
    assert any(0 < progress["percent"] < 100 for progress in steps)
    assert studio.slept
    of_run = {"any_": [str(studio.stack.flow_run_id(studio.jobs["normal"]))]}
    wanted = {"artifacts": {"key": {"any_": ["progress"]}, "flow_run_id": of_run}}
    found = studio.stack.prefect.post("/artifacts/filter", json=wanted).raise_for_status().json()
    assert found and found[0]["type"] == "progress"


def test_the_price_is_shown_before_it_is_paid(studio: Studio) -> None:
    """Among the run's artifacts, earlier than the training's submit, and in its log."""
    flow_run_id = studio.stack.flow_run_id(studio.jobs["normal"])
    wanted = {"artifacts": {"key": {"any_": ["price"]}, "flow_run_id": {"any_": [str(flow_run_id)]}}}
    prices = studio.stack.prefect.post("/artifacts/filter", json=wanted).raise_for_status().json()
    assert all("$2.14" in price["data"] for price in prices)
    (submitted,) = [row["submitted_at"] for row in studio.completed("normal")["requests"] if row["step"] == "train"]
    assert min(price["created"] for price in prices) < submitted
    logs = {"logs": {"flow_run_id": {"any_": [str(flow_run_id)]}}}
    said = [line["message"] for line in studio.stack.prefect.post("/logs/filter", json=logs).json()]
    assert "4 pictures are good; it will cost about $2.14" in said


def test_a_run_that_is_killed_between_two_nodes_goes_on_and_pays_nothing_twice(studio: Studio) -> None:
    """By the provider's own count: one training, four pictures. And the version is counted once."""
    studio.completed(KILLED)
    assert studio.paid(KILLED) == {TRAINER: 1, PAINTER: 4}
    history = studio.stack.history(studio.stack.flow_run_id(studio.jobs[KILLED]))
    assert history.count("Recovering") >= len(POINTS)
    assert [(lora["version"], lora["status"]) for lora in studio.loras(KILLED)] == [(1, "ready")]


def test_a_picture_is_sent_with_the_caption_of_its_place_in_the_order(studio: Studio) -> None:
    """In the one archive that the trainer gets, whatever was killed meanwhile."""
    studio.completed(KILLED)
    with zipfile.ZipFile(BytesIO(studio.content(KILLED, "check"))) as sent:
        assert sent.namelist()[:2] == ["001.jpg", "001.txt"]
        assert sent.read("001.txt").decode() == f"{studio.word(KILLED)}, asleep on a sofa"


def test_a_zip_is_as_good_as_its_pictures(studio: Studio) -> None:
    """With its captions, and those of the order; where some have one the others get the trigger word."""
    case = "normal"
    job = studio.completed(case)
    assert job["result"]["notes"] == ["__MACOSX/mochi/._1.txt was passed over."]
    with zipfile.ZipFile(BytesIO(studio.content(case, "check"))) as sent:
        captions = {name: sent.read(name).decode() for name in sent.namelist() if name.endswith(".txt")}
    word = studio.word(case)
    assert captions == {
        "001.txt": word,
        "002.txt": f"{word}, in the garden",
        "003.txt": f"{word}, in the rain",
        "004.txt": word,
    }


def test_every_bad_picture_is_named_and_nothing_is_paid(studio: Studio) -> None:
    """With its place in the order and the reason, in one error."""
    job = studio.ended("bad-pictures")
    assert (job["status"], job["error"]["step"], job["error"]["code"]) == ("failed", "check", "bad_files")
    message = job["error"]["message"]
    assert "4 files cannot be used" in message
    for reason in (
        "images.4 has 200 × 200 pixels",
        "images.6 is the same picture as images.5",
        "images.7 cannot be had: there is no such file",
        "images.8 cannot be had",
    ):
        assert reason in message
    assert studio.paid("bad-pictures") == {}
    assert studio.loras("bad-pictures") == []


def test_a_training_whose_test_picture_failed_is_there_and_a_replay_makes_that_picture_alone(studio: Studio) -> None:
    """By its id it can be used at once; after the replay by its word. What came before it and beside it was kept."""
    case = "picture-rejected"
    failed = studio.failed[case]
    assert (failed.job["status"], failed.job["error"]["step"]) == ("failed", "test-3")
    assert failed.job["error"]["message"] and studio.word(case) not in failed.job["error"]["message"]
    assert failed.stored == {"check", "train", "test-1", "test-2", "test-4"}
    assert failed.paid == {TRAINER: 1, PAINTER: 4}
    lora = studio.loras(case)[0]
    assert (lora["status"], lora["sample_asset_id"]) == ("trained", None)
    studio.stack.simulator.delete("/_sim/rules")
    studio.ask(case, "POST", f"/v1/jobs/{studio.jobs[case]}/replay").raise_for_status()
    studio.completed(case)
    assert studio.paid(case) == {TRAINER: 1, PAINTER: 5}
    assert studio.lora(case)["id"] == lora["id"]


def test_a_cancelled_training_is_cancelled_at_the_provider_and_what_it_comes_to_is_kept(studio: Studio) -> None:
    """It was paid: its weights are stored, and are the user's by their id. No picture is made any more."""
    job = studio.ended("cancelled")
    assert job["status"] == "cancelled"
    assert studio.paid("cancelled") == {TRAINER: 1}
    assert [lora["status"] for lora in studio.loras("cancelled")] == ["trained"]


def test_a_lora_is_used_in_a_picture_and_its_weights_are_brought_once(studio: Studio) -> None:
    """The copy that its test pictures were made with serves this one too."""
    studio.completed("normal")
    lora, user = studio.lora("normal"), studio.user("normal")
    orders = [studio.stack.order("at the sea", user=user, lora=name) for name in (lora["id"], lora["trigger_word"])]
    for job_id in orders:
        assert studio.stack.ended(job_id, user=user)["status"] == "completed"
    pictures = studio.stack.at_provider(f"{lora['trigger_word']}, at the sea")
    assert {picture["endpoint"] for picture in pictures} == {PAINTER}
    uploads = studio.stack.simulator.get("/_sim/uploads", params={"match": lora["weights_asset_id"]}).json()
    assert {picture["input"]["loras"][0]["path"] for picture in pictures} == {upload["url"] for upload in uploads}
    assert len(uploads) == 1


def test_nobody_uses_the_lora_of_another(studio: Studio) -> None:
    """Neither by its word nor by its id: as if it were not there."""
    studio.completed("normal")
    lora = studio.lora("normal")
    for name in (lora["id"], lora["trigger_word"]):
        answer = studio.ask("stranger", "POST", "/v1/images", json={"prompt": "x", "lora": name})
        assert (answer.status_code, answer.json()["field"]) == (422, "lora")
    assert studio.ask("stranger", "GET", f"/v1/loras/{lora['id']}").status_code == 404
