"""A debate from order to stream: killed on its way, cancelled.

The cases run side by side and are told apart at the providers by a word in their brands' names. One is killed twice:
while FFmpeg is at work, and while its film is on its way to its stream. That it may die at any point, fail at each
node, and be replayed then, is shown without processes, in `tests/integration/test_dying_orders.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import psutil
import pytest
from running import Stack, leaves_nothing
from support import wait_until

from darkroom.flows.make_debate import FILMS, PAINTS
from darkroom.ledger import RequestStatus
from darkroom.media.film import spread
from darkroom.media.film.caption_check import captions_show
from darkroom.media.formats.films import read_film

IN_FLIGHT, SUCCEEDED = RequestStatus.IN_FLIGHT, RequestStatus.SUCCEEDED
STEPS = ("script", "mascot-1", "mascot-2", "voice", "film", "upload")
FILES = {"mascot-1", "mascot-2", "voice", "stage", "film", "composite"}
PAID = {"gemini": 1, PAINTS: 2, "elevenlabs": 1, FILMS: 1, "mux": 1}

KILLED = "killed"
BY_HAND = "normal"  # started in Prefect
# Case → what the providers do.
RULES: dict[str, dict[str, Any]] = {
    KILLED: {"other": [{"provider": "mux", "operation": "put_film", "hold": True}]},
    "normal": {},
    "bumpy": {
        "other": [
            {"provider": "gemini", "fault": "garbage", "times": 1},
            {"provider": "elevenlabs", "hold": True},
            {"provider": "mux", "operation": "put_film", "webhook": "lost"},
        ]
    },
    "cancelled": {"fal": {"endpoint": FILMS, "hold": True}},
}
CASES = tuple(RULES)


@dataclass
class Debates:
    stack: Stack
    jobs: dict[str, str] = field(default_factory=dict)
    filmed_without_voice: bool = False

    def word(self, case: str) -> str:
        return f"Q{CASES.index(case):02}"

    def user(self, case: str) -> str:
        return f"debater of {case}"

    def order(self, case: str) -> None:
        headers = self.stack.bearer(self.user(case))
        answer = self.stack.gateway.post("/v1/debates", json=self.body(case), headers=headers)
        assert answer.status_code == 202, answer.text
        assert 0.35 < answer.json()["estimate_usd"] < 0.5
        self.jobs[case] = answer.json()["job_id"]

    def body(self, case: str) -> dict[str, Any]:
        word = self.word(case)
        return {"topic": "tea", "brands": [f"Fox {word}", f"Hen {word}"], "duration": "5"}

    def start_in_prefect(self, case: str) -> None:
        """As from the form of its deployment; the job is the user's whom it names."""
        api = self.stack.prefect
        found = api.get("/deployments/name/make-debate/on-demand").raise_for_status().json()["id"]
        parameters = {**self.body(case), "user": self.user(case)}
        api.post(f"/deployments/{found}/create_flow_run", json={"parameters": parameters}).raise_for_status()
        user_id = self.stack.ledger.users.find(self.user(case)).id
        (job,) = wait_until(lambda: self.stack.ledger.jobs.page(user_id, limit=2), timeout=60, every=0.1, what=case)
        self.jobs[case] = job.id

    def misbehave(self, case: str) -> None:
        rules = RULES[case]
        if "fal" in rules:
            self.stack.misbehave(self.word(case), **rules["fal"])
        for other in rules.get("other", []):
            rule = other | {"match": self.word(case)}
            self.stack.simulator.post("/_sim/calls/rules", json=rule).raise_for_status()

    def let_go(self, case: str) -> None:
        self.stack.release(self.word(case))
        for call in self.calls(case):
            self.stack.simulator.post(f"/_sim/calls/{call['id']}/release").raise_for_status()

    def calls(self, case: str) -> list[dict[str, Any]]:
        """The book of the providers beside fal."""
        return list(self.stack.simulator.get("/_sim/calls", params={"match": self.word(case)}).json())

    def paid(self, case: str) -> Counter[str]:
        """The providers' own counts. What fal rejects is in its book, and may be charged."""
        fal = Counter(request["endpoint"] for request in self.stack.at_provider(self.word(case)))
        return fal + Counter(call["provider"] for call in self.calls(case) if call["billed"])

    def job(self, case: str) -> dict[str, Any]:
        return self.stack.job(self.jobs[case], user=self.user(case))

    def completed(self, case: str) -> dict[str, Any]:
        job = self.job(case)
        assert job["status"] == "completed", job["error"]
        return job

    def post(self, case: str, what: str) -> None:
        path = f"/v1/jobs/{self.jobs[case]}/{what}"
        self.stack.gateway.post(path, headers=self.stack.bearer(self.user(case))).raise_for_status()

    def is_row(self, case: str, step: str, status: RequestStatus) -> bool:
        return any(row.step == step and row.status is status for row in self.stack.rows(self.jobs[case]))

    def stored(self, case: str) -> set[str]:
        return {str(asset.step) for asset in self.stack.ledger.assets.of_job(self.jobs[case])}

    def flow_run(self, case: str) -> UUID:
        return self.stack.flow_run_id(self.jobs[case])

    def processes(self, case: str) -> list[psutil.Process]:
        return self.stack.flow_processes(self.flow_run(case))

    def composes(self, case: str) -> bool:
        """By the processes alone: FFmpeg is done within a second. They are many: looked at once it may have begun."""
        if not {"film", "voice"} <= self.stored(case):
            return False
        flow = f"flow-{self.flow_run(case).hex}"
        at_work = [process for process in psutil.process_iter(["name"]) if "ffmpeg" in process.info["name"]]
        return any(flow.startswith(parent_name(process)) for process in at_work)

    def streams(self, case: str) -> bool:
        """With no call under way whose answer only its process could take."""
        return self.is_row(case, "upload", IN_FLIGHT) and self.paid(case)["mux"] == 1


def parent_name(process: psutil.Process) -> str:
    """A name that is none where either has ended meanwhile."""
    try:
        parent = process.parent()
        return parent.name() if parent is not None else "?"
    except psutil.NoSuchProcess:
        return "?"


Watcher = Callable[[Debates], None]


@pytest.fixture(scope="module")
def debates(running: Stack) -> Iterator[Debates]:
    running.ledger.users.set_account("fal", slots=40)
    debates = Debates(stack=running)
    for user in {debates.user(case) for case in CASES}:
        running.keys[user] = running.ledger.users.add(user, plan="studio").key
    for case in CASES:
        debates.misbehave(case)
    for cases, watchers in WAVES:
        for case in cases:
            debates.order(case) if case != BY_HAND else debates.start_in_prefect(case)
        watch_each(debates, watchers)
    bring_to_their_ends(debates)
    yield debates
    leaves_nothing(running)
    running.ledger.users.set_account("fal", slots=10)


def watch_each(debates: Debates, watchers: Sequence[Watcher]) -> None:
    """Each by a thread of its own, which acts as soon as its debate is at its point: what waits suspends soon."""
    with ThreadPoolExecutor(len(watchers)) as threads:
        for watched in [threads.submit(watcher, debates) for watcher in watchers]:
            watched.result()


def kill_twice(debates: Debates) -> None:
    for is_there in (debates.composes, debates.streams):
        _until(partial(is_there, KILLED), is_there.__name__, every=0.05)
        debates.stack.kill_run(debates.flow_run(KILLED))
    debates.let_go(KILLED)


def let_speak(debates: Debates) -> None:
    """The voice is held until its film is under way."""
    _until(lambda: bool(debates.paid("bumpy")[FILMS]), "a film without its voice")
    debates.filmed_without_voice = not debates.is_row("bumpy", "voice", SUCCEEDED)
    debates.let_go("bumpy")


def cancel(debates: Debates) -> None:
    """While it is filmed. The provider hears of it, and films on, as most models do."""
    _until(
        lambda: debates.is_row("cancelled", "film", IN_FLIGHT) and "voice" in debates.stored("cancelled"), "the film"
    )
    debates.post("cancelled", "cancel")

    def heard() -> bool:
        asked = debates.stack.at_provider(debates.word("cancelled"))
        return [request["cancel_requested"] for request in asked if request["endpoint"] == FILMS] == [True]

    _until(heard, "the cancel at the provider")
    debates.let_go("cancelled")


# Not all at once: two cores make a second of film in a second.
WAVES: tuple[tuple[Iterable[str], Sequence[Watcher]], ...] = (
    (("bumpy", BY_HAND), (let_speak,)),
    ((KILLED, "cancelled"), (kill_twice, cancel)),
)


def bring_to_their_ends(debates: Debates) -> None:
    def ended() -> bool:
        return all(debates.stack.has_ended(debates.jobs[case]) for case in CASES)

    wait_until(ended, timeout=200, every=0.5, what="the end of every debate")


def _until(predicate: Callable[[], bool], what: str, *, every: float = 0.2) -> None:
    wait_until(predicate, timeout=150, every=every, what=what)


def test_a_debate_comes_to_a_film_with_voice_and_captions_and_its_stream(debates: Debates) -> None:
    """The film is fetched as a user fetches it, and looked at: each line is in the picture while it is said."""
    job = debates.completed("normal")
    result, files = job["result"], {asset["key"].rpartition("/")[2]: asset for asset in job["assets"]}
    assert files["composite-0.mp4"]["id"] == result["video"]
    finished = debates.stack.gateway.get(files["composite-0.mp4"]["url"]).raise_for_status().content
    film = debates.stack.gateway.get(files["film-0.mp4"]["url"]).raise_for_status().content

    made, bare, voice_seconds = read_film(finished), read_film(film), files["voice-0.mp3"]["seconds"]
    assert made.has_sound and not bare.has_sound
    assert made.seconds == pytest.approx(max(voice_seconds, bare.seconds), abs=0.2)
    lines = [(line["speaker"], line["text"]) for line in result["script"]]
    assert {speaker for speaker, _ in lines} == {f"Fox {debates.word('normal')}", f"Hen {debates.word('normal')}"}
    assert captions_show(finished, film, spread(lines, voice_seconds), film_seconds=bare.seconds)

    (streamed,) = [call for call in debates.calls("normal") if call["operation"] == "put_film"]
    assert result["playback_id"] == streamed["result"]["playback_id"]
    assert result["playback_url"] == f"https://stream.mux.com/{result['playback_id']}.m3u8"


def test_each_call_of_a_debate_is_paid_once_and_is_on_record_with_its_cost(debates: Debates) -> None:
    """Mux tells by webhook, as fal does; the others' answers are their outcomes."""
    job = debates.completed("normal")
    assert debates.paid("normal") == PAID
    told = {row["step"]: row["delivered_via"] for row in job["requests"]}
    assert told == dict.fromkeys(STEPS, "webhook") | {"script": None, "voice": None}
    assert sum(row["cost_usd"] for row in job["requests"]) == pytest.approx(job["cost_usd"])
    assert 0.35 < job["cost_usd"] < 0.45


def test_a_debate_is_shown_as_a_storyboard_with_its_costs(debates: Debates) -> None:
    """In Prefect's UI: lines, pictures, film and sound; its bar is at its end."""
    of_run = {"any_": [str(debates.stack.flow_run_id(debates.jobs["normal"]))]}
    found = debates.stack.prefect.post("/artifacts/filter", json={"artifacts": {"flow_run_id": of_run}})
    newest = sorted(found.raise_for_status().json(), key=lambda artifact: artifact["created"])
    shown = {artifact["key"]: artifact["data"] for artifact in newest}
    result = debates.completed("normal")["result"]
    for line in result["script"]:
        assert line["text"] in shown["storyboard"]
    assert shown["storyboard"].count("](http") == 6
    assert all(step in str(shown["costs"]) for step in STEPS)
    assert shown["progress"] == 100


def test_a_debate_killed_between_two_nodes_goes_on_and_pays_nothing_twice(debates: Debates) -> None:
    """By the providers' own books."""
    debates.completed(KILLED)
    assert debates.stack.history(debates.flow_run(KILLED)).count("Crashed") >= 2
    assert debates.paid(KILLED) == PAID
    assert debates.stored(KILLED) == FILES


def test_a_script_that_is_none_is_a_paid_failed_attempt_and_is_asked_for_anew(debates: Debates) -> None:
    """Both are on record with what they cost."""
    job = debates.completed("bumpy")
    attempts = [(row["attempt"], row["status"]) for row in job["requests"] if row["step"] == "script"]
    assert attempts == [(1, "failed"), (2, "succeeded")]
    assert all(row["cost_usd"] > 0 for row in job["requests"] if row["step"] == "script")
    assert debates.paid("bumpy") == Counter(PAID) + Counter(["gemini"])


def test_the_film_does_not_wait_for_the_voice(debates: Debates) -> None:
    """It was under way while the voice was still held; they meet where both are needed."""
    assert debates.filmed_without_voice
    assert "voice" in debates.stored("bumpy")


def test_a_stream_of_which_nobody_told_is_found_by_asking(debates: Debates) -> None:
    """Mux' webhook is lost: reconcile asks for the upload."""
    told = {row["step"]: row["delivered_via"] for row in debates.completed("bumpy")["requests"]}
    assert told["upload"] == "poll"


def test_a_debate_cancelled_in_its_middle_is_cancelled_at_the_provider(debates: Debates) -> None:
    """What ran on there is paid, and kept; nothing is made of it."""
    job = debates.job("cancelled")
    assert job["status"] == "cancelled"
    assert debates.paid("cancelled") == {name: count for name, count in PAID.items() if name != "mux"}
    assert "composite" not in debates.stored("cancelled")


def test_a_debate_can_be_started_from_prefect(debates: Debates) -> None:
    """As from the form of its deployment; the job is the user's whom it names."""
    (job,) = debates.stack.gateway.get("/v1/jobs", headers=debates.stack.bearer(debates.user(BY_HAND))).json()["items"]
    assert (job["id"], job["kind"], job["status"]) == (debates.jobs[BY_HAND], "make-debate", "completed")
    assert debates.stack.in_state(debates.flow_run(BY_HAND), "Completed")


def test_a_missing_account_is_said_before_anything_is_paid(stack: Stack, debates: Debates) -> None:
    """By name of block and variable."""
    path = "/block_types/slug/mux-account/block_documents/name/default"
    found = stack.prefect.get(path, params={"include_secrets": True}).raise_for_status().json()
    stack.prefect.delete(f"/block_documents/{found['id']}").raise_for_status()
    try:
        body = {"topic": "tea", "brands": ["Fox unpaid", "Hen unpaid"], "duration": "5"}
        headers = stack.bearer("unpaid debater")
        job_id = stack.gateway.post("/v1/debates", json=body, headers=headers).raise_for_status().json()["job_id"]
        job = stack.ended(job_id, user="unpaid debater")
    finally:
        again = {name: found[name] for name in ("name", "data", "block_type_id", "block_schema_id")}
        stack.prefect.post("/block_documents/", json=again).raise_for_status()
    assert (job["status"], job["error"]["class"]) == ("failed", "needs_human")
    assert "mux-account/default" in job["error"]["message"] and "MUX_TOKEN_ID" in job["error"]["message"]
    assert stack.simulator.get("/_sim/calls", params={"match": "Fox unpaid"}).json() == []
