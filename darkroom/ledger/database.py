"""The connection to Postgres: transactions, named SQL text, and a listener to wait for news with.

The statements that run for every job are text in `queries.sql`, by name, and go to the driver directly: the ORM costs
about six times their CPU, and SQLAlchemy's own texts half as much again. A statement that is a transaction by itself
(`run_alone`) goes without BEGIN and COMMIT, which are a round trip each.

A `Listener` is one connection that LISTENs; Postgres notifies it when a transaction that notified has committed.
"""

from __future__ import annotations

import multiprocessing.connection
import re
import select
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, TypeVar, cast

import psycopg
from psycopg import sql
from sqlalchemy import Column, Connection, CursorResult, Engine, Row, TextClause, create_engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlmodel import SQLModel

from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.rows import Result, as_result
from darkroom.postgres_address import open_address

M = TypeVar("M", bound=SQLModel)

# Of one process, however many threads it has: a transaction takes milliseconds, and a Postgres process with what it has
# prepared 10 MB. All are kept through a burst: one that is closed after every transaction and made anew costs both
# sides more than the transaction, and took a third off the webhooks that one core takes. One that lies idle Postgres
# closes itself. The last one given back is taken first, so that the others do; in turn, each of them would plan every
# statement, and compile every function.
MOST_CONNECTIONS = 8
CLOSED_AFTER_SECONDS = 60
IDLE_SECONDS = 1.0  # a connection that was not used for so long is tried first

# The ledger cannot be reached, or gave up on a statement. Nothing of the transaction has happened. Where it hangs, it
# keeps all of the pool's connections, and nobody else gets one.
OUTAGES = (OperationalError, InterfaceError, PoolTimeout, psycopg.OperationalError)


def make_engine(url: str, *, read_only: bool = False) -> Engine:
    """Make an engine for an address as `read_address` understands them.

    It is READ COMMITTED, as the locking rules assume.

    `read_only`: Postgres itself refuses every write, and every lock of a row (see `is_refused_write`).
    """
    address = open_address(url)
    parameters = dict(address.parameters)
    # What is prepared is planned once for all parameters: five plans for each statement and connection before that cost
    # a burst more than the statements. Where the parameters decide (`plan_anew`), it is planned for them.
    # The one temporary table, which tries whether the disk has room, is small; its pages would fill 8 MB for good.
    kept = ["plan_cache_mode=force_generic_plan", f"idle_session_timeout={CLOSED_AFTER_SECONDS}s", "temp_buffers=800kB"]
    options = [] if address.pooled else kept
    options += ["default_transaction_read_only=on"] if read_only else []
    if options:
        given = " ".join(f"-c {option}" for option in options)
        parameters["options"] = f"{parameters.get('options', '')} {given}".strip()
    engine = create_engine(
        "postgresql+psycopg://",
        pool_size=MOST_CONNECTIONS,
        pool_use_lifo=True,
        max_overflow=0,
        json_serializer=dumps,
        hide_parameters=True,  # those of a failed statement may be a prompt, and its error is logged
        # What one transaction has prepared, a pooler's next connection does not have.
        connect_args={**parameters, "prepare_threshold": None if address.pooled else 2},
    )
    _ping_when_idle(engine)
    return engine


def is_refused_write(error: BaseException) -> bool:
    """Return whether that is what a write to a ledger raises that was opened for reading."""
    return isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.errors.ReadOnlySqlTransaction)


def _ping_when_idle(engine: Engine) -> None:
    """Try a connection that lay idle or was ended before it is used, so that a restart of Postgres is not noticed."""
    # Not one that was in use a moment ago, as `pool_pre_ping` would: under load that is one round trip more for every
    # transaction. Whether Postgres has ended that one its socket tells: it has an answer, and nothing was asked.

    @event.listens_for(engine, "checkin")
    def note(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        idle = time.monotonic() - record.info.get("used_at", time.monotonic())
        try:
            if idle >= IDLE_SECONDS or _has_been_told(connection):
                engine.dialect.do_ping(connection)
        except psycopg.errors.IdleSessionTimeout as error:
            raise DisconnectionError from error  # this one alone
        except psycopg.Error as error:
            raise InvalidatePoolError from error  # none of the pool's is used again without being made anew


def _has_been_told(connection: psycopg.Connection[Any]) -> bool:
    """Return whether Postgres has sent something unasked, such as the end of the connection."""
    told = select.poll()
    told.register(connection.fileno(), select.POLLIN)
    return bool(told.poll(0))


def run(connection: Connection, name: str, /, **parameters: Any) -> Result:
    """Execute the statement of that name in the connection's transaction."""
    try:
        return _execute(connection.connection.driver_connection, name, parameters)
    except psycopg.Error as error:
        lost = connection.dialect.is_disconnect(
            cast(Any, error), cast(Any, connection.connection.driver_connection), None
        )
        if lost:
            connection.invalidate(error)
        raise _translated(connection.engine, name, error, lost=lost) from error
    except BaseException as signal:
        if _leaves_an_answer(signal):
            connection.invalidate()
        raise


def run_alone(engine: Engine, name: str, /, **parameters: Any) -> Result:
    """Execute the statement of that name as its own transaction, in one round trip."""
    pooled = _checked_out(engine, name)
    driver: Any = pooled.driver_connection
    try:
        driver.autocommit = True
        return _execute(driver, name, parameters)
    except psycopg.Error as error:
        lost = engine.dialect.is_disconnect(cast(Any, error), driver, None)
        if lost:
            pooled.invalidate(error)
        raise _translated(engine, name, error, lost=lost) from error
    except BaseException as signal:
        if _leaves_an_answer(signal):
            pooled.invalidate()
        raise
    finally:
        if not driver.closed:
            driver.autocommit = False
        pooled.close()


def _leaves_an_answer(error: BaseException) -> bool:
    """Return whether it came from outside in the middle of a statement, as the signal that ends a run does."""
    # The answer to that statement is still to come, so nothing else can be asked on the connection.
    return not isinstance(error, Exception)


@contextmanager
def one_by_one(engine: Engine) -> Iterator[Connection]:
    """Yield a connection on which each statement is its own transaction, without BEGIN and COMMIT."""
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def _checked_out(engine: Engine, name: str) -> PoolProxiedConnection:
    try:
        return engine.raw_connection()
    except psycopg.Error as error:
        raise _translated(engine, name, error, lost=False) from error


def _execute(driver: Any, name: str, parameters: Mapping[str, Any]) -> Result:
    statement, names = _prepared(name)
    with psycopg.RawCursor(driver) as cursor:
        # Prepared at its first use: on a run's new connections it is planned once, not once more for each use before.
        cursor.execute(statement, [parameters[each] for each in names], prepare=True)
        return as_result(cursor)


def _translated(engine: Engine, name: str, error: psycopg.Error, *, lost: bool) -> BaseException:
    """Return the error as SQLAlchemy has it, without the parameters, as the callers of all statements expect it."""
    if lost:
        engine.dispose()  # a server that has cut this connection has cut all: they are made anew
    return DBAPIError.instance(
        name, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=lost, dialect=engine.dialect
    )


@lru_cache(maxsize=1024)
def _prepared(name: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the statement as Postgres takes it, and the names of its parameters in the order of their numbers."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"${names.setdefault(found[1], len(names) + 1)}"

    statement = re.sub(r"(?<![:\w\\]):(\w+)(?!:)", number, queries()[name])
    return statement.encode(), tuple(names)


def run_given(connection: Connection, name: str, /, **parameters: Any) -> CursorResult[Any]:
    """Execute the statement of that name without the lines for what is None: those end in `-- given:` and its name."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return connection.execute(_query_given(name, frozenset(given)), given)


@lru_cache(maxsize=512)  # by which filters are given together
def _query_given(name: str, given: frozenset[str]) -> TextClause:
    lines = (line.partition(" -- given: ") for line in queries()[name].splitlines())
    return text("\n".join(line for line, _, asks_for in lines if not asks_for or asks_for in given))


def plain(model: type[M], row: Row[Any], **instead: Any) -> M:
    """Return the row as an instance that is only read. One that could be changed and saved costs six times the CPU."""
    return cast(M, model.model_construct(**{**row._mapping, **instead}))


@cache
def queries() -> dict[str, str]:
    source = (files("darkroom.ledger") / "queries.sql").read_text()
    parts = re.split(r"^-- name: (\w+)\n", source, flags=re.MULTILINE)
    bodies = (_spelled_out(body.strip()) for body in parts[2::2])
    return {name: _saying(name, body) for name, body in zip(parts[1::2], bodies, strict=True)}


def _saying(name: str, statement: str) -> str:
    """Put its name behind its first word, so that Postgres' own views say which it is."""
    # A comment in front of it `pg_stat_statements` leaves out.
    bare = re.sub(r"\A(--.*\n)*", "", statement)
    first, rest = bare.split(maxsplit=1)
    return f"{first} /* {name} */ {rest}"


_STARS = r"(?P<before>SELECT(?: DISTINCT ON \([^)]*\))?|RETURNING|,) (?:(?P<of>\w+)\.)?\*(?=\s+FROM (?P<source>\w+)|)"
_WHOLE_ROWS = r"(?P<whole>\(\w+\.(?P<table>\w+)\))\.\*"  # of a function that returns several tables', see `part_of`


def _spelled_out(statement: str) -> str:
    """Name the columns that this code knows, where a statement says `*` of a table."""
    # A column that a migration adds would change the type of what is prepared, and Postgres refuses that ("cached plan
    # must not change result type"): once on each connection of every process that runs on through the migration.

    def columns(found: re.Match[str]) -> str:
        written = re.findall(r"(?:INSERT INTO|UPDATE) (?!SET\b)(\w+)", statement[: found.start()])
        name = found["of"] or found["source"] or (written[-1] if found["before"] == "RETURNING" else "")
        table = SQLModel.metadata.tables.get(name)
        if table is None:  # a part of the statement itself
            return found[0]
        return f"{found['before']} " + ", ".join(map(_named, table.columns))

    def columns_of_whole(found: re.Match[str]) -> str:
        table = SQLModel.metadata.tables[found["table"]]
        return ", ".join(f'{found["whole"]}.{column.name} AS "{table.name}.{column.key}"' for column in table.columns)

    return re.sub(_WHOLE_ROWS, columns_of_whole, re.sub(_STARS, columns, statement))


def _named(column: Column[Any]) -> str:
    """Name the column, as its attribute where that is called otherwise."""
    said = f"{column.table.name}.{column.name}"
    return said if column.key == column.name else f"{said} AS {column.key}"


class Listener:
    """Wakes when something was committed for the one who listens, and when somebody in this process notifies it.

    Notifications are kept while nobody waits.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._heard: set[str] = set()
        self._hand, self._clapper = socket.socketpair()
        self._clapper.setblocking(False)
        self._hand.setblocking(False)

    def wait(self, seconds: float) -> bool:
        """Wait until notified. Return True as soon as that is so, False after that many seconds.

        Notifications in between count as one.
        """
        readable = multiprocessing.connection.wait([self._connection.fileno(), self._clapper], max(0.0, seconds))
        if self._clapper in readable:
            self._clapper.recv(4096)
        if self._connection.fileno() in readable:
            self._connection.pgconn.consume_input()  # raises where the connection is lost
            while (notification := self._connection.pgconn.notifies()) is not None:
                self._heard.add(notification.extra.decode())
        return bool(readable)

    def heard(self) -> set[str]:
        """Return what the notifications said that ended waits since it was last asked: "" of one that said nothing."""
        heard, self._heard = self._heard, set()
        return heard

    def notify(self) -> None:
        """Notify the one who waits, from any thread of this process."""
        with suppress(BlockingIOError):  # notified so often already that nobody can have missed it
            self._hand.send(b"!")

    def close(self) -> None:
        self._hand.close()
        self._clapper.close()


@contextmanager
def only_one(engine: Engine, name: str) -> Iterator[bool]:
    """Yield True to one holder of the name at a time, in all processes, and False to the others."""
    # The lock ends with the connection. It is the transaction's, as one of the session would outlive us in a pooler.
    with engine.connect() as connection:
        statement = text("SELECT pg_try_advisory_xact_lock(hashtext(:name))")
        chosen = connection.execute(statement, {"name": name}).scalar_one()
        try:
            yield bool(chosen)
        finally:
            connection.invalidate()


@contextmanager
def listen(url: str, channel: str) -> Iterator[Listener]:
    parameters = cast(Any, open_address(url).parameters)
    with ExitStack() as opened:
        try:
            connection = opened.enter_context(psycopg.connect(autocommit=True, **parameters))
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            listener = opened.enter_context(closing(Listener(connection)))
        except (psycopg.InternalError, OSError) as error:
            # Of a standby that is not promoted yet, and of a process that has no file left: both pass.
            raise psycopg.OperationalError(f"It cannot be listened for {channel}: {error}") from error
        yield listener
