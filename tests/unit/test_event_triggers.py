"""What events start is declared in prefect.yaml: read whole, or refused with the place and the reason."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from darkroom.errors import BadInput, NeedsHuman
from darkroom.events import TriggerFile, read_triggers
from darkroom.events.types import EventData, event, find_type
from darkroom.ledger import EventStart

SIGNED_UP = {"name": "user.signed_up", "v": 1, "data": {"account": "a-1", "email": "ann@example.com", "plan": "pro"}}
REFUSED = [
    ("{event: user.signed_pu}", "No event of this name is registered"),
    ("{event: user.signed_up, v: 7}", "has no version 7"),
    ("{event: user.signed_up, if: 'event.data.plan =='}", "no CEL, from character 17 on: event.data.plan =="),
    ("{event: user.signed_up, if: 'event.data.plna == 1'}", "has no 'plna', only account, email"),
    ("{event: user.signed_up, parameters: {account: 'evnt.data.account'}}", "'evnt' is nothing a condition can read"),
    ("{event: user.signed_up, when: 'true'}", "starts_on.0.when: Extra inputs"),
    ("{if: 'true'}", "starts_on.0.event: Field required"),
]


def write(file: Path, *triggers: str, name: str = "on-demand") -> Path:
    entry = f"{{name: {name}, entrypoint: 'flows/onboard_user.py:onboard_user', starts_on: [{', '.join(triggers)}]}}"
    file.write_text(f"deployments: [{entry}, {{name: on-demand, entrypoint: 'flows/greet.py:greet', more: 1}}]")
    return file


def starts(file: Path) -> list[EventStart]:
    return [trigger.start(SIGNED_UP) for trigger in read_triggers(file)]


def test_one_event_may_start_many_each_with_its_own_parameters(tmp_path: Path) -> None:
    """Without any they are the event's data."""
    made = "{event: user.signed_up, parameters: {who: event.data.account, paying: \"event.data.plan != 'free'\"}}"
    first, second = starts(write(tmp_path / "prefect.yaml", made, "{event: user.signed_up, v: 1}"))
    assert first.deployment == second.deployment == "onboard-user/on-demand"
    assert (first.parameters, second.parameters) == ({"who": "a-1", "paying": True}, SIGNED_UP["data"])


def test_what_it_does_not_start_has_a_reason(tmp_path: Path) -> None:
    """Its condition, a field that is not there, or the event's version."""
    file = write(
        tmp_path / "prefect.yaml",
        "{event: user.signed_up, if: \"event.data.plan == 'free'\"}",
        "{event: user.signed_up, if: \"event.data.name == 'x'\"}",
        "{event: user.signed_up, parameters: {name: event.data.name}}",
    )
    assert [start.reason for start in starts(file)] == [
        "its condition does not hold: event.data.plan == 'free'",
        "its data has no 'name': event.data.name == 'x'",
        "its parameters cannot be made: its data has no 'name'",
    ]
    (trigger,) = read_triggers(write(tmp_path / "prefect.yaml", "{event: user.signed_up, v: 1}"))
    assert trigger.start(SIGNED_UP | {"v": 2}).reason == ("it starts for version 1 of the event, and this is version 2")


@pytest.mark.parametrize(("trigger", "why"), REFUSED)
def test_a_trigger_that_is_wrong_is_refused_when_the_file_is_read(tmp_path: Path, trigger: str, why: str) -> None:
    """By deployment and text, or by its place."""
    with pytest.raises(NeedsHuman) as refused:
        read_triggers(write(tmp_path / "prefect.yaml", trigger))
    assert why in str(refused.value)
    assert "onboard-user/on-demand" in str(refused.value) or "deployments.0" in str(refused.value)


def test_only_deployments_that_are_made_for_jobs_can_be_started(tmp_path: Path) -> None:
    entry = "{name: every-minute, entrypoint: 'flows/a.py:a', tags: [system], starts_on: [{event: user.signed_up}]}"
    file = tmp_path / "prefect.yaml"
    file.write_text(f"deployments: [{entry}]")
    with pytest.raises(NeedsHuman, match="tag 'system'"):
        read_triggers(file)


def test_the_file_is_read_again_when_it_has_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is broken or missing then leaves things as they were, and the log says so once."""
    file = write(tmp_path / "prefect.yaml", "{event: user.signed_up}")
    monkeypatch.setattr("darkroom.events.triggers.project_files", lambda: [file])
    monkeypatch.setattr("darkroom.orchestrator.project_file.project_files", lambda: [file])
    triggers = TriggerFile()
    write(file, "{event: user.signed_up}", "{event: user.signed_up}")
    assert len(triggers.of("user.signed_up")) == 2
    assert triggers.of("order.placed") == []
    with caplog.at_level(logging.ERROR):
        write(file, "{event: user.signed_pu}")
        assert len(triggers.of("user.signed_up")) == len(triggers.of("user.signed_up")) == 2
        assert len(caplog.records) == 1
        file.unlink()
        assert len(triggers.of("user.signed_up")) == 2
    write(file, "{event: user.signed_up}")
    os.utime(file)
    assert len(triggers.of("user.signed_up")) == 1


def test_an_event_has_versions_and_the_newest_is_meant() -> None:
    """Who names the older one goes on being understood."""

    @event("test.versions")
    class First(EventData):
        a: int

    @event("test.versions", v=2)
    class Second(EventData):
        a: int
        b: int

    assert (find_type("test.versions"), find_type("test.versions", 1)) == ((2, Second), (1, First))
    with pytest.raises(BadInput, match="has no version 3"):
        find_type("test.versions", 3)


@pytest.mark.parametrize("name", ["one_word", "Upper.case", "a..b", "a." + "b" * 100, "run.woken", "slot.granted"])
def test_a_name_that_is_none_or_darkrooms_own_cannot_be_registered(name: str) -> None:
    """`darkroom.run.woken` in Prefect's feed resumes runs."""
    with pytest.raises(ValueError, match="event"):
        event(name)
    with pytest.raises(ValueError, match="registered already"):
        event("user.signed_up")(EventData)
