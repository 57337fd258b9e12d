"""What was spent, over HTTP and at the command: one's own, a service's, and for operators all."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from ledger_databases import Db
from ledger_scenes import DEV, post
from running_gateway import RunningGateway, let_the_operator_in

from darkroom.deployments.cli import main
from darkroom.ledger import Ledger, NewKey

NOON = datetime(2026, 11, 19, 12, tzinfo=UTC)
NOVEMBER = "from=2026-11-01&to=2026-12-01"


@pytest.fixture
def shop(ledger: Ledger, db: Db) -> NewKey:
    """A service with a call of its own and one of an end user's, and somebody else's beside."""
    shop = ledger.users.add("shop", service=True)
    spends = {shop.user_id: "0.01", ledger.users.end_user(shop.user_id, "max").id: "0.02"}
    spends[ledger.users.add("ann").user_id] = "0.04"
    for n, (user_id, usd) in enumerate(spends.items()):
        row = {"ref": f"r{n}", "job": f"j{n}", "user": user_id, "usd": Decimal(usd), "at": NOON, "model": DEV}
        db.execute(
            "INSERT INTO job (id, user_id, kind, status, parameters, tags, created_at, finished_at)"
            " VALUES (%(job)s, %(user)s, 'run-model', 'completed', '{}', '{=sum(1)}', %(at)s, %(at)s)",
            row,
        )
        db.execute(
            "INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane,"
            " status, token, estimate_usd, cost_usd, billed_usd, created_at, finished_at) VALUES (%(ref)s, %(job)s,"
            " %(user)s, 'fal', 'run', 1, %(model)s, '{}', '', 1, 'succeeded', %(ref)s, %(usd)s, %(usd)s,"
            " %(usd)s / 2, %(at)s, %(at)s)",
            row,
        )
    return shop


def test_a_user_sees_what_may_be_spent_yet(gateway: RunningGateway, ledger: Ledger) -> None:
    """By the day and the month, whose budget it is, and what calls under way have reserved."""
    ann = ledger.users.add("ann")
    ledger.users.set_budgets("ann", {"monthly_budget_usd": Decimal(2)})
    post(ledger, ann.user_id, estimate_usd=Decimal("0.5"))
    ledger.grants.grant()
    answer = gateway.as_user(ann).get("/v1/budget")
    day, month = answer.json()["items"]
    assert (day["period"], day["budget_usd"], day["source"], day["left_usd"]) == ("day", None, None, None)
    assert (month["period"], month["budget_usd"], month["source"], month["spent_usd"]) == ("month", 2, "user", 0)
    assert (month["reserved_usd"], month["left_usd"]) == (0.5, 1.5)
    assert day["resets_at"] <= month["resets_at"]


def test_everybody_sees_their_own(gateway: RunningGateway, shop: NewKey) -> None:
    """A service its end users too, and for one of them that one alone."""
    own = gateway.as_user(shop).get(f"/v1/usage?{NOVEMBER}&group_by=user").json()
    assert [(each["name"], each["cost_usd"], each["billed_usd"]) for each in own["items"]] == [
        ("shop", 0.01, 0.005),
        ("max", 0.02, 0.01),
    ]
    assert own["total"]["spent_usd"] == 0.015
    theirs = gateway.as_user(shop).get(f"/v1/usage?{NOVEMBER}", **{"Darkroom-User": "max"}).json()
    assert [(each["key"], each["calls"], each["spent_usd"]) for each in theirs["items"]] == [(DEV, 1, 0.01)]
    assert gateway.as_user(shop).get("/v1/usage?from=2026-11-20&to=2026-12-01").json()["items"] == []


def test_an_end_alone_ends_its_month(gateway: RunningGateway, shop: NewKey) -> None:
    """The first of a month is the end of the one before; any other time is in its own."""
    november = gateway.as_user(shop).get("/v1/usage?to=2026-12-01").json()
    assert datetime.fromisoformat(november["from"]) == datetime(2026, 11, 1, tzinfo=UTC)
    assert november["total"]["calls"] == 2
    within = gateway.as_user(shop).get("/v1/usage?to=2026-11-19T12:00:01Z").json()
    assert (within["from"], within["total"]["calls"]) == (november["from"], 2)


def test_it_comes_as_csv_too(gateway: RunningGateway, shop: NewKey) -> None:
    """Exact, and nobody's tag is a formula."""
    answer = gateway.as_user(shop).get(f"/v1/usage?{NOVEMBER}&group_by=tag&format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    (line,) = csv.DictReader(io.StringIO(answer.text))
    assert (line["key"], line["billed_usd"]) == ("'=sum(1)", "0.015000000")


@pytest.mark.parametrize(
    "query, field",
    [
        ("from=2026-13-01", "from"),
        ("from=2026-11-02&to=2026-11-01", "from"),
        ("from=2020-01-01", "from"),
        ("group_by=colour", "group_by"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(gateway: RunningGateway, shop: NewKey, query: str, field: str) -> None:
    """With the field at fault."""
    answer = gateway.as_user(shop).get(f"/v1/usage?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.mark.usefixtures("shop")
def test_operators_see_everybody(
    gateway: RunningGateway,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the same statement, with the total as the last line."""
    let_the_operator_in(gateway, ledger, tmp_path, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        main(["costs", "--from", "2026-11-01", "--to", "2026-12-01", "--by", "user", "--json"])
    assert not ended.value.code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(each["name"] for each in lines[:-1]) == ["ann", "max", "shop"]
    assert lines[-1]["spent_usd"] == 0.035
    with pytest.raises(SystemExit):
        main(["costs", "--to", "2026-12-01T01:00:00+01:00", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["spent_usd"] == 0.035
