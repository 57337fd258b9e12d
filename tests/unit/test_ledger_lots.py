"""What several threads ask for at the same time is done as one, and each hears what came of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from support import SLOW, wait_until

from darkroom.ledger.lots import MOST_AT_ONCE, Lots


@dataclass
class Done:
    """What was done together, in order. While it is held, whoever does something stands still; "bad" cannot be done."""

    lots: list[list[str]] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def carry_out(self, asked: Sequence[str]) -> list[str]:
        self.lots.append(list(asked))
        self.go_on.wait(SLOW * 20)
        if "bad" in asked:
            raise ValueError("bad")
        return [each.upper() for each in asked]


def all_in_line(lots: Lots[str, str], done: Done, *asked: str, key: str = "run") -> list[Future[str]]:
    """Begin the first, and let the others come while it is under way."""
    pool = ThreadPoolExecutor(len(asked))
    futures = [pool.submit(lots.do, key, asked[0])]
    wait_until(lambda: done.lots, what="the first to be under way")
    futures += [pool.submit(lots.do, key, each) for each in asked[1:]]
    wait_until(lambda: len(lots._lines[key].asked) == len(asked) - 1, what="the others in line")
    pool.shutdown(wait=False)
    return futures


def came(futures: Sequence[Future[str]]) -> list[str]:
    return [each.result(SLOW * 20) for each in futures]


def test_who_is_alone_waits_for_nobody() -> None:
    done = Done()
    done.go_on.set()
    lots = Lots(done.carry_out)
    assert [lots.do("run", "a"), lots.do("run", "b")] == ["A", "B"]
    assert done.lots == [["a"], ["b"]]
    assert not lots._lines  # nothing is left of those who asked


def test_those_who_come_meanwhile_are_the_next_lot() -> None:
    """Each hears what came of its own."""
    done = Done()
    lots = Lots(done.carry_out)
    futures = all_in_line(lots, done, "a", "b", "c", "d")
    done.go_on.set()
    assert came(futures) == ["A", "B", "C", "D"]
    assert [sorted(lot) for lot in done.lots] == [["a"], ["b", "c", "d"]]


def test_no_lot_is_larger_than_the_most() -> None:
    done = Done()
    lots = Lots(done.carry_out)
    futures = all_in_line(lots, done, *(f"n{n}" for n in range(MOST_AT_ONCE + 3)))
    done.go_on.set()
    assert came(futures) == [f"N{n}" for n in range(MOST_AT_ONCE + 3)]
    assert [len(lot) for lot in done.lots] == [1, MOST_AT_ONCE, 2]


def test_another_key_is_not_waited_for() -> None:
    done = Done()
    lots = Lots(done.carry_out)
    (first,) = all_in_line(lots, done, "a")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(lots.do, "another run", "b")
        wait_until(lambda: len(done.lots) == 2, what="both under way")
        done.go_on.set()
    assert came([first, other]) == ["A", "B"]


def test_what_cannot_be_done_fails_for_its_own_alone() -> None:
    """The lot fails as a whole, so each of them is done once more by itself."""
    done = Done()
    lots = Lots(done.carry_out)
    first, bad, good = all_in_line(lots, done, "a", "bad", "c")
    done.go_on.set()
    assert came([first, good]) == ["A", "C"]
    with pytest.raises(ValueError, match="bad"):
        bad.result(SLOW * 20)
