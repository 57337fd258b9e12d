"""The guarantee behind the fast path: does again whatever was implied and not done.

Cron deployment, every minute; several may be started, one works (`Ledger.only_one`), the others leave at once.
What is to be done is decided by pure functions (`darkroom/engine/reconcile_rules.py`); `Reconciler` does it. Fails only
if the ledger cannot be reached; what one row raises is logged and does not stop the others. Every turn also makes the
runs of cron's slots that Prefect has not made (`darkroom/orchestrator/missed_runs.py`), and fails where Prefect cannot
do that now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from random import sample
from uuid import UUID

from prefect import State, flow
from prefect.logging import get_run_logger
from pydantic import Field

from darkroom.blocks.notifier import Notifier
from darkroom.engine.reconcile_due import (
    Duty,
    billing_accounts,
    differing_queues,
    for_call,
    look_at_runs,
    lost_turns,
    shows_progress,
)
from darkroom.engine.reconcile_rules import ForRequest, ForRun, recent_recoveries
from darkroom.engine.resources import Resources, open_resources
from darkroom.engine.ui.report import PROGRESS, Reports, suffix
from darkroom.errors import BadInput, DarkroomError, Park, Retry
from darkroom.events import EventIngest, ingest_ends
from darkroom.events.feed import CHUNK, publish_some
from darkroom.events.job_ends import AT_ONCE
from darkroom.flows.parts.account_money import AccountMoneyTurn
from darkroom.ledger import JobStatus, Outcome, Request, RequestStatus, Run, Transition
from darkroom.orchestrator.missed_runs import make_missing, skipped
from darkroom.orchestrator.run_states import RunState
from darkroom.providers.base import Provider
from darkroom.providers.registry import heard_from

MOST_TOLD = 500  # events in one turn
MOST_UNANSWERED = 3  # calls of one turn to one account


class Reconciler:
    """One turn."""

    def __init__(self, resources: Resources, *, closed_within: timedelta | None = None) -> None:
        self._resources = resources
        self._now = resources.clock
        self._timing = resources.timing
        self._heard = heard_from(resources.settings)
        self._closed_within = self._timing.closed_within if closed_within is None else closed_within
        self._ledger = resources.ledger
        self._unanswered = Counter[str]()  # calls of this turn, by account

    def once(self) -> None:
        """Take every step: each is a duty, by which it is also known whether a turn is due."""
        steps = self._steps()
        for duty in Duty:
            steps[duty]()

    def _steps(self) -> Mapping[Duty, Callable[[], object]]:
        ledger = self._ledger
        return {
            Duty.LOST_TURNS: partial(self._each, "Lost turns", self._end_lost_turns),
            Duty.RUNS: partial(self._each, "Every run", self._runs),
            Duty.QUEUES: partial(self._each, "Every queue", self._queues),
            Duty.LOST_SUBMITS: self._lost_submits,
            Duty.CALLS: lambda: self._calls(ledger.requests.holding_slots(), self._request, self._progress),
            Duty.PAID_UNSEEN: self._paid_unseen,
            Duty.UNASSIGNED: self._unassigned,
            Duty.PENDING_RUNS: partial(self._each, "Every start", self._begin_pending),
            Duty.GRANTS: self._resources.dispatcher.grant,
            Duty.ENDS: partial(self._each, "Every end of a job", self._ends),
            Duty.CANCELS: partial(self._each, "Every cancel by an event", self._cancels),
            Duty.EVENTS: partial(self._each, "Every unpublished event", self._publish_events),
            Duty.MONEY: self._money,
            Duty.BUDGETS: ledger.budgets.publish,
            Duty.OLD: self._forget,
            Duty.ACCOUNTS: partial(self._each, "Every account that waits for a person", self._notify),
            Duty.ENDPOINTS: partial(self._each, "Every callback endpoint that is off", self._tell_of_endpoints),
        }

    def _paid_unseen(self) -> None:
        # Those before are not kept by the provider any more.
        self._calls(self._ledger.requests.paid_unseen(since=self._now() - self._timing.result_kept), self._cost)

    def _unassigned(self) -> None:
        for job_id in self._ledger.jobs.unassigned():
            self._each(job_id, partial(self._place, job_id))

    def _forget(self) -> None:
        settings = self._resources.settings
        self._ledger.news.forget(older_than=settings.news_kept)
        self._ledger.callbacks.forget(older_than=settings.news_kept)
        self._ledger.housekeeping.forget(older_than=settings.events_kept)
        self._each("What is half written in the media store", self._resources.store.sweep)

    def _notify(self) -> None:
        """Tell the operator, once, which account stands still until they do something about it."""
        for account in self._ledger.accounts.to_notify():
            subject = f"{account.id} takes no more calls"
            text = f"{account.down_reason}. What was ordered waits, and goes on by itself once that is done."
            Notifier.load_default().send(subject, text, key=f"account-{account.id}-{account.down_since:%Y%m%dT%H%M%S}")
            # Noted once it is sent: if that fails, it is sent again, under the same key.
            self._ledger.accounts.notified(account)

    def _tell_of_endpoints(self) -> None:
        """Tell the operator, once, whose application takes no callbacks any more."""
        for endpoint in self._ledger.callbacks.off():
            subject = f"The callback endpoint of {endpoint.name} is off"
            text = (
                f"Callbacks of the user {endpoint.name} ({endpoint.user_id}) are not sent any more: {endpoint.reason}."
            )
            key = f"callbacks-{endpoint.user_id}-{endpoint.off_at:%Y%m%dT%H%M%S}"
            Notifier.load_default().send(subject, text, key=key)
            self._ledger.callbacks.off_notified(endpoint)

    def _money(self) -> None:
        """Read what providers have billed and what is left, and tell what is odd about it."""
        for account_id in billing_accounts():
            money = AccountMoneyTurn(self._resources, account_id)
            self._each(f"Every bill of {account_id}", money.read_bills)
            self._each(f"The balance of {account_id}", money.read_balance)
            self._each(f"What {account_id} bills otherwise than expected", money.notify_drift)

    def _end_lost_turns(self) -> None:
        """End earlier turns whose process was lost."""
        # Nobody else does, and Prefect would show them as running for ever.
        # Whoever works holds the lock, so none of them is at work; and this one has only just begun.
        orchestrator = self._resources.orchestrator
        for flow_run_id in lost_turns(orchestrator, now=self._now()):
            orchestrator.give_up(flow_run_id, message="Its process was lost.")

    def _each(self, name: str, action: Callable[[], None]) -> DarkroomError | None:
        """Take the action. Return the error that it failed with, which is left for the next time, or None."""
        try:
            action()
        except DarkroomError as error:
            get_run_logger().warning("%s is left for the next time: %s", name, error)
            return error
        return None

    def _calls(self, rows: Sequence[Request], *actions: Callable[[Request], None]) -> None:
        """Take the actions with each row, until its account is found to be out."""
        # In any order, so that none waits turn after turn behind those that are never answered.
        for row in sample(rows, len(rows)):
            for action in actions:
                # A call that nothing answers takes 15 s, and the turn's others, of other accounts too, would wait
                # behind hundreds of them. For a row without a request id the provider is not called.
                if row.request_id is not None and self._unanswered[row.account_id] == MOST_UNANSWERED:
                    break
                if isinstance(self._each(row.ref, partial(action, row)), Retry | Park):
                    self._count_unanswered(row.account_id)

    def _count_unanswered(self, account_id: str) -> None:
        self._unanswered[account_id] += 1
        if self._unanswered[account_id] == MOST_UNANSWERED:
            get_run_logger().warning("%s does not answer: what else is there is left for the next time", account_id)

    def _queues(self) -> None:
        """Bring the limits of users' queues up to date."""
        # A queue that was deleted is made anew, too: a run without one is offered to no worker.
        for name, limit in differing_queues(self._ledger, self._resources.orchestrator).items():
            self._resources.orchestrator.ensure_named_queue(name, limit=limit)
            get_run_logger().info("Queue %s: at most %s at once", name, limit)

    def _lost_submits(self) -> None:
        """Look for submits whose answers were lost, in the lists of those who may have taken them."""
        # Once for all of an account: its provider is asked for its list, not for each of them.
        by_account: dict[str, list[Request]] = {}
        for row in self._ledger.requests.holding_slots():
            if row.status is RequestStatus.UNKNOWN:
                by_account.setdefault(row.account_id, []).append(row)
        for account_id, rows in by_account.items():
            self._each(f"Every lost submit to {account_id}", partial(self._find_lost, account_id, rows))

    def _find_lost(self, account_id: str, rows: Sequence[Request]) -> None:
        for ref in self._resources.providers.of(account_id).find_lost(self._ledger, rows):
            get_run_logger().info("Request %s: found at the provider", ref)

    def _request(self, row: Request) -> None:
        what = for_call(row, ledger=self._ledger, heard=self._heard)
        match what:
            case ForRequest.POLL:
                if (outcome := self._provider(row).poll(row)) is None:
                    return  # it runs on: nothing to tell
                self._settle(row, outcome, via="poll")
            case ForRequest.CANCEL if row.request_id is not None:
                self._provider(row).cancel(row)
                # What has begun runs on in spite of a cancel, and is billed: only the provider can tell how it ended.
                self._settle(row, self._provider(row).poll(row), via="poll")
            case ForRequest.OVERDUE:
                self._settle(row, self._last_word(row) or self._give_up(row), via="poll")
            case ForRequest.LOSE:
                self._ledger.requests.answer_lost(row.ref)
            case ForRequest.EXPIRE:
                self._settle(row, Outcome(transition=Transition.EXPIRE), via=None)
            case _:
                return
        get_run_logger().info("Request %s: %s", row.ref, what)

    def _provider(self, row: Request) -> Provider:
        return self._resources.providers.of(row.account_id)

    def _last_word(self, row: Request) -> Outcome | None:
        """Ask once more for the outcome of an overdue request. Return None where it is to be given up."""
        try:
            return self._provider(row).poll(row)
        except DarkroomError:
            # It may have ended and been paid, so it is not given up just because nobody can tell now, until its result
            # would not be kept any more.
            if row.deadline_at is not None and self._now() - row.deadline_at < self._timing.result_kept:
                raise
            return None

    def _give_up(self, row: Request) -> Outcome:
        """Cancel the request and expire it."""
        self._provider(row).cancel(row)  # one that runs on regardless is billed: its late result is kept and costed
        return Outcome(transition=Transition.EXPIRE)

    def _progress(self, row: Request) -> None:
        """Show what the provider tells of a long call while its run is suspended for it."""
        if not shows_progress(row) or (come := self._provider(row).progress(row)) is None:
            return
        if self._ledger.jobs.progress(row.job_id, come.percent, come.text):
            flow_run_id = self._ledger.runs.flow_run_of(row.job_id)
            if flow_run_id is not None:
                key = PROGRESS + suffix(row.job_id, first=self._ledger.jobs.first_of(flow_run_id))
                self._resources.orchestrator.show_progress(flow_run_id, key=key, percent=come.percent, text=come.text)

    def _settle(self, row: Request, outcome: Outcome | None, *, via: str | None) -> None:
        if outcome is not None:
            self._resources.dispatcher.carry_out(self._ledger.requests.settle(row.ref, outcome, via=via)[1])

    def _cost(self, row: Request) -> None:
        """Record the output and cost of a success that nobody will collect, announced without its payload."""
        # It was paid, and counts in budgets and reports.
        assert row.request_id is not None
        if (outcome := self._provider(row).poll(row)) is not None:
            cost = outcome.cost_usd
            if cost is None and outcome.transition is not Transition.SUCCEED:
                cost = Decimal(0)
            self._ledger.requests.fill_output(row.ref, output=outcome.output or {}, cost_usd=cost)

    def _runs(self) -> None:
        looked_at = look_at_runs(self._ledger, self._resources.orchestrator, closed_within=self._closed_within)
        for run, state, what in looked_at:
            self._carry_out(run, state, what)

    def _carry_out(self, run: Run, state: RunState | None, what: ForRun) -> None:
        if what is not ForRun.NOTHING:
            self._each(run.id, partial(self._run, run, state, what))

    def _run(self, run: Run, state: RunState | None, what: ForRun) -> None:
        get_run_logger().info("Run %s: %s", run.id, what)
        if what is ForRun.CREATE:
            self._resources.dispatcher.carry_out(self._ledger.runs.start_again(run.id))
        elif what is ForRun.CLOSE:
            self._close(run, cancelled=state is not None and state.type == "CANCELLED", why=_ended(state))
        elif run.flow_run_id is not None and state is not None:
            self._known_run(run, run.flow_run_id, state, what)

    def _known_run(self, run: Run, flow_run_id: UUID, state: RunState, what: ForRun) -> None:
        runs, orchestrator = self._ledger.runs, self._resources.orchestrator
        if what is ForRun.WAKE:
            # Before it is woken: afterwards its process may have entered already, and would be marked instead.
            runs.mark_woken(run.id)
            orchestrator.resume(flow_run_id)
        elif what is ForRun.RECOVER:
            before = recent_recoveries(run, now=self._now(), timing=self._timing)
            # Not where its process has come back, or somebody else has recovered it, since it was looked at.
            if runs.recovering(run, recoveries=before + 1):
                orchestrator.recover(flow_run_id)
        elif what is ForRun.REASSIGN:
            self._resources.dispatcher.carry_out(runs.reassign(run.id))
            # Else it would stand there as scheduled for ever.
            if state.stranded:
                orchestrator.cancel_run(flow_run_id)
        elif what is ForRun.CONFIRM:
            if orchestrator.confirm_cancel(flow_run_id) and run.closed_at is None:
                self._close(run, cancelled=True)
        elif what is ForRun.REFUSE:
            self._refuse(run, flow_run_id, state)
        elif what is ForRun.GIVE_UP:
            why = f"The flow run was lost {run.recoveries} times in quick succession. {_ended(state)}"
            self._close(run, cancelled=False, why=why)
            orchestrator.give_up(flow_run_id, message=why)

    def _refuse(self, run: Run, flow_run_id: UUID, state: RunState) -> None:
        """Fail the jobs whose parameters the run refuses. Reassign its other open jobs to a new run."""
        named = ", ".join(state.refused_fields)
        why = f"Its parameters are not what {run.kind} takes{named and f': see {named}'}. Order it with others."
        error = BadInput(why, field=next(iter(state.refused_fields), "parameters"), code="bad_parameters").document()
        given = self._resources.orchestrator.given_to(flow_run_id)
        jobs = [job for job in self._ledger.jobs.of_run(run.id) if not job.status.terminal]
        # The run was made with the parameters of one job, and has others too.
        theirs = [job for job in jobs if job.parameters | {"user": job.user_id} == given] or jobs
        for job in theirs:
            self._resources.dispatcher.carry_out(self._ledger.jobs.finish(job.id, JobStatus.FAILED, error=error))
        self._resources.dispatcher.carry_out(self._ledger.runs.reassign(run.id))

    def _close(self, run: Run, *, cancelled: bool, why: str = "") -> None:
        """End the run and its jobs. One that failed so is a dead letter, and can be replayed."""
        status = JobStatus.CANCELLED if cancelled else JobStatus.FAILED
        document = None if cancelled else DarkroomError(why, code="run_ended").document()
        for job_id in self._ledger.runs.end(run.id):
            self._resources.dispatcher.carry_out(self._ledger.jobs.finish(job_id, status, error=document))
        if run.flow_run_id is not None:
            Reports(self._resources, run.flow_run_id).show_waits(run.id)  # which nobody else would bring up to date

    def _ends(self) -> None:
        """Make events of ends of jobs that no gateway has made one of."""
        ingest = EventIngest(self._ledger)
        for _ in range(MOST_TOLD // AT_ONCE):
            found, implied = ingest_ends(self._ledger, ingest)
            self._resources.dispatcher.carry_out(implied)
            if not found:
                break

    def _cancels(self) -> None:
        """Cancel what an event cancels and nobody has."""
        for job_id in self._ledger.events.cancels_undone():
            self._resources.dispatcher.carry_out(self._ledger.jobs.cancel(job_id))

    def _publish_events(self) -> None:
        """Tell Prefect of some of the events that it was not told of."""
        # Gateways do so within seconds: what is older than this was left by one that is gone.
        before = self._now() - self._timing.event_unpublished
        for _ in range(MOST_TOLD // CHUNK):
            if publish_some(self._ledger, self._resources.orchestrator, before=before) < CHUNK:
                return

    def _begin_pending(self) -> None:
        self._resources.dispatcher.carry_out(self._ledger.pending_runs.release(all=True))

    def _place(self, job_id: str) -> None:
        self._resources.dispatcher.carry_out(self._ledger.runs.assign(job_id))


def _ended(state: RunState | None) -> str:
    return f"The flow run ended before the job: {state.reason if state else 'it was deleted'}."


# Without retries: the next turn does again what this one has left, in a minute.
@flow(name="reconcile", retries=0)
def reconcile(
    closed_within_minutes: int | None = Field(
        None,
        ge=0,
        description="How long after its end a run is still looked at. Empty: ten. A day's after a long standstill.",
        json_schema_extra={"title": "Ended within (minutes)"},
    ),
) -> State[None] | None:
    """Do again what was implied by a change in the ledger and not done."""
    with open_resources() as resources:
        # After a standstill Prefect starts each turn that was missed, and one sees to all that there is.
        if (end := skipped(resources.orchestrator, timing=resources.timing, clock=resources.clock)) is not None:
            return end
        with resources.ledger.only_one("reconcile") as chosen:
            if chosen:
                said = None if closed_within_minutes is None else timedelta(minutes=closed_within_minutes)
                Reconciler(resources, closed_within=said).once()
        # By every turn that completes, whether chosen or not, as the next one relies on it.
        make_missing(resources.orchestrator, now=resources.clock())
    return None


if __name__ == "__main__":
    reconcile()
