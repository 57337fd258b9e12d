"""Steps after a picture on the real stack: each is paid once, whatever happens between any two of them.

All cases at once, each with a user and so a run of its own. The provider holds every request until its case lets it go,
so that a process can be killed, and a node can fail, exactly where the case wants it. That it may die at any point and
fail at each node is shown without processes, in `tests/integration/test_dying_orders.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops
from running import Stack, leaves_nothing
from support import wait_until

from darkroom.ledger import Request, RequestStatus

GENERATE, ENLARGE, CUT_OUT, MARK, FINISH = "generate", "1-upscale", "2-remove_background", "3-watermark", "4-upscale"
NODES = (GENERATE, ENLARGE, CUT_OUT, MARK, FINISH)
PAID = (GENERATE, ENLARGE, CUT_OUT, FINISH)
POST: list[Any] = ["upscale", "remove_background", "watermark", {"step": "upscale", "model": "fal-ai/esrgan"}]
FAILURE = {"result": "422_content_policy"}
HELD = ("fal-ai/clarity-upscaler", "fal-ai/birefnet/v2", "fal-ai/esrgan")
PATIENCE_SECONDS = 150  # a lost process is missed after 30 s; the rest is for a machine that does other things too


@dataclass(frozen=True)
class Scene:
    stack: Stack
    jobs: dict[str, str] = field(default_factory=dict)
    played: dict[str, Future[None]] = field(default_factory=dict)

    def user(self, case: str) -> str:
        return f"retoucher of {case}"

    def prompt(self, case: str) -> str:
        return f"a fox retouched: {case}."

    def order(self, case: str, *, name: str = "", post: list[Any] = POST) -> None:
        """Under the case's name, or another one for a second order of the same picture."""
        size = {"width": 128, "height": 96}
        user, prompt = self.user(case), self.prompt(case)
        self.jobs[name or case] = self.stack.order(prompt, user=user, image_size=size, seed=7, post=post)

    def edit(self, case: str, image: str, *, post: list[Any]) -> None:
        body = {"image": image, "post": post}
        answer = self.stack.gateway.post("/v1/edits", json=body, headers=self.stack.bearer(self.user(case)))
        assert answer.status_code == 202, answer.text
        self.jobs[case] = answer.json()["job_id"]

    def upload(self, case: str, picture: Image.Image) -> str:
        out = BytesIO()
        picture.save(out, "PNG")
        headers = self.stack.bearer(self.user(case)) | {"Content-Type": "image/png"}
        answer = self.stack.gateway.post("/v1/uploads", content=out.getvalue(), headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def came_to(self, case: str) -> dict[str, Any]:
        """The job of a case that has been played; what went wrong in it is raised here."""
        self.played[case.partition(",")[0]].result()
        return self.job(case)

    def job(self, case: str) -> dict[str, Any]:
        return self.stack.job(self.jobs[case], user=self.user(case.partition(",")[0]))

    def flow_run(self, case: str) -> Any:
        return self.stack.flow_run_id(self.jobs[case])

    def rows(self, case: str) -> list[Request]:
        return self.stack.rows(self.jobs[case])

    def open_at(self, case: str) -> Request | None:
        """The call that the provider holds."""
        return next((row for row in self.rows(case) if row.status is RequestStatus.IN_FLIGHT), None)

    def let_go(self, row: Request, **end: Any) -> None:
        self.stack.simulator.post(f"/_sim/requests/{row.request_id}/release", json=end).raise_for_status()

    def until(self, case: str, step: str) -> Request:
        """Lets go what comes before it, and waits until the provider has it."""

        def look() -> Request | None:
            row = self.open_at(case)
            if row is not None and row.step != step:
                self.let_go(row)
                return None
            return row

        found = wait_until(look, timeout=PATIENCE_SECONDS, every=0.05, what=f"{step} of {case}")
        assert found is not None
        return found

    def finish(self, case: str) -> None:
        def look() -> bool:
            if (row := self.open_at(case)) is not None:
                self.let_go(row)
            return self.stack.has_ended(self.jobs[case])

        wait_until(look, timeout=PATIENCE_SECONDS, every=0.1, what=f"the end of {case}")

    def at_provider(self, case: str) -> dict[str, int]:
        """How often it was asked for each node, by its own book: by the prompt, else by the name of the picture."""
        asked = {GENERATE: len(self.stack.at_provider(self.prompt(case)))}
        for row in self.rows(case):
            if (picture := (row.input or {}).get("image_url")) and row.reused_from is None:
                named = self.stack.at_provider(picture.removeprefix("asset:"))
                asked[row.step] = len([each for each in named if each["endpoint"] == row.endpoint])
        return asked

    def picture(self, case: str, step: str) -> Image.Image:
        (asset,) = [asset for asset in self.job(case)["assets"] if f"/{step}-0." in asset["key"]]
        image = Image.open(BytesIO(httpx.get(asset["url"]).content))
        image.load()
        return image

    def steps_kept(self, case: str) -> set[str]:
        return {asset["key"].rpartition("/")[2].rpartition("-")[0] for asset in self.job(case)["assets"]}


def killed_at(step: str) -> Callable[[Scene, str], None]:
    """The provider's answer comes while no process is there for it."""

    def play(scene: Scene, case: str) -> None:
        scene.order(case)
        row = scene.until(case, step)
        scene.stack.kill_run(scene.flow_run(case))
        scene.let_go(row)
        scene.finish(case)

    return play


def failing_at(step: str) -> Callable[[Scene, str], None]:
    def play(scene: Scene, case: str) -> None:
        scene.order(case)
        scene.let_go(scene.until(case, step), **FAILURE)
        scene.finish(case)

    return play


def cancelled(scene: Scene, case: str) -> None:
    scene.order(case)
    row = scene.until(case, CUT_OUT)
    headers = scene.stack.bearer(scene.user(case))
    scene.stack.gateway.post(f"/v1/jobs/{scene.jobs[case]}/cancel", headers=headers).raise_for_status()
    wait_until(lambda: _cancel_heard(scene, row), timeout=30, every=0.1, what="the cancel at the provider")
    scene.let_go(row, result="error:client_cancelled")
    scene.finish(case)


def _cancel_heard(scene: Scene, row: Request) -> bool:
    return bool(scene.stack.simulator.get(f"/_sim/requests/{row.request_id}").json()["cancel_requested"])


def replayed(scene: Scene, case: str) -> None:
    failing_at(FINISH)(scene, case)
    assert scene.job(case)["status"] == "failed"
    headers = scene.stack.bearer(scene.user(case))
    scene.stack.gateway.post(f"/v1/jobs/{scene.jobs[case]}/replay", headers=headers).raise_for_status()
    scene.finish(case)


def marked_anew(scene: Scene, case: str) -> None:
    """The same order, and then with other words in its third step."""
    scene.order(case, post=POST[:3])
    scene.finish(case)
    name = f"{case}, again"
    scene.order(case, name=name, post=[*POST[:2], {"step": "watermark", "text": "© a fox", "position": "top_left"}])
    scene.finish(name)


def in_another_order(scene: Scene, case: str) -> None:
    """Of a picture that was brought: marked, cut out, enlarged."""
    picture = Image.new("RGB", (160, 120), "navy")
    picture.paste("orange", (50, 30, 110, 90))
    image = scene.upload(case, picture)
    scene.edit(case, image, post=["watermark", "remove_background", "upscale"])
    scene.finish(case)


def two_pictures(scene: Scene, case: str) -> None:
    """Both go through the steps, side by side."""
    body = {"image_size": {"width": 96, "height": 96}, "num_images": 2, "post": ["upscale", "watermark"]}
    scene.jobs[case] = scene.stack.order(scene.prompt(case), user=scene.user(case), **body)
    wait_until(lambda: len(_in_flight(scene, case)) == 2, timeout=PATIENCE_SECONDS, every=0.05, what="both at once")
    scene.finish(case)


def _in_flight(scene: Scene, case: str) -> list[Request]:
    open_now = [row for row in scene.rows(case) if row.status is RequestStatus.IN_FLIGHT]
    for row in open_now:
        if row.step == GENERATE:
            scene.let_go(row)
    return open_now


CASES: dict[str, Callable[[Scene, str], None]] = {
    "killed": killed_at(CUT_OUT),
    "cancelled": cancelled,
    "replayed": replayed,
    "marked anew": marked_anew,
    "in another order": in_another_order,
    "two pictures": two_pictures,
}


@pytest.fixture(scope="module")
def scene(running: Stack) -> Iterator[Scene]:
    """Every case has been played."""
    scene = Scene(stack=running)
    for endpoint in HELD:
        running.simulator.post("/_sim/rules", json={"endpoint": endpoint, "hold": True}).raise_for_status()
    for case in CASES:
        running.keys[scene.user(case)] = running.ledger.users.add(scene.user(case), plan="studio").key
        running.misbehave(scene.prompt(case), hold=True)
    with ThreadPoolExecutor(len(CASES)) as pool:
        for case, play in CASES.items():
            scene.played[case] = pool.submit(play, scene, case)
    yield scene
    leaves_nothing(running)


def test_a_picture_goes_through_its_steps_in_their_order(scene: Scene) -> None:
    """Generated, enlarged, cut out, marked: each stage is kept, and the last one is the result."""
    job = scene.came_to("marked anew")
    assert job["status"] == "completed", job
    assert scene.steps_kept("marked anew") == set(NODES[:4])
    (last,) = job["result"]["pictures"]
    assert [asset["id"] for asset in job["assets"] if f"/{MARK}-" in asset["key"]] == [last]
    assert scene.picture("marked anew", GENERATE).size == (128, 96)
    enlarged, cut_out, marked = (scene.picture("marked anew", step) for step in (ENLARGE, CUT_OUT, MARK))
    assert enlarged.size == cut_out.size == marked.size == (256, 192)
    assert cut_out.mode == "RGBA" and cut_out.getchannel("A").getextrema() == (0, 255)
    assert differs(marked, cut_out, (128, 96, 256, 192)) and not differs(marked, cut_out, (0, 0, 128, 96))


def test_a_picture_goes_through_them_in_another_order(scene: Scene) -> None:
    """What was brought is marked first; what was cut out is still transparent when it has been enlarged."""
    job = scene.came_to("in another order")
    assert job["status"] == "completed", job
    assert [row.step for row in scene.rows("in another order")] == ["2-remove_background", "3-upscale"]
    enlarged = scene.picture("in another order", "3-upscale")
    assert enlarged.size == (320, 240)
    assert enlarged.getchannel("A").getextrema() == (0, 255)
    assert enlarged.getpixel((160, 120))[:3] == pytest.approx((255, 165, 0), abs=12)


def test_other_words_on_a_picture_pay_for_nothing(scene: Scene) -> None:
    """The second order has no request at the provider; its picture differs where the words are."""
    again = scene.came_to("marked anew, again")
    assert (again["status"], again["cost_usd"]) == ("completed", 0)
    assert all(row.reused_from and row.request_id is None for row in scene.rows("marked anew, again"))
    assert scene.at_provider("marked anew") == {GENERATE: 1, ENLARGE: 1, CUT_OUT: 1}
    first, second = scene.picture("marked anew", MARK), scene.picture("marked anew, again", MARK)
    assert differs(first, second, (0, 0, 128, 96)) and differs(first, second, (128, 96, 256, 192))


def test_a_process_killed_between_two_nodes_costs_nothing(scene: Scene) -> None:
    """Its run is brought back, goes on with what came meanwhile, and nothing is asked for twice."""
    case = "killed"
    job = scene.came_to(case)
    assert job["status"] == "completed", job
    assert scene.steps_kept(case) == set(NODES)
    assert scene.at_provider(case) == dict.fromkeys(PAID, 1)
    assert [row.attempt for row in scene.rows(case)] == [1] * len(PAID)
    assert "Recovering" in scene.stack.history(scene.flow_run(case))


def test_a_replay_goes_on_where_it_failed(scene: Scene) -> None:
    """The failed step alone is asked for once more."""
    job = scene.came_to("replayed")
    assert job["status"] == "completed", job
    assert scene.at_provider("replayed") == {GENERATE: 1, ENLARGE: 1, CUT_OUT: 1, FINISH: 2}
    assert [(row.step, row.attempt) for row in scene.rows("replayed") if row.attempt > 1] == [(FINISH, 2)]


def test_a_cancel_in_the_middle_reaches_the_provider_and_ends_the_job(scene: Scene) -> None:
    """What was made before it is kept, and nothing more is asked for."""
    job = scene.came_to("cancelled")
    assert job["status"] == "cancelled", job
    assert scene.steps_kept("cancelled") == {GENERATE, ENLARGE}
    assert scene.at_provider("cancelled") == {GENERATE: 1, ENLARGE: 1, CUT_OUT: 1}


def test_several_pictures_go_through_the_steps_side_by_side(scene: Scene) -> None:
    """Each step of each is a node of its own."""
    job = scene.came_to("two pictures")
    assert job["status"] == "completed", job
    assert len(job["result"]["pictures"]) == 2
    steps = {GENERATE, *(f"{step}-of-{n}" for step in ("1-upscale", "2-watermark") for n in (1, 2))}
    assert scene.steps_kept("two pictures") == steps


def test_each_stage_is_shown_in_prefect(scene: Scene) -> None:
    """Its picture among the run's artifacts, and what the calls have cost; how far the job has come as a bar."""
    case = "in another order"
    wanted = {"artifacts": {"flow_run_id": {"any_": [str(scene.flow_run(case))]}}}
    found = scene.stack.prefect.post("/artifacts/filter", json=wanted).raise_for_status().json()
    shown = [artifact["type"] for artifact in found]
    assert shown.count("image") == len(scene.job(case)["assets"]) == 3
    assert {"table", "progress"} <= set(shown)


def differs(one: Image.Image, other: Image.Image, box: tuple[int, int, int, int]) -> bool:
    return ImageChops.difference(one.crop(box), other.crop(box)).getbbox(alpha_only=False) is not None
