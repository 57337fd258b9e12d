"""Turns at storing files: so many at once, first come, first served, and fewer while others have the right of way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from support import wait_until

from darkroom.engine.signals import RetryLater
from darkroom.engine.turns import Turns


class Scene:
    """Who comes holds a turn until told to go."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.came = 0
        self.turns = Turns(2, few=1, on_come=self._count)
        self.served: list[str] = []
        self._pool = pool
        self._going = {name: threading.Event() for name in "abcde"}
        self._ends: dict[str, Future[None]] = {}

    def come(self, *names: str) -> None:
        """One after the other, each in line before the next comes."""
        for name in names:
            before = self.turns.count
            self._ends[name] = self._pool.submit(self._take, name)
            wait_until(lambda before=before: self.turns.count == before + 1, every=0.005)

    def go(self, name: str) -> None:
        self._going[name].set()
        self._ends[name].result(20)

    def end_of(self, name: str) -> BaseException | None:
        return self._ends[name].exception(20)

    def have_turns(self, names: str) -> bool:
        wait_until(lambda: len(self.served) >= len(names), every=0.005)
        return "".join(self.served) == names

    def _take(self, name: str) -> None:
        with self.turns.turn():
            self.served.append(name)
            self._going[name].wait(20)

    def _count(self) -> None:
        self.came += 1


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ThreadPoolExecutor() as pool:
        scene = Scene(pool)
        yield scene
        for each in scene._going.values():
            each.set()


def test_who_comes_first_is_served_first(scene: Scene) -> None:
    """Whoever comes while all turns are taken stands behind those who wait already."""
    scene.come("a", "b")
    assert scene.have_turns("ab")
    scene.come("c", "d", "e")
    assert scene.came == scene.turns.count == 5
    scene.go("b")
    assert scene.have_turns("abc")
    scene.go("a")
    assert scene.have_turns("abcd")


def test_a_few_go_on_while_others_have_the_right_of_way(scene: Scene) -> None:
    """Those who have a turn keep it; of the next in line as many go on as are few, and all again afterwards."""
    scene.come("a", "b", "c", "d")
    assert scene.have_turns("ab")
    scene.turns.give_way(True)
    scene.go("a")
    assert scene.have_turns("ab")
    scene.go("b")
    assert scene.have_turns("abc")
    scene.turns.give_way(False)
    assert scene.have_turns("abcd")


def test_who_stands_in_line_is_sent_away_at_the_end(scene: Scene) -> None:
    """Their jobs are called again by whoever goes on with the run; who has a turn ends as usual."""
    scene.come("a", "b", "c")
    assert scene.have_turns("ab")
    scene.turns.close()
    assert isinstance(scene.end_of("c"), RetryLater)
    with pytest.raises(RetryLater), scene.turns.turn():
        pytest.fail("it has begun")
    scene.go("a")
    scene.go("b")
    with pytest.raises(RetryLater), scene.turns.turn():
        pytest.fail("it has begun")
