"""A child as the worker sees it: told things over its line, waited for without a thread, ended politely or for good."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from darkroom.deployments.worker.messages import Message, Suspended


class Child:
    """`since`: when its run became ready for it. What the run went through before concerns former processes of it."""

    def __init__(self, process: ForkServerProcess, line: Connection, *, since: datetime) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.since = since
        self._cancelled = False
        self._process = process
        self._line = line
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(process.sentinel, self._reap)

    async def ended(self) -> int:
        """Wait for its exit status: negative for a signal, 255 if the forkserver died and took it along."""
        return await asyncio.shield(self._ended)

    def send(self, message: Message | Suspended) -> None:
        with suppress(OSError):  # it has ended, or is ending
            self._line.send(message)

    def cancel(self, *, grace: timedelta) -> None:
        """Cancel it, once.

        Its engine says Cancelling too, and a second signal would interrupt it before it says Cancelled.
        """
        if not self._cancelled:
            self._cancelled = True
            self.send(Message.CANCEL)
            asyncio.get_running_loop().call_later(grace.total_seconds(), self.kill)

    def kill(self) -> None:
        if not self._ended.done():
            self._process.kill()

    async def end(self, *, grace: timedelta) -> int:
        if not self._ended.done():
            self._process.terminate()
        with suppress(TimeoutError):
            return await asyncio.wait_for(self.ended(), grace.total_seconds())
        self.kill()
        return await self.ended()

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
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
