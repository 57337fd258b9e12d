"""Pages of a list, and the cursors between them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from darkroom.deployments.gateway.schemas.paging import created, cut, read_cursor
from darkroom.errors import BadInput
from darkroom.ledger import Job


def job(n: int) -> Job:
    at = datetime(2026, 11, 20, 12, microsecond=123456, tzinfo=UTC)
    return Job(id=f"job_{n}", user_id="u1", kind="generate-image", created_at=at)


def test_a_cursor_leads_back_to_the_last_row_of_its_page() -> None:
    """To the microsecond: two jobs of the same second are told apart."""
    page, following = cut([job(3), job(2), job(1)], 2, created)
    assert [each.id for each in page] == ["job_3", "job_2"]
    assert read_cursor(following) == (job(2).created_at, "job_2")


@pytest.mark.parametrize("rows", [[], [job(1)], [job(2), job(1)]], ids=len)
def test_the_last_page_has_no_cursor(rows: list[Job]) -> None:
    """Nor has an empty one; without a cursor one begins at the newest."""
    assert cut(rows, 2, created) == (rows, None)
    assert read_cursor(None) is None


@pytest.mark.parametrize(
    "cursor", ["abc", "é", "2026", "²-job_1", "1-", "1-job\0", "1-job_1\n", f"{10**17}-job_1", "-1-j"]
)
def test_a_made_up_cursor_is_bad_input(cursor: str) -> None:
    """No place at all, a time past all clocks, or an id that cannot be one."""
    with pytest.raises(BadInput) as refusal:
        read_cursor(cursor)
    assert refusal.value.field == "cursor"
