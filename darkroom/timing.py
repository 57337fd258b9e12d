"""Every limit that anybody waits for, in one place, so that all of them can be made shorter by one factor.

Limits hang together: a lease is renewed several times before it runs out, a run counts as lost only some time after
its lease, a turn of `reconcile` comes more often than a net is wide. `scaled` keeps these ratios, so a stack of tests
or demos waits a tenth and makes the same promises. `DARKROOM_TIME_SCALE` sets the factor; production keeps 1.

Not here, as they are not ours to shorten: what others promise (Prefect's 24 hours, how long fal keeps a result), how
often Prefect is shown what a run has done, time-outs of single calls to them, lifetimes of links and tolerances of
signatures, what users ask for (sleeps, periods of flow control), how long a process takes to start or to end, and the
pace at which others are asked.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TypeVar

# A call that is paid has so long to be taken, at any scale: how fast a provider answers is not ours to say.
SUBMIT_PATIENCE = timedelta(seconds=30)
# … and one whose answer is its outcome so long to be answered, at most: a process that is told to end waits for it.
ANSWER_PATIENCE = timedelta(minutes=2)

Durations = tuple[timedelta, ...]
T = TypeVar("T", float, timedelta, Durations)


@dataclass(frozen=True, kw_only=True)
class Timing:
    factor: float = 1.0  # by which all of them are scaled, and what models and flows say beside

    # A run in its process.
    patience: timedelta = timedelta(seconds=5)  # most pictures come within it: a suspension costs a second
    linger: timedelta = timedelta(seconds=5)  # for the user's next job, which then needs no process of its own
    cancel_grace: timedelta = timedelta(seconds=30)  # a cancelled run still tells the provider
    work_poll: timedelta = timedelta(seconds=1)  # where nobody notifies: a lost connection, a private network
    poll: timedelta = timedelta(seconds=1)  # between questions to a provider that cannot reach us
    ledger_outage: timedelta = timedelta(minutes=2)  # a Postgres restarts within it; then the run gives up its process
    answer_kept: timedelta = timedelta(minutes=10)  # one in hand, and paid, for a ledger that is out: nowhere else
    # A job whose call a gateway has sent is called once its result is there, which often is soon, or after so long: to
    # be shown as running. Alone in its run it is called at once.
    sent_shown: timedelta = timedelta(seconds=1)
    takes_jobs_for: timedelta = timedelta(minutes=30)  # then a run comes to an end, however busy its user is
    child_again: timedelta = timedelta(seconds=5)  # a child that a person has put back to work is looked at again

    # That a process is alive. Two renewals may be missed, and it counts as lost only `grace` after that.
    renewal: timedelta = timedelta(seconds=5)
    lease: timedelta = timedelta(seconds=15)
    grace: timedelta = timedelta(seconds=30)

    # What `reconcile` makes of silence.
    reconcile_every: timedelta = timedelta(minutes=1)
    idle_turn: timedelta = timedelta(minutes=10)  # while nothing is due, a turn is run so often all the same
    submit_margin: timedelta = timedelta(seconds=30)  # beyond its POST's own time; then a row has lost its process
    lost_submit: timedelta = timedelta(seconds=10)  # is looked up at the provider then; its webhook may come by itself
    request_silent: timedelta = timedelta(seconds=20)  # a request that might have told us is asked about
    wake_again: timedelta = timedelta(seconds=10)  # event to first line takes two or three
    started_by: timedelta = timedelta(seconds=15)  # a run on record that Prefect does not know is created
    pending_limit: timedelta = timedelta(seconds=60)  # a run without a first line has lost its worker
    # A run that is lost again and again: at once, then after 2, 4, 8 … 30 s, then given up. A job that kills its
    # process must not keep a worker busy for ever.
    recovery_pause: timedelta = timedelta(seconds=2)
    longest_recovery_pause: timedelta = timedelta(seconds=30)
    recoveries_forgotten: timedelta = timedelta(minutes=5)
    closed_within: timedelta = timedelta(minutes=10)  # a run that ended is looked at: Prefect may not have heard of it
    result_kept: timedelta = timedelta(hours=1)  # fal's own hour: then nobody can tell how an overdue request ended
    event_unpublished: timedelta = timedelta(minutes=2)  # gateways tell Prefect sooner, if there is one
    bad_end_window: timedelta = timedelta(seconds=5)  # in which runs that end badly are one look, and one at its end

    # Slots of cron.
    on_time: timedelta = timedelta(seconds=10)  # who comes within it is late for nothing
    slot_missed: timedelta = timedelta(minutes=5)  # where the declaration does not say when a slot is missed

    # Trying again. What a step's own `RetryPolicy` says is scaled where the pause is reckoned.
    file_again: Durations = tuple(timedelta(seconds=each) for each in (1, 4, 15))  # up to twice as long, by chance
    # … a file whose host or the media store is out: it is paid for, so it is waited for, an hour and a half.
    file_out_again: Durations = tuple(timedelta(seconds=each) for each in (1, 4, 15, *[30] * 120))
    queue_full: timedelta = timedelta(seconds=60)  # what an order is told that found its user's queue full

    # The breaker and the throttle of an account.
    first_probe: timedelta = timedelta(seconds=1)
    longest_probe_pause: timedelta = timedelta(seconds=30)
    # A probe whose answer does not come in this time, perhaps because its process has died, is followed by another.
    probe_patience: timedelta = timedelta(seconds=45)
    halved_for: timedelta = timedelta(seconds=15)
    one_burst: timedelta = timedelta(seconds=2)  # 429s so close together say one thing

    # A gateway's threads, and those of a worker that listen.
    grant_wait: timedelta = timedelta(seconds=2)  # for what other processes put on record
    grant_failed: timedelta = timedelta(seconds=1)
    progress_published: timedelta = timedelta(seconds=1)  # how far a job has come is told at most so often
    news_idle: timedelta = timedelta(seconds=1)  # for news of which nobody was notified, and keys that have run out
    news_unread: timedelta = timedelta(seconds=5)  # … while no stream is open here
    news_failed: timedelta = timedelta(seconds=1)
    stream_heartbeat: timedelta = timedelta(seconds=15)  # proxies cut what is silent for a minute
    stream_stuck: timedelta = timedelta(seconds=30)  # a reader that takes nothing for so long is cut off
    stream_again: timedelta = timedelta(seconds=1)  # that a stream which was ended is opened again
    callbacks_idle: timedelta = timedelta(
        seconds=3
    )  # for callbacks that are due, and news of which nobody was notified
    callbacks_failed: timedelta = timedelta(seconds=1)
    callback_limit: timedelta = timedelta(seconds=10)  # for one delivery, with its answer
    callback_claim: timedelta = timedelta(seconds=30)  # then its sender is taken for dead
    # A delivery that failed, after each attempt, up to a tenth longer by chance; eight attempts in about a day.
    callback_again: Durations = (
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        *(timedelta(hours=each) for each in (2, 5, 10, 10)),
    )
    callback_off: timedelta = timedelta(days=3)  # an endpoint to which nothing was delivered for so long
    all_pending: timedelta = timedelta(seconds=5)  # runs that are held: another gateway may have gone before it acted
    events_idle: timedelta = timedelta(seconds=3)  # for events that flows sent
    events_failed: timedelta = timedelta(seconds=5)
    prefect_watched: timedelta = timedelta(seconds=5)
    prefect_missed: timedelta = timedelta(seconds=1)  # while something is missing: a stack that starts is ready sooner
    store_probed: timedelta = timedelta(seconds=15)  # by every gateway, with an object of 64 KiB
    blocks_read: timedelta = timedelta(minutes=1)  # they can be edited in Prefect's UI
    listen_again: timedelta = timedelta(seconds=5)
    runs_polled: timedelta = timedelta(seconds=5)  # at Prefect, by a worker that is told of those that are ready
    deployment_kept: timedelta = timedelta(seconds=15)  # so long one that was edited may start as it was
    result_storage_kept: timedelta = timedelta(minutes=5)

    # The local stack, and who waits at a command.
    first_restart: timedelta = timedelta(seconds=0.5)
    longest_restart: timedelta = timedelta(seconds=15)
    part_well: timedelta = timedelta(seconds=30)  # a part that ran this long: its next pause is the first again
    job_watched: timedelta = timedelta(seconds=0.5)

    @property
    def submit_limit(self) -> timedelta:
        """Return after how long a row that is still submitting has lost its process: its POST has ended by then."""
        return SUBMIT_PATIENCE + self.submit_margin

    def scaled(self, factor: float) -> Timing:
        """Return all limits times that factor."""
        return replace(self, **{field.name: _times(getattr(self, field.name), factor) for field in fields(self)})

    def scale(self, duration: timedelta) -> timedelta:
        """Scale a limit that somebody else has said for production: a model, a flow."""
        return duration * self.factor


def _times(value: T, factor: float) -> T:
    if isinstance(value, tuple):
        return tuple(each * factor for each in value)
    return value * factor


UNSCALED = Timing()
