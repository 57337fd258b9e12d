"""Flow control is declared in prefect.yaml, and says of each event under which keys it gathers and is counted."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom.deployments.prefect_yaml import read_prefect_yaml
from darkroom.errors import NeedsHuman
from darkroom.events import FlowControlEntry, compiled, read_triggers
from darkroom.ledger import EventStart
from darkroom.ledger.canonical_json import dumps
from darkroom.ledger.flow_control.terms import Held, Keep, Over, Terms, Throttle, WhenRunning

DOCS = (Path(__file__).parents[2] / "docs" / "flow-control.md").read_text()
RECIPES = re.findall(r"```yaml\n    flow_control:\n(.*?)```", DOCS, re.DOTALL)
PLACED: dict[str, Any] = {"order": "o-1", "total_cents": 1900, "email": None, "currency": "USD"}
ALL = """
debounce: {key: event.user, period: 5m, longest: 1h}
batch: {key: event.data.currency, size: 100, longest: 10s}
throttle: {limit: 10, period: 0.5s, burst: 2}
rate_limit: {key: event.data.order, limit: 1, period: 1h30m, over: queue}
singleton: {key: event.data.order, when_running: cancel}
concurrency: {key: "event.data.total_cents > 1000", limit: 2}
priority: "event.data.total_cents > 1000 ? 60 : 0"
"""
REFUSED = [
    ("debonce: {period: 5m}", "flow_control.debonce: Extra inputs"),
    ("debounce: {priod: 5m}", "flow_control.debounce.period: Field required"),
    ("debounce: {period: 5m, kep: all}", "flow_control.debounce.kep: Extra inputs"),
    ("debounce: {period: five minutes}", "'five minutes' is no duration"),
    ("debounce: {period: 300}", "'300' is no duration"),
    ("debounce: {period: 1ms}", "flow_control.debounce.period"),
    ("debounce: {period: 100w}", "flow_control.debounce.period"),
    ("debounce: {period: 5m, longest: 1m}", "longest is shorter than period"),
    ("debounce: {period: 5m, keep: first}", "flow_control.debounce.keep"),
    ("{debounce: {period: 5m, keep: last}, batch: {size: 2, longest: 1m}}", "a batch gives its run all events"),
    ("batch: {size: 0, longest: 1m}", "flow_control.batch.size"),
    ("batch: {size: 10}", "flow_control.batch.longest: Field required"),
    ("throttle: {limit: 0, period: 1m}", "flow_control.throttle.limit"),
    ("throttle: {limit: 1, period: 1m, burst: 2}", "burst is more than limit"),
    ("rate_limit: {limit: 1, period: 1m, over: drop}", "flow_control.rate_limit.over"),
    ("singleton: {when_running: kill}", "flow_control.singleton.when_running"),
    ("concurrency: {limit: 1.5}", "flow_control.concurrency.limit"),
    ("priority: 60", "declare one of debounce, batch"),
    ("{}", "declare one of debounce, batch"),
    ("{concurrency: {limit: 1}, priority: \"'high'\"}", "A priority is a number of seconds from -600 to 600: 'high'"),
    ("{concurrency: {limit: 1}, priority: 601}", "A priority is a number"),
    ("concurrency: {limit: 1, key: event.data.ordr}", "The event's data has no 'ordr'"),
    ("concurrency: {limit: 1, key: event.usr}", "An event has no 'usr'"),
    ("concurrency: {limit: 1, key: 'event.user ='}", "no CEL"),
]


def write(folder: Path, control: str, *, starts_on: str = "[{event: order.placed}]") -> Path:
    text = (
        control
        if control.lstrip().startswith("{")
        else "\n" + "\n".join(f"      {line}" for line in control.splitlines())
    )
    file = folder / "prefect.yaml"
    file.write_text(
        f"""
deployments:
  - name: held
    entrypoint: flows/pack_order.py:pack_order
    work_pool: {{name: darkroom}}
    starts_on: {starts_on}
    flow_control: {text}
"""
    )
    return file


def start(file: Path, *, user: str = "usr_1", **data: Any) -> EventStart:
    (trigger,) = read_triggers(file)
    return trigger.start({"name": "order.placed", "v": 1, "user": user, "data": PLACED | data})


def held(file: Path, **event: Any) -> Held:
    found = start(file, **event)
    assert found.reason is None and found.held is not None
    return found.held


def test_all_that_is_declared_is_given_to_the_ledger(tmp_path: Path) -> None:
    """As data, and with the key of each for this event; both keys of what gathers together."""
    found = held(write(tmp_path, ALL))
    terms = found.terms
    assert terms.debounce and terms.batch and terms.rate_limit and terms.singleton and terms.concurrency
    assert (terms.debounce.period, terms.debounce.longest) == (timedelta(minutes=5), timedelta(hours=1))
    assert (terms.batch.size, terms.batch.longest, terms.takes_all) == (100, timedelta(seconds=10), True)
    assert terms.throttle == Throttle(limit=10, period=timedelta(seconds=0.5), burst=2)
    assert (terms.rate_limit.period, terms.rate_limit.over) == (timedelta(minutes=90), Over.QUEUE)
    assert (terms.singleton.when_running, terms.concurrency.limit) == (WhenRunning.CANCEL, 2)
    assert (found.gather_key, found.throttle_key, found.rate_key) == ('["usr_1","USD"]', "", "o-1")
    assert (found.singleton_key, found.concurrency_key, found.priority) == ('["usr_1","o-1"]', "true", 60)
    assert Terms.model_validate_json(dumps(terms.model_dump(mode="json"))) == terms, "as it comes back"


def test_what_is_not_declared_has_no_key(tmp_path: Path) -> None:
    """And nothing gathers; the last event counts unless all are asked for."""
    found = held(write(tmp_path, "concurrency: {limit: 1}"))
    assert found == Held(terms=found.terms, concurrency_key="")
    assert not found.terms.collects
    debounced = held(write(tmp_path, "debounce: {period: 1s, key: event.user}")).terms
    assert debounced.debounce and debounced.debounce.keep is Keep.LAST and not debounced.takes_all
    assert held(write(tmp_path, "debounce: {period: 1s, keep: all}")).terms.takes_all


def test_one_user_cannot_be_alone_with_anothers_runs(tmp_path: Path) -> None:
    """Whatever its key says, a singleton is within the user whose runs they are."""
    file = write(tmp_path, "singleton: {key: event.data.order, when_running: cancel}")
    assert held(file, user="usr_1").singleton_key != held(file, user="usr_2").singleton_key


@pytest.mark.parametrize(
    ("order", "key"),
    [("o-1", "o-1"), (4, "4"), (4.0, "4"), (2.5, "2.5"), (True, "true"), ("a\0b", "a\ufffdb"), ("", "")],
)
def test_a_key_is_a_text_a_number_or_a_truth(tmp_path: Path, order: object, key: str) -> None:
    """Written as text, which the ledger compares."""
    assert held(write(tmp_path, "concurrency: {limit: 1, key: event.data.order}"), order=order).concurrency_key == key


@pytest.mark.parametrize(
    ("key", "data", "why"),
    [
        ("event.data.email", {}, "the key of its concurrency is no text, number or truth: event.data.email"),
        ("[event.user]", {}, "is no text, number or truth"),
        ("event.data.order", {"order": "x" * 256}, "has more than 255 characters"),
        ("event.data.total_cents / 0", {}, "the key of its concurrency cannot be told"),
    ],
)
def test_an_event_without_the_key_starts_nothing_and_says_why(
    tmp_path: Path, key: str, data: dict[str, Any], why: str
) -> None:
    """With the expression, and without what the event says."""
    found = start(write(tmp_path, f"concurrency: {{limit: 1, key: '{key}'}}"), **data)
    assert found.held is None and found.reason is not None
    assert why in found.reason and key in found.reason and "xxx" not in found.reason


@pytest.mark.parametrize(
    ("priority", "seconds"),
    [("event.data.total_cents", 600), ("0 - event.data.total_cents", -600), ("event.data.email", 0), ("1.6", 2)],
)
def test_a_priority_is_within_its_bounds(tmp_path: Path, priority: str, seconds: int) -> None:
    """One that cannot be told is none: the start is not lost by that."""
    assert held(write(tmp_path, f'{{concurrency: {{limit: 1}}, priority: "{priority}"}}')).priority == seconds


@pytest.mark.parametrize(("control", "why"), REFUSED)
def test_a_declaration_that_is_wrong_is_refused_when_the_file_is_read(tmp_path: Path, control: str, why: str) -> None:
    """By deployment and text, or by its place."""
    with pytest.raises(NeedsHuman) as refused:
        read_triggers(write(tmp_path, control))
    assert why in str(refused.value)
    assert "pack-order/held" in str(refused.value) or "deployments.0" in str(refused.value)


def test_it_holds_what_events_start_and_nothing_else(tmp_path: Path) -> None:
    """Beside no `starts_on` it would do nothing."""
    with pytest.raises(NeedsHuman, match="no starts_on"):
        read_triggers(write(tmp_path, "concurrency: {limit: 1}", starts_on="[]"))


def test_the_deployment_is_made_as_ever(tmp_path: Path) -> None:
    """Provisioning passes over it."""
    (entry,) = read_prefect_yaml(write(tmp_path, ALL))
    assert entry.flow_control is not None


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_of_the_documentation_is_understood(recipe: str) -> None:
    """As it stands there; what it is asked of an event compiles."""
    entry = FlowControlEntry.model_validate(yaml.safe_load(recipe))
    for text in (*entry.keys().values(), entry.priority):
        assert text is None or compiled(text).text == text
