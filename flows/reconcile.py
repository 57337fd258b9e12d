"""The guarantee behind the fast path: does again whatever was implied and not done.

Cron deployment, every minute; several may be started, one works (`pg_try_advisory_lock`), the others leave at once.
What is to be done is decided by pure functions (`darkroom/engine/reconcile_rules.py`); `Reconciler` does it. Fails only
if the ledger cannot be reached; what one row raises is logged and does not stop the others. Every turn also makes the
runs of cron's slots that Prefect has not made (`darkroom/orchestrator/missed_runs.py`), and fails where Prefect cannot
do that now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from random import sample
from uuid import UUID

from prefect import State, flow
from prefect.logging import get_run_logger
from pydantic import Field

from darkroom.blocks.notifier import Notifier
from darkroom.engine.reconcile_rules import (
    ForRequest,
    ForRun,
    decide_closed_run,
    decide_request,
    decide_run,
    differing,
    recent_recoveries,
)
from darkroom.engine.resources import Resources, open_resources
from darkroom.engine.ui.report import PROGRESS, Reports, suffix
from darkroom.errors import BadInput, DarkroomError, Park, Retry
from darkroom.events import EventIngest, ingest_ends
from darkroom.events.feed import CHUNK, publish_some
from darkroom.events.job_ends import AT_ONCE
from darkroom.flows.parts.account_money import AccountMoneyTurn
from darkroom.ledger import JobStatus, Outcome, Request, RequestStatus, Run, Transition
from darkroom.orchestrator import RECONCILE, queue_name
from darkroom.orchestrator.missed_runs import make_missing, skipped
from darkroom.orchestrator.run_states import RunState
from darkroom.providers.base import Provider
from darkroom.providers.models import model_of
from darkroom.providers.registry import accounts, heard_from

MOST_TOLD = 500  # events in one turn
MOST_UNANSWERED = 3  # calls of one turn to one account
LONGEST_TURN = timedelta(minutes=1)  # not scaled: it is made of calls to others, 15 s each where nobody answers
LONG = timedelta(minutes=5)  # as a model says it: what takes that long is asked how far it has come


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
        self._each("Lost turns", self._end_lost_turns)
        # Runs next: the end of one ends its jobs, and their requests are cancelled at the provider in the same turn.
        self._each("Every run", self._runs)
        self._each("Every queue", self._queues)
        self._lost_submits()
        self._calls(self._ledger.requests.holding_slots(), self._request, self._progress)
        self._calls(self._ledger.requests.paid_unseen(since=self._now() - self._timing.result_kept), self._cost)
        for job_id in self._ledger.jobs.unassigned():
            self._each(job_id, partial(self._place, job_id))
        self._each("Every start", self._begin_pending)
        self._resources.dispatcher.grant()
        self._each("Every end of a job", self._ends)
        self._each("Every unpublished event", self._publish_events)
        self._money()
        self._ledger.budgets.publish()
        self._ledger.news.forget(older_than=self._resources.settings.news_kept)
        self._ledger.callbacks.forget(older_than=self._resources.settings.news_kept)
        self._ledger.housekeeping.forget(older_than=self._resources.settings.events_kept)
        self._each("Every account that waits for a person", self._notify)
        self._each("Every callback endpoint that is off", self._tell_of_endpoints)

    def _notify(self) -> None:
        """Tell the operator, once, which account stands still until they do something about it."""
        for account in self._ledger.accounts.to_notify():
            subject = f"{account.id} takes no more calls"
            text = f"{account.down_reason}. What was ordered waits, and goes on by itself once that is done."
            Notifier.load_default().send(subject, text, key=f"account-{account.id}-{account.down_since:%Y%m%dT%H%M%S}")
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
        for account_id in (account_id for account_id, account in accounts().items() if account.tells_bills):
            money = AccountMoneyTurn(self._resources, account_id)
            self._each(f"Every bill of {account_id}", money.read_bills)
            self._each(f"The balance of {account_id}", money.read_balance)
            self._each(f"What {account_id} bills otherwise than expected", money.notify_drift)

    def _end_lost_turns(self) -> None:
        """Earlier turns whose process was lost: nobody else ends those, and Prefect shows them as running for ever.

        Whoever works holds the lock, so none of them is at work; and this one has only just begun.
        """
        orchestrator = self._resources.orchestrator
        for flow_run_id in orchestrator.under_way_since(self._now() - LONGEST_TURN, deployment=RECONCILE):
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
        """Take the actions with each row, until its account is found to be out.

        A call that nothing answers takes 15 s, and the turn's others, of other accounts too, would wait behind hundreds
        of them.

        In any order, so that none waits turn after turn behind those that are never answered. For a row without a
        request id the provider is not called.
        """
        for row in sample(rows, len(rows)):
            for action in actions:
                if row.request_id is not None and self._unanswered[row.account_id] == MOST_UNANSWERED:
                    break
                if isinstance(self._each(row.ref, partial(action, row)), Retry | Park):
                    self._count_unanswered(row.account_id)

    def _count_unanswered(self, account_id: str) -> None:
        self._unanswered[account_id] += 1
        if self._unanswered[account_id] == MOST_UNANSWERED:
            get_run_logger().warning("%s does not answer: what else is there is left for the next time", account_id)

    def _queues(self) -> None:
        """Bring the limits of users' queues up to date.

        A plan that was changed is its users' queues' limit from now on; a queue that was deleted is made anew.
        """
        limits = {queue_name(user_id): limit for user_id, limit in self._ledger.runs.limits_of_open().items()}
        for name, limit in differing(limits, self._resources.orchestrator.queue_limits() if limits else {}).items():
            self._resources.orchestrator.ensure_named_queue(name, limit=limit)
            get_run_logger().info("Queue %s: at most %s at once", name, limit)

    def _lost_submits(self) -> None:
        """First: what is found is polled, or cancelled, in the same turn."""
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
        model = model_of(row)
        what = decide_request(
            row,
            now=self._now(),
            expected=model.expected,
            start_timeout=model.start_timeout,
            webhooks=row.account_id in self._heard,
            timing=self._timing,
        )
        match what:
            case ForRequest.POLL:
                if (outcome := self._provider(row).poll(row)) is None:
                    return  # it runs on: nothing to tell
                self._settle(row, outcome, via="poll")
            case ForRequest.CANCEL if row.request_id is not None:
                self._provider(row).cancel(row)
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
        """Ask once more for the outcome of an overdue request. Return None where it is to be given up.

        It may have ended and been paid, so it is not given up just because nobody can tell now: the error is raised,
        until its result would not be kept any more.
        """
        try:
            return self._provider(row).poll(row)
        except DarkroomError:
            if row.deadline_at is not None and self._now() - row.deadline_at < self._timing.result_kept:
                raise
            return None

    def _give_up(self, row: Request) -> Outcome:
        """Cancel the request and expire it.

        A request that runs on regardless is billed: its late result is kept and costed.
        """
        self._provider(row).cancel(row)
        return Outcome(transition=Transition.EXPIRE)

    def _progress(self, row: Request) -> None:
        """Show what the provider tells of a long call while its run is suspended for it."""
        if row.status is not RequestStatus.IN_FLIGHT or model_of(row).expected < LONG:
            return
        if (come := self._provider(row).progress(row)) is None:
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
        """Record the output and cost of a success that nobody will collect, announced without its payload.

        It was paid, and is on record as that.
        """
        assert row.request_id is not None
        if (outcome := self._provider(row).poll(row)) is not None:
            cost = outcome.cost_usd or Decimal(0)
            self._ledger.requests.fill_output(row.ref, output=outcome.output or {}, cost_usd=cost)

    def _runs(self) -> None:
        """Prefect is asked about all of them at once: hundreds may be suspended, and want nothing."""
        runs, now = self._ledger.runs.not_closed(), self._now()
        closed = self._ledger.runs.closed_since(now - self._closed_within)
        states = self._resources.orchestrator.run_states(run.flow_run_id for run in runs + closed if run.flow_run_id)
        with_granted = self._ledger.runs.with_granted()
        for run in runs:
            state = states.get(run.flow_run_id) if run.flow_run_id else None
            if run.closed_at is not None:  # whoever closed it did not get to its jobs
                self._carry_out(run, state, ForRun.CLOSE)
            else:
                granted = run.id in with_granted
                what = decide_run(run, state, now=now, has_granted=granted, timing=self._timing)
                self._carry_out(run, state, what)
        for run in closed:
            state = states.get(run.flow_run_id) if run.flow_run_id else None
            self._carry_out(run, state, decide_closed_run(run, state, now=now, timing=self._timing))

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
            runs.mark_woken(run.id)
            orchestrator.resume(flow_run_id)
        elif what is ForRun.RECOVER:
            before = recent_recoveries(run, now=self._now(), timing=self._timing)
            if runs.recovering(run, recoveries=before + 1):
                orchestrator.recover(flow_run_id)
        elif what is ForRun.REASSIGN:
            self._resources.dispatcher.carry_out(runs.reassign(run.id))
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
        """Fail the jobs whose parameters the run refuses. Reassign its other open jobs to a new run.

        An event or another job may have brought them. The run was made with the parameters of one job, and has others
        too.
        """
        named = ", ".join(state.refused_fields)
        why = f"Its parameters are not what {run.kind} takes{named and f': see {named}'}. Order it with others."
        error = BadInput(why, field=next(iter(state.refused_fields), "parameters"), code="bad_parameters").document()
        given = self._resources.orchestrator.given_to(flow_run_id)
        jobs = [job for job in self._ledger.jobs.of_run(run.id) if not job.status.terminal]
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
        """Make events of ends of jobs that no gateway has made one of; cancel what an event cancels and nobody has."""
        ingest = EventIngest(self._ledger)
        for _ in range(MOST_TOLD // AT_ONCE):
            found, implied = ingest_ends(self._ledger, ingest)
            self._resources.dispatcher.carry_out(implied)
            if not found:
                break
        for job_id in self._ledger.events.cancels_undone():
            self._resources.dispatcher.carry_out(self._ledger.jobs.cancel(job_id))

    def _publish_events(self) -> None:
        """Gateways tell Prefect of events; this is for when none is there. A turn tells a few, as they do."""
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
