"""What of the caller's environment the parts of a stack are given: a list of what is let through.

What is not on it would be read by somebody: `PREFECT_*` of the caller's own server or cloud, libpq's `PG*`, a profile.
A project that needs its own variable names it in `DARKROOM_PASS_ENV`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

from darkroom.errors import NeedsHuman

PASS_ENV = "DARKROOM_PASS_ENV"  # more of them, as patterns: `SHOP_URL,MY_*`
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_PATHS = {"PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"}
LONGEST_TMPDIR = 70  # a socket's path has some hundred bytes, and multiprocessing puts 32 of its own behind it
# At these the parts reach each other, which no proxy elsewhere could.
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

# Prefect's that do not say where and how it keeps what: its logs, and how long it keeps runs.
_PREFECT = (
    "PREFECT_DEBUG_MODE",
    "PREFECT_INTERNAL_LOGGING_LEVEL",
    "PREFECT_LOGGING_*",
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD",
    "PREFECT_SERVER_LOGGING_LEVEL",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_*",
)
_OTHERS = (
    # Who and where one is
    *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "TMP", "TEMP", "XDG_*", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "NO_COLOR", "FORCE_COLOR", "COLUMNS"),
    # How programs run. No PYTHONHOME, PYTHONOPTIMIZE, PYTHONSTARTUP, PYTHONWARNINGS: they are for the caller's own.
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_*", "MALLOC_*"),
    *("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONHASHSEED", "PYTHONUTF8"),
    *("PYTHONFAULTHANDLER", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONNOUSERSITE", "PYTHONUSERBASE"),
    # The way out
    *(each for name in (*PROXIES, "NO_PROXY") for each in (name, name.lower())),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    # Keys, and ours
    *("FAL_KEY", "FAL_BILLING_KEY", "MUX_*", "AWS_*", "GOOGLE_APPLICATION_CREDENTIALS", "*_API_KEY", "*_API_TOKEN"),
    "DARKROOM_*",
)


def let_through(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of that environment parts are given. Raise NeedsHuman for what none of them could work with."""
    more = [each.strip() for each in environment.get(PASS_ENV, "").split(",") if each.strip()]
    kept = {name: value for name, value in environment.items() if _is_let_through(name, more)}
    # Parts start in another folder than the caller's.
    for name in _PATHS & kept.keys():
        kept[name] = os.pathsep.join(str(Path(each).absolute()) for each in kept[name].split(os.pathsep) if each)
    certificates = kept.get("SSL_CERT_FILE")
    if certificates and not Path(certificates).is_file():
        raise NeedsHuman(f"SSL_CERT_FILE names {certificates}, which is not there: unset it, or name another")
    if len(os.fsencode(kept.get("TMPDIR", ""))) > LONGEST_TMPDIR:
        raise NeedsHuman(f"TMPDIR is too long for the worker's socket: set one of {LONGEST_TMPDIR} bytes at most")
    return kept | usable_proxies(kept)


def foreign_to_prefect(environment: Mapping[str, str]) -> list[str]:
    """Return the names of Prefect's settings in it that are the caller's own, and mean another Prefect than ours."""
    return [name for name in environment if name.startswith("PREFECT_") and not _matches(name, _PREFECT)]


def usable_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies as HTTP clients take them, and `NO_PROXY` with loopback in it. Nothing where there is none.

    Raise NeedsHuman for a kind that is not known.
    """
    names = [each for name in PROXIES for each in (name, name.lower()) if environment.get(each)]
    existing = re.split(r"[,;\s]+", f"{environment.get('NO_PROXY', '')},{environment.get('no_proxy', '')}")
    if not names and not any(existing):
        return {}
    hosts = ",".join(dict.fromkeys([*LOOPBACK_HOSTS, *filter(None, map(_direct, existing))]))
    # Where both spellings are set the lower-case one wins, so both are.
    return {**{name: _usable(name, environment[name]) for name in names}, "NO_PROXY": hosts, "no_proxy": hosts}


def _is_let_through(name: str, more: list[str]) -> bool:
    if name.startswith("PREFECT_"):
        return _matches(name, (*_PREFECT, *more))
    return _matches(name, (*_OTHERS, *more))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, each) for each in patterns)


def _usable(name: str, value: str) -> str:
    """Return the address as HTTP clients take it. Raise NeedsHuman, without the address, for one that they do not."""
    # They read all proxies first: for one that they cannot they raise, wherever they are to go, to loopback too.
    # An address may hold a password, so none is shown.
    address = value.strip().strip("\"'").strip()
    scheme, separator, rest = address.partition("://")
    if separator and not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme):
        raise NeedsHuman(f"{name} cannot be read: a proxy looks like http://host:port")
    if separator and scheme.lower() not in ("http", "https", "socks", "socks5", "socks5h"):
        raise NeedsHuman(f"{name} is a proxy of a kind that is not known ({scheme}://): http, https, socks5 or socks5h")
    try:
        found = urlsplit(address if separator else f"http://{address}")
        named = bool(found.hostname) and found.port != 0
    except ValueError:
        named = False
    if not named:
        raise NeedsHuman(f"{name} names no host, or a port that is none: a proxy looks like http://host:port") from None
    # GNOME writes `socks://`, which none of them knows.
    return f"socks5://{rest}" if scheme.lower() == "socks" else address


def _direct(host: str) -> str:
    """Return an entry of NO_PROXY as HTTP clients take it: an address of IPv6 without brackets and port, no network."""
    found = re.fullmatch(r"\[([\da-fA-F:.]+)\](?::\d+)?", host)
    if host.count(":") > 1 and "/" in host:
        return ""
    return found[1] if found else host
