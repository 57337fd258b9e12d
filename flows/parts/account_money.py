"""An account's money at its provider: what calls were billed at, what is left, and what to tell the operator of it.

Part of `reconcile`, bounded in every turn. What fails is left for later, and later still the more often it fails: the
calls go on without it.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from darkroom.blocks.notifier import Notifier
from darkroom.engine.resources import Resources
from darkroom.errors import DarkroomError, Permanent, RateLimited
from darkroom.ledger import Drift, billed_day

AT_ONCE = 50  # calls of one question: more ids fal does not take
MOST_QUESTIONS = 40  # of one turn
LONGEST = timedelta(seconds=20)  # of one turn, not scaled: it is made of calls to others
LONGEST_WAIT = timedelta(hours=1)
BALANCE_EVERY = timedelta(hours=1)
STOPPED_EVERY = timedelta(minutes=5)  # lest what waits goes on an hour after somebody has paid
STOPPED_FOR = timedelta(days=1)  # without any news of the balance: then a probe goes ahead after all
DRIFTS = Decimal("0.05")
MOST_TOLD = 20  # models of one message
CENT = Decimal("0.01")
MILLIONTH = Decimal("0.000001")


class AccountMoneyTurn:
    """One turn, of one account."""

    def __init__(self, resources: Resources, account_id: str) -> None:
        self._resources = resources
        self._account_id = account_id
        self._bills = resources.ledger.bills
        self._now = resources.clock

    def read_bills(self) -> None:
        """Ask what calls that have ended were billed at, fifty at once."""
        money, began = self._bills.money(self._account_id), self._now()
        if money.bills_due_at is not None and money.bills_due_at > began:
            return
        for _ in range(MOST_QUESTIONS):
            due = self._bills.due(self._account_id, limit=AT_ONCE)
            if not due or self._now() - began > LONGEST:
                break
            try:
                provider = self._resources.providers.of(self._account_id)
                since = min(call.created_at for call in due)
                found = provider.bills([call.request_id for call in due], since=since)
            except DarkroomError as error:
                # Noted, so that the next turn does not ask again; and raised, so that the log tells of it.
                self._wait(money.bills_failed + 1, error)
                raise
            if found is None:  # it does not tell, or not by this key
                self._bills.failed(self._account_id, until=began + LONGEST_WAIT, failed=0)
                return
            self._bills.keep(due, found.usd, source=found.source)
        if money.bills_failed:
            self._bills.answered(self._account_id)

    def _wait(self, failed: int, error: DarkroomError) -> None:
        """Note when to try again."""
        # Where it is no matter of time somebody has to act, and there is no hurry.
        pause = LONGEST_WAIT if isinstance(error, Permanent) else timedelta(minutes=2 ** min(failed - 1, 6))
        if isinstance(error, RateLimited) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        self._bills.failed(self._account_id, until=self._now() + min(pause, LONGEST_WAIT), failed=failed)

    def read_balance(self) -> None:
        """Read what is left, once an hour. Tell that it is low, and stop before it is used up, where that is set."""
        money, now = self._bills.money(self._account_id), self._now()
        settings = self._resources.settings
        if money.balance_due_at is not None and money.balance_due_at > now:
            return
        due_at = now + (STOPPED_EVERY if money.stopped_at else BALANCE_EVERY)
        try:
            balance = self._resources.providers.of(self._account_id).balance()
        except DarkroomError:
            # What was known may be long spent.
            self._bills.balance(self._account_id, None, due_at=due_at)
            raise
        stop, low = settings.balance_stop_usd, settings.balance_low_usd
        is_spent = stop is not None and balance is not None and balance < stop
        self._bills.balance(self._account_id, balance, due_at=now + STOPPED_EVERY if is_spent else due_at)
        if balance is None:
            return
        if is_spent and stop is not None:
            self._stop(balance, stop)
        # Somebody has paid, or has lowered the bound.
        elif money.stopped_at is not None:
            self._resources.dispatcher.carry_out(self._bills.go_on(self._account_id))
        is_low = low is not None and balance < low
        if is_low and low is not None and money.balance_sent_at is None:
            self._tell_low(balance, low)
        # Told once, and again only after it was above the bound in between.
        if is_low is (money.balance_sent_at is None):
            self._bills.told(self._account_id, is_low=is_low)

    def _stop(self, balance: Decimal, stop: Decimal) -> None:
        reason = (
            f"{_usd(balance)} USD are left at {self._account_id}, less than the {_usd(stop)} below which nothing more "
            "is ordered: add to the balance, or lower DARKROOM_BALANCE_STOP_USD"
        )
        self._bills.stop(self._account_id, reason=reason, until=self._now() + STOPPED_FOR)

    def _tell_low(self, balance: Decimal, low: Decimal) -> None:
        subject = f"{self._account_id}: {_usd(balance)} USD are left"
        text = (
            f"That is less than {_usd(low)} USD (DARKROOM_BALANCE_LOW_USD). When it is used up, no more calls are "
            "taken there; what was ordered waits then, and goes on by itself once somebody has paid."
        )
        Notifier.load_default().send(subject, text, key=f"balance-{self._account_id}-{self._now():%Y%m%dT%H%M%S}")

    def notify_drift(self) -> None:
        """Compare yesterday's bills with what was reckoned, once a day, and tell models that are further apart."""
        day = billed_day(self._now())
        told = self._bills.money(self._account_id).drift_told_on
        if day is None or (told is not None and told >= day):
            return
        begin = datetime.combine(day, time.min, tzinfo=UTC)
        found = drifting(self._bills.drift(self._account_id, begin, begin + timedelta(days=1)))
        if found:
            subject = f"{self._account_id} bills otherwise than expected: {len(found)} models on {day}"
            Notifier.load_default().send(subject, drift_text(found), key=f"drift-{self._account_id}-{day}")
        # Also where nothing differs: a day is compared once. After the message, as one that fails is sent again.
        self._bills.drift_notified(self._account_id, day)


def drifting(models: list[Drift]) -> list[Drift]:
    """Return those whose bills are further than 5 % from what was reckoned, the most money first."""
    apart = [each for each in models if each.billed_usd != each.cost_usd]
    far = [each for each in apart if each.share is None or abs(each.share) > DRIFTS]
    return sorted(far, key=lambda each: abs(each.billed_usd - each.cost_usd), reverse=True)


def drift_text(models: list[Drift]) -> str:
    """Say model by model what was billed and what was reckoned."""
    lines = [
        f"- {each.endpoint}: {_exact(each.billed_usd)} USD billed, {_exact(each.cost_usd)} reckoned"
        f"{'' if each.share is None else f' ({each.share:+.1%})'}, {each.calls} calls"
        for each in models[:MOST_TOLD]
    ]
    more = [f"- … and {len(models) - MOST_TOLD} more"] if len(models) > MOST_TOLD else []
    remedy = (
        "Budgets and reports go by the bills. The price list may be wrong, or old: `darkroom model sync` reads it anew."
    )
    return "\n".join([*lines, *more, "", remedy])


def _usd(amount: Decimal) -> str:
    return f"{amount.quantize(CENT):,}"


def _exact(amount: Decimal) -> str:
    return f"{amount.quantize(MILLIONTH):,}"
