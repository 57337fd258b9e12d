"""The operator's commands, by a gateway: what they print and set, and that there is nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from running_gateway import RunningGateway, let_the_operator_in
from typer.testing import CliRunner

from darkroom.clock import utc_now
from darkroom.deployments.cli import app
from darkroom.deployments.home import Home
from darkroom.errors import BadInput
from darkroom.ledger import Ledger, Scope

Command = Callable[..., Result]


@pytest.fixture
def command(gateway: RunningGateway, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`darkroom` as the operator calls it."""
    let_the_operator_in(gateway, ledger, tmp_path, monkeypatch)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_an_operator_lists_the_jobs_of_all(command: Command, ledger: Ledger) -> None:
    """Narrowed by status, kind, time and user; as lines, or as the documents of the API."""
    users = {name: ledger.users.add(name).user_id for name in ("ann", "bob")}
    jobs = [
        ledger.jobs.post(user_id=users[name], kind=kind, parameters={"prompt": "a fox"}).job.id
        for name, kind in [("ann", "generate-image"), ("bob", "generate-image"), ("bob", "make-debate")]
    ]
    assert [line.split("\t")[0] for line in command("jobs").stdout.splitlines()] == jobs[::-1]
    documents = [json.loads(line) for line in command("jobs", "--user", "bob", "--json").stdout.splitlines()]
    assert [(each["id"], each["order"]) for each in documents] == [(id, {"prompt": "a fox"}) for id in jobs[:0:-1]]
    assert command("jobs", "--kind", "make-debate", "--since", "1h").stdout.startswith(jobs[2])
    none = command("jobs", "--status", "failed")
    assert (none.exit_code, none.stdout, none.stderr) == (0, "", "There are no such jobs.\n")
    assert "none of pending" in str(command("jobs", "--status", "done").exception)


def test_plans_and_accounts_are_listed(command: Command) -> None:
    """With what `set` sets of them."""
    gold = ["--in-flight", "20", "--weight", "2.5", "--daily-budget", "10", "--markup", "1.3"]
    assert command("plan", "set", "gold", *gold).exit_code == 0
    assert command("account", "set", "fal", "--slots", "12", "--endpoint", "fal-ai/flux/dev=3").exit_code == 0
    assert "gold\t20\t2.5\t10\t-\t1.3\t20000\t-" in command("plan", "list").stdout.splitlines()
    assert "fal\t12\t-\tfal-ai/flux/dev=3\tup" in command("account", "list").stdout.splitlines()
    plans = {each["name"]: each for each in map(json.loads, command("plan", "list", "--json").stdout.splitlines())}
    assert plans["gold"] == {
        "name": "gold",
        "in_flight": 20,
        "weight": 2.5,
        "daily_budget_usd": 10,
        "monthly_budget_usd": None,
        "markup": 1.3,
        "queued": 20000,
        "calls_per_minute": None,
    }


def test_a_user_is_given_budgets_of_their_own_and_the_plans_again(command: Command, ledger: Ledger) -> None:
    """Those that are named change; nothing named, or nothing that is money, is refused with what to give."""
    ann = ledger.users.add("ann").user_id
    assert command("user", "set", "ann", "--daily-budget", "2.5", "--monthly-budget", "40").exit_code == 0
    assert command("user", "set", "ann", "--daily-budget", "plan").exit_code == 0
    assert [each.budget_usd for each in ledger.budgets.of(ann)] == [None, 40]
    listed = {each["name"]: each for each in map(json.loads, command("user", "list", "--json").stdout.splitlines())}
    assert (listed["ann"]["daily_budget_usd"], listed["ann"]["monthly_budget_usd"]) == (None, 40)
    for wrong in ([], ["--daily-budget", "x"]):
        assert command("user", "set", "ann", *wrong).exit_code == 2


@pytest.mark.parametrize(
    ("options", "lasts"), [([], timedelta(hours=24)), (["--overlap", "30m"], timedelta(minutes=30)), (["--now"], None)]
)
def test_a_rotation_says_until_when_the_old_key_opens(
    command: Command, ledger: Ledger, options: list[str], lasts: timedelta | None
) -> None:
    """The new key stands alone on stdout; the list shows what is left of the old one."""
    old = command("user", "add", "ann").stdout.strip()
    rotated = command("user", "rotate", "ann", *options)
    new = rotated.stdout.strip()
    assert ledger.users.authenticate(new) is not None
    assert (ledger.users.authenticate(old) is not None) == (lasts is not None)
    users = map(json.loads, command("user", "list", "--json").stdout.splitlines())
    (keys,) = [each["keys"] for each in users if each["name"] == "ann"]
    if lasts is None:
        assert "stopped working" in rotated.stderr and len(keys) == 1
        return
    until = datetime.fromisoformat(keys[0]["expires_at"])
    assert abs(until - (utc_now() + lasts)) < timedelta(minutes=1)
    assert keys[1]["expires_at"] is None and f"{until.astimezone():%Y-%m-%d %H:}" in rotated.stderr
    assert not any(new in line or old in line for line in command("user", "list", "--json").stdout.splitlines())


def test_a_users_key_is_printed_once_and_alone_and_a_user_who_exists_is_not_made(
    command: Command, ledger: Ledger
) -> None:
    """So that it can be piped; after `revoke` it opens nothing."""
    key = command("user", "add", "ann").stdout.strip()
    assert len(key.split()) == 1 and ledger.users.authenticate(key) is not None
    again = command("user", "add", "ann")
    assert (again.exit_code != 0, again.stdout) == (True, "")
    assert "exists" in str(again.exception)
    assert ledger.users.authenticate(key) is not None
    assert command("user", "revoke", "ann").exit_code == 0
    assert ledger.users.authenticate(key) is None


def test_an_operator_makes_lists_and_ends_keys(command: Command, ledger: Ledger) -> None:
    """The new key stands alone on stdout, once; the others of the user are not touched."""
    first = command("user", "add", "ann").stdout.strip()
    added = command("key", "add", "ann", "--name", "report", "--scope", "read", "--expires", "90d")
    caller = ledger.users.authenticate(added.stdout.strip())
    assert caller is not None and caller.scopes == {Scope.READ}
    newest, oldest = map(json.loads, command("key", "list", "ann", "--json").stdout.splitlines())
    assert (newest["name"], newest["scopes"], newest["status"]) == ("report", ["read"], "open")
    assert abs(datetime.fromisoformat(newest["expires_at"]) - (utc_now() + timedelta(days=90))) < timedelta(minutes=1)
    assert oldest["scopes"] == ["orders", "events", "read"]
    assert command("key", "revoke", newest["id"]).exit_code == 0
    assert "\trevoked\t" in command("key", "list", "ann").stdout.splitlines()[0]
    assert ledger.users.authenticate(added.stdout.strip()) is None
    assert ledger.users.authenticate(first) is not None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--name", "x", "--scope", "write"], "scopes.0"),
        (["--name", "x", "--expires", "soon"], "--expires"),
        (["--name", "x", "--expires", "2020-01-01T00:00:00Z"], "expires_at"),
        (["--name", ""], "name"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(command: Command, ledger: Ledger, options: list[str], field: str) -> None:
    """It is refused by what is wrong with it."""
    command("user", "add", "ann")
    refused = command("key", "add", "ann", *options)
    assert isinstance(refused.exception, BadInput) and refused.exception.field == field
    assert len(ledger.users.keys()[ledger.users.find("ann").id]) == 1


def test_the_operators_own_new_key_is_kept_in_the_home(command: Command, ledger: Ledger, tmp_path: Path) -> None:
    """For nobody else to read, and the next command comes with it."""
    rotated = command("user", "rotate", "operator", "--now").stdout
    kept = Home(tmp_path).operator_key
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == (rotated, 0o600)
    assert command("user", "list").exit_code == 0


def test_a_user_is_put_on_another_plan(command: Command, ledger: Ledger) -> None:
    """By name; a plan that nobody knows changes nothing. Or from the beginning."""
    command("user", "add", "ann")
    assert command("user", "plan", "ann", "studio").exit_code == 0
    assert command("user", "plan", "ann", "gold").exit_code != 0
    assert ledger.users.find("ann").plan == "studio"
    assert command("user", "add", "ben", "--plan", "studio").exit_code == 0
    assert ledger.users.find("ben").plan == "studio"


@pytest.mark.parametrize("options", [["--now", "--overlap", "1h"], ["--overlap", "soon"], ["--overlap", "1000d"]])
def test_an_overlap_that_cannot_be_changes_no_key(command: Command, ledger: Ledger, options: list[str]) -> None:
    """It is refused by its name."""
    old = command("user", "add", "ann").stdout.strip()
    refused = command("user", "rotate", "ann", *options)
    assert refused.exit_code != 0
    assert "overlap" in f"{refused.stderr}{refused.exception}"
    assert len(ledger.users.keys()[ledger.users.find("ann").id]) == 1
    assert ledger.users.authenticate(old) is not None


@pytest.mark.parametrize("arguments", [["pending", "list"], ["dead", "list"], ["jobs", "--json"]])
def test_an_empty_list_is_no_failure(command: Command, arguments: list[str]) -> None:
    """Nothing on stdout, a sentence on stderr, exit code 0."""
    said = command(*arguments)
    assert (said.exit_code, said.stdout) == (0, "")
    assert said.stderr.startswith("There are no ")
