"""The keys of artifacts: short, readable, and apart where a run has several jobs."""

from __future__ import annotations

from darkroom.engine.ui.report import pictures, suffix
from darkroom.ledger import Asset


def an_asset(id: str, content_type: str) -> Asset:
    return Asset.model_construct(id=id, content_type=content_type)


def test_the_first_job_of_a_run_has_plain_keys() -> None:
    """`progress`, `contact-sheet`; another one's end in a part of its id, as keys are letters, digits and dashes."""
    first, other = "job_01a20082abc9def9af66fcc2b873", "job_01a20082abdd0aeab61c2efe5c6f"
    assert suffix(first, first=first) == ""
    assert suffix(other, first=first) == "-fe5c6f"


def test_pictures_are_numbered_in_the_order_in_which_they_came() -> None:
    """So that one keeps its number when more come; films and sound have none."""
    first = [an_asset("ast_02", "image/png"), an_asset("ast_01", "image/jpeg")]
    more = [*first, an_asset("ast_00", "audio/mpeg"), an_asset("ast_03", "image/webp")]
    assert [(n, each.id) for n, each in pictures(first)] == [(1, "ast_01"), (2, "ast_02")]
    assert [(n, each.id) for n, each in pictures(more)] == [(1, "ast_01"), (2, "ast_02"), (3, "ast_03")]
