"""What a new process of the simulator has of the files that an earlier one served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from darkroom.deployments.simulator.cdn import Cdn, Terms
from darkroom.deployments.simulator.shelf import Shelf

Restart = Callable[[], Cdn]


@pytest.fixture
def restart(tmp_path: Path) -> Restart:
    """Make the files anew out of what was noted and what is on the shelf, as each new process does."""
    noted: list[Mapping[str, Any]] = []

    def restarted() -> Cdn:
        cdn = Cdn(Shelf(tmp_path), note=noted.append)
        cdn.restore(noted)
        noted[:] = cdn.lines()
        return cdn

    return restarted


def published(cdn: Cdn, content: bytes = b"shared") -> str:
    return cdn.publish(content, content_type="text/plain", name="a.txt", terms=Terms(owner="sim-user"))


def content_of(cdn: Cdn, url: str) -> bytes | None:
    file = cdn.find(urlsplit(url).path)
    return file.content if file else None


def test_what_was_deleted_does_not_come_back(restart: Restart) -> None:
    """Its bytes are still there where another file shares them."""
    cdn = restart()
    erased, kept = published(cdn), published(cdn)
    assert cdn.delete(erased)
    cdn = restart()
    assert (content_of(cdn, erased), content_of(cdn, kept)) == (None, b"shared")


def test_what_had_no_room_any_more_does_not_come_back(restart: Restart, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its bytes were brought again, under another address."""
    monkeypatch.setattr("darkroom.deployments.simulator.cdn._BUDGET_BYTES", 10)
    cdn = restart()
    oldest, large, again = published(cdn), published(cdn, b"nine more"), published(cdn)
    assert content_of(cdn, oldest) is None
    cdn = restart()
    assert [content_of(cdn, url) for url in (oldest, large, again)] == [None, None, b"shared"]


def test_who_may_read_it_is_not_forgotten(restart: Restart) -> None:
    """And whose it is."""
    cdn = restart()
    path = urlsplit(published(cdn)).path
    cdn.restrict(path, "hide")
    file = restart().find(path)
    assert file is not None
    assert (file.access, file.owner) == ("hide", "sim-user")
