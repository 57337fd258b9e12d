"""The flows that events start, on the real stack: pauses, a charge whose process is killed, items and their join.

Each case is of a user of its own, and all of them take their course side by side. A pause of a day is ended by hand, as
`POST /v1/waits/{id}/wake` does it, or said in thousandths of an hour.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from running import Stack, leaves_nothing
from support import wait_until
from till import Till
from web_shop import Shop, content, picture

from darkroom.engine.side_effects import TRIES

COMPLETED = "user.profile_completed"
PATIENCE_SECONDS = 150  # a lost process is missed after 30 s, by a cron of a minute
MOMENT = 0.0005  # hours
LONG = 1.0
STALLED = {"killed": "<killed>", "killed later": "killed-later@example.com"}  # case → word in what is not answered
ITEMS = 2  # pictures of an upload that are there


@dataclass(frozen=True)
class Scene:
    stack: Stack
    till: Till
    shop: Shop
    events: dict[str, str] = field(default_factory=dict)  # case → the event it began with
    jobs: dict[str, str] = field(default_factory=dict)

    def user(self, case: str) -> str:
        return f"customer, {case}"

    def send(self, case: str, name: str, data: dict[str, Any], *, id: str | None = None) -> str:
        """An event of that case's user. Returns its id."""
        event = {"name": name, "data": data} | ({"id": id} if id else {})
        answer = self.stack.gateway.post("/v1/events", json=event, headers=self.stack.bearer(self.user(case)))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def event(self, case: str, event_id: str) -> dict[str, Any]:
        answer = self.stack.gateway.get(f"/v1/events/{event_id}", headers=self.stack.bearer(self.user(case)))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def begin(self, case: str, name: str, data: dict[str, Any], *, id: str | None = None) -> None:
        """By an event, which says which job it has started."""
        self.events[case] = self.send(case, name, data, id=id)
        (effect,) = self.event(case, self.events[case])["effects"]
        assert effect["what"] == "started", effect
        self.jobs[case] = effect["job_id"]

    def onboard(self, case: str, *, welcome: float, profile: float) -> None:
        """As a person starts it in Prefect's UI, who may say how long the pauses are."""
        bearer = self.stack.bearer(self.user(case))
        hours = {"welcome_after_hours": welcome, "profile_within_hours": profile}
        parameters = {"account": case, "email": mail(case), "user": self.user(case), **hours}
        deployment = self.stack.prefect.get("/deployments/name/onboard-user/on-demand").raise_for_status().json()["id"]
        path = f"/deployments/{deployment}/create_flow_run"
        self.stack.prefect.post(path, json={"parameters": parameters}).raise_for_status()

        def look() -> str | None:
            found = self.stack.gateway.get("/v1/jobs", headers=bearer).json()["items"]
            return found[0]["id"] if found else None

        job_id = wait_until(look, timeout=60, every=0.2, what=f"the job of {case}")
        assert job_id is not None
        self.jobs[case] = job_id

    def job(self, case: str) -> dict[str, Any]:
        return self.stack.job(self.jobs[case], user=self.user(case))

    def ended(self, case: str) -> dict[str, Any]:
        return self.stack.ended(self.jobs[case], user=self.user(case), timeout=PATIENCE_SECONDS)

    def result(self, case: str) -> dict[str, Any]:
        job = self.ended(case)
        assert job["status"] == "completed", job["error"]
        return dict(job["result"])

    def wait(self, case: str, step: str) -> str:
        """The id of what that step waits for, once it does."""

        def look() -> str | None:
            waits = self.stack.ledger.waits.of_job(self.jobs[case])
            return next((wait.id for wait in waits if wait.name == step and wait.status == "open"), None)

        found = wait_until(look, timeout=60, every=0.1, what=f"{step} of {case}")
        assert found is not None
        return found

    def wake(self, case: str, step: str) -> None:
        wait_id = self.wait(case, step)
        bearer = self.stack.bearer(self.user(case))
        self.stack.gateway.post(f"/v1/waits/{wait_id}/wake", headers=bearer).raise_for_status()

    def news(self, case: str) -> list[str]:
        """Subjects of what that case's people were told, in order."""
        return self.till.news(mail(case))


def mail(case: str) -> str:
    return f"{case.replace(' ', '-')}@example.com"


def signed_up(case: str) -> dict[str, Any]:
    return {"account": case, "email": mail(case)}


def placed(case: str, **changed: Any) -> dict[str, Any]:
    items = [{"sku": "mug", "quantity": 2, "price_cents": 900}, {"sku": "pin", "quantity": 1, "price_cents": 190}]
    order = {"order": f"<{case}>", "items": items, "total_cents": 1990, "payment_method": "pm_card"}
    return order | {"email": mail(case)} | changed


@pytest.fixture(scope="module")
def scene(running: Stack, till: Till, shop: Shop) -> Iterator[Scene]:
    """What has to happen in the middle of a case happens before the tests begin."""
    scene = Scene(running, till, shop)
    _begin_uploads(scene)
    _begin_orders(scene)
    for case in ("before", "forgotten"):
        scene.begin(case, "user.signed_up", signed_up(case))
    scene.onboard("within", welcome=MOMENT, profile=LONG)
    scene.onboard("never", welcome=MOMENT, profile=MOMENT)
    _kill_after_the_charge(scene)
    _onboard(scene)
    yield scene
    till.statuses.clear()
    leaves_nothing(running)


def _begin_uploads(scene: Scene) -> None:
    items: list[dict[str, Any]] = [
        {"image": scene.shop.lay_out(f"/upload/{n}.jpg", content(picture(colour=(n, 120, 120))))} for n in range(ITEMS)
    ]
    items[1]["post"] = [{"step": "watermark", "text": "draft"}]
    gone, wrong = {"image": scene.shop.url("/upload/gone.jpg")}, {"image": "secret.png"}
    upload = {"upload": "u-1", "items": [wrong, items[0], gone, items[1]], "email": mail("upload")}
    scene.begin("upload", "upload.received", upload)
    nothing = {"upload": "u-2", "items": [wrong], "email": mail("nothing")}
    scene.begin("nothing", "upload.received", nothing)


def _begin_orders(scene: Scene) -> None:
    scene.till.statuses |= {"<declined>": [402], "<hiccup>": [503, 500], "<outage>": [503] * TRIES}
    for case in ("declined", "hiccup", "outage"):
        scene.begin(case, "order.placed", placed(case))
    scene.begin("wrong", "order.placed", placed("wrong", total_cents=1))
    scene.begin("twice", "order.placed", placed("twice"), id="first")
    scene.jobs["once"] = scene.jobs["twice"]
    scene.begin("twice", "order.placed", placed("twice"), id="second")


def _kill_after_the_charge(scene: Scene) -> None:
    """The other side has done what it was asked, and its answer is on the way, as the process dies.

    One after the other: whoever waits for an answer gives it up after a while.
    """
    for case, word in STALLED.items():
        scene.till.stalled[word] = threading.Event()
        scene.begin(case, "order.placed", placed(case))
        path = "/charges" if case == "killed" else "/news"
        wait_until(lambda path=path, word=word: scene.till.posted(path, word), timeout=60, every=0.05, what=case)
        scene.stack.kill_run(scene.stack.flow_run_id(scene.jobs[case]))
        scene.till.stalled.pop(word).set()


def _onboard(scene: Scene) -> None:
    scene.wait("before", "until-welcome")
    scene.send("before", COMPLETED, {"account": "before"})
    scene.wake("before", "until-welcome")
    scene.wake("forgotten", "until-welcome")
    scene.wait("within", "profile")
    scene.events["another's"] = scene.send("within", COMPLETED, {"account": "somebody else"})
    scene.events["its own"] = scene.send("within", COMPLETED, {"account": "within"})


# -- onboarding ------------------------------------------------------------------------------------------------------


def test_who_completes_the_profile_before_anybody_waits_for_it_is_not_reminded(scene: Scene) -> None:
    """The event came in the day before the welcome, and counts."""
    assert scene.result("before")["reminded"] is False
    assert scene.news("before") == ["Your account is ready", "Welcome"]


def test_who_completes_the_profile_in_time_is_not_reminded(scene: Scene) -> None:
    """It is that account's event that counts: another's has not woken the job, and says why."""
    assert scene.result("within")["profile_completed"] == scene.events["its own"]
    (effect,) = scene.event("within", scene.events["another's"])["effects"]
    assert effect["what"] == "not_woken"
    assert "match" in effect["reason"]
    assert scene.news("within") == ["Your account is ready", "Welcome"]


def test_who_does_not_complete_the_profile_is_reminded_once(scene: Scene) -> None:
    """When the time for it is over."""
    assert scene.result("never")["reminded"] is True
    assert scene.news("never") == ["Your account is ready", "Welcome", "Your profile is not complete"]


def test_a_person_sees_what_an_onboarding_waits_for_and_may_end_it(scene: Scene) -> None:
    """The job says so in a sentence, its run has no process; ended by hand it goes on as at its time."""
    scene.wait("forgotten", "profile")
    flow_run_id = scene.stack.flow_run_id(scene.jobs["forgotten"])
    scene.stack.in_state(flow_run_id, "Suspended")
    wait_until(lambda: not scene.stack.flow_processes(flow_run_id), timeout=20, what="the end of its process")
    assert COMPLETED in scene.job("forgotten")["waiting_for"]
    scene.wake("forgotten", "profile")
    assert scene.result("forgotten")["reminded"] is True


def test_what_an_onboarding_does_is_seen_in_prefect(scene: Scene) -> None:
    """Each side effect is a task by its name, and nothing of it is logged as an error."""
    scene.result("within")
    flow_run_id = str(scene.stack.flow_run_id(scene.jobs["within"]))
    only = {"flow_runs": {"id": {"any_": [flow_run_id]}}}

    def look() -> set[str]:
        return {run["name"] for run in scene.stack.prefect.post("/task_runs/filter", json=only).json()}

    wait_until(lambda: look() == {"create-account", "welcome"}, timeout=30, every=0.5, what="the tasks")
    errors = {"logs": {"flow_run_id": {"any_": [flow_run_id]}, "level": {"ge_": 40}}}
    assert scene.stack.prefect.post("/logs/filter", json=errors).json() == []


def test_an_event_is_in_prefects_feed_beside_what_it_started(scene: Scene) -> None:
    """Under its name, with the id that the gateway gave."""

    def look() -> bool:
        feed = scene.stack.events(event={"name": ["darkroom.user.signed_up"]})
        return {scene.events["before"], scene.events["forgotten"]} <= {event["payload"]["id"] for event in feed}

    wait_until(look, timeout=60, every=0.5, what="the events in Prefect's feed")


# -- orders ----------------------------------------------------------------------------------------------------------


def test_an_order_whose_process_dies_after_the_charge_is_charged_once(scene: Scene) -> None:
    """It is asked for again under the same key, which the payment provider knows; then confirmed, once."""
    result = scene.result("killed")
    assert scene.till.charged("<killed>") == [result["charge"]]
    assert len(scene.till.posted("/charges", "<killed>")) > 1
    assert scene.news("killed") == ["Your order is confirmed"]


def test_an_order_whose_process_dies_after_that_is_not_charged_again(scene: Scene) -> None:
    """What is on record is not asked for; the confirmation is, as the same piece of news."""
    result = scene.result("killed later")
    assert scene.till.charged("<killed later>") == [result["charge"]]
    assert len(scene.till.posted("/charges", "<killed later>")) == 1
    assert len(scene.till.posted("/news", STALLED["killed later"])) > 1
    assert scene.news("killed later") == ["Your order is confirmed"]


def test_an_order_that_is_done_is_an_event_of_its_own(scene: Scene) -> None:
    """Others may start on it."""
    result = scene.result("killed")
    confirmed = scene.event("killed", result["confirmed"])
    assert (confirmed["name"], confirmed["status"]) == ("order.confirmed", "accepted")
    assert confirmed["data"] == {"order": "<killed>", "charge": result["charge"]}


def test_a_payment_provider_that_stumbles_is_asked_again(scene: Scene) -> None:
    """Twice it could not; the third time it charges."""
    result = scene.result("hiccup")
    assert scene.till.charged("<hiccup>") == [result["charge"]]
    assert len(scene.till.posted("/charges", "<hiccup>")) == 3


def test_an_order_that_met_an_outage_goes_on_by_a_replay(scene: Scene) -> None:
    """It fails after some tries, and is charged once when somebody has it tried again."""
    failed = scene.ended("outage")
    assert (failed["status"], failed["error"]["step"], failed["error"]["retryable"]) == ("failed", "charge", True)
    bearer = scene.stack.bearer(scene.user("outage"))
    scene.stack.gateway.post(f"/v1/jobs/{failed['id']}/replay", headers=bearer).raise_for_status()
    charge = scene.result("outage")["charge"]
    assert scene.till.charged("<outage>") == [charge]
    assert scene.news("outage") == ["Your order is confirmed"]


@pytest.mark.parametrize(
    ("case", "code", "step", "asked"),
    [("declined", "payment_declined", "charge", 1), ("wrong", "bad_input", "validate", 0)],
)
def test_an_order_that_cannot_be_charged_is_not_confirmed(
    scene: Scene, case: str, code: str, step: str, asked: int
) -> None:
    """It fails at that step, for that reason."""
    job = scene.ended(case)
    assert job["status"] == "failed"
    assert (job["error"]["code"], job["error"]["step"]) == (code, step)
    assert len(scene.till.posted("/charges", f"<{case}>")) == asked
    assert not scene.news(case)


def test_an_order_that_comes_twice_is_charged_once(scene: Scene) -> None:
    """As two events with two ids, which are two jobs."""
    assert scene.jobs["once"] != scene.jobs["twice"]
    first = scene.stack.ended(scene.jobs["once"], user=scene.user("twice"))["result"]["charge"]
    assert scene.result("twice")["charge"] == first
    assert scene.till.charged("<twice>") == [first]


# -- uploads ---------------------------------------------------------------------------------------------------------


def test_the_items_of_an_upload_come_together_again(scene: Scene) -> None:
    """Each a job of its own; those that fail are listed by their place and stop none of the others."""
    result = scene.result("upload")
    assert (result["completed"], result["failed"]) == (ITEMS, 2)
    assert [item["n"] for item in result["items"]] == [2, 4]
    assert [(each["n"], each["code"]) for each in result["failures"]] == [(1, "bad_input"), (3, "child_failed")]
    for item in result["items"]:
        child = scene.stack.job(item["job_id"], user=scene.user("upload"))
        assert (child["kind"], child["status"]) == ("edit-image", "completed")
        assert item["assets"] == [asset["id"] for asset in child["assets"]]


def test_the_end_of_an_upload_is_told_once(scene: Scene) -> None:
    """With how many are done."""
    scene.result("upload")
    assert scene.news("upload") == [f"Upload: {ITEMS} of {ITEMS + 2} items done"]


def test_an_upload_of_which_nothing_came_fails_and_is_told(scene: Scene) -> None:
    """What was no item has started nothing."""
    job = scene.ended("nothing")
    assert (job["status"], job["error"]["code"]) == ("failed", "nothing_done")
    assert not job["waits"]
    assert scene.news("nothing") == ["Upload: 0 of 1 items done"]
