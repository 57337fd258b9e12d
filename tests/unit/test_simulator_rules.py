"""Which rule applies to a submit."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from darkroom.deployments.simulator.faults import Faults, FileFault, Rule, RuleBook, SubmitFault, WebhookFault


def results(book: RuleBook, prompts: list[str], endpoint: str = "fal-ai/flux/dev") -> list[str]:
    return [
        book.faults_for(endpoint=endpoint, text=prompt, submit_number=number).result
        for number, prompt in enumerate(prompts, start=1)
    ]


def book_with(*rules: dict[str, Any], seed: int = 0) -> RuleBook:
    book = RuleBook(seed=seed)
    for rule in rules:
        book.add(Rule(**rule))
    return book


def test_without_rules_nothing_goes_wrong() -> None:
    """All faults are off."""
    assert RuleBook(seed=0).faults_for(endpoint="x", text="a fox", submit_number=1) == Faults()


def test_the_first_rule_that_applies_decides() -> None:
    """By a part of the prompt; a rule without one is for everybody else."""
    book = book_with({"match": "fox", "result": "500"}, {"result": "504_once"})
    assert results(book, ["a fox", "a hare"]) == ["500", "504_once"]


def test_rules_that_combine_each_add_their_part() -> None:
    """What the earlier one names stands; the first that does not combine is the last looked at."""
    book = book_with(
        {"webhook": "lost", "combines": True},
        {"webhook": "early", "submit": "cut", "combines": True},
        {"file": "html"},
        {"result": "500"},
    )
    assert book.faults_for(endpoint="x", text="a fox", submit_number=1) == Faults(
        webhook=WebhookFault.LOST, submit=SubmitFault.CUT, file=FileFault.HTML
    )


def test_chances_of_rules_that_combine_are_drawn_independently() -> None:
    """Of the requests whose webhook is lost as many have a broken file as of the others."""
    book = book_with(
        {"webhook": "lost", "chance": 0.5, "combines": True}, {"file": "html", "chance": 0.5, "combines": True}
    )
    drawn = [book.faults_for(endpoint="x", text="a fox", submit_number=number) for number in range(1000)]
    both = sum(each.webhook is WebhookFault.LOST and each.file is FileFault.HTML for each in drawn)
    assert 200 <= both <= 300


def test_a_rule_can_be_for_one_endpoint() -> None:
    """Others are left alone."""
    book = book_with({"endpoint": "openai/gpt-image-2", "result": "500"})
    assert results(book, ["a fox"]) == ["normal"]
    assert results(book, ["a fox"], endpoint="openai/gpt-image-2") == ["500"]


def test_a_rule_can_be_used_up() -> None:
    """After `times` the next rule takes over."""
    book = book_with({"times": 2, "result": "500"}, {"result": "504_once"})
    assert results(book, ["a fox"] * 3) == ["500", "500", "504_once"]


def test_a_seeded_chance_comes_out_the_same_again() -> None:
    """For the same seed and order of submits; about as often as it says; differently for another seed."""
    rule = {"chance": 0.25, "result": "500"}
    once, again, other = (results(book_with(rule, seed=seed), ["a fox"] * 400) for seed in (1, 1, 2))
    assert once == again != other
    assert 70 <= once.count("500") <= 130


def test_an_unseeded_chance_is_chance() -> None:
    """Two books differ."""
    rule = {"chance": 0.5, "seeded": False, "result": "500"}
    assert results(book_with(rule), ["a fox"] * 200) != results(book_with(rule), ["a fox"] * 200)


def test_rules_can_be_taken_away() -> None:
    """One by its number, or all."""
    book = RuleBook(seed=0)
    first = book.add(Rule(submit=SubmitFault.CUT))
    book.add(Rule(result="500"))
    assert book.remove(first)
    assert not book.remove(first)
    assert results(book, ["a fox"]) == ["500"]
    book.clear()
    assert results(book, ["a fox"]) == ["normal"]


@pytest.mark.parametrize("fields", [{"webhok": "lost"}, {"result": "error:"}, {"times": 0}, {"chance": 2}])
def test_a_rule_that_means_nothing_is_refused(fields: dict[str, Any]) -> None:
    """A misspelt fault would otherwise be a test that tests nothing."""
    with pytest.raises(ValidationError):
        Rule(**fields)
