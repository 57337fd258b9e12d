"""Failed jobs over HTTP: listed, priced, replayed under a budget, and put away; everybody their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from ledger_scenes import DEV, FAILURE, SUCCESS, post, spec
from running_gateway import Customer, RunningGateway, let_the_operator_in
from support import wait_until
from typer.testing import CliRunner, Result

from darkroom.clock import utc_now
from darkroom.deployments.cli import app
from darkroom.ledger import JobStatus, Ledger, RequestStatus

LETTERS = "/v1/dead-letters"


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add("ann", plan="studio"))


@pytest.fixture
def user_id(ann: Customer, ledger: Ledger) -> str:
    return ledger.users.find("ann").id


def dead(ledger: Ledger, user_id: str, *, code: str = "content_policy_violation", kind: str = "permanent") -> str:
    """Its first step is paid, its second failed."""
    job = post(ledger, user_id)
    first = ledger.requests.of_job(job.id)[0]
    ledger.requests.settle(first.ref, SUCCESS, via="webhook")
    second = ledger.requests.reserve_all(job.id, [spec(step="upscale")])[0]
    ledger.requests.settle(second.ref, FAILURE, via="webhook")
    error = {"code": code, "class": kind, "message": "No.", "step": "upscale", "ref": second.ref, "retryable": False}
    ledger.jobs.finish(job.id, JobStatus.FAILED, error=error)
    return job.id


def send(customer: Customer, action: str, *, key: str | None = None, **body: Any) -> httpx.Response:
    return customer.post(f"{LETTERS}/{action}", json=body, **({"Idempotency_Key": key} if key else {}))


def listed(customer: Customer, query: str = "") -> list[str]:
    answer = customer.get(f"{LETTERS}{query}")
    assert answer.status_code == 200, answer.text
    return [letter["job_id"] for letter in answer.json()["items"]]


def test_failed_jobs_are_listed_with_what_was_paid_and_what_another_try_costs(
    ann: Customer, user_id: str, ledger: Ledger
) -> None:
    """Newest first, a page at a time."""
    jobs = [dead(ledger, user_id) for _ in range(3)]
    first = ann.get(f"{LETTERS}?limit=2").json()
    second = ann.get(f"{LETTERS}?limit=2&cursor={first['next']}").json()
    assert [letter["job_id"] for letter in first["items"] + second["items"]] == jobs[::-1]
    assert second["next"] is None
    letter = first["items"][0]
    assert (letter["class"], letter["code"], letter["step"]) == ("permanent", "content_policy_violation", "upscale")
    assert (letter["paid_usd"], letter["replay_usd"], letter["replayable"]) == (0.025, 0.025, True)
    assert [each["step"] for each in letter["reusable"]] == ["generate"]
    assert letter["replay"] == [{"step": "upscale", "endpoint": DEV, "estimate_usd": 0.025}]


def test_a_list_has_what_is_asked_for_and_nobody_elses(
    gateway: RunningGateway, ann: Customer, user_id: str, ledger: Ledger
) -> None:
    """All that is asked must hold."""
    bob = gateway.as_user(ledger.users.add("bob", plan="studio"))
    refused, expired = dead(ledger, user_id), dead(ledger, user_id, code="expired", kind="needs_human")
    an_hour_ago = (utc_now() - timedelta(hours=1)).isoformat().replace("+", "%2B")
    assert listed(bob) == []
    assert listed(ann) == listed(ann, f"?failed_since={an_hour_ago}&endpoint={DEV}") == [expired, refused]
    assert listed(ann, "?class=permanent") == [refused]
    assert listed(ann, "?code=expired&kind=generate-image") == [expired]
    assert listed(ann, f"?failed_before={an_hour_ago}") == []


def test_without_a_budget_a_replay_tells_its_price_and_does_nothing(
    ann: Customer, user_id: str, ledger: Ledger
) -> None:
    """How many, which, and how much in all."""
    jobs = [dead(ledger, user_id) for _ in range(2)]
    answer = send(ann, "replay", filter={"class": "permanent"})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["matching"], told["jobs"], told["replayable"], told["replay_usd"]) == (2, jobs, 2, 0.05)
    assert listed(ann) == jobs[::-1]


def test_a_replay_puts_back_what_its_budget_has_room_for(ann: Customer, user_id: str, ledger: Ledger) -> None:
    """The rest is told with the reason. Sent again with the same key it is the same budget."""
    jobs = [dead(ledger, user_id) for _ in range(3)]
    for left in (jobs[2:], jobs[2:]):
        answer = send(ann, "replay", filter={}, budget_usd=0.05, key="k-1")
        assert answer.status_code == 202, answer.text
        assert [each["job_id"] for each in answer.json()["refused"]] == left
    assert "larger budget" in answer.json()["refused"][0]["why"]
    assert listed(ann) == jobs[2:]
    assert ann.get(f"/v1/jobs/{jobs[0]}").json()["status"] in ("pending", "running")
    calls = [row for job_id in jobs[:2] for row in ledger.requests.of_job(job_id)]
    wait_until(
        lambda: {ledger.requests.get(row.ref).status for row in calls if row.attempt == 2} == {RequestStatus.GRANTED},
        what="their slots",
    )


def test_a_replay_of_named_jobs_says_which_are_none_of_ones_own(
    gateway: RunningGateway, ann: Customer, user_id: str, ledger: Ledger
) -> None:
    """Whether somebody else has such a job is not told."""
    ledger.users.add("bob", plan="studio")
    own, bobs = dead(ledger, user_id), dead(ledger, ledger.users.find("bob").id)
    answer = send(ann, "replay", jobs=[own, bobs, "job_nonesuch"], budget_usd=1)
    assert answer.json()["put_back"] == [own]
    whys = {each["job_id"]: each["why"] for each in answer.json()["refused"]}
    assert whys[bobs] == whys["job_nonesuch"]
    job = ledger.jobs.get(bobs)
    assert job is not None and job.status is JobStatus.FAILED


def test_a_discarded_job_says_so_and_is_listed_where_it_is_asked_for(
    ann: Customer, user_id: str, ledger: Ledger
) -> None:
    """A replay that names it takes the discard back."""
    put_away, other = dead(ledger, user_id), dead(ledger, user_id)
    answer = send(ann, "discard", jobs=[put_away], reason="A test order.")
    assert (answer.status_code, answer.json()["discarded"]) == (200, [put_away])
    assert (listed(ann), listed(ann, "?discarded=true")) == ([other], [put_away])
    assert ann.get(f"/v1/jobs/{put_away}").json()["discarded"]["reason"] == "A test order."
    assert send(ann, "replay", jobs=[put_away], budget_usd=1).json()["put_back"] == [put_away]
    assert ann.get(f"/v1/jobs/{put_away}").json()["discarded"] is None


@pytest.fixture
def command(
    gateway: RunningGateway, ann: Customer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """`darkroom` as Ann calls it, whose key is in her environment."""
    given = {"API_KEY": ann.key, "GATEWAY_URL": gateway.url, "HOME": str(tmp_path)}
    for name, value in given.items():
        monkeypatch.setenv(f"DARKROOM_{name}", value)
    return lambda *arguments, answer="": CliRunner().invoke(app, list(arguments), input=answer)


def test_a_user_has_the_same_commands_over_http(
    command: Callable[..., Result], ann: Customer, user_id: str, ledger: Ledger
) -> None:
    """Their own jobs: listed, discarded, and put back by what they have in common."""
    jobs = [dead(ledger, user_id) for _ in range(3)]
    lines = [json.loads(line)["job_id"] for line in command("dead", "list", "--class", "permanent").stdout.splitlines()]
    assert lines == jobs[::-1]
    assert command("dead", "discard", jobs[0], "--reason", "A test order.").stdout == f"{jobs[0]}\tdiscarded\n"
    put_back = command("replay", "--failed-since", "1h", "--budget", "0.03")
    assert (put_back.exit_code, put_back.stdout) == (1, f"{jobs[1]}\tput back\n")
    assert listed(ann) == [jobs[2]]


def test_an_operator_has_them_for_everybody(
    gateway: RunningGateway,
    ann: Customer,
    user_id: str,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Failed jobs, single ones, and what they wait for, by the key of the home; with a user's own key `--user` is not
    for them."""
    let_the_operator_in(gateway, ledger, tmp_path, monkeypatch)
    jobs = [dead(ledger, user_id) for _ in range(4)]
    other = dead(ledger, ledger.users.add("bob").user_id)
    found = said("dead", "list", "--user", "ann", "--code", "content_policy_violation")
    assert [json.loads(line)["job_id"] for line in found.splitlines()] == jobs[::-1]
    assert said("dead", "discard", jobs[0], "--reason", "A test order.") == f"{jobs[0]}\tdiscarded\n"
    assert said("replay", jobs[1]).startswith(f"{jobs[1]}\tpending\t")
    assert said("replay", "--user", "ann", "--failed-since", "1h", "--budget", "1") == "".join(
        f"{id}\tput back\n" for id in jobs[2:]
    )
    assert json.loads(said("cancel", jobs[1]))["id"] == jobs[1]
    cancelled, job = (ledger.jobs.get(id) for id in jobs[1:3])
    assert cancelled is not None and cancelled.cancel_requested_at is not None and job is not None
    assert said("why", jobs[1])
    wait = ledger.waits.sleep(job, "sleep-1", until=utc_now() + timedelta(days=1))
    assert said("wait", "list", jobs[2]).startswith(f"{wait.id}\t")
    assert json.loads(said("wait", "extend", wait.id, "--by", "1d"))["until"] > wait.until.isoformat()
    assert json.loads(said("wait", "wake", wait.id))["status"] != wait.status
    assert json.loads(said("dead", "list"))["job_id"] == other
    monkeypatch.setenv("DARKROOM_API_KEY", ann.key)
    for command in (["jobs"], ["dead", "list"], ["costs"]):
        refused = CliRunner().invoke(app, [*command, "--user", "bob"])
        assert "lacks the scope `admin`" in str(refused.exception)


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.mark.parametrize(("answer", "left"), [("n\n", 2), ("y\n", 0)])
def test_the_price_is_told_before_anything_is_put_back(
    command: Callable[..., Result], ann: Customer, user_id: str, ledger: Ledger, answer: str, left: int
) -> None:
    """And nothing is without a yes."""
    for _ in range(2):
        dead(ledger, user_id)
    said = command("replay", "--code", "content_policy_violation", answer=answer)
    assert "2 failed jobs match, 2 can be replayed, for about $0.0500." in said.stderr
    assert (said.exit_code == 0, len(listed(ann))) == (left == 0, left)


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("replay", {}, "jobs"),
        ("replay", {"jobs": ["job_1"], "filter": {}}, "jobs"),
        ("replay", {"jobs": []}, "jobs"),
        ("replay", {"jobs": ["job_1"] * 1001}, "jobs"),
        ("replay", {"filter": {"klass": "retry"}}, "filter.klass"),
        ("replay", {"filter": {"failed_since": "2030-01-01T00:00:00"}}, "filter.failed_since"),
        ("replay", {"filter": {}, "budget_usd": -1}, "budget_usd"),
        ("replay", {"filter": {}, "budget_usd": "NaN"}, "budget_usd"),
        ("discard", {"filter": {}}, "reason"),
        ("discard", {"filter": {}, "reason": " "}, "reason"),
        ("discard", {"filter": {}, "reason": "x" * 501}, "reason"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(ann: Customer, action: str, body: dict[str, Any], field: str) -> None:
    """And nothing is done."""
    answer = send(ann, action, **body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.json()["remedy"]


def test_a_query_is_bounded(ann: Customer) -> None:
    """As every text that arrives."""
    assert ann.get(f"{LETTERS}?code={'x' * 201}").json()["field"] == "code"
    assert ann.get(f"{LETTERS}?limit=101").json()["field"] == "limit"
