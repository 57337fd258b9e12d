"""What people type for commands to send, and what is said of the answer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer

from darkroom.deployments.cli import replays
from darkroom.deployments.cli.admin import _cap
from darkroom.deployments.cli.costs import _time
from darkroom.deployments.cli.jobs import _ended, _size
from darkroom.deployments.gateway.schemas.dead_letters import ReplayedDocument


def test_a_size_is_two_numbers_or_a_name() -> None:
    """Of names, and of what looks like a number and is none, the API knows what to say."""
    assert _size("1024x768") == {"width": 1024, "height": 768}
    for text in ("landscape_4_3", "²x³", "1024x", "x", f"{'9' * 5000}x1", "٣x٤", None):
        assert _size(text) == text


def test_a_cap_is_an_endpoint_and_a_number() -> None:
    """Else it is said how one is written."""
    assert _cap("openai/gpt-image-2=10") == ("openai/gpt-image-2", 10)
    for text in ("a/b=²", "a/b=", "=10", "a/b", f"a/b={'9' * 5000}", "a/b=-1"):
        with pytest.raises(typer.BadParameter, match="an endpoint and a number"):
            _cap(text)


def test_why_says_of_a_job_that_has_ended_what_may_be_paid_twice() -> None:
    """As of a call whose process was killed: it was made once more, and the job does not show it otherwise."""
    calls = [{"status": "expired", "cost_usd": None}, {"status": "succeeded", "cost_usd": 0.025}]
    job = {"status": "completed", "error": None, "requests": calls}
    assert _ended(job) == "Nothing: it is completed. 1 of its calls had no answer, and may have been paid, too."
    for call in ({"status": "expired", "cost_usd": 0.025}, {"status": "failed", "cost_usd": None}):
        assert _ended(job | {"requests": [call]}) == "Nothing: it is completed."


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T01:00+02:00", datetime(2026, 10, 31, 23, tzinfo=UTC)),
    ],
)
def test_times_of_costs_are_told_in_utc(text: str, at: datetime) -> None:
    """Whichever zone they were given in, as it says UTC behind them."""
    assert _time(text, "--from") == at.isoformat()


@pytest.mark.parametrize("text", ["yesterday", "0001-01-01T00:00+02:00", "9999-12-31T23:59-02:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(typer.BadParameter, match=r"e\.g\. 2026-11-01"):
        _time(text, "--from")


def test_a_replay_says_how_many_remain_for_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the answer's own names: those that are deprecated in it may go."""
    answer = ReplayedDocument(put_back=["job_1"], refused=[], remaining=1200, left=1200).model_dump()
    old = {name for name, field in ReplayedDocument.model_fields.items() if field.json_schema_extra}
    monkeypatch.setattr(replays, "_ask", lambda *_, **__: {name: answer[name] for name in answer.keys() - old})
    replays._together(replays.which(None, None, None, None, None, "2h", None, False), [], 5, as_json=False)
    assert "1,200 more match: run it again for those." in capsys.readouterr().err
