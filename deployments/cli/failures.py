"""What a command says when it fails: one line, with the remedy.

What is no failure of the world around it is a fault of ours, and keeps its traceback.
"""

from __future__ import annotations

import errno

import httpx

from darkroom.errors import DarkroomError

# Somebody else's folder, a file where a folder is wanted, a full disk: what is missing may be a fault of ours.
_OF_THE_PLACE = {
    *(errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG),
}


def line_of(error: Exception) -> str | None:
    """Return the line; None for a fault of ours."""
    if isinstance(error, DarkroomError | ValueError):
        return " ".join(str(error).split())  # one line, whoever has written it
    # Prefect's API, for one: of the gateway the commands' own client says so (`api_client.py`).
    if isinstance(error, httpx.TransportError):
        return f"{_host_of(error)} does not answer ({type(error).__name__}): {_remedy()}"
    if isinstance(error, OSError) and error.errno in _OF_THE_PLACE:
        return f"{error.filename}: {error.strerror}"
    return _of_the_ledger(error)


def _of_the_ledger(error: Exception) -> str | None:
    """Say what a failed statement means to somebody who has not written it."""
    import psycopg
    from sqlalchemy.exc import DBAPIError

    from darkroom.ledger import OUTAGES

    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return "the ledger has no tables, or those of another version: run `darkroom provision`"
    if not isinstance(error, OUTAGES):
        return None
    # The first line is the reason, with host and port, and never a password; the others guess.
    reason = str(original).strip().partition("\n")[0]
    return f"the ledger cannot be reached: {_remedy()} ({reason})"


def _remedy() -> str:
    from darkroom.deployments.home import Home
    from darkroom.settings import belongs_to, own_home

    home = Home(own_home())
    if belongs_to(home.environment()):
        return f"no stack runs in {home.path}, start it with `darkroom up`"
    return "start what DARKROOM_LEDGER_URL, DARKROOM_GATEWAY_URL and PREFECT_API_URL point at, or correct them"


def _host_of(error: httpx.TransportError) -> str:
    try:
        return str(error.request.url.host)
    except RuntimeError:  # of no request
        return "the other side"
