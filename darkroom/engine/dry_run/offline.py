"""Code that is called while nothing may be reached: every connection that it would open is refused.

An audit hook sees each of them, whichever library opens it, and in whichever thread. A hook cannot be taken away again,
so there is one for the process, and a switch. The ledger's connections are made in C, where no hook sees them: Postgres
itself closes those to writes.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from darkroom.engine.signals import DryRunStop

OUTWARD = frozenset({"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"})

_closed = 0  # how many are inside `offline`
_inside: ContextVar[bool] = ContextVar("inside", default=False)
_let_through: ContextVar[bool] = ContextVar("let_through", default=False)


@contextmanager
def offline() -> Iterator[None]:
    """Raise `DryRunStop` for any connection to another machine from here; refuse those of other threads."""
    global _closed
    _install()
    token = _inside.set(True)
    _closed += 1
    try:
        yield
    finally:
        _closed -= 1
        _inside.reset(token)


@contextmanager
def let_through() -> Iterator[None]:
    """Let connections through for what only reads, and is known: the media store."""
    token = _let_through.set(True)
    try:
        yield
    finally:
        _let_through.reset(token)


@cache
def _install() -> None:
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _closed or event not in OUTWARD or _let_through.get() or _is_local(arguments[0]):
        return
    if _inside.get():
        raise DryRunStop("it would reach another machine")
    # Of another thread nobody would see a stop.
    raise ConnectionRefusedError("Nothing is reached from here just now.")


def _is_local(opened: object) -> bool:
    return isinstance(opened, socket.socket) and opened.family == getattr(socket, "AF_UNIX", None)
