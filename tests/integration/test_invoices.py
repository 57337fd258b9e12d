"""The proof of the money: hundreds of mixed orders, and in the end our sums are the provider's invoice.

The calls go the engine's way (`darkroom.engine.submit`) through fal's client to the simulator's server; what Prefect
would carry is done here in turns. `DARKROOM_TEST_ORDERS=1000` for more of them; fewer than 100 are done before the
balance runs out, in the third turn.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from ledger_clocks import Clock
from ledger_clocks import dated as dated
from reconciling import resources_of
from simulated_fal import SimulatedFal, start_simulator

from darkroom.engine.resources import Resources
from darkroom.engine.submit import submit
from darkroom.errors import DarkroomError
from darkroom.flows.orders.generation import Generation
from darkroom.flows.parts.account_money import AccountMoneyTurn
from darkroom.ledger import JobStatus, Labels, Ledger, Request, RequestStatus
from darkroom.providers.fal import Fal
from darkroom.providers.fal.billing import FalBilling
from darkroom.providers.fal.platform import FalPlatform
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.outcomes import announced
from darkroom.providers.registry import Providers
from darkroom.providers.shelf import open_shelf

NANO = 10**9
ORDERS = int(os.environ.get("DARKROOM_TEST_ORDERS", "200"))
BUDGET = max(ORDERS * Decimal("0.003"), Decimal("0.3"))
SLOTS = 40
TURN = timedelta(minutes=4)  # of the ledger's time: what has ended in one has its bill asked for in the next
# Unit, price on the list, and what is charged instead where the list is wrong.
MODELS: dict[str, tuple[str, str, str | None]] = {
    "images": ("images", "0.039", None),
    "megapixels": ("megapixels", "0.025", "0.0333333333"),
    "seconds": ("seconds", "0.0072", None),
    "units": ("units", "0.20", "0.219"),
    "compute": ("compute seconds", "0.00017", "0.01"),
    "characters": ("1000 characters", "0.1", None),
    "requests": ("requests", "0.005", "0.004"),
    "generations": ("generations", "0.0312345", None),
    "tokens": ("1m tokens", "0.25", None),
    "videos": ("videos", "0.2", None),
}
TAGS: tuple[tuple[str, ...], ...] = ((), ("spring",), ("ads", "spring"))


@pytest.fixture
def clock() -> Clock:
    """The night before, so that a day's budget lasts for the whole test."""
    return Clock(datetime.combine(datetime.now(UTC) - timedelta(days=1), time(1), tzinfo=UTC))


@pytest.fixture(scope="module")
def simulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedFal]:
    options = ["--latency", "0", "--concurrency", str(SLOTS)]
    simulator = start_simulator(tmp_path_factory.mktemp("simulator"), *options)
    yield simulator
    simulator.stop()


@dataclass(kw_only=True)
class Shop:
    """Everybody's orders, and the turns in which they are carried out."""

    ledger: Ledger
    resources: Resources
    clock: Clock
    word: str
    budgets: dict[str, Decimal] = field(default_factory=dict)
    dearest: Decimal = Decimal(0)  # estimate of a call

    def user(self, name: str, **budgets: Decimal) -> str:
        user_id = self.ledger.users.add(name, plan="studio").user_id
        self.ledger.users.set_budgets(user_id, budgets)
        if budgets:
            self.budgets[user_id] = min(budgets.values())
        return user_id

    def order(self, n: int, user_id: str) -> None:
        """Order as over HTTP: checked and estimated by the model's card."""
        model = [*MODELS][n % len(MODELS)]
        text = f"{self.word} {n % 17} " + "x" * (n % 5 * 100)
        asked = Generation(model=endpoint(model), input={"prompt": text}, max_usd=Decimal(1))
        asked.check()
        prepared = asked.prepare(self.ledger, user_id=user_id)
        assert prepared.first is not None
        self.dearest = max(self.dearest, prepared.first.estimate_usd)
        labels = Labels(tags=TAGS[n % len(TAGS)])
        parameters = asked.parameters()
        self.ledger.jobs.post(
            user_id=user_id, kind="run-model", parameters=parameters, first=prepared.first, labels=labels
        )

    def turn(self) -> int:
        """Grant, send, read what came, read the bills. Return how many calls were sent."""
        self.ledger.grants.grant()
        for row in (granted := self.holding(RequestStatus.GRANTED)):
            with suppress(DarkroomError):  # it is on record
                submit(self.resources, row)
        for row in self.holding(RequestStatus.IN_FLIGHT):
            self.read(row)
        self.clock.now += TURN
        AccountMoneyTurn(self.resources, "fal").read_bills()
        return len(granted)

    def holding(self, status: RequestStatus) -> list[Request]:
        return [row for row in self.ledger.requests.holding_slots() if row.status is status]

    def read(self, row: Request) -> None:
        """Settle a call that has ended: every other one as by webhook, without the provider's count of its units."""
        outcome = self.resources.providers.of("fal").poll(row)
        while outcome is None:
            outcome = self.resources.providers.of("fal").poll(row)
        counted = outcome
        if outcome.output is not None and int(row.ref[-4:], 16) % 2:
            outcome = announced(row, outcome.output)
        self.ledger.requests.settle(row.ref, outcome, via="poll" if outcome is counted else "webhook")
        if outcome.output is None and counted.output is not None:
            self.ledger.requests.fill_output(row.ref, output=counted.output, cost_usd=counted.cost_usd)
        status = JobStatus.FAILED if counted.output is None else JobStatus.COMPLETED
        self.ledger.jobs.finish(row.job_id, status, error=counted.error)

    def bills_of_weeks(self) -> None:
        for after in (timedelta(hours=25), timedelta(days=3), timedelta(days=8)):
            self.clock.now += after
            for _ in range(3):
                AccountMoneyTurn(self.resources, "fal").read_bills()


def endpoint(model: str) -> str:
    return f"fal-ai/tests/{model}"


@pytest.fixture
def shop(simulator: SimulatedFal, dated: Ledger, clock: Clock) -> Iterator[Shop]:
    word = uuid4().hex
    for model, (unit, price, charged) in MODELS.items():
        simulator.add_model(**card(model, unit, price, charged))
    simulator.platform(billing_lag=0, discount=0)
    simulator.rule(match=f"{word} 1 ", discount="12.5")
    simulator.rule(match=f"{word} 2 ", billing_parts=3)
    simulator.rule(match=f"{word} 3 ", billing_lag=3600)
    simulator.rule(match=f"{word} 4 ", billing=False)
    simulator.rule(match=f"{word} 5 ", result="422_content_policy")
    simulator.rule(match=f"{word} 6 ", units_header=False)
    for model in ("seconds", "megapixels", "units", "videos"):  # of which a text has none
        simulator.rule(endpoint=endpoint(model), units="1.25", combines=True)
    dated.users.set_account("fal", slots=SLOTS)
    provider = FalProvider(Fal("sim:key"), billing=FalBilling("sim:billing", "sim:key"))
    with (
        closing(FalPlatform("sim:key")) as platform,
        closing(provider),
        open_shelf(dated, fetch=platform.card, fetch_cost=None),
    ):
        yield Shop(
            ledger=dated,
            resources=resources_of(dated, providers=Providers({"fal": lambda: provider})),
            clock=clock,
            word=word,
        )


def card(model: str, unit: str, price: str, charged: str | None) -> dict[str, Any]:
    text = {"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}}
    return {
        "endpoint_id": endpoint(model),
        "category": "text-to-text",
        "unit": unit,
        "unit_price": price,
        "charged_price": charged,
        "input": text,
        "output": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
    }


def test_after_the_last_event_all_sums_are_the_invoice(simulator: SimulatedFal, shop: Shop) -> None:
    """By user, model and tag, to the nano-dollar, though lists are wrong, bills late and the balance runs out."""
    users = [
        shop.user("ann", daily_budget_usd=BUDGET),
        shop.user("bob", monthly_budget_usd=BUDGET, daily_budget_usd=Decimal(20)),
        shop.user("cid"),
    ]
    for n in range(ORDERS):
        shop.order(n, users[n % 3])
    turns, was_locked = 0, False
    while shop.turn() or shop.ledger.users.account("fal").down_since:
        turns += 1
        if turns == 3:
            simulator.balance("0")
        if shop.ledger.users.account("fal").down_since is not None:
            was_locked = True
            simulator.balance("1000")
            shop.clock.now += timedelta(minutes=1)
        require_within_budgets(shop)
    assert was_locked
    require_nothing_held(shop)
    simulator.release_bills()
    shop.bills_of_weeks()
    require_the_invoice(simulator, shop)


def require_within_budgets(shop: Shop) -> None:
    for user_id, most in shop.budgets.items():
        spent = max(each.spent_usd + each.reserved_usd for each in shop.ledger.budgets.of(user_id))
        assert spent <= most + shop.dearest


def require_nothing_held(shop: Shop) -> None:
    """No slot, no lock; whoever waits waits for a budget."""
    assert shop.ledger.requests.holding_slots() == []
    assert shop.ledger.users.account("fal").down_since is None
    waiting = [job for job in shop.ledger.jobs.page(None, limit=10 * ORDERS) if not job.status.terminal]
    assert {job.user_id for job in waiting} == set(shop.budgets)
    for job in {job.user_id: job for job in waiting}.values():  # the first in line of each, behind whom the others are
        assert (shop.ledger.waiting_for(job, shop.ledger.requests.of_job(job.id)) or "").startswith("budget: ")


def require_the_invoice(simulator: SimulatedFal, shop: Shop) -> None:
    charged = simulator.invoice()["by_request"]
    expected: dict[str, Counter[str | None]] = {"user": Counter(), "model": Counter(), "tag": Counter()}
    total = 0
    for job in shop.ledger.jobs.page(None, limit=10 * ORDERS):
        for row in shop.ledger.requests.of_job(job.id):
            nano = charged.get(row.request_id, 0)
            total += nano
            expected["user"][row.user_id] += nano
            expected["model"][row.endpoint] += nano
            expected["tag"].update(dict.fromkeys(job.tags or [None], nano))
    span = shop.clock() - timedelta(days=60), shop.clock()
    for group, sums in expected.items():
        usage = shop.ledger.spending.between(*span, group_by=group)
        assert {each.key: each.billed_usd * NANO for each in usage.items} == sums
        assert usage.total.billed_usd * NANO == usage.total.spent_usd * NANO == total > 0
        assert usage.total.unbilled_calls == 0
