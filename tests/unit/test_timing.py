"""The limits that anybody waits for: scaled together, and in the order that promises hang on."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from darkroom.deployments.prefect_yaml import PREFECT_YAML, _deployment, read_prefect_yaml
from darkroom.errors import NeedsHuman
from darkroom.models import packaged_cards
from darkroom.providers.fal.client import LEAST_START_TIMEOUT
from darkroom.providers.models import find_model
from darkroom.settings import Settings, load_settings, timing_of
from darkroom.timing import SUBMIT_PATIENCE, UNSCALED, Timing

TENTH = UNSCALED.scaled(0.1)


@pytest.mark.parametrize("name", [field.name for field in fields(Timing)])
def test_every_limit_is_scaled(name: str) -> None:
    """Ladders of pauses step by step; a field of another kind would be found here."""
    whole, tenth = getattr(UNSCALED, name), getattr(TENTH, name)
    if isinstance(whole, tuple):
        assert tenth == tuple(each / 10 for each in whole)
        assert len(tenth) > 0
    else:
        assert isinstance(whole, timedelta | float)
        assert tenth == whole / 10


@pytest.mark.parametrize("factor", [0.01, 0.1, 0.3, 1, 10])
def test_the_order_of_limits_is_kept(factor: float) -> None:
    """What one limit promises hangs on others being shorter."""
    timing = UNSCALED.scaled(factor)
    assert 2 * timing.renewal < timing.lease <= timing.grace, "two renewals may be missed"
    assert timing.wake_again < timing.started_by < timing.pending_limit
    assert timing.lost_submit < timing.submit_limit, "it is looked up before it is given up"
    assert timing.submit_limit > SUBMIT_PATIENCE, "a call that may yet be taken has not lost its process"
    assert timing.first_probe < timing.longest_probe_pause < timing.probe_patience
    assert timing.one_burst < timing.halved_for
    assert timing.recovery_pause < timing.longest_recovery_pause < timing.recoveries_forgotten
    assert timing.lease + timing.grace < timing.closed_within, "a run that closed is looked at until it counts as lost"
    assert timing.on_time < timing.reconcile_every, "a turn gives way to the next one"
    assert timing.grant_wait <= timing.all_pending
    assert list(timing.file_out_again) == sorted(timing.file_out_again)
    assert timing.scale(timedelta(minutes=1)) == factor * timedelta(minutes=1)


def test_production_has_the_limits_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is scaled unless somebody says so."""
    monkeypatch.delenv("DARKROOM_TIME_SCALE", raising=False)
    assert Settings().timing == timing_of({}) == UNSCALED == UNSCALED.scaled(1)


def test_patience_and_grace_that_are_given_rule_as_they_are() -> None:
    """They are settings of their own, and nobody expects that another one changes them."""
    assert Settings(time_scale=0.1).timing == TENTH
    given = Settings(time_scale=0.1, patience=timedelta(seconds=3), cancel_grace=timedelta(seconds=7)).timing
    assert (given.patience, given.cancel_grace) == (timedelta(seconds=3), timedelta(seconds=7))
    assert given.lease == TENTH.lease


@pytest.mark.parametrize(
    ("value", "says"), [("soon", "valid number"), ("0", "0.01"), ("-1", "0.01"), ("11", "10"), ("nan", "")]
)
def test_a_scale_that_cannot_be_is_refused_by_its_name(
    value: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In one sentence, wherever it is read: by a part, and by who starts the parts."""
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    monkeypatch.setenv("DARKROOM_TIME_SCALE", value)
    for read in (load_settings, lambda: timing_of({"DARKROOM_TIME_SCALE": value})):
        with pytest.raises(NeedsHuman) as refused:
            read()
        assert refused.value.message.startswith("DARKROOM_TIME_SCALE: ")
        assert says in refused.value.message
        assert "DARKROOM_PATIENCE" not in refused.value.message


@pytest.mark.parametrize(
    ("factor", "seconds"), [(1, None), (0.5, 30), (0.1, 6), (0.01, 5), (10, 600)], ids=lambda each: str(each)
)
def test_reconcile_comes_more_often_where_limits_are_shorter(factor: float, seconds: float | None) -> None:
    """Instead of the file's cron, under its slug, and at the same times whenever it is deployed."""
    timing = UNSCALED.scaled(factor)
    (entry,) = (each for each in read_prefect_yaml() if each.full_name == "reconcile/every-minute")
    (made,) = _deployment(entry, project=PREFECT_YAML.parent, timing=timing).schedules or ()
    assert made.slug == "every-minute"
    if seconds is None:
        assert made.schedule.cron == "* * * * *"
    else:
        assert made.schedule.interval == timedelta(seconds=seconds)
        assert made.schedule.anchor_date.timestamp() % seconds == 0


def test_other_schedules_are_as_the_file_has_them() -> None:
    """The day's report is one a day at any scale."""
    entries = [each for each in read_prefect_yaml() if each.schedules and each.full_name != "reconcile/every-minute"]
    for entry in entries:
        deployment = _deployment(entry, project=PREFECT_YAML.parent, timing=TENTH)
        assert [each.schedule.cron for each in deployment.schedules or ()] == [each.cron for each in entry.schedules]
    assert entries


@pytest.mark.parametrize("endpoint", packaged_cards())
def test_a_start_timeout_is_one_that_fal_takes(endpoint: str) -> None:
    """At the smallest scale, too."""
    assert UNSCALED.scaled(0.01).scale(find_model(endpoint).start_timeout) > LEAST_START_TIMEOUT
