"""Conditions on events: what holds, what cannot be told and why, and what is refused before any event comes."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from darkroom.errors import BadInput
from darkroom.events import compiled, matches
from darkroom.events.conditions import LONGEST_CONDITION, DoesNotApply

HOLD: list[tuple[str, dict[str, Any]]] = [
    ("event.data.plan != 'free'", {"plan": "studio"}),
    ("event.data.n > 3 && event.data.n < 5", {"n": 4}),
    ("event.data.tags.exists(tag, tag == 'vip')", {"tags": ["new", "vip"]}),
    ("has(event.data.plan) || event.data.n == 1", {"n": 1}),
    ("event.data['two words'] == \"it's\"", {"two words": "it's"}),
    ("event.data.name == null", {"name": None}),
    ("event.data.account.name.startsWith('Ann')", {"account": {"name": "Anna"}}),
    ("event.data == {'a': 1}", {"a": 1}),
    ("event.data.n == 4.0 && event.data.n > 3.5 && 3.5 < event.data.n", {"n": 4}),
    ("event.data.n == 4 && event.data.n != 5 && event.data.n < 5", {"n": 4.0}),
    ("event.data.name != null && null != event.data.name", {"name": "ann"}),
]
DO_NOT: list[tuple[str, dict[str, Any]]] = [
    ("event.data.name != null", {"name": None}),
    ("event.data.n == null", {"n": 1.5}),
    ("event.data.plan != 'free'", {"plan": "free"}),
    ("has(event.data.plan) && event.data.plan == 'x'", {}),
]
CANNOT_BE_TOLD: list[tuple[str, dict[str, Any], str]] = [
    ("event.data.plan == 'x'", {}, "its data has no 'plan'"),
    ("event.data.n > 3", {"n": "hunter2"}, "it compares values of different kinds"),
    ("event.data.n == true", {"n": 1}, "it compares values of different kinds"),
    ("event.data.n > null", {"n": 1}, "it compares values of different kinds"),
    ("event.data.n == 1", {"n": 10**30}, "it cannot be evaluated for this data"),
    ("event.data.n / 0 == 1", {"n": 1}, "it cannot be evaluated for this data"),
    ("event.data.n", {"n": 1}, "it gives neither true nor false"),
]
REFUSED = [
    ("event.data.plan ==", "no CEL, from character 17"),
    ("", "1 to 1000 characters"),
    ("event.data.n == " + "1" * LONGEST_CONDITION, "1 to 1000 characters"),
    ("evnt.data.plan == 'x'", "'evnt' is nothing a condition can read"),
    ("event.data.plan == plan", "'plan' is nothing a condition can read"),
    ("event.data.tags.exits(tag, tag == 'x')", "'tag' is nothing a condition can read"),
    ("lower(event.data.plan) == 'x'", "no function 'lower'"),
    ("event.usr == 'x'", "An event has no 'usr', only name, v, user, data"),
]


@pytest.mark.parametrize(("text", "data"), HOLD)
def test_a_condition_holds(text: str, data: dict[str, Any]) -> None:
    """For data like this."""
    assert matches(text, data) is True


@pytest.mark.parametrize(("text", "data"), DO_NOT)
def test_a_condition_does_not_hold(text: str, data: dict[str, Any]) -> None:
    """And that is no error."""
    assert matches(text, data) is False


@pytest.mark.parametrize(("text", "data", "why"), CANNOT_BE_TOLD)
def test_a_condition_that_cannot_be_evaluated_says_why(
    text: str, data: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In words, with its text and without the values: they are the user's, here and in the log."""
    caplog.set_level(logging.DEBUG)
    verdict = matches(text, data)
    assert isinstance(verdict, str) and verdict.startswith(why) and text in verdict
    assert "hunter2" not in verdict + caplog.text


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_a_condition_is_refused_before_an_event_comes(text: str, why: str) -> None:
    """A misspelt name would look like data that never matches."""
    with pytest.raises(BadInput, match=why.replace("(", r"\(")):
        compiled(text)
    assert isinstance(matches(text, {}), str)


def test_what_a_condition_reads_decides_and_the_rest_does_not() -> None:
    """An answer is remembered by the fields that are read; a field that is there counts, even if it is null."""
    condition = compiled("!has(event.data.plan) || event.data.plan == 'x'")
    seen = [{"plan": "x", "n": 1}, {"plan": "x", "n": 2}, {"plan": "y"}, {}, {"plan": None}]
    assert [condition.holds({"data": data}) for data in seen] == [True, True, False, True, False]
    assert condition.fields == ("plan",)
    assert compiled("event.data == {'a': 1} || event.data.b").fields is None
    assert compiled("event == {'data': {}}").fields is None
    several = compiled("event.name == 'x' || event.data.b")
    assert (several.fields, several.parts) == (("b",), ("name",))


@pytest.mark.parametrize("text", ["event.user", "event.user + ''", "event['user']", "'' + event.data.by + event.user"])
def test_whom_an_event_is_for_counts_as_read(text: str) -> None:
    """Else one user's events were counted as another's; so do its name and version."""
    key = compiled(text)
    seen = [{"name": "a.b", "v": 1, "user": user, "data": {"by": ""}} for user in ("usr_1", "usr_2", "usr_1")]
    assert [key.evaluate(event) for event in seen] == ["usr_1", "usr_2", "usr_1"]


@pytest.mark.parametrize(("text", "value"), [("event.data.n", 7), (" event.name ", "a.b"), ("event.v", 2)])
def test_one_thing_that_an_event_says_is_given_as_it_is(text: str, value: object) -> None:
    """Without the interpreter: keys are that, and new in every event. What is not there is told as ever."""
    expression = compiled(text)
    assert expression.whole is not None
    assert expression.evaluate({"name": "a.b", "v": 2, "data": {"n": 7}}) == value
    with pytest.raises(DoesNotApply, match=f"its data has no '{expression.whole[-1]}'"):
        expression.evaluate({"data": {}})


def test_an_expression_gives_plain_values() -> None:
    """They go into a run's parameters, as JSON."""
    made = compiled("{'a': event.data.a, 'more': [event.data.b.c, 2.5, true, null, 'x']}")
    assert made.evaluate({"data": {"a": "1", "b": {"c": 7}}}) == {"a": "1", "more": [7, 2.5, True, None, "x"]}
    with pytest.raises(DoesNotApply, match="cannot be evaluated"):
        made.evaluate({"data": {"a": "1"}})
