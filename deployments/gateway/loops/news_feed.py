"""The one thread of a gateway that reads news, and hands it to the streams that are open there.

It LISTENs, gives committed news its numbers, reads what is new once, and gives a round of it to the event loop. There
each piece goes to the streams whose audience hears it, as the same bytes. Nobody is waited for.

Streams are made, filled and ended in the event loop alone. While one is open, the thread looks once a second
(`Timing.news_idle`) for news of which nobody was notified, and whether the keys by which streams were opened still
hold.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from darkroom.deployments.gateway.problems import unavailable
from darkroom.errors import DarkroomError, TooMany
from darkroom.ledger import OUTAGES, Audience, Ledger, Listener, News
from darkroom.ledger.news import CHANNEL, ENDS

logger = logging.getLogger(__name__)

MOST_READ = 200  # in one round
MOST_WAITING = 1000  # lines that one stream keeps: some rounds, so that a burst ends nobody who reads
MOST_STREAMS = 10_000  # of one gateway, which each costs some 60 KB
MOST_OF_ONE = 100  # … and of one user
# Between the beginnings of two looks at least: what is told meanwhile is one look. Without an open stream nobody reads
# it here, and what follows from it may wait a little longer.
COLLECTS_SECONDS = 0.02
COLLECTS_UNREAD_SECONDS = 0.25
SECONDS_TO_FINISH = 5.0
SECONDS_TO_BE_READY = 10.0


class Line:
    """A piece of news, and the bytes that all its readers are sent: made once, when the first of them is there."""

    def __init__(self, news: News, write: Callable[[News], bytes]) -> None:
        self.news = news
        self._write = write

    @cached_property
    def sent(self) -> bytes:
        return self._write(self.news)


# Equal by identity alone, as streams are members of a set.
@dataclass(eq=False, kw_only=True)
class Stream:
    """One that is open. `since`: what has a larger number comes by itself, what has a smaller one is to be read."""

    audience: Audience
    key: str  # digest of the key by which it was opened
    until: datetime | None  # when its token runs out
    since: int
    ended: str | None = None  # why
    _lines: deque[Line] = field(default_factory=deque)
    _flag: asyncio.Event = field(default_factory=asyncio.Event)

    async def lines(self) -> Sequence[Line]:
        """Wait for lines, and take them. Return none once the stream has ended."""
        await self._flag.wait()
        self._flag.clear()
        taken = [] if self.ended else list(self._lines)  # its reader reads the rest anew, from its last number
        self._lines.clear()
        return taken

    def put(self, line: Line) -> None:
        # Nothing is lost by that: the reader opens another stream, from the last number that it had.
        if len(self._lines) >= MOST_WAITING:
            self.end("its reader is too slow")
        elif self.ended is None:
            self._lines.append(line)
            self._flag.set()

    def end(self, why: str) -> None:
        self.ended = self.ended or why
        self._lines.clear()
        self._flag.set()


class NewsFeed:
    def __init__(
        self,
        ledger: Ledger,
        write: Callable[[News], bytes],
        *,
        ended: Callable[[], None] = lambda: None,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        """Give the feed the event loop that runs now.

        `write`: makes the bytes of a line. `ended`: is called when a job has ended, `told` when there is any news;
        both return at once.
        """
        self._ended, self._told = ended, told
        self._ledger = ledger
        self._write = write
        self._idle = ledger.timing.news_idle.total_seconds()
        self._unread = ledger.timing.news_unread.total_seconds()
        self._after_failure = ledger.timing.news_failed.total_seconds()
        self._streams: dict[str, set[Stream]] = defaultdict(set)  # by whose news it is; of the loop
        self._open = 0
        self._handed = 0  # the number up to which all is handed out; of the loop
        self._ready = asyncio.Event()  # it is known; of the loop
        self._read: int | None = None  # … is read; of the thread
        self._keys_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._listener: Listener | None = None
        self._stopping = threading.Event()
        # A daemon, as a statement that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="news feed", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._look()  # else it may wait for seconds until it sees that it is to stop
        self._thread.join(SECONDS_TO_FINISH)

    async def open(self, audience: Audience, *, key: str, until: datetime | None) -> Stream:
        """Open a stream. Raises `TooMany`, and 503 where too many others are open, or the ledger is out."""
        # A gateway that has just started is waited for: a browser does not come again after an answer other than 200.
        try:
            await asyncio.wait_for(self._ready.wait(), SECONDS_TO_BE_READY)
        except TimeoutError:
            raise unavailable("The ledger does not answer.", retry_after=self._after_failure) from None
        # What was committed before may not have its number yet, and is no news to this stream.
        now = await asyncio.to_thread(self._ledger.news.now)
        if self._open >= MOST_STREAMS:
            raise unavailable(f"{MOST_STREAMS:,} streams are open here, the most at once.")
        if len(self._streams.get(audience.user_id, ())) >= MOST_OF_ONE:
            raise TooMany(
                f"{MOST_OF_ONE} streams of this user are open, the most at once. Close one, or follow all jobs by one.",
                retry_after=self._ledger.timing.stream_heartbeat,
                code="too_many_streams",
            )
        # From here to its place among the streams nothing is awaited: what is handed out meanwhile would pass it by.
        stream = Stream(audience=audience, key=key, until=until, since=max(now, self._handed))
        self._streams[audience.user_id].add(stream)
        self._open += 1
        self._look()  # from now on once a second
        return stream

    def close(self, stream: Stream) -> None:
        """Forget the stream, in the event loop."""
        own = self._streams[stream.audience.user_id]
        own.discard(stream)
        self._open -= 1
        if not own:
            del self._streams[stream.audience.user_id]

    def written(self, audience: Audience, *, after: int, until: int) -> list[Line]:
        """Read a page of what was told before a stream was opened. Not in the event loop."""
        found = self._ledger.news.of(audience, after=after, until=until, limit=MOST_READ)
        lines = [Line(news, self._write) for news in found]
        assert all(line.sent for line in lines)  # written here, and not in the event loop
        return lines

    def _look(self) -> None:
        """Have the thread look now."""
        if (listener := self._listener) is not None:
            with suppress(OSError):  # it is closed just now
                listener.notify()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._ledger.listen(CHANNEL) as listener:
                    self._listener = listener
                    while not self._stopping.is_set():
                        began = time.monotonic()
                        self._poll()
                        listener.wait(self._idle if self._open else self._unread)
                        collects = COLLECTS_SECONDS if self._open else COLLECTS_UNREAD_SECONDS
                        self._stopping.wait(max(0.0, began + collects - time.monotonic()))
            except (DarkroomError, SQLAlchemyError, *OUTAGES) as error:
                logger.warning("News is not read: %s", type(error).__name__)
            except Exception:  # else no stream of this gateway would hear anything again
                logger.exception("News is not read")
            self._listener = None
            self._stopping.wait(self._after_failure)

    def _poll(self) -> None:
        """Give what is new its numbers, and hand out all of it."""
        if self._read is None:
            self._hand_out([], self._ledger.news.newest())  # what is older each stream reads for itself
        while self._ledger.news.number():
            pass
        again, nothing_new = self._read is not None, True
        while again and self._read is not None:
            found = self._ledger.news.after(self._read, limit=MOST_READ)
            again = len(found) == MOST_READ
            if found:
                nothing_new = False
                self._hand_out([Line(news, self._write) for news in found], found[-1].number)
                self._told()
            if any(news.event in ENDS for news in found):
                self._ended()
        # Woken for no news: a key was revoked, or nobody has notified it.
        if self._open and (nothing_new or time.monotonic() - self._keys_at >= self._idle):
            self._keys_at = time.monotonic()
            self._check_keys()

    def _check_keys(self) -> None:
        # Of copies, as the event loop opens and closes streams meanwhile.
        keys = {stream.key for streams in list(self._streams.values()) for stream in list(streams)}
        self._in_loop(self._end_expired, keys - self._ledger.users.holding(keys))

    def _hand_out(self, lines: Sequence[Line], up_to: int) -> None:
        # Also without lines: whoever opens a stream waits until the loop has heard of a number.
        self._read = up_to
        self._in_loop(self._deliver, lines, up_to)

    def _in_loop(self, call: Callable[..., None], *given: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *given)
        except RuntimeError:  # closed: the gateway is going
            self._stopping.set()

    def _deliver(self, lines: Sequence[Line], up_to: int) -> None:
        for line in lines:
            # A service hears of all its end users.
            for user_id in (line.news.user_id, line.news.parent_id):
                for stream in self._streams.get(user_id, ()) if user_id else ():
                    # Those up to `since` it reads for itself.
                    if line.news.number > stream.since and stream.audience.hears(line.news):
                        stream.put(line)
        self._handed = up_to
        self._ready.set()

    def _end_expired(self, revoked: Set[str]) -> None:
        now = self._ledger.clock()
        for stream in [stream for streams in self._streams.values() for stream in streams]:
            if stream.key in revoked:
                stream.end("its key holds no longer")
            elif stream.until is not None and stream.until <= now:
                stream.end("its token holds no longer")
