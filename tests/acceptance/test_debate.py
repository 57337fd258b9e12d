"""A debate from order to stream: killed between every two of its nodes, failed at each of them, cancelled, replayed.

The cases run side by side and are told apart at the providers by a word in their brands' names. Those that are killed
have a run of their own each, and are killed in a node's middle: while its call is held at the provider, while its file
is to be fetched again, while FFmpeg is at work. Those that fail share one run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from running import DARKROOM, ENDED, Stack, leaves_nothing
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

# Case → what keeps it where it is killed.
KILLED: dict[str, dict[str, Any]] = {
    "painting": {"fal": {"endpoint": PAINTS, "hold": True}},
    "storing-picture": {
        "fal": {"endpoint": PAINTS, "file": "stalled_once", "of": "Fox"},
        "other": {"provider": "elevenlabs", "latency": 0},
    },
    "filming": {"fal": {"endpoint": FILMS, "hold": True}},
    "storing-film": {"fal": {"endpoint": FILMS, "file": "stalled_once"}},
    "composing": {},
    "streaming": {"other": {"provider": "mux", "operation": "put_film", "hold": True}},
}
REJECTED = "422_content_policy"
# Case → what goes wrong, at which step it ends, and what is there by then.
FAILED: dict[str, dict[str, Any]] = {
    "no-script": {"other": {"provider": "gemini", "fault": "reject", "times": 1}, "step": "script", "kept": set()},
    "no-picture": {"fal": {"endpoint": PAINTS, "result": REJECTED, "of": "Fox"}, "step": "mascot-1", "kept": set()},
    "no-voice": {"other": {"provider": "elevenlabs", "fault": "reject", "times": 1}, "step": "voice", "kept": set()},
    "no-film": {
        "fal": {"endpoint": FILMS, "result": REJECTED},
        "step": "film",
        "kept": {"mascot-1", "mascot-2", "stage"},
    },
    "no-composite": {"fal": {"endpoint": FILMS, "hold": True}, "step": "composite", "kept": FILES - {"composite"}},
    "no-stream": {
        "other": {"provider": "mux", "operation": "put_film", "fault": "bad_film"},
        "step": "upload",
        "kept": FILES,
    },
}
# By the step that fails: what needs it.
NOT_BEGUN = {
    "script": {"mascot-1", "mascot-2", "voice", "film", "upload"},
    "mascot-1": {"film", "upload"},
    "voice": {"upload"},
    "film": {"upload"},
    "composite": {"upload"},
    "upload": set(),
}
OTHERS: dict[str, dict[str, Any]] = {
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
# What the others have made by then is the same, or less.
REPLAYED = ("no-voice", "no-film", "no-composite", "no-stream")
CASES = (*KILLED, *FAILED, *OTHERS)
RULES = KILLED | FAILED | OTHERS


@dataclass
class Debates:
    stack: Stack
    jobs: dict[str, str] = field(default_factory=dict)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)  # as they were before the replay
    filmed_without_voice: bool = False

    def word(self, case: str) -> str:
        return f"Q{CASES.index(case):02}"

    def user(self, case: str) -> str:
        return "unlucky debater" if case in FAILED else f"debater of {case}"

    def order(self, case: str) -> None:
        word = self.word(case)
        body = {"topic": "tea", "brands": [f"Fox {word}", f"Hen {word}"], "duration": "5"}
        answer = self.stack.gateway.post("/v1/debates", json=body, headers=self.stack.bearer(self.user(case)))
        assert answer.status_code == 202, answer.text
        assert 0.35 < answer.json()["estimate_usd"] < 0.5
        self.jobs[case] = answer.json()["job_id"]

    def misbehave(self, case: str) -> None:
        rules = RULES[case]
        if "fal" in rules:
            rule = dict(rules["fal"])
            match = f"{rule.pop('of')} {self.word(case)}" if "of" in rule else self.word(case)
            self.stack.misbehave(match, **rule)
        others = rules.get("other", [])
        for other in others if isinstance(others, list) else [others]:
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

    def is_stored_next(self, case: str, step: str) -> bool:
        """Its call is answered, its file is not there yet; for seconds, since its beginning comes and then nothing."""
        return self.is_row(case, step, SUCCEEDED) and step not in self.stored(case) and bool(self.processes(case))

    def composes(self, case: str) -> bool:
        """By the processes alone: FFmpeg is done within a second."""
        flow = f"flow-{self.flow_run(case).hex}"
        at_work = [process for process in psutil.process_iter(["name"]) if "ffmpeg" in process.info["name"]]
        return any(flow.startswith(parent_name(process)) for process in at_work)

    def is_at(self, case: str) -> bool:
        """Whether it is where it is to be killed: with no call under way whose answer only its process could take."""
        match case:
            case "painting":
                held = all(self.is_row(case, step, IN_FLIGHT) for step in ("mascot-1", "mascot-2"))
                return held and self.is_row(case, "voice", SUCCEEDED)
            case "storing-picture":
                return self.is_stored_next(case, "mascot-1") and self.is_row(case, "voice", SUCCEEDED)
            case "filming":
                return is_filmed_with_voice(self, case)
            case "storing-film":
                return self.is_stored_next(case, "film")
            case "composing":
                return self.composes(case)
            case _:
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
    running.command(DARKROOM, "account", "set", "fal", "--slots", "40")
    debates = Debates(stack=running)
    for user in {debates.user(case) for case in CASES}:
        running.keys[user] = running.ledger.users.add(user, plan="studio").key
    for case in CASES:
        debates.misbehave(case)
    for cases, watchers in WAVES:
        for case in cases:
            debates.order(case)
        watch_each(debates, watchers)
    bring_to_their_ends(debates)
    replay(debates)
    yield debates
    leaves_nothing(running)
    running.command(DARKROOM, "account", "set", "fal", "--slots", "10")


def watch_each(debates: Debates, watchers: Sequence[Watcher]) -> None:
    """Each by a thread of its own, which acts as soon as its debate is at its point: what waits suspends soon."""
    with ThreadPoolExecutor(len(watchers)) as threads:
        for watched in [threads.submit(watcher, debates) for watcher in watchers]:
            watched.result()


def kill(debates: Debates, case: str) -> None:
    _until(lambda: debates.is_at(case), f"{case} to be at its point")
    debates.stack.kill_run(debates.flow_run(case))
    debates.let_go(case)


def let_speak(debates: Debates) -> None:
    """The voice is held until its film is under way."""
    _until(lambda: bool(debates.paid("bumpy")[FILMS]), "a film without its voice")
    debates.filmed_without_voice = not debates.is_row("bumpy", "voice", SUCCEEDED)
    debates.let_go("bumpy")


def spoil_the_voice(debates: Debates) -> None:
    """A file of the media store is not what was put there."""
    case = "no-composite"
    _until(lambda: is_filmed_with_voice(debates, case), "voice and film")
    voice = voice_file(debates)
    voice.rename(voice.with_suffix(".aside"))
    voice.write_text("not a sound any more")
    debates.let_go(case)


def is_filmed_with_voice(debates: Debates, case: str) -> bool:
    return debates.is_row(case, "film", IN_FLIGHT) and "voice" in debates.stored(case)


def voice_file(debates: Debates) -> Path:
    assets = debates.stack.ledger.assets.of_job(debates.jobs["no-composite"])
    (asset,) = [asset for asset in assets if asset.step == "voice"]
    return debates.stack.home / "media" / asset.key


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
    (("bumpy", "normal"), (let_speak,)),
    (KILLED, [partial(kill, case=case) for case in KILLED]),
    ((*FAILED, "cancelled"), (spoil_the_voice, cancel)),
)


def bring_to_their_ends(debates: Debates) -> None:
    def ended() -> bool:
        return all(debates.job(case)["status"] in ENDED for case in CASES)

    wait_until(ended, timeout=200, every=0.5, what="the end of every debate")


def replay(debates: Debates) -> None:
    """Nothing is in their way any more."""
    debates.failures = {case: debates.job(case) for case in FAILED}
    debates.stack.simulator.delete("/_sim/rules").raise_for_status()
    voice = voice_file(debates)
    voice.with_suffix(".aside").rename(voice)
    for case in REPLAYED:
        debates.post(case, "replay")
    bring_to_their_ends(debates)


def _until(predicate: Callable[[], bool], what: str) -> None:
    wait_until(predicate, timeout=150, every=0.05, what=what)


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


@pytest.mark.parametrize("case", KILLED)
def test_a_debate_killed_between_two_nodes_goes_on_and_pays_nothing_twice(debates: Debates, case: str) -> None:
    """By the providers' own books."""
    debates.completed(case)
    assert "Crashed" in debates.stack.history(debates.flow_run(case))
    assert debates.paid(case) == PAID
    assert debates.stored(case) == FILES


@pytest.mark.parametrize("case", FAILED)
def test_a_failure_at_a_node_is_the_jobs_and_keeps_what_was_made_before(debates: Debates, case: str) -> None:
    """It names the node and the reason, without the words of the order; nothing after it was paid."""
    failed, expected = debates.failures[case], FAILED[case]
    assert failed["status"] == "failed"
    assert (failed["error"]["step"], failed["error"]["class"]) == (expected["step"], "permanent")
    assert failed["error"]["message"] and debates.word(case) not in failed["error"]["message"]
    assert failed["result"] is None
    kept = {asset["key"].rpartition("/")[2].rpartition("-")[0] for asset in failed["assets"]}
    assert kept >= expected["kept"]
    begun = {row["step"] for row in failed["requests"]}
    assert not begun & NOT_BEGUN[expected["step"]]


@pytest.mark.parametrize("case", REPLAYED)
def test_a_replayed_debate_makes_only_what_had_failed(debates: Debates, case: str) -> None:
    """A stream that failed costs no second film; refused calls were not billed, rejected ones are in fal's book."""
    debates.completed(case)
    assert debates.paid(case) == Counter(PAID) + Counter({FILMS: int(case == "no-film")})
    assert debates.stored(case) == FILES


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


def test_a_debate_can_be_started_from_prefect(stack: Stack) -> None:
    """As from the form of its deployment; the job is the user's whom it names."""
    stack.bearer("by hand")
    found = stack.prefect.get("/deployments/name/make-debate/on-demand").raise_for_status().json()["id"]
    order = {"topic": "tea", "brands": ["Fox by hand", "Hen by hand"], "duration": "5", "user": "by hand"}
    made = stack.prefect.post(f"/deployments/{found}/create_flow_run", json={"parameters": order}).raise_for_status()
    run = stack.in_state(UUID(made.json()["id"]), "Completed", "Failed", "Crashed")
    assert run["state_name"] == "Completed", run["state"]["message"]
    (job,) = stack.gateway.get("/v1/jobs", headers=stack.bearer("by hand")).json()["items"]
    assert (job["kind"], job["status"]) == ("make-debate", "completed")


def test_a_missing_account_is_said_before_anything_is_paid(stack: Stack, debates: Debates) -> None:
    """By name of block and variable; with it the job goes on."""
    found = stack.prefect.get("/block_types/slug/mux-account/block_documents/name/default").raise_for_status()
    stack.prefect.delete(f"/block_documents/{found.json()['id']}").raise_for_status()
    try:
        body = {"topic": "tea", "brands": ["Fox unpaid", "Hen unpaid"], "duration": "5"}
        headers = stack.bearer("unpaid debater")
        job_id = stack.gateway.post("/v1/debates", json=body, headers=headers).raise_for_status().json()["job_id"]
        job = stack.ended(job_id, user="unpaid debater")
    finally:
        stack.command(DARKROOM, "provision")
    assert (job["status"], job["error"]["class"]) == ("failed", "needs_human")
    assert "mux-account/default" in job["error"]["message"] and "MUX_TOKEN_ID" in job["error"]["message"]
    assert stack.simulator.get("/_sim/calls", params={"match": "Fox unpaid"}).json() == []
