"""What the runner knows of its jobs after it has looked at some of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from darkroom.engine.looks import ANY, Looks, job_ids_in, merged
from darkroom.ledger import Ledger, Work
from darkroom.timing import Timing


def work(open: str, ready: str = "", came: str = "", sent: str = "") -> Work:
    """Each letter is a job."""
    return Work(open=tuple(open), ready=tuple(ready), came=frozenset(came), sent=frozenset(sent))


@dataclass(frozen=True, kw_only=True)
class Case:
    before: Work
    part: Work
    looked_at: str
    after: Work


CASES = {
    "a result came for one": Case(
        before=work("abc"), part=work("b", "b", "b"), looked_at="b", after=work("abc", "b", "b")
    ),
    "a result goes before what waits to be submitted": Case(
        before=work("abc", "a"), part=work("c", "c", "c"), looked_at="c", after=work("abc", "ca", "c")
    ),
    "one has ended": Case(before=work("abc", "b", "b"), part=work(""), looked_at="b", after=work("ac")),
    "one was called and waits": Case(before=work("abc", "ab"), part=work("a"), looked_at="a", after=work("abc", "b")),
    "one is new": Case(before=work("ab"), part=work("c", "c"), looked_at="c", after=work("abc", "c")),
    "what a gateway has sent is last in line": Case(
        before=work("abc", "a", sent="a"),
        part=work("bc", "bc", "c"),
        looked_at="bc",
        after=work("abc", "cba", "c", "a"),
    ),
    "what a gateway has sent has come": Case(
        before=work("ab", "ba", sent="a"), part=work("a", "a", "a"), looked_at="a", after=work("ab", "ab", "a")
    ),
    "what has a result and was not looked at keeps its place": Case(
        before=work("abc", "ab", "a"), part=work("c", "c"), looked_at="c", after=work("abc", "abc", "a")
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_others_stay_as_they_were_seen(case: Case) -> None:
    """The same as if all of them had been looked at, as long as the others have not moved."""
    assert merged(case.before, case.part, set(case.looked_at)) == case.after


def test_a_notification_names_jobs_or_none() -> None:
    """One of an older gateway, or of too many jobs at once, says nothing: then all are looked at."""
    assert job_ids_in(["job_1 job_2", "job_2"]) == {"job_1", "job_2"}
    assert job_ids_in(["job_1", ""]) == {"job_1", ANY}


class OneLook:
    """A ledger that is asked but once: what it says is of its first answer."""

    timing = Timing()

    def __init__(self, found: Work) -> None:
        self._found = [found]
        self.runs = self

    def poll_work(self, run_id: str, waits: object) -> Work:
        return self._found.pop()


def test_what_ended_here_is_not_asked_for() -> None:
    """Nothing of a job that this process has ended is left to be called."""
    looks = Looks(cast(Ledger, OneLook(work("abc", "ab", "a"))), "run_1")
    looks.look({}, ())
    assert looks.look({}, (), ended={"a"}) == work("bc", "b")
