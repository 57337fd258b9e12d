"""A child as the worker sees it: told things over its line, waited for without a thread, ended politely or for good.

One that is told to end is killed after a grace. While it says that a paid call of its is under way it is waited for, as
long as a provider may take to answer: the answer would be lost with it, and the call be paid once more.
"""

from __future__ import annotations

import asyncio
import signal
import traceback
from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import PurePath

from pydantic import ValidationError

from darkroom.deployments.worker.messages import Message, Suspended
from darkroom.timing import ANSWER_PATIENCE


class Child:
    """`since`: when its run became ready for it. What the run went through before concerns former processes of it."""

    def __init__(self, process: ForkServerProcess, line: Connection, *, since: datetime) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.since = since
        self._grace: timedelta | None = None  # to end in, once it was told to
        self._is_paying = False
        self._killing: asyncio.TimerHandle | None = None
        self._process = process
        self._line = line
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(process.sentinel, self._reap)
        asyncio.get_running_loop().add_reader(line.fileno(), self._hear)

    async def ended(self) -> int:
        """Wait for its exit status: negative for a signal, 255 if the forkserver died and took it along."""
        return await asyncio.shield(self._ended)  # who waits may give up, and the end is for others, too

    def send(self, message: Message | Suspended) -> None:
        with suppress(OSError):  # it has ended, or is ending
            self._line.send(message)

    def cancel(self, *, grace: timedelta) -> None:
        """Cancel it, once."""
        if self._grace is None:
            self._tell_to_end(Message.CANCEL, grace)

    async def end(self, *, grace: timedelta) -> int:
        """End it, and wait for its exit status."""
        self._tell_to_end(Message.STOP, grace)
        return await self.ended()

    def _tell_to_end(self, how: Message, grace: timedelta) -> None:
        # Once: its engine says Cancelling too, and a second signal would interrupt it before it says Cancelled.
        if self._grace is None:
            self.send(how)
        self._grace = grace
        if not self._is_paying:
            self._kill_after(grace)

    def _hear(self) -> None:
        try:
            self._is_paying = self._line.recv() is Message.PAYING
        except (EOFError, OSError):  # it has ended, or is ending
            asyncio.get_running_loop().remove_reader(self._line.fileno())
            return
        if self._grace is not None:
            self._kill_after(ANSWER_PATIENCE if self._is_paying else self._grace)

    def _kill_after(self, grace: timedelta) -> None:
        if self._killing is not None:
            self._killing.cancel()
        if not self._ended.done():
            self._killing = asyncio.get_running_loop().call_later(grace.total_seconds(), self._process.kill)

    def _reap(self) -> None:
        if self._killing is not None:
            self._killing.cancel()
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        asyncio.get_running_loop().remove_reader(self._line.fileno())
        self._process.join()
        assert self._process.exitcode is not None
        self._ended.set_result(self._process.exitcode)
        self._line.close()
        self._process.close()


def explain(status: int) -> str:
    """Say what this ending usually means, for the run's state."""
    if status == -signal.SIGKILL:
        return "Its process was killed (SIGKILL), by somebody or for want of memory."
    if status < 0:
        return f"Its process was ended by {signal.Signals(-status).name}."
    return f"Its process exited with status {status}."


def explain_error(error: Exception) -> str:
    """Say what kept a run from being started, by class and place: an error's own words may repeat an order.

    Those of a variable that is wrong are about its name, and the remedy.
    """
    if isinstance(error, ValidationError):
        wrong = error.errors(include_input=False, include_context=False, include_url=False)
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {PurePath(last.filename).name}, line {last.lineno}"
