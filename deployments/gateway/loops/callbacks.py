"""The threads of a gateway that send callbacks: one puts them on record and claims what is due, others send it.

An owner's deliveries to one host have slots of their own, and one slot alone while that host fails. So a customer whose
application hangs holds a thread or two, and nobody else's news waits for it. The ledger says what is due and keeps the
claim (`darkroom/ledger/callbacks.py`): with a gateway that dies its deliveries are another's a little later, with the
same ids.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from types import TracebackType

from darkroom.deployments.gateway.callback_signing import secrets_of, signed
from darkroom.deployments.gateway.loops.loop import SECONDS_TO_FINISH, Loop
from darkroom.deployments.gateway.schemas.callbacks import callback_body
from darkroom.errors import BadInput, DarkroomError, Refused, Retry
from darkroom.ledger import Callback, Ledger, Sent
from darkroom.ledger.callbacks import LONGEST_ANSWER
from darkroom.providers.web.posting import Answer, WebPost
from darkroom.settings import Settings
from darkroom.timing import Timing

logger = logging.getLogger(__name__)

THREADS = 32
SLOTS = 4  # of one owner at one host
SLOTS_OF_FAILING = 1
MOST_FAILING = 10_000  # lanes that are known to fail
NEVER = frozenset({"bad_url", "private_address"})  # which no other attempt changes
LONGEST_RETRY_AFTER = timedelta(days=1)


# Between two turns at least: news is collected, but a slot that a delivery leaves is used by the next one soon.
COLLECTS_SECONDS = 0.25
SENDS_SECONDS = 0.02


class CallbackSender(Loop):
    collects_seconds = COLLECTS_SECONDS

    def __init__(self, ledger: Ledger, settings: Settings, post: WebPost) -> None:
        failing = "Callbacks are not sent"
        super().__init__("callbacks", failing=failing, after_failure=ledger.timing.callbacks_failed)
        self._ledger = ledger
        self._settings = settings
        self._post = post
        self._idle = ledger.timing.callbacks_idle.total_seconds()
        self._lock = threading.Lock()
        self._busy = Counter[str]()  # deliveries under way, by lane
        self._failing: set[str] = set()  # lanes whose last delivery failed
        self._done_some = False  # since the last turn
        self._under_way: set[Future[None]] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="callback")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        # Not waited for here: that has no bound. What is cut off is due again when its claim has run out.
        self._threads.shutdown(wait=False, cancel_futures=True)
        wait(set(self._under_way), SECONDS_TO_FINISH)

    def check(self, url: str, *, field: str) -> None:
        """Raise BadInput for an address to which nothing would ever be sent."""
        try:
            self._post.check(url)
        except Refused as refused:
            raise BadInput(f"{field}: {refused}", field=field) from None

    def _turn(self) -> float:
        """Put on record what is new, and begin to send what is due."""
        while self._ledger.callbacks.put_on_record():
            pass
        # Read before the next are begun: what ends meanwhile counts for the next turn.
        with self._lock:
            done_some, self._done_some = self._done_some, False
        self.collects_seconds = SENDS_SECONDS if self._begin() or done_some else COLLECTS_SECONDS
        return self._idle

    def _begin(self) -> int:
        """Begin to send what there is a slot for. Return how many."""
        with self._lock:
            # The ledger gives each lane that is not named here all of its slots.
            free = {lane: self._free(lane) for lane in {*self._busy, *self._failing}}
            most = THREADS - self._busy.total()
        if most <= 0:  # nothing is claimed for a queue: the claim would run out there
            return 0
        claimed = self._ledger.callbacks.claim(most=most, slots=SLOTS, free=free)
        for callback in claimed:
            with self._lock:  # before it is begun: it may have ended when `submit` returns
                self._busy[callback.lane] += 1
            future = self._threads.submit(self._send, callback)
            # In this order: the callback of one that has ended is called at once.
            self._under_way.add(future)
            future.add_done_callback(self._under_way.discard)
        return len(claimed)

    def _free(self, lane: str) -> int:
        slots = SLOTS_OF_FAILING if lane in self._failing else SLOTS
        return max(0, slots - self._busy[lane])

    def _send(self, callback: Callback) -> None:
        failed = True  # whatever is raised below
        try:
            sent = self._attempt(callback)
            failed = sent.error is not None
            self._ledger.callbacks.sent(callback, sent)
        except Exception as error:  # it is due again when its claim has run out
            logger.warning("Callback %s is left for later: %s", callback.id, type(error).__name__)
        finally:
            self._done(callback.lane, failed=failed)

    def _attempt(self, callback: Callback) -> Sent:
        # All of it anew for each attempt: secrets may have been rotated, and after hours the job is further on, and its
        # links of before hold no longer.
        endpoint = self._ledger.callbacks.endpoint(callback.owner_id)
        body = callback_body(callback, self._ledger, self._settings)
        now = self._ledger.clock()
        headers = signed(callback.id, body, secrets_of(endpoint, self._settings, now=now), now=now)
        answer: Answer | DarkroomError
        try:
            answer = self._post.post(
                callback.url,
                body,
                headers={"Content-Type": "application/json", **headers},
                patience=self._ledger.timing.callback_limit,
                max_bytes=LONGEST_ANSWER,
            )
        except (Refused, Retry) as error:  # an address that must not be called, or no answer in time
            answer = error
        # By the time of its end: an attempt takes some seconds.
        return what_became(answer, attempts=callback.attempts, now=self._ledger.clock(), timing=self._ledger.timing)

    def _done(self, lane: str, *, failed: bool) -> None:
        with self._lock:
            self._done_some = True
            self._busy[lane] -= 1
            if not self._busy[lane]:
                del self._busy[lane]
            if not failed:
                self._failing.discard(lane)
            elif len(self._failing) < MOST_FAILING:  # one that is not noted holds a few threads more, and no memory
                self._failing.add(lane)
        self._flag.set()


def what_became(answer: Answer | DarkroomError, *, attempts: int, now: datetime, timing: Timing) -> Sent:
    """Decide what an attempt came to, after so many before it: delivered, due again, or given up."""
    if isinstance(answer, DarkroomError):
        again = None if answer.code in NEVER else _again(attempts, None, now=now, timing=timing)
        return Sent(error=str(answer), again=again)
    if 200 <= answer.status < 300:
        return Sent(status=answer.status, answer=answer.text)
    said = f"it answered {answer.status}"
    if answer.status == 410:  # by which, in Standard Webhooks, a receiver says that it wants no more
        return Sent(status=answer.status, answer=answer.text, error=f"{said}: gone", gone=True)
    if 300 <= answer.status < 400:
        said += ", and redirects are not followed"
    again = _again(attempts, answer.retry_after, now=now, timing=timing)
    return Sent(status=answer.status, answer=answer.text, error=said, again=again)


def _again(attempts: int, asked: timedelta | None, *, now: datetime, timing: Timing) -> datetime | None:
    if attempts >= len(timing.callback_again):
        return None
    pause = timing.callback_again[attempts] * random.uniform(1, 1.1)  # what failed together does not come back together
    # `Retry-After` puts it off, and never brings it forward.
    return now + max(pause, min(asked or timedelta(0), LONGEST_RETRY_AFTER))
