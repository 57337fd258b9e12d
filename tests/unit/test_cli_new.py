"""`darkroom new`: where it makes nothing. That what it makes runs is held in `tests/acceptance/test_projects.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.deployments.cli import main


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    """The command says so."""
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"^darkroom: .* is there already and not empty: name another folder") as ended:
        main(["new", str(tmp_path)])
    assert isinstance(ended.value.code, str)  # exit code 1
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]
