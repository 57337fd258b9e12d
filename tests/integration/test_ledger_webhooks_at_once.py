"""Webhooks that come for one run at the same time are settled together, each as if it had come alone."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from implying import creations, wakes
from interleaving import closed_gate
from ledger_databases import Db
from ledger_scenes import FAILURE, OUTPUT, SUCCESS, post, webhook
from support import SLOW, wait_until

from darkroom.ledger import Implied, Ledger, Outcome, Request, Verdict

Settled = tuple[Verdict, Implied]


@dataclass(frozen=True, kw_only=True)
class Burst:
    """Some pictures in flight that one run carries; the n-th is known to fal as `fal-n`."""

    ledger: Ledger
    run_id: str
    flow_run_id: UUID
    refs: tuple[str, ...]

    def rows(self) -> list[Request]:
        return [self.ledger.requests.get(ref) for ref in self.refs]

    def settled(self, db: Db, *came: tuple[int, Outcome]) -> list[Settled]:
        """Settle these webhooks; all but the first come while the first is in the midst of its transaction."""
        with ThreadPoolExecutor(len(came)) as pool, closed_gate(db, at="UPDATE ON request") as gate:
            settled = [self._begin(pool, *came[0])]
            gate.reached()
            settled += [self._begin(pool, *each) for each in came[1:]]
            lines = self.ledger.requests._arrivals._lines
            wait_until(lambda: len(lines[self.run_id].asked) == len(came) - 1, what="the others in line")
            gate.open()
            found = [each.result(SLOW * 20) for each in settled]
        return [each for each in found if each is not None]

    def _begin(self, pool: ThreadPoolExecutor, n: int, outcome: Outcome) -> Future[Settled | None]:
        return pool.submit(self.ledger.requests.settle_arrival, webhook(f"fal-{n}"), lambda _: outcome)


@pytest.fixture
def burst(ledger: Ledger) -> Burst:
    ledger.users.set_plan("studio", in_flight=10, weight=Decimal(1))
    ann = ledger.users.add("ann", plan="studio").user_id
    jobs = [post(ledger, ann).id for _ in range(4)]
    granted = {each.job_id: each.ref for each in ledger.grants.grant()}
    (start,) = creations(ledger.runs.assign(*jobs))
    flow_run_id = uuid4()
    ledger.runs.created(start.run_id, flow_run_id)
    assert ledger.runs.enter(flow_run_id, run_key=start.run_id) is not None
    refs = tuple(granted[job] for job in jobs)
    for n, ref in enumerate(refs):
        assert ledger.requests.begin_submit(ref, deadline=timedelta(hours=1)) is not None
        ledger.requests.accepted(ref, request_id=f"fal-{n}")
    return Burst(ledger=ledger, run_id=start.run_id, flow_run_id=flow_run_id, refs=refs)


def test_those_that_come_meanwhile_are_one_transaction(burst: Burst, db: Db) -> None:
    """Each with its own outcome: the run's row is locked twice for four of them, not four times."""
    settled = burst.settled(db, (0, SUCCESS), (1, FAILURE), (2, SUCCESS), (3, SUCCESS))
    assert [verdict for verdict, _ in settled] == [Verdict.SETTLED] * 4
    rows = burst.rows()
    assert [row.status.value for row in rows] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert (rows[1].output, rows[1].error) == (None, FAILURE.error)
    assert (rows[2].output, rows[2].error, rows[2].cost_usd) == (OUTPUT, None, SUCCESS.cost_usd)
    assert all(row.delivered_via == "webhook" and row.finished_at for row in rows)
    transactions = db.execute("SELECT count(DISTINCT xmin::text) AS n FROM request").fetchone()
    assert transactions is not None and transactions["n"] == 2


def test_the_same_webhook_twice_among_them_is_a_duplicate(burst: Burst, db: Db) -> None:
    settled = burst.settled(db, (0, SUCCESS), (1, SUCCESS), (1, SUCCESS), (0, SUCCESS))
    verdicts = [verdict for verdict, _ in settled]
    assert verdicts[0] is Verdict.SETTLED and verdicts[3] is Verdict.DUPLICATE
    assert sorted(verdicts[1:3]) == [Verdict.DUPLICATE, Verdict.SETTLED]


def test_a_suspended_run_is_woken_once_by_all_of_them(burst: Burst, db: Db) -> None:
    waits = {row.job_id: {row.ref} for row in burst.rows()}
    assert burst.ledger.runs.on_suspended(burst.run_id, waits)
    settled = burst.settled(db, (0, SUCCESS), (1, SUCCESS), (2, SUCCESS))
    assert [bool(wakes(implied)) for _, implied in settled] == [True, False, False]
