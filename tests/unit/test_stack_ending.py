"""How long the parts of a stack may take to end, and what is said of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from darkroom.deployments.gateway.__main__ import SECONDS_TO_FINISH
from darkroom.deployments.home import Home
from darkroom.deployments.stack import supervisor
from darkroom.deployments.stack.options import StackOptions
from darkroom.deployments.stack.parts import Part, all_parts
from darkroom.deployments.stack.postgres import cluster_in
from darkroom.deployments.worker.warm import LAST_WORDS, STOP_GRACE
from darkroom.timing import ANSWER_PATIENCE, SUBMIT_PATIENCE


def test_parts_that_pay_are_given_the_time_for_what_is_under_way(tmp_path: Path) -> None:
    """An answer that is cut off would be paid for once more."""
    home = Home(tmp_path)
    home.prepare()
    cluster = cluster_in(home.postgres)
    parts = {part.name: part for part in all_parts(StackOptions(home=home.path), home=home, cluster=cluster, base={})}
    assert parts["worker"].grace_seconds > (ANSWER_PATIENCE + STOP_GRACE + LAST_WORDS).total_seconds()
    assert parts["gateway"].grace_seconds > SECONDS_TO_FINISH + SUBMIT_PATIENCE.total_seconds()


def test_a_part_that_takes_its_time_to_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has stopped the stack knows what it waits for."""
    told = threading.Event()
    stack = supervisor.Stack(StackOptions(home=tmp_path), base={}, say=lambda said: "worker" in said and told.set())
    part = Part(name="worker", command=(), environment={}, ready=lambda _: True, grace_seconds=60)
    with stack._telling_of_a_slow_end(part):
        pass
    monkeypatch.setattr(supervisor, "SLOW_END_SECONDS", 0.0)
    assert not told.is_set()
    with stack._telling_of_a_slow_end(part):
        assert told.wait(30)
