"""What the simulator keeps of its clients is for its owner's eyes only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom.deployments.simulator.journal import Journal
from darkroom.deployments.simulator.mux_assets import Upload
from darkroom.deployments.simulator.mux_book import MuxBook


@pytest.fixture(autouse=True)
def open_house(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose files are everybody's, and in which no mode is changed later: it is seen as it was made."""
    monkeypatch.setattr(Path, "chmod", lambda path, mode: None)
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(file: Path) -> int:
    return file.stat().st_mode & 0o777


def test_the_journal_is_private_from_its_first_byte(tmp_path: Path) -> None:
    """Prompts are in it, also when it is written anew over what a kill has left."""
    file = tmp_path / "book.jsonl"
    journal = Journal(file)
    assert mode_of(file) == 0o600
    journal.write({"prompt": "first"})
    (tmp_path / "book.new").write_text("half of an earlier one")
    journal.write_anew([{"prompt": "second"}])
    journal.write({"prompt": "third"})
    assert ([line["prompt"] for line in journal.read()], mode_of(file)) == (["second", "third"], 0o600)
    journal.close()
    assert list(tmp_path.iterdir()) == [file]


def test_the_addresses_of_uploads_are_private_from_their_first_byte(tmp_path: Path) -> None:
    """Who knows one may upload by it."""
    book = MuxBook(tmp_path)
    upload = Upload(id="1", secret="address", settings={}, cors_origin="", timeout=60, test=False)
    book.uploads["1"] = upload
    book.save()
    assert mode_of(tmp_path / "book.json") == 0o600
    assert MuxBook(tmp_path).uploads["1"].secret == "address"
