"""The ledger's address: every way in which services write one, brought to what Postgres' client library takes.

`read_address` understands what Supabase, Neon, Prisma, Heroku, Render and other frameworks' drivers add. What it gives
is for all connections, the pool's and the one that listens, so that one cannot understand what the other does not.
`postgres_url` is the other way round: it writes an address, whatever is in its parts. No message shows a password.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NoReturn
from urllib.parse import quote, unquote

import psycopg
from psycopg import conninfo, pq

from darkroom.errors import NeedsHuman

VARIABLE = "DARKROOM_LEDGER_URL"
# By itself libpq waits as long as the kernel: minutes for a host that does not answer, hours for one that has gone.
PATIENCE = {
    "connect_timeout": "30",
    "tcp_user_timeout": "60000",  # milliseconds, for what was sent and nobody has acknowledged
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}

_log = logging.getLogger(__name__)

# As the standard has it: nothing of what separates the parts is in a part.
_STRICT = re.compile(
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@(?P<at>))?(?P<hosts>[^@/?#\s]*)"
    r"(?:/(?P<database>[^@?#]*))?(?:\?(?P<query>(?(at)[^#]*|[^#@]*)))?"
)
# With a password as people paste it: it goes up to the last @ that a host can follow.
_LENIENT = re.compile(
    r"(?P<user>[^:@/?#]*):(?P<password>.*)@(?P<hosts>[\w.,:\[\]%-]*)(?:/(?P<database>[^@?#]*))?(?:\?(?P<query>[^#@]*))?"
)
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[^:\[\]]*))?")
_PLACEHOLDER = re.compile(
    r"\[[\w -]*\]|<[\w -]*>|\$?\{{1,2}[\w. -]*\}{1,2}|\*{3,}|•{3,}|your[-_ ]?password([-_ ]here)?", re.IGNORECASE
)
_INVISIBLE = re.compile("[\ufeff\u200b-\u200f\u2060]")
# What an address was copied with: a command, the name of a variable in a shell, in YAML or in JSON.
_BEFORE = re.compile(r"(?:export\s+)?[\"']?[A-Za-z_]\w*[\"']?\s*(?:=|:(?=\s))\s*(?=[\"'`]?(?:jdbc:)?postgres)|psql\s+")
_AROUND = "\"'`“”‘’ "
_NO_POSTGRES = {
    "prisma": "an address of Prisma's own service, which speaks no Postgres: use the database's direct one",
    "prisma+postgres": "an address of Prisma's own service, which speaks no Postgres: use the database's direct one",
    "https": "the address of a web page, or of an HTTP API: use the database's connection string",
    "http": "the address of a web page, or of an HTTP API: use the database's connection string",
}
_NO_ADDRESS = "this is no address: one looks like postgresql://user:password@host:5432/database"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_WORDS = {
    **{mode: mode for mode in _SSL_MODES},
    **dict.fromkeys(("true", "1", "on", "yes", "no-verify", "accept_invalid_certs"), "require"),
    **dict.fromkeys(("false", "0", "off", "no"), "disable"),
    "strict": "verify-full",
}
_AS_SSL_MODE = ("sslmode", "ssl", "sslaccept")
_AS_SEARCH_PATH = ("schema", "currentschema", "search_path")
_AS_NUMBER = (
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    "tcp_user_timeout",
)
_AS_OPTION = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
# Of other drivers: how they pool, cache and wait. Ours does that in its own way.
_FOREIGN = frozenset(
    [
        "connection_limit",
        "pool_timeout",
        "socket_timeout",
        "command_timeout",
        "timeout",
        "pool_size",
        "max_overflow",
        "pool",
        "pool_mode",
        "pool_recycle",
        "pool_pre_ping",
        "max_connections",
        "min_connections",
        "statement_cache_size",
        "prepared_statement_cache_size",
        "prepared_statement_name_func",
        "prepared_statements",
        "preparethreshold",
        "prepared",
        "async_fallback",
        "supa",
        "workaround",
        "uselibpqcompat",
        "encoding",
        "charset",
        "reconnect",
        "single_use_connections",
        "sslidentity",
        # of JDBC
        "sockettimeout",
        "logintimeout",
        "connecttimeout",
        "tcpkeepalive",
        "rewritebatchedinserts",
        "stringtype",
        "sslfactory",
        "maximumpoolsize",
        "max_pool_size",
        "min_pool_size",
    ]
)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a Postgres is. `parameters`: in libpq's words.

    `pooled`: something between us and Postgres gives a session's next transaction to another connection, so that
    nothing that belongs to a session lasts.
    """

    parameters: Mapping[str, str]
    pooled: bool = False
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = {name: "***" if name == "password" else value for name, value in self.parameters.items()}
        return f"Address({shown}, pooled={self.pooled})"


def postgres_url(database: str, *, user: str, socket_folder: str, scheme: str = "postgresql") -> str:
    """Write the address of a database behind a Unix socket."""
    return f"{scheme}://{quote(user, safe='')}@/{quote(database, safe='')}?host={quote(socket_folder)}"


@lru_cache(16)
def open_address(text: str) -> Address:
    """Read an address, and log what was passed over, once in a process."""
    address = read_address(text)
    for each in address.warnings:
        _log.warning("%s: %s", VARIABLE, each)
    return replace(address, parameters={**PATIENCE, **address.parameters})


def read_address(text: str) -> Address:
    """Read an address as people and services write them. Raise NeedsHuman, naming what is wrong and the remedy."""
    scheme, colon, rest = _unwrapped(text).partition("://")
    if not colon:
        return _of_words(_unwrapped(text))
    _require_postgres(scheme.lower())
    found = _STRICT.fullmatch(rest) or _LENIENT.fullmatch(rest)
    if found is None:
        _refuse(
            "its parts cannot be told apart: write @ as %40, # as %23, / as %2F, ? as %3F and : as %3A in user and "
            "password"
        )
    given = {
        "user": unquote(found["user"] or ""),
        "password": unquote(found["password"] or ""),
        "dbname": unquote((found["database"] or "").rstrip("/")),
        **_hosts(found["hosts"]),
    }
    return _understood({name: value for name, value in given.items() if value}, dict(_query(found["query"] or "")))


def _unwrapped(text: str) -> str:
    """Return the address without what it was copied with: quotes, a line's end, a command, the name of a variable."""
    inner = _INVISIBLE.sub("", "".join(text.splitlines())).strip()
    if before := _BEFORE.match(inner):
        inner = inner[before.end() :]
    inner = inner.rstrip(",;").strip(_AROUND)
    if inner.startswith("<") and inner.endswith(">"):
        inner = inner[1:-1]
    return inner.removeprefix("jdbc:")


def _require_postgres(scheme: str) -> None:
    if scheme in _NO_POSTGRES:
        _refuse(f"this is {_NO_POSTGRES[scheme]}")
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        _refuse(_NO_ADDRESS)  # it is no scheme, and may be anything, the password too
    if scheme.partition("+")[0] not in ("postgresql", "postgres"):
        _refuse(f"{scheme}:// is not Postgres: an address begins with postgresql://")


def _of_words(text: str) -> Address:
    """Read libpq's other form, `host=… dbname=…`."""
    if "=" not in text:
        _refuse(_NO_ADDRESS)
    try:
        words = conninfo.conninfo_to_dict(text)
    except psycopg.Error:  # its words would show the value
        _refuse("this is neither an address (postgresql://…) nor libpq's name=value form")
    return _understood({name: str(value) for name, value in words.items()}, {})


def _hosts(text: str) -> dict[str, str]:
    """Return host and port, as lists where there are several."""
    if not text:
        return {}
    if _PLACEHOLDER.search(text):
        _refuse("the host is still the placeholder: put the database's own in its place")
    found = [_HOST.fullmatch(each) for each in text.split(",")]
    hosts = [each["host"].strip("[]") for each in found if each]
    if len(hosts) < len(found):
        _refuse("host and port cannot be read: they look like host:5432, or host:5432,other:5432")
    ports = [each["port"] or "" for each in found if each]
    return {"host": unquote(",".join(hosts)), "port": ",".join(ports) if any(ports) else ""}


def _query(text: str) -> Iterator[tuple[str, str]]:
    """Yield what is written behind the question mark, as libpq reads it.

    There a + is a plus. In `options`, where it makes no sense, others write it for a blank.
    """
    for each in text.split("&"):
        name, _, value = each.partition("=")
        if name:
            name = unquote(name)
            yield name, unquote(value.replace("+", " ") if name == "options" else value)


def _understood(given: dict[str, str], extras: Mapping[str, str]) -> Address:
    known = {each.keyword.decode() for each in pq.Conninfo.get_defaults()}
    parameters, options, warnings, pooled = given, [extras.get("options", given.pop("options", ""))], [], False
    for name, value in extras.items():
        word = name.lower()
        if word == "options" or not value:
            continue
        if word == "pgbouncer":
            pooled = value.lower() in ("true", "1")
        elif word in _AS_SSL_MODE:
            parameters["sslmode"] = _ssl_mode(name, value)
        elif word in _AS_SEARCH_PATH:
            options.append("" if value == "public" else f"-c search_path={_no_blank(name, value)}")
        elif word in _AS_OPTION:
            options.append(f"-c {word}={_no_blank(name, value)}")
        elif word == "applicationname":
            parameters["application_name"] = value
        elif word == "client_encoding":
            warnings.append(f"{name} is passed over: texts are sent as UTF-8")
        elif word in _FOREIGN:
            warnings.append(f"{name} is another driver's, and is passed over")
        elif name in known:
            parameters[name] = value
        else:
            _refuse(f"{name} is nothing that Postgres' client knows: take it out")
    if socket := re.fullmatch(r"(/.*)/\.s\.PGSQL\.(\d+)", parameters.get("host", "")):  # others name the socket itself
        parameters["host"], parameters["port"] = socket.groups()
    if parameters.get("host", "").startswith("/"):
        parameters.setdefault("port", "5432")  # it is a part of the socket's name, and PGPORT may say another
    pooled = pooled or _is_known_pooler(parameters)
    _check(parameters)
    if spoken := " ".join(filter(None, options)):
        parameters["options"] = spoken
    return Address(parameters=parameters, pooled=pooled, warnings=(*warnings, *([_OF_A_POOLER] if pooled else ())))


_OF_A_POOLER = (
    "this is a pooler by transactions, through which no notification comes, so that everything waits for its next "
    "poll: use the database's direct address, or a pooler by sessions"
)


def _is_known_pooler(parameters: Mapping[str, str]) -> bool:
    """Tell the poolers that the big hosts hand out beside the direct address."""
    host = parameters.get("host", "")
    return "-pooler." in host or (host.endswith((".supabase.com", ".supabase.co")) and parameters.get("port") == "6543")


def _check(parameters: Mapping[str, str]) -> None:
    """Refuse what a connection would only fail for, in words that nobody understands."""
    if _PLACEHOLDER.fullmatch(parameters.get("password", "")):
        _refuse("the password is still the placeholder: put the database's own in its place")
    if _PLACEHOLDER.fullmatch(parameters.get("user", "")):
        _refuse("the user is still the placeholder: put the database's own in its place")
    if _PLACEHOLDER.fullmatch(parameters.get("dbname", "")):
        _refuse("the database's name is still the placeholder: put its own in its place")
    for name in _AS_NUMBER:
        if not re.fullmatch(r"-?\d+|", parameters.get(name, ""), re.ASCII):
            _refuse(f"{name} is no whole number")
    for port in filter(None, parameters.get("port", "").split(",")):
        if not (re.fullmatch(r"\d+", port, re.ASCII) and 0 < int(port) < 65536):
            _refuse("the port is no number from 1 to 65535")
    if "\0" in "".join(parameters.values()):
        _refuse("there is a zero byte in it")


def _ssl_mode(name: str, value: str) -> str:
    if value.lower() not in _SSL_WORDS:
        _refuse(f"{name} is none of {', '.join(_SSL_MODES)}")
    return _SSL_WORDS[value.lower()]


def _no_blank(name: str, value: str) -> str:
    if not re.fullmatch(r"[\w,.$-]+", value):
        _refuse(f"{name} cannot be read: letters, digits and _ only")
    return value


def _refuse(reason: str) -> NoReturn:
    raise NeedsHuman(f"{VARIABLE}: {reason}") from None  # what it came of may show the password
