"""What Linux does for processes that belong together; elsewhere these do nothing.

A child can ask for a signal when its parent dies (PR_SET_PDEATHSIG), so that even SIGKILL leaves nothing running; and a
process can ask for the orphans below it (PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
# Loaded before any fork: in the child of a threaded process hardly anything may be done safely.
_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    if LINUX:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int, death_signal: signal.Signals = signal.SIGKILL) -> None:
    """Die with the parent. To be called in the child, with the pid that forked it."""
    if not LINUX:
        return
    # The signal comes when the *thread* ends that forked, also where its process goes on.
    _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != parent:  # it died before we could ask to be told
        os._exit(1)


def show_as(name: str) -> None:
    """Set what `ps` and `top` call this process, on Linux: at most 15 bytes."""
    if LINUX:
        _libc.prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
