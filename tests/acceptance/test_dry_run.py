"""Jobs fail, the code is changed, and it is tried on them for free; then the same jobs go again, under a budget.

The project that the stack runs is put at fault where a test says so. While the dry run is at it nothing else moves:
gateway and worker are held, so that whatever changes in the ledger or comes to a provider is its own.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import psutil
import psycopg
import pytest
from running import DARKROOM, ENDED, Stack, leaves_nothing
from support import wait_until
from trial_project import as_it_was, put, take_up

from darkroom.clock import utc_now
from darkroom.orchestrator import Orchestrator
from darkroom.orchestrator.api import PrefectApi
from darkroom.orchestrator.dispatch import Dispatcher

TRAINER = "fal-ai/flux-lora-fast-training"
FAULTY = "flows/parts/post_processing.py"  # as it is in the beginning; the others become what they are today later
USER = "the one whose jobs fail"
MARK, MARK_AND_ENLARGE = [{"step": "watermark"}], [{"step": "watermark"}, {"step": "upscale", "factor": 2}]
PER_CASE = {
    "mark": 4,  # our own mistake, in a step after the picture
    "mark and enlarge": 2,  # … and a paid step comes after it
    "refused": 1,  # for its prompt, which stays
    "asked otherwise": 2,  # for its prompt, which the changed code asks otherwise
    "busy": 2,  # the provider was, each time
    "import": 2,  # of an address that is none of the web's
    "own code": 2,  # a mistake that the change makes another
    "own step": 2,  # an unpaid side effect
    "training": 1,  # one of its test pictures was refused
    "batch": 1,  # whose rows all failed
    "rows": 2,  # … refused
}
TODAY = {
    "mark": "completes",
    "mark and enlarge": "pays",
    "refused": "fails the same",
    "asked otherwise": "pays",
    "busy": "pays",
    "import": "fails the same",
    "own code": "fails otherwise",
    "own step": "cannot tell",
    "training": "fails the same",
    "batch": "cannot tell",
    "rows": "fails the same",
}
OTHER_KINDS = ("import", "own code", "own step", "training", "batch")
# File → what stands there today, and what stood there when the jobs failed.
CHANGES = {
    "flows/parts/post_processing.py": (
        "return watermark(job.read(picture), mark)",
        "return watermark(job.read(picture), mark.no_such_thing)",
    ),
    "flows/broken_flows.py": ('FAULT = "after"', 'FAULT = "before"'),
    "flows/orders/picture.py": (
        'named["prompt"] = named["prompt"].replace("gore", "flowers")\n        if style is None:',
        "if style is None:",
    ),
}


@dataclass(frozen=True)
class Scene:
    stack: Stack
    since: datetime
    jobs: dict[str, list[str]] = field(default_factory=dict)  # by case

    def job(self, job_id: str) -> dict[str, Any]:
        return self.stack.job(job_id, user=USER)

    def statuses(self, case: str) -> Counter[str]:
        return Counter(self.job(job_id)["status"] for job_id in self.jobs[case])

    def order(self, what: str, **body: Any) -> str:
        answer = self.stack.gateway.post(f"/v1/{what}", json=body, headers=self.stack.bearer(USER))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    def until_ended(self, job_ids: Iterable[str] | None = None) -> None:
        for job_id in job_ids or [job_id for job_ids in self.jobs.values() for job_id in job_ids]:
            self.stack.ended(job_id, user=USER, timeout=150)


@dataclass(frozen=True)
class Told:
    """What the dry run said, and what it left as it was."""

    by_job: Mapping[str, dict[str, Any]]
    summary: Mapping[str, Any]
    read: str  # of the pictures alone, as a person reads it
    before: tuple[object, ...]
    after: tuple[object, ...]

    def of(self, scene: Scene, case: str) -> list[dict[str, Any]]:
        return [self.by_job[job_id]["today"] for job_id in scene.jobs[case]]


@pytest.fixture(scope="module")
def scene(running: Stack) -> Iterator[Scene]:
    """Everything has failed, and the code is changed by now."""
    with as_it_was(running.project, *CHANGES):
        path = running.project / FAULTY
        put(path, *CHANGES[FAULTY])
        take_up(running)
        scene = Scene(running, since=utc_now())
        _misbehave(running)
        running.misbehave("busy", result="500")
        running.misbehave("", endpoint=TRAINER, latency=0.2)
        _order_all(scene)
        scene.until_ended()
        (batch,) = scene.jobs["batch"]
        scene.jobs["rows"] = [row.id for row in running.ledger.batches.page(batch, limit=10)]
        assert {case: scene.statuses(case) for case in PER_CASE} == {c: {"failed": n} for c, n in PER_CASE.items()}
        for name, (today, before) in CHANGES.items():
            put(running.project / name, before, today)
        yield scene
    take_up(running)
    leaves_nothing(running)


@pytest.fixture(scope="module")
def told(scene: Scene) -> Told:
    with _held(scene):
        before = _state(scene)
        tried = (DARKROOM, "replay", "--dry-run", "--failed-since", scene.since.isoformat())
        lines = scene.stack.command(*tried, "--json").stdout
        read = scene.stack.command(*tried, "--kind", "generate-image").stdout
        after = _state(scene)
    *jobs, last = [json.loads(line) for line in lines.splitlines()]
    by_job = {each["job_id"]: each for each in jobs}
    return Told(by_job=by_job, summary=last["summary"], read=read, before=before, after=after)


@pytest.fixture(scope="module")
def replayed(scene: Scene, told: Told) -> Scene:
    """The command that the dry run gave was called, with the code that it tried."""
    take_up(scene.stack)
    scene.stack.simulator.delete("/_sim/rules").raise_for_status()
    _misbehave(scene.stack)
    command, *arguments = shlex.split(told.summary["live"])
    assert command == "darkroom"
    scene.stack.command(DARKROOM, *arguments)
    scene.until_ended()
    return scene


def _misbehave(stack: Stack) -> None:
    for word in ("gore", "forbidden"):
        stack.misbehave(word, result="422_content_policy")


def _order_all(scene: Scene) -> None:
    n = iter(range(1000))

    def picture(words: str, **more: Any) -> str:
        return scene.stack.order(f"{words}, number {next(n)}", user=USER, image_size="square", **more)

    ways = {
        "mark": lambda: picture("a fox", post=MARK),
        "mark and enlarge": lambda: picture("a large fox", post=MARK_AND_ENLARGE),
        "refused": lambda: picture("a forbidden fox"),
        "asked otherwise": lambda: picture("a fox and gore"),
        "busy": lambda: picture("a busy fox"),
        "import": lambda: scene.order("imports", urls=[f"http://127.0.0.1/fox-{next(n)}.png"]),
        "own code": lambda: _own(scene, "in its code"),
        "own step": lambda: _own(scene, "in its step"),
    }
    for case, way in ways.items():
        scene.jobs[case] = [way() for _ in range(PER_CASE[case])]
    scene.jobs["batch"] = [scene.order("batches", rows=[{"prompt": f"a forbidden fox, row {n}"} for n in range(2)])]
    scene.jobs["training"] = [_train(scene, scene.jobs["mark"][:4])]


def _train(scene: Scene, job_ids: list[str]) -> str:
    """On what these jobs have stored before they failed."""
    scene.until_ended(job_ids)
    images = [asset["id"] for job_id in job_ids for asset in scene.job(job_id)["assets"]]
    return scene.order("loras", trigger_word="my_fox", images=images, test_prompts=["a forbidden my_fox", "my_fox"])


def _own(scene: Scene, fails: str) -> str:
    api = PrefectApi(
        scene.stack.environment["PREFECT_API_URL"], auth=scene.stack.environment["PREFECT_API_AUTH_STRING"]
    )
    scene.stack.bearer(USER)
    user_id = scene.stack.ledger.users.find(USER).id
    posted = scene.stack.ledger.jobs.post(user_id=user_id, kind="own-work", parameters={"fails": fails})
    with Orchestrator(api) as orchestrator:
        Dispatcher(scene.stack.ledger, orchestrator).carry_out(posted.implied)
    return posted.job.id


# -- nothing else moves ----------------------------------------------------------------------------------------------


@contextmanager
def _held(scene: Scene) -> Iterator[None]:
    """Gateway and worker stand still, and no flow is under way, reconcile's either: one waits for its worker's word."""
    stack = scene.stack
    parts = [psutil.Process(stack.pid(part)) for part in ("gateway", "worker")]

    def flows() -> list[psutil.Process]:
        return [each for each in parts[1].children(recursive=True) if each.name().startswith("flow-")]

    # A turn of reconcile whose process an earlier test has killed is ended by another one, a minute later.
    wait_until(lambda: not _under_way(stack), timeout=90, every=0.1, what="the end of every turn")
    with stack.without_cron():
        wait_until(lambda: not stack.ledger.runs.not_closed(), timeout=60, every=0.1, what="the end of every run")
        wait_until(lambda: not _under_way(stack) and not flows(), timeout=60, every=0.1, what="the end of every flow")
        for part in parts:
            part.suspend()
        try:
            yield
        finally:
            for part in parts:
                part.resume()


def _under_way(stack: Stack) -> int:
    """Runs that a worker may yet begin, or has begun."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
    return int(stack.prefect.post("/flow_runs/count", json=wanted).raise_for_status().json())


def _state(scene: Scene) -> tuple[object, ...]:
    """A hash of each table of the ledger and of each file of the media store, and what has come to any provider."""
    stats = scene.stack.simulator.get("/_sim/stats").raise_for_status().json()
    media = [path for path in sorted((scene.stack.home / "media").rglob("*")) if path.is_file()]
    files = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in media}
    with psycopg.connect(scene.stack.environment["DARKROOM_LEDGER_URL"]) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
        hashed = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM \"{0}\" AS t"
        tables = {name: connection.execute(hashed.format(name)).fetchone() for (name,) in names}
    return stats, files, tables


# -- the dry run -----------------------------------------------------------------------------------------------------


def test_every_failed_job_is_told_what_would_become_of_it(scene: Scene, told: Told) -> None:
    """Each of them, by the code as it is now."""
    assert len(told.by_job) == sum(PER_CASE.values())
    verdicts = {case: Counter(today["verdict"] for today in told.of(scene, case)) for case in PER_CASE}
    assert verdicts == {case: {TODAY[case]: count} for case, count in PER_CASE.items()}


def test_no_provider_was_asked_and_nothing_was_written(told: Told) -> None:
    """No request of any kind came to the provider, and no row and no file is another one."""
    assert told.before == told.after
    stats, files, tables = told.before
    assert isinstance(stats, dict) and stats["client_requests"] > 0 and files and tables


def test_what_is_yet_to_be_paid_is_listed(scene: Scene, told: Told) -> None:
    """With what differs from the call that failed, and the sum."""
    asked = {case: [ask for today in told.of(scene, case) for ask in today["asks"]] for case in PER_CASE}
    hows = {case: Counter((ask["step"], ask["how"]) for ask in asks) for case, asks in asked.items() if asks}
    assert hows == {
        "mark and enlarge": {("2-upscale", "first"): 2},
        "refused": {("generate", "again"): 1},
        "asked otherwise": {("generate", "otherwise"): 2},
        "busy": {("generate", "again"): 2},
        "import": {("image-0001", "again"): 2},
        "training": {("test-1", "again"): 1},
        "rows": {("generate", "again"): 2},
    }
    assert {tuple(ask["changed"]) for ask in asked["asked otherwise"]} == {("prompt",)}
    assert {ask["refused"] for ask in asked["refused"]} == {"content_policy_violation"}
    total = sum(Decimal(ask["estimate_usd"]) for asks in asked.values() for ask in asks)
    assert Decimal(told.summary["price_usd"]) == total > 0
    assert all(Decimal(today["price_usd"]) == 0 for today in told.of(scene, "mark"))


def test_a_person_reads_a_line_a_job_and_the_command_to_go_on_with(scene: Scene, told: Told) -> None:
    """Of the kind that was asked for; no prompt is in it."""
    *lines, _, sums, price, _, command = told.read.splitlines()
    assert len(lines) == sum(PER_CASE[case] for case in PER_CASE if case not in OTHER_KINDS)
    (line,) = [line for line in lines if line.startswith(scene.jobs["asked otherwise"][0])]
    assert "  pays  " in line and line.endswith("asks generate otherwise (prompt)")
    assert sums.startswith(f"{len(lines)} failed jobs: 6 × pays, 4 × completes, ")
    assert price.endswith("Nothing was sent, and nothing was written.")
    assert command.strip().startswith("darkroom replay --kind generate-image --failed-since 20")
    assert "flowers" not in told.read and "gore" not in told.read and "fox" not in told.read


# -- the same jobs, live ---------------------------------------------------------------------------------------------


def test_the_same_jobs_replayed_come_to_what_was_told(replayed: Scene, told: Told) -> None:
    """Who was said to complete does, who was said to pay does once more is paid, and who was said to fail fails so."""
    completed = {case: replayed.statuses(case)["completed"] for case in PER_CASE}
    wanted = {case: PER_CASE[case] for case in ("mark", "mark and enlarge", "asked otherwise", "busy")}
    assert completed == {case: wanted.get(case, 0) for case in PER_CASE}
    for case in ("refused", "import", "own code", "training", "rows"):
        for job_id in replayed.jobs[case]:
            said, came = told.by_job[job_id]["today"]["error"], replayed.job(job_id)["error"]
            assert (came["code"], came["message"]) == (said["code"], said["message"])


def test_what_the_changed_code_asks_is_what_was_sent(replayed: Scene) -> None:
    """The input that was refused stands in the old attempt's row."""
    for job_id in replayed.jobs["asked otherwise"]:
        before, after = replayed.stack.rows(job_id)
        assert "gore" in str(before.input) and "flowers" in str(after.input)
    sent = [each["input"]["prompt"] for each in replayed.stack.at_provider("flowers")]
    assert len(sent) == PER_CASE["asked otherwise"]


def test_nothing_was_paid_beyond_the_budget(replayed: Scene, told: Told) -> None:
    """What had succeeded was not paid again."""
    calls = [row for job_ids in replayed.jobs.values() for job_id in job_ids for row in replayed.stack.rows(job_id)]
    jobs = {job_id: replayed.stack.ledger.jobs.get(job_id) for job_ids in replayed.jobs.values() for job_id in job_ids}
    since = {job_id: job.replayed_at for job_id, job in jobs.items() if job is not None and job.replayed_at is not None}
    paid = sum((row.cost_usd or Decimal(0) for row in calls if row.created_at >= since[row.job_id]), Decimal(0))
    assert 0 < paid <= Decimal(told.summary["live"].rpartition(" ")[2])
    assert all(replayed.job(job_id)["status"] in ENDED for job_id in jobs)
