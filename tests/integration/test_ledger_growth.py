"""What the ledger reads does not grow with what has ended: no table is read from end to end, nor an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import ledger_growth
import psycopg
import pytest
from ledger_databases import Databases
from support import wait_until

from darkroom.ledger import Ledger

JOBS = 20_000
TIMES = 7  # from the sixth on Postgres may plan a prepared statement once for all
MOST_READ = 12_000  # rows, each in its index and in its table: a day of the report has a thousand jobs
READ_OF_A_USER = 5  # by a grant: the first row, in the index and in the table; for each tenth slot the last one, too
READ_OF_A_GRANT = 500
READING = {**ledger_growth.OPERATIONS, **ledger_growth.MORE_FOUND}
LARGE = ("job", "request", "event", "event_effect", "start", "run", "notification", "delivery")


@pytest.fixture(scope="module")
def grown_url(databases: Databases) -> Iterator[str]:
    with databases.fresh() as url:
        ledger_growth.fill(url, jobs=JOBS)
        yield url


def rows_read(url: str) -> dict[str, tuple[int, int]]:
    """By table: rows read from end to end, and by an index. Whoever has read them has gone, and told."""
    with psycopg.connect(url, autocommit=True) as connection:
        others = (
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        own = "AND backend_type = 'client backend'"
        wait_until(lambda: connection.execute(f"{others} {own}").fetchone() == (True,))
        found = connection.execute(
            "SELECT relname, seq_tup_read, COALESCE(idx_tup_fetch, 0) + (SELECT sum(idx_tup_read) FROM"
            " pg_stat_user_indexes AS own WHERE own.relid = pg_stat_user_tables.relid) FROM pg_stat_user_tables"
            " WHERE relname = ANY(%s)",
            [list(LARGE)],
        )
        return {name: (whole, int(by_index or 0)) for name, whole, by_index in found}


@pytest.mark.parametrize("name", READING)
def test_what_is_read_does_not_grow_with_the_jobs_that_have_ended(grown_url: str, name: str) -> None:
    """Of twenty thousand jobs an order, a page, a grant, a turn, a list, a report reads what it needs, by an index."""
    before = rows_read(grown_url)
    with closing(Ledger(grown_url)) as ledger:
        repeat(READING[name], ledger)
    after = rows_read(grown_url)
    whole = {table: after[table][0] - before[table][0] for table in LARGE}
    by_index = {table: (after[table][1] - before[table][1]) / TIMES for table in LARGE}
    assert not {table: rows for table, rows in whole.items() if rows > OVERLOOKED}
    assert not {table: rows for table, rows in by_index.items() if rows > MOST_READ}


@pytest.fixture(scope="module", params=[5, 200])
def backlog(databases: Databases, request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """The ledger in which twenty thousand rows wait, and of how many users."""
    with databases.fresh() as url:
        ledger_growth.fill_backlog(url, users=request.param, rows=JOBS)
        yield url, request.param


def test_a_grant_reads_of_a_backlog_a_few_rows_for_each_user_who_waits(backlog: tuple[str, int]) -> None:
    """The first and the last of each line, and those that are granted; also where the lines are long."""
    url, users = backlog
    before = rows_read(url)["request"]
    with closing(Ledger(url)) as ledger:
        list(ledger_growth.grant_and_give_back(ledger, url, times=TIMES))
    whole, by_index = (now - then for now, then in zip(rows_read(url)["request"], before, strict=True))
    assert whole == 0
    assert by_index / TIMES < READ_OF_A_USER * users + READ_OF_A_GRANT


def test_the_last_of_each_line_is_read_only_for_every_tenth_slot(backlog: tuple[str, int]) -> None:
    """Who asks for runs for the next in line reads the first of each line, and those who are next."""
    url, users = backlog
    before = rows_read(url)["request"]
    with closing(Ledger(url)) as ledger:
        repeat(lambda ledger: ledger.grants.next_without_run(3) and None, ledger)
    whole, by_index = (now - then for now, then in zip(rows_read(url)["request"], before, strict=True))
    assert whole == 0
    assert by_index / TIMES < 3 * users + 150


def test_a_page_of_everybodys_jobs_reads_one_of_each_user_and_those_it_could_show(backlog: tuple[str, int]) -> None:
    """A page's length of the users who have ordered last, as any of these might fill it, and no more of the others."""
    url, users = backlog
    length = 20
    before = rows_read(url)["job"]
    with closing(Ledger(url)) as ledger:
        repeat(lambda ledger: ledger.jobs.page(None, limit=length) and None, ledger)
    whole, by_index = (now - then for now, then in zip(rows_read(url)["job"], before, strict=True))
    assert whole == 0
    assert by_index / TIMES < READ_OF_A_USER * users + 2 * min(users, length) * length + 100


# A table with nothing in it may well be read from end to end.
OVERLOOKED = 100


def repeat(operation: Callable[[Ledger], None], ledger: Ledger) -> None:
    for _ in range(TIMES):
        operation(ledger)
