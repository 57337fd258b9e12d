"""Flow control on the real stack, with times scaled down: what events ask for begins as declared, and none is lost.

Each case is a deployment of `held_flows.py`, started by an event of its own. They go side by
side, each of a user of its own; then the gateway is killed, and the file changed, under a stack that runs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import BytesIO
from itertools import pairwise
from typing import Any

import httpx
import pytest
from held_flows import CASES, deployment
from PIL import Image
from running import DARKROOM, Stack, leaves_nothing
from support import wait_until
from trial_project import as_it_was, put
from web_shop import Shop, content, picture

from darkroom.ledger import EffectKind

MANY = 100
SECONDS_TO_BEGIN = 90


@dataclass(frozen=True)
class Scene:
    stack: Stack
    shop: Shop
    events: dict[str, list[str]] = field(default_factory=dict)  # case → its events, in the order they were sent

    def user(self, case: str) -> str:
        return f"held, {case}"

    def ask(self, case: str, path: str) -> dict[str, Any]:
        answer = self.stack.gateway.get(path, headers=self.stack.bearer(self.user(case)))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, case: str, name: str, *data: dict[str, Any]) -> list[str]:
        """Events of that case's user, in one call. Returns their ids."""
        events = [{"name": name, "data": each} for each in data]
        answer = self.stack.gateway.post("/v1/events", json=events, headers=self.stack.bearer(self.user(case)))
        assert answer.status_code == 202, answer.text
        assert all(line["status"] == "accepted" for line in answer.json()), answer.text
        return [line["id"] for line in answer.json()]

    def send(self, case: str, *data: dict[str, Any]) -> None:
        self.events.setdefault(case, []).extend(self.post(case, f"trial.{case}", *data))

    def go(self, case: str, n: int) -> None:
        """One that holds goes on."""
        self.post(case, "trial.go", {"n": n})

    def effects(self, case: str) -> list[dict[str, Any]]:
        """What became of each event, in the order they were sent."""
        with ThreadPoolExecutor(4) as pool:
            documents = list(pool.map(lambda id: self.ask(case, f"/v1/events/{id}"), self.events[case]))
        return [next(each for each in document["effects"] if each["deployment"]) for document in documents]

    def starts(self, case: str) -> list[dict[str, Any]]:
        """Oldest first."""
        return list(self.ask(case, f"/v1/pending-runs?deployment=held/{case}&limit=200")["items"])[::-1]

    def became(self, case: str) -> list[str]:
        """The status of each start, in the order in which its first event was sent."""
        return [effect["start"]["status"] for effect in self.effects(case)]

    def until(self, case: str, *statuses: str) -> list[dict[str, Any]]:
        """The starts of one event each, once that is what became of them."""
        wait_until(
            lambda: self.became(case) == list(statuses),
            timeout=SECONDS_TO_BEGIN,
            every=0.2,
            what=f"{statuses} of {case}, which are {self.became(case)}",
        )
        return [effect["start"] for effect in self.effects(case)]

    def settled(self, case: str) -> list[dict[str, Any]]:
        """Its starts, oldest first, once none of them gathers or waits."""

        def look() -> list[dict[str, Any]]:
            found = self.starts(case)
            return found if all(start["status"] in ("begun", "dropped") for start in found) else []

        return wait_until(look, timeout=SECONDS_TO_BEGIN, every=0.2, what=f"the starts of {case}")

    def ended(self, case: str, start: dict[str, Any]) -> dict[str, Any]:
        return self.stack.ended(start["job_id"], user=self.user(case), timeout=SECONDS_TO_BEGIN)

    def result(self, case: str, start: dict[str, Any]) -> dict[str, Any]:
        job = self.ended(case, start)
        assert job["status"] == "completed", job["error"]
        return dict(job["result"])

    def holds(self, case: str, start: dict[str, Any]) -> None:
        """It is under way, and waits for its word to go on."""
        wait_until(
            lambda: any(wait["status"] == "open" for wait in self.job(case, start)["waits"]),
            timeout=SECONDS_TO_BEGIN,
            every=0.1,
            what=f"a run of {case}",
        )

    def job(self, case: str, start: dict[str, Any]) -> dict[str, Any]:
        return self.stack.job(start["job_id"], user=self.user(case))


@pytest.fixture(scope="module")
def scene(running: Stack, shop: Shop) -> Iterator[Scene]:
    scene = Scene(running, shop)
    for case in (*CASES, "profile", "person"):
        running.keys[scene.user(case)] = running.ledger.users.add(scene.user(case), plan="studio").key
    with as_it_was(running.project, "prefect.yaml"):
        yield scene
    leaves_nothing(running)


@pytest.fixture(scope="module")
def played(scene: Scene) -> Scene:
    """All that take their own course, begun together."""
    for case in ("last", "all"):
        _flood(scene, case)
    scene.send("batch", *({"n": n} for n in range(25)))
    scene.send("throttle", *({"n": n} for n in range(12)))
    scene.send("refused", *({"n": n} for n in range(5)))
    scene.send("queued", *({"n": n} for n in range(4)))
    scene.send("priority", {"n": 0, "holds": True})
    scene.send("concurrency", *({"n": n, "key": key, "holds": True} for n, key in enumerate("aaab")))
    for case in ("skip", "cancel", "queue"):
        scene.send(case, {"n": 1, "key": "a", "holds": True})
    return scene


def _flood(scene: Scene, case: str) -> None:
    """A hundred events of one key within a second, from ten senders at once."""
    shares = [[{"n": n, "key": "one"} for n in range(first, MANY, 10)] for first in range(10)]
    with ThreadPoolExecutor(10) as senders:
        for ids in senders.map(lambda share: scene.post(case, f"trial.{case}", *share), shares):
            scene.events.setdefault(case, []).extend(ids)


def _at(time: str) -> datetime:
    return datetime.fromisoformat(time)


def _begun(starts: list[dict[str, Any]]) -> list[datetime]:
    return sorted(_at(start["settled_at"]) for start in starts)


# -- debounce and batch ----------------------------------------------------------------------------------------------


def _one_start(scene: Scene, case: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Of a hundred events. Each of them is on record with it: returns the place of each, by its id."""
    (start,) = scene.settled(case)
    assert (start["status"], start["events"]) == ("begun", MANY)
    places: dict[str, int] = {}
    for id in scene.events[case]:
        (effect,) = scene.stack.ledger.events.effects(id)
        assert (effect.what, effect.start_id) == (EffectKind.HELD, start["id"])
        assert effect.start_n is not None
        places[id] = effect.start_n
    assert sorted(places.values()) == list(range(1, MANY + 1))
    return start, places


def _told(scene: Scene, case: str, event_id: str, start: dict[str, Any]) -> dict[str, Any]:
    """What its sender is told: the effect, which names the run."""
    (effect,) = scene.ask(case, f"/v1/events/{event_id}")["effects"]
    assert (effect["what"], effect["start"]) == ("held", start)
    return dict(effect)


def test_a_hundred_events_of_one_key_are_one_run_with_what_the_last_one_says(played: Scene) -> None:
    """The others say that it has taken their place: none is unaccounted for."""
    start, places = _one_start(played, "last")
    *others, last = sorted(places, key=lambda id: places[id])
    assert _told(played, "last", last, start)["passed_on"] is True
    for id in others[:: MANY // 20]:
        assert _told(played, "last", id, start)["passed_on"] is False
    said = played.ask("last", f"/v1/events/{last}")["data"]["n"]
    assert played.result("last", start) == {"n": said, "events": None}
    assert len(played.ask("last", "/v1/jobs")["items"]) == 1


def test_a_hundred_events_of_one_key_are_one_run_with_what_all_of_them_say(played: Scene) -> None:
    """In the order in which they came."""
    start, places = _one_start(played, "all")
    given = played.result("all", start)["events"]
    assert sorted(each["n"] for each in given) == list(range(MANY))
    for id in played.events["all"][:: MANY // 20]:
        assert _told(played, "all", id, start)["passed_on"] is True
        assert given[places[id] - 1] == played.ask("all", f"/v1/events/{id}")["data"]


def test_events_that_do_not_cease_are_a_run_all_the_same(scene: Scene) -> None:
    """When the longest wait is over; what comes then is the next one's."""

    def has_begun() -> bool:
        scene.send("longest", {"n": len(scene.events.get("longest", []))})
        return any(start["status"] == "begun" for start in scene.starts("longest"))

    wait_until(has_begun, timeout=SECONDS_TO_BEGIN, every=0.3, what="a run though events keep coming")
    first, *_ = scene.settled("longest")
    assert _at(first["settled_at"]) - _at(first["created_at"]) >= timedelta(seconds=3)
    assert sum(start["events"] for start in scene.starts("longest")) == len(scene.events["longest"])


def test_a_batch_begins_when_it_is_full_or_its_time_is_over(played: Scene) -> None:
    """Twenty-five events are two of ten at once, and one of five three seconds later."""
    starts = played.settled("batch")
    assert [start["events"] for start in starts] == [10, 10, 5]
    given = [[each["n"] for each in played.result("batch", start)["events"]] for start in starts]
    assert given == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert _at(starts[2]["settled_at"]) - _at(starts[2]["created_at"]) >= timedelta(seconds=3)


def test_a_person_lets_what_gathers_go_on_or_withdraws_it(scene: Scene) -> None:
    """By commands; of what is withdrawn the event says why nothing began."""
    scene.send("hand", {"n": 1})
    (start,) = scene.until("hand", "gathering")
    assert "\tstarted\t" in scene.stack.command(DARKROOM, "pending", "release", start["id"]).stdout
    (start,) = scene.until("hand", "begun")
    assert scene.result("hand", start)["n"] == 1
    scene.send("hand", {"n": 2})
    _, mistaken = scene.until("hand", "begun", "gathering")
    why = ("--reason", "A mistake.")
    told = scene.stack.command(DARKROOM, "pending", "drop", "--deployment", "held/hand", *why).stdout
    assert told == f"{mistaken['id']}\tdropped\n"
    _, dropped = scene.until("hand", "begun", "dropped")
    assert (dropped["reason"], dropped["job_id"]) == ("A mistake.", None)
    refused = scene.stack.command(DARKROOM, "pending", "drop", *why, check=False)
    assert refused.returncode != 0 and "--deployment" in refused.stderr


# -- throttle and rate limit -----------------------------------------------------------------------------------------


def test_a_burst_begins_as_fast_as_the_throttle_lets_it(played: Scene) -> None:
    """Four at once, then one each second; all of them in the end, in the order in which they came."""
    starts = played.settled("throttle")
    assert [start["status"] for start in starts] == ["begun"] * 12
    begun = [_at(effect["start"]["settled_at"]) for effect in played.effects("throttle")]
    assert begun == sorted(begun)
    for place, at in enumerate(begun):
        assert at - begun[0] >= timedelta(seconds=place - 3), place
    assert sorted(played.result("throttle", start)["n"] for start in starts) == list(range(12))


def test_a_rate_limit_refuses_what_is_beyond_it(played: Scene) -> None:
    """With the reason, and with no job."""
    played.until("refused", *["begun"] * 3, *["dropped"] * 2)
    *begun, fourth, fifth = [effect["start"] for effect in played.effects("refused")]
    for start in (fourth, fifth):
        assert start["job_id"] is None and "rate limit" in start["reason"] and "3 of its key" in start["reason"]
    assert sorted(played.result("refused", start)["n"] for start in begun) == [0, 1, 2]
    listed = played.stack.command(
        DARKROOM, "pending", "list", "--deployment", "held/refused", "--status", "dropped"
    ).stdout
    assert {line.split("\t")[0] for line in listed.splitlines()} == {fourth["id"], fifth["id"]}
    assert fourth["reason"] in listed


def test_a_rate_limit_queues_what_is_beyond_it(played: Scene) -> None:
    """Until its period is over."""
    starts = played.settled("queued")
    begun = _begun(starts)
    assert [start["status"] for start in starts] == ["begun"] * 4
    assert begun[2] - begun[0] >= timedelta(seconds=4) and begun[3] - begun[1] >= timedelta(seconds=4)
    assert sorted(played.result("queued", start)["n"] for start in starts) == [0, 1, 2, 3]


def test_what_a_job_says_is_held_like_what_is_sent_from_outside(scene: Scene) -> None:
    """Its event gathers with others of its user's; here the one that makes the batch full comes from a job."""
    scene.post("sends", "trial.sent", {"n": 1})
    scene.send("sends", {"n": 2, "sends": True})
    (start,) = scene.until("sends", "begun")
    assert scene.result("sends", start)["n"] == 2
    (batch,) = wait_until(
        lambda: scene.ask("sends", "/v1/pending-runs?deployment=held/sent&status=begun")["items"],
        timeout=SECONDS_TO_BEGIN,
        every=0.2,
        what="the batch",
    )
    assert [each["n"] for each in scene.result("sends", batch)["events"]] == [1, 2]


# -- what is under way -----------------------------------------------------------------------------------------------


def test_who_has_priority_begins_before_those_who_wait_longer(played: Scene) -> None:
    """By the seconds that its event gives it."""
    (first,) = played.until("priority", "begun")
    played.holds("priority", first)
    for n in (10, 500, 100):
        played.send("priority", {"n": n})
    starts = played.until("priority", "begun", *["waiting"] * 3)
    assert all(start["job_id"] is None for start in starts[1:])
    assert "(concurrency)" in " ".join(str(start["reason"]) for start in starts[1:])
    played.go("priority", 0)
    starts = played.until("priority", *["begun"] * 4)
    in_turn = sorted(starts, key=lambda start: _at(start["settled_at"]))
    assert [played.result("priority", start)["n"] for start in in_turn] == [0, 500, 100, 10]


def test_of_each_key_so_many_are_under_way_at_once(played: Scene) -> None:
    """The third of one key waits until one of the others ends; another key's does not."""
    starts = played.until("concurrency", "begun", "begun", "waiting", "begun")
    for start in (starts[0], starts[1], starts[3]):
        played.holds("concurrency", start)
    assert played.effects("concurrency")[2]["start"]["reason"] == "2 of its key are under way, the most (concurrency)"
    played.go("concurrency", 1)
    starts = played.until("concurrency", *["begun"] * 4)
    assert _at(starts[2]["settled_at"]) >= _at(played.job("concurrency", starts[1])["finished_at"])
    for n in (0, 2, 3):
        played.go("concurrency", n)
    assert [played.result("concurrency", start)["n"] for start in starts] == [0, 1, 2, 3]


def test_a_singleton_skips_what_comes_while_it_runs(played: Scene) -> None:
    """With the reason; another key's begins, and so does the next one when it has ended."""
    (first,) = played.until("skip", "begun")
    played.holds("skip", first)
    played.send("skip", {"n": 2, "key": "a"}, {"n": 3, "key": "b"})
    starts = played.until("skip", "begun", "dropped", "begun")
    assert starts[1]["reason"] == f"{first['job_id']} of its key is under way (singleton: skip)"
    played.go("skip", 1)
    played.ended("skip", first)
    played.send("skip", {"n": 4, "key": "a"})
    starts = played.until("skip", "begun", "dropped", "begun", "begun")
    assert [played.result("skip", start)["n"] for start in (starts[0], starts[2], starts[3])] == [1, 3, 4]


def test_a_singleton_cancels_what_runs_for_what_comes(played: Scene) -> None:
    """Which begins when the old one has ended."""
    (first,) = played.until("cancel", "begun")
    played.holds("cancel", first)
    played.send("cancel", {"n": 2, "key": "a"})
    _, second = played.until("cancel", "begun", "begun")
    assert played.result("cancel", second)["n"] == 2
    old = played.job("cancel", first)
    assert old["status"] == "cancelled"
    assert _at(second["settled_at"]) >= _at(old["finished_at"])


def test_a_singleton_queues_what_comes_while_it_runs(played: Scene) -> None:
    """One after the other."""
    (first,) = played.until("queue", "begun")
    played.holds("queue", first)
    played.send("queue", {"n": 2, "key": "a"}, {"n": 3, "key": "a"})
    starts = played.until("queue", "begun", "waiting", "waiting")
    assert any("(singleton: queue)" in (start["reason"] or "") for start in starts)
    played.go("queue", 1)
    starts = played.until("queue", *["begun"] * 3)
    assert [played.result("queue", start)["n"] for start in starts] == [1, 2, 3]
    for before, after in pairwise(starts):
        assert _at(after["settled_at"]) >= _at(played.job("queue", before)["finished_at"])


# -- killed, and changed, in between ---------------------------------------------------------------------------------


def _is_back(scene: Scene, ended: int) -> bool:
    try:
        return scene.stack.gateway.get("/healthz").status_code == 200 and scene.stack.pid("gateway") != ended
    except httpx.TransportError:
        return False


def test_what_gathers_and_waits_when_the_gateway_is_killed_begins_once(scene: Scene) -> None:
    """All of it is on record: nothing is lost, and nothing begins twice."""
    for n in range(20):
        scene.send("gathers", {"n": n, "key": "ab"[n % 2]})
    scene.send("waits", *({"n": n} for n in range(8)))
    ended = scene.stack.pid("gateway")
    os.kill(ended, signal.SIGKILL)
    wait_until(lambda: _is_back(scene, ended), timeout=90, every=0.1, what="the gateway")
    gathered, waited = scene.settled("gathers"), scene.settled("waits")
    assert [(start["status"], start["events"]) for start in gathered] == [("begun", 10)] * 2
    assert {scene.result("gathers", start)["n"] for start in gathered} == {18, 19}
    assert [scene.result("waits", effect["start"])["n"] for effect in scene.effects("waits")] == list(range(8))
    for case, runs in (("gathers", 2), ("waits", 8)):
        assert len(scene.ask(case, "/v1/jobs")["items"]) == runs
    begun = _begun(waited)
    assert all(later - sooner >= timedelta(seconds=1) for sooner, later in pairwise(begun))


def test_what_is_declared_anew_holds_from_the_next_event_on(scene: Scene) -> None:
    """For those that wait already, too; the gateway reads the file when it has changed."""
    scene.send("changed", {"n": 1, "holds": True}, {"n": 2, "holds": True})
    scene.until("changed", "begun", "waiting")
    file = scene.stack.project / "prefect.yaml"
    put(file, *(deployment("changed", f"concurrency: {{limit: {n}}}") for n in (1, 2)))
    scene.send("changed", {"n": 3})
    starts = scene.until("changed", "begun", "begun", "waiting")
    for n, start in enumerate(starts[:2], 1):
        scene.holds("changed", start)
        scene.go("changed", n)
    starts = scene.until("changed", *["begun"] * 3)
    assert [scene.result("changed", start)["n"] for start in starts] == [1, 2, 3]


# -- the flow that is there ------------------------------------------------------------------------------------------


def test_a_profile_that_is_saved_three_times_is_synced_once(scene: Scene) -> None:
    """With its last picture, square, and with an event that says so."""
    old = scene.shop.lay_out("/old.jpg", content(picture()))
    new = scene.shop.lay_out("/new.jpg", content(picture(size=(400, 200))))
    saved = [{"account": "a-1", "name": "Ann", "picture_url": url} for url in (None, old, new)]
    scene.events["profile"] = scene.post("profile", "profile.changed", *saved)
    wait_until(
        lambda: set(scene.became("profile")) == {"begun"}, timeout=SECONDS_TO_BEGIN, every=0.2, what="the profile"
    )
    first, *_, last = scene.effects("profile")
    assert first["start"]["id"] == last["start"]["id"] and not first["passed_on"] and last["passed_on"]
    job = scene.ended("profile", last["start"])
    assert job["status"] == "completed", job["error"]
    square = next(asset for asset in job["assets"] if asset["id"] == job["result"]["picture"])
    assert (square["width"], square["height"]) == (256, 256)
    with Image.open(BytesIO(httpx.get(square["url"], trust_env=False).content)) as image:
        assert image.size == (256, 256)
    assert (scene.shop.visited("/old.jpg"), scene.shop.visited("/new.jpg")) == (0, 1)
    synced = scene.ask("profile", f"/v1/events/{job['result']['synced']}")
    assert (synced["name"], synced["data"]) == ("profile.synced", {"account": "a-1", "picture": square["id"]})


def test_a_profile_is_synced_from_prefects_ui_at_once(scene: Scene) -> None:
    """What a person starts is not held. Without a picture there is the event."""
    deployment = scene.stack.prefect.get("/deployments/name/sync-profile/debounced").raise_for_status().json()["id"]
    given = {"account": "a-2", "name": "Bob", "user": scene.user("person")}
    path = f"/deployments/{deployment}/create_flow_run"
    scene.stack.prefect.post(path, json={"parameters": given}).raise_for_status()
    (job,) = wait_until(
        lambda: scene.ask("person", "/v1/jobs?status=completed")["items"],
        timeout=SECONDS_TO_BEGIN,
        every=0.2,
        what="the run",
    )
    result = scene.stack.job(job["id"], user=scene.user("person"))["result"]
    assert (result["account"], result["picture"]) == ("a-2", None)
    synced = scene.ask("person", f"/v1/events/{result['synced']}")
    assert synced["data"] == {"account": "a-2", "picture": None}
    assert scene.ask("person", "/v1/pending-runs")["items"] == []
