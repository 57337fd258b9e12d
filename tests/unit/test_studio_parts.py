"""What the Studio's pages are made of: numbers as fields have them, and money as it is read."""

from __future__ import annotations

import pytest

from darkroom.deployments.gateway.thumbnails import FILMS, PICTURES
from darkroom.deployments.studio.form_controls import Filled, show_field
from darkroom.deployments.studio.job_parts import _moments
from darkroom.deployments.studio.manifest_form import again
from darkroom.deployments.studio.parts import WITH_SMALL_PICTURES, money, plain, small_picture
from darkroom.deployments.studio.schema_forms import FormField

TIMES = {"created_at": "2026-11-01", "settled_at": "2026-11-02"}


@pytest.mark.parametrize(
    ("number", "written"),
    [(12345.67, "12345.67"), (2147483647, "2147483647"), (1e-7, "0.0000001"), (2.0, "2"), (100, "100"), (-0.0, "0")],
)
def test_a_number_keeps_all_of_its_digits(number: float, written: str) -> None:
    """A field that rounds would change what is saved."""
    assert plain(number) == written


@pytest.mark.parametrize(
    ("usd", "written"),
    [
        *((-0.5, "-$0.50"), (-1234.5, "-$1,234.50"), (-0.0123, "-$0.0123"), (-0.0, "$0.00")),
        *((0.5, "$0.50"), (0, "$0.00"), (1234.5, "$1,234.50"), (0.0123, "$0.0123"), (None, "–")),
    ],
)
def test_money_is_read_with_its_sign_in_front(usd: float | None, written: str) -> None:
    """And to the cent at least."""
    assert money(usd) == written


def test_a_seeds_bounds_are_told_in_full() -> None:
    """To who reads, and to the browser, which holds the field to them."""
    bounds = {"minimum": 0, "maximum": 2147483647, "default": 7654321}
    seed = FormField(name="seed", kind="number", label="Seed", whole=True, **bounds)
    shown = str(show_field(seed, Filled()))
    assert 'max="2147483647"' in shown and "0 to 2147483647; as it is, 7654321." in shown


def test_a_batch_that_is_ordered_again_has_its_bounds_to_the_cent() -> None:
    """Else its order would be another one than the page says."""
    job = {"id": "job_1", "metadata": {}, "tags": [], "order": {"max_usd": 12345.67, "answer_within_hours": 2.5}}
    given = again(job, [{"prompt": "a fox"}]).given
    assert (given["max_usd"], given["answer_within_hours"]) == ("12345.67", "2.5")


def test_a_batch_is_not_ordered_again_with_what_is_hidden() -> None:
    """Its form says what is to be given again, and keeps the rest."""
    signed = {"image_url": "https://h/a.png?sig=…", "image_size": "square"}
    order = {"defaults": {"model": "a/b", **signed}, "final": {"arguments": signed}, "draft": {"arguments": {"n": 1}}}
    filled = again({"id": "job_1", "metadata": {}, "tags": [], "order": order}, [{"prompt": "a fox"}])
    assert {filled.given[name] for name in ("defaults", "final_arguments")} == {'{"image_size": "square"}'}
    assert filled.given["draft_arguments"] == '{"n": 1}' and filled.lacking == (
        "For all rows",
        "Arguments of the finals",
    )


def test_a_timeline_says_how_a_wait_ended() -> None:
    """By its state; its status is in the words of 0.1, which may go."""
    wait = {"step": "sleep-1", "event": None, "child_job_id": None, "state": "timed_out", **TIMES}
    job = {"created_at": "2026-11-01", "finished_at": None, "requests": [], "steps": [], "waits": [wait]}
    assert "sleep-1: timed out" in [what for _, what in _moments(job)]


def test_a_small_picture_is_asked_for_where_the_gateway_makes_one() -> None:
    """Of no other kind, of no file that it has not read, and of none that is hidden."""
    file = {"url": "https://gateway.example/v1/assets/ast_1?s=1", "content_type": "image/png", "width": 640}
    assert small_picture(file, width=480) == "/v1/assets/ast_1?s=1&w=480"
    for without in ({"content_type": "image/gif"}, {"width": None}, {"url": None}):
        assert small_picture(file | without, width=480) is None
    assert WITH_SMALL_PICTURES == PICTURES | FILMS
