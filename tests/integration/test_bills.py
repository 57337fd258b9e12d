"""What was billed, read from the provider after the calls have ended: whole, whenever and in however many parts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import fal_client
import pytest
from ledger_databases import Db
from ledger_scenes import DEV, GPT, post
from reconciling import resources_of
from simulated_fal import SimulatedFal, start_simulator
from support import wait_until

from darkroom.blocks.notifier import Notifier
from darkroom.clock import utc_now
from darkroom.errors import Park
from darkroom.flows.parts import account_money
from darkroom.flows.parts.account_money import AccountMoneyTurn
from darkroom.ledger import Ledger
from darkroom.providers.base import Bills, Provider
from darkroom.providers.fal import Fal
from darkroom.providers.fal.billing import FalBilling
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.registry import Providers
from darkroom.settings import Settings

NANO = 10**9
SMALL = {"width": 64, "height": 64}
MODELS: Mapping[str, Mapping[str, Any]] = {
    DEV: {"image_size": SMALL},
    "fal-ai/flux/schnell": {"image_size": SMALL},
    "fal-ai/elevenlabs/tts/eleven-v3": {},
    GPT: {"image_size": "square", "quality": "low"},
}
CALLS = 120  # more than two questions ask for
NOON = datetime(2026, 11, 19, 12, tzinfo=UTC)


class Clock:
    """Passes by itself, and further when it is told to."""

    def __init__(self, start: datetime | None = None) -> None:
        self.fixed, self.ahead = start, timedelta(0)

    def __call__(self) -> datetime:
        return (self.fixed or utc_now()) + self.ahead


@pytest.fixture(scope="module")
def simulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedFal]:
    """One with room for all calls at once, which take no time."""
    options = ["--latency", "0.01", "--concurrency", str(CALLS)]
    simulator = start_simulator(tmp_path_factory.mktemp("simulator"), *options)
    yield simulator
    simulator.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def later(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    with closing(Ledger(ledger_url, clock=clock)) as ledger:
        yield ledger


class Told(Notifier):
    """Keeps what it is told."""

    def send(self, subject: str, text: str, *, key: str, to: str | None = None) -> str:
        told.append((subject, text))
        return key


told: list[tuple[str, str]] = []


@pytest.fixture(autouse=True)
def told_here(monkeypatch: pytest.MonkeyPatch) -> None:
    told.clear()
    monkeypatch.setattr(account_money.Notifier, "load_default", lambda: Told())


class Given(Provider):
    """Bills what it is given; `questions` is what it was asked."""

    def __init__(self) -> None:
        self.usd: dict[str, Decimal] = {}
        self.left: Decimal | None = None
        self.questions: list[Sequence[str]] = []
        self.out = False

    def bills(self, request_ids: Sequence[str], *, since: datetime) -> Bills:
        self.questions.append(request_ids)
        if self.out:
            raise Park("nobody answers")
        return Bills(usd={each: self.usd[each] for each in request_ids if each in self.usd}, source="given")

    def balance(self) -> Decimal | None:
        return self.left


def turn_of(ledger: Ledger, provider: Provider, **settings: Any) -> AccountMoneyTurn:
    resources = resources_of(ledger, providers=Providers({"fal": lambda: provider}))
    object.__setattr__(resources, "settings", Settings(**settings))
    return AccountMoneyTurn(resources, "fal")


def ended(db: Db, request_id: str, *, user_id: str = "operator", endpoint: str = DEV, **values: Any) -> str:
    """A call on record that has ended, with its job."""
    row = {
        "status": "succeeded",
        "cost_usd": Decimal("0.025"),
        "finished_at": NOON,
        "tags": [],
        "estimate_usd": Decimal("0.03"),
        "reused_from": None,
    } | values
    ref = row.pop("ref", f"r-{request_id}")
    row |= {"id": f"j-{ref}", "ref": ref, "user_id": user_id, "endpoint": endpoint, "request_id": request_id or None}
    db.execute(
        "INSERT INTO job (id, user_id, kind, status, parameters, tags, created_at, finished_at)"
        " VALUES (%(id)s, %(user_id)s, 'run-model', 'completed', '{}', %(tags)s, %(finished_at)s, %(finished_at)s)",
        row,
    )
    db.execute(
        "INSERT INTO request (ref, job_id, user_id, account_id, step, attempt, endpoint, input, input_hash, lane,"
        " status, token, request_id, estimate_usd, cost_usd, created_at, submitted_at, finished_at, reused_from)"
        " VALUES (%(ref)s, %(id)s, %(user_id)s, 'fal', 'run', 1, %(endpoint)s, '{}', '', 1, %(status)s, %(ref)s,"
        " %(request_id)s, %(estimate_usd)s, %(cost_usd)s, %(finished_at)s, %(finished_at)s, %(finished_at)s,"
        " %(reused_from)s)",
        row,
    )
    return ref


def row_of(db: Db, ref: str) -> dict[str, Any]:
    found = db.execute("SELECT * FROM request WHERE ref = %s", [ref]).fetchone()
    assert found is not None
    return found


def users_of(db: Db, *names: str) -> None:
    for name in names:
        db.execute(
            'INSERT INTO "user" (id, name, plan, notified, created_at) VALUES (%s, %s, %s, 0, now())',
            [name, name, "pro"],
        )


def scripted(simulator: SimulatedFal, word: str) -> None:
    """Discounts, bills in parts, late ones and missing ones, among ordinary ones."""
    simulator.platform(billing_lag=0)
    simulator.change_model(DEV, charged_price="0.0333333333")
    simulator.rule(match=f"{word} 1", discount="12.5")
    simulator.rule(match=f"{word} 2", billing_parts=3)
    simulator.rule(match=f"{word} 3", billing_lag=3600)
    simulator.rule(match=f"{word} 4", billing=False)


def ordered(simulator: SimulatedFal, fal: fal_client.SyncClient, db: Db, word: str) -> list[str]:
    """So many calls of several models for two users, all on record as they ended here."""
    endpoints = list(MODELS)
    calls = []
    for n in range(CALLS):
        endpoint = endpoints[n % 2] if n % 10 else endpoints[2 + n // 10 % 2]  # what takes longer to make is rarer
        text = f"{word} {n // 4 % 6}"
        given = {"text" if "tts" in endpoint else "prompt": text, **MODELS[endpoint]}
        calls.append((n, endpoint, fal.submit(endpoint, given)))
    wait_until(lambda: all(each["status"] == "COMPLETED" for each in simulator.requests()), timeout=60, every=0.2)
    for n, endpoint, handle in calls:
        user_id = ("ann", "bob", "cid")[n % 3]
        ended(db, handle.request_id, user_id=user_id, endpoint=endpoint, finished_at=utc_now())
    return [handle.request_id for _, _, handle in calls]


def test_after_the_last_event_the_bills_are_the_invoice(
    simulator: SimulatedFal, fal: fal_client.SyncClient, later: Ledger, db: Db, clock: Clock
) -> None:
    """To the nano-dollar, by user and by model: discounted, split, late, held back, at other prices than the list's."""
    word = uuid4().hex
    users_of(db, "ann", "bob", "cid")
    scripted(simulator, word)
    ids = ordered(simulator, fal, db, word)
    with closing(FalProvider(Fal("sim:key"), billing=FalBilling("sim:billing", "sim:key"))) as provider:
        turn = turn_of(later, provider)
        turn.read_bills()
        assert billed(db) == {}  # not asked yet: they have only just ended
        clock.ahead = timedelta(minutes=3)
        turn.read_bills()
        early = billed(db)
        assert 0 < len(early) < CALLS
        simulator.release_bills()
        simulator.correct_bill(ids[8], "-0.000000007")
        for minutes in (20, 60 * 25, 60 * 24 * 8):
            clock.ahead = timedelta(minutes=minutes)
            turn.read_bills()
        invoice = simulator.invoice()["by_request"]
        assert billed(db) == {each: Decimal(invoice[each]) / NANO for each in ids}
        turn.read_bills()  # once more changes nothing
    for group in ("user", "model"):
        usage = later.spending.between(clock() - timedelta(days=20), clock(), group_by=group)
        expected: Counter[str] = Counter()
        for row in db.execute("SELECT user_id, endpoint, request_id FROM request"):
            expected[row["user_id"] if group == "user" else row["endpoint"]] += invoice[row["request_id"]]
        assert {each.key: each.billed_usd * NANO for each in usage.items} == expected
        assert usage.total.billed_usd == usage.total.spent_usd == Decimal(expected.total()) / NANO
        assert usage.total.unbilled_calls == 0


def billed(db: Db) -> dict[str, Decimal]:
    rows = db.execute("SELECT request_id, billed_usd FROM request WHERE billed_usd IS NOT NULL")
    return {row["request_id"]: row["billed_usd"] for row in rows}


def test_who_may_read_no_bills_goes_without(simulator: SimulatedFal, later: Ledger, db: Db, clock: Clock) -> None:
    """An ordinary key alone: nothing fails, and it is asked again an hour later."""
    ended(db, "p1", finished_at=utc_now())
    clock.ahead = timedelta(minutes=5)
    with closing(FalBilling("sim:key")) as billing:
        assert billing.bills(["p1"], since=utc_now()) is None
        assert billing.balance() is None
    with closing(FalProvider(Fal("sim:key"), billing=FalBilling("sim:key"))) as provider:
        turn = turn_of(later, provider)
        turn.read_bills()
        turn.read_balance()
    assert row_of(db, "r-p1")["billed_usd"] is None
    due_at = later.bills.money("fal").bills_due_at
    assert due_at is not None
    assert due_at > clock() + timedelta(minutes=59)


def test_a_bill_that_never_comes_is_asked_for_less_and_less_and_given_up(ledger_url: str, db: Db, clock: Clock) -> None:
    """In two weeks for what was paid, in a day for what hardly was; a hundred thousand turns ask no more often."""
    clock.fixed = NOON
    provider = Given()
    ended(db, "paid")
    ended(db, "failed", status="failed", cost_usd=None)
    with closing(Ledger(ledger_url, clock=clock)) as ledger:
        turn = turn_of(ledger, provider)
        for hours in range(24 * 20):
            clock.ahead = timedelta(hours=hours, minutes=3)
            turn.read_bills()
    asked = Counter(each for question in provider.questions for each in question)
    assert 3 <= asked["failed"] < asked["paid"] <= 9
    assert row_of(db, "r-paid")["bill_closed"]


def test_whoever_does_not_answer_is_left_alone_for_longer_each_time(ledger_url: str, db: Db, clock: Clock) -> None:
    """One question a turn; with the first answer all is as before."""
    clock.fixed = NOON
    provider = Given()
    provider.out = True
    ended(db, "p1")
    with closing(Ledger(ledger_url, clock=clock)) as ledger:
        turn = turn_of(ledger, provider)
        for minutes in range(3, 123):
            clock.ahead = timedelta(minutes=minutes)
            try:
                turn.read_bills()
            except Park:
                continue
        assert 6 <= len(provider.questions) <= 8
        provider.out, provider.usd = False, {"p1": Decimal("0.000000001")}
        clock.ahead = timedelta(hours=4)
        turn.read_bills()
        assert ledger.bills.money("fal").bills_failed == 0
    assert row_of(db, "r-p1")["billed_usd"] == Decimal("0.000000001")
    assert row_of(db, "r-p1")["billed_source"] == "given"


def test_a_budget_goes_by_the_bill(ledger: Ledger, db: Db) -> None:
    """Also of a call that is on record as not paid: the bill says what was."""
    ledger.users.set_plan("thrifty", in_flight=10, weight=Decimal(1), daily_budget_usd=Decimal("0.10"))
    ann = ledger.users.add("ann", plan="thrifty").user_id
    ended(db, "p1", user_id=ann, finished_at=utc_now(), cost_usd=None, status="cancelled")
    db.execute("UPDATE request SET billed_usd = 0.06")
    for _ in range(3):
        post(ledger, ann, estimate_usd=Decimal("0.02"))
    assert len(ledger.grants.grant()) == 2
    db.execute("UPDATE request SET billed_usd = 0.02, cost_usd = 0.09 WHERE ref = 'r-p1'")
    assert len(ledger.grants.grant()) == 1


def test_grants_stop_before_the_account_locks(ledger_url: str, db: Db, clock: Clock) -> None:
    """Told once when it is low; below the other threshold nothing is granted, no probe either, until it is paid."""
    provider = Given()
    provider.left = Decimal("19.994")
    with closing(Ledger(ledger_url, clock=clock)) as ledger:
        turn = turn_of(ledger, provider, balance_low_usd=Decimal(20), balance_stop_usd=Decimal(5))
        for hours in range(3):
            clock.ahead = timedelta(hours=hours, minutes=hours)
            turn.read_balance()
        assert [subject for subject, _ in told] == ["fal: 19.99 USD are left"]
        provider.left = Decimal("4.5")
        clock.ahead = timedelta(hours=4)
        turn.read_balance()
        post(ledger, "operator", estimate_usd=Decimal("0.02"))
        assert ledger.grants.grant() == []
        (account,) = ledger.accounts.to_notify()
        assert "4.50 USD are left" in (account.down_reason or "")
        clock.ahead += timedelta(hours=2)
        assert ledger.grants.grant() == []
        provider.left = Decimal(100)
        turn.read_balance()
        assert [row.status for row in ledger.requests.holding_slots()] == ["granted"]
        assert ledger.bills.money("fal").balance_sent_at is None


def test_models_that_drift_are_told_once_a_day(ledger_url: str, db: Db, clock: Clock) -> None:
    """Those more than five in a hundred apart, by the bills of the day before."""
    clock.fixed = NOON + timedelta(hours=12, minutes=5)
    for n, (endpoint, usd) in enumerate({"a/close": "0.026", "a/dear": "0.05", "a/cheap": "0.01"}.items()):
        ref = ended(db, f"p{n}", endpoint=endpoint)
        db.execute("UPDATE request SET billed_usd = %s WHERE ref = %s", [Decimal(usd), ref])
    with closing(Ledger(ledger_url, clock=clock)) as ledger:
        turn = turn_of(ledger, Given())
        turn.notify_drift()
        assert told == []  # before six bills may be missing
        clock.ahead = timedelta(hours=6)
        turn.notify_drift()
        turn.notify_drift()
    ((subject, text),) = told
    assert subject == "fal bills otherwise than expected: 2 models on 2026-11-19"
    assert [line.split(":")[0] for line in text.splitlines()[:2]] == ["- a/dear", "- a/cheap"]
    assert "(+100.0%)" in text


def test_spending_by_tag_user_model_and_day(ledger: Ledger, db: Db) -> None:
    """Each call in every tag of its job, once in the total; what was reused is saved, what was paid twice is told."""
    users_of(db, "ann", "bob")
    first = ended(db, "p1", user_id="ann", tags=["spring", "ads"])
    ended(db, "", ref="again", user_id="ann", cost_usd=0, reused_from=first, finished_at=NOON + timedelta(days=1))
    ended(db, "p2", user_id="bob", endpoint="a/model")
    ended(db, "p3", user_id="bob", endpoint="a/model", finished_at=NOON - timedelta(days=9))
    db.execute("UPDATE request SET billed_usd = 0.02 WHERE ref = %s", [first])
    db.execute(
        "INSERT INTO delivery (provider, request_id, ref, verdict, body_sha256, cost_usd, received_at)"
        " VALUES ('fal', 'p9', %s, 'duplicate', '', 0.025, %s)",
        [first, NOON],
    )
    span = NOON - timedelta(days=1), NOON + timedelta(days=3)
    found = {by: ledger.spending.between(*span, group_by=by) for by in ("tag", "user", "model", "day")}
    total = found["tag"].total
    assert {usage.total for usage in found.values()} == {total}
    assert (total.calls, total.estimate_usd, total.cost_usd) == (2, Decimal("0.06"), Decimal("0.05"))
    assert (total.billed_usd, total.unbilled_calls) == (Decimal("0.02"), 1)
    assert (total.saved_usd, total.duplicates_usd) == (Decimal("0.02"), Decimal("0.025"))
    assert total.spent_usd == Decimal("0.07")
    assert {each.key: each.spent_usd for each in found["tag"].items} == {
        "ads": Decimal("0.045"),
        "spring": Decimal("0.045"),
        None: Decimal("0.025"),
    }
    assert [(each.key, each.name, each.calls) for each in found["user"].items] == [("ann", "ann", 1), ("bob", "bob", 1)]
    assert [each.key for each in found["day"].items] == ["2026-11-19", "2026-11-20"]
    assert ledger.spending.between(*span, group_by="user", user_id="bob").total.calls == 1


def test_what_may_have_been_paid_is_told_by_its_estimate_beside_what_was(ledger: Ledger, db: Db) -> None:
    """A call that was given up without an answer: in each line, in no other sum, until its bill comes."""
    users_of(db, "ann", "bob")
    ended(db, "p1", user_id="ann")
    lost = ended(db, "p2", user_id="ann", tags=["spring"], endpoint="a/model")
    db.execute("UPDATE request SET status = 'expired', cost_usd = NULL WHERE ref = %s", [lost])
    span = NOON - timedelta(days=1), NOON + timedelta(days=1)
    found = {by: ledger.spending.between(*span, group_by=by, user_id="ann") for by in ("tag", "user", "model", "day")}
    assert {(usage.total.perhaps_paid_usd, usage.total.calls) for usage in found.values()} == {(Decimal("0.03"), 1)}
    assert {usage.total.spent_usd for usage in found.values()} == {Decimal("0.025")}
    perhaps = {each.key: each.perhaps_paid_usd for by in ("tag", "model") for each in found[by].items}
    assert perhaps == {"spring": Decimal("0.03"), None: 0, "a/model": Decimal("0.03"), DEV: 0}
    assert not ledger.spending.between(*span, group_by="user", user_id="bob").total.perhaps_paid_usd
    db.execute("UPDATE request SET billed_usd = 0 WHERE ref = %s", [lost])
    assert not ledger.spending.between(*span, group_by="model").total.perhaps_paid_usd


def test_what_drafts_have_saved_is_as_batches_told_at_their_end(ledger: Ledger, db: Db) -> None:
    """By the model of the finals, by the batch's tags, on the day of its end; below zero where drafts were dearer."""
    users_of(db, "ann")
    for batch, saved, tags in (("b1", 1.5, ["spring"]), ("b2", -0.25, [])):
        db.execute(
            "INSERT INTO job (id, user_id, kind, status, slotless, parameters, tags, result, created_at, finished_at)"
            " VALUES (%s, 'ann', 'render-batch', 'completed', true, '{}', %s, %s, %s, %s)",
            [batch, tags, json.dumps({"saved_usd": saved}), NOON, NOON],
        )
        for stage, endpoint in (("draft", "a/draft"), ("final", "a/final")):
            ref = ended(db, f"{batch} {stage}", user_id="ann", endpoint=endpoint, cost_usd=0)
            db.execute(
                "UPDATE job SET parent_id = %s, stage = %s, manifest_row = 0"
                " WHERE id = (SELECT job_id FROM request WHERE ref = %s)",
                [batch, stage, ref],
            )
    span = NOON - timedelta(hours=1), NOON + timedelta(hours=1)
    found = {by: ledger.spending.between(*span, group_by=by, user_id="ann") for by in ("tag", "model", "day", "user")}
    assert {usage.total.drafts_saved_usd for usage in found.values()} == {Decimal("1.25")}
    saved = {each.key: each.drafts_saved_usd for each in (*found["model"].items, *found["tag"].items)}
    assert saved == {"a/draft": 0, "a/final": Decimal("1.25"), "spring": Decimal("1.5"), None: Decimal("-0.25")}
