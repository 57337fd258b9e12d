"""Manifests as other programs write them: what they mean is read, or what is wrong is told with its line."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from manifest_cases import CASES, Case
from manifest_mistakes import MISTAKES
from test_manifest import check

from darkroom.batches import ManifestError, Pass, Passes, read_manifest
from darkroom.batches.json_rows import _hint
from darkroom.errors import BadInput

READ = [case for case in [*CASES, *MISTAKES] if case.rows]
REFUSED = [case for case in [*CASES, *MISTAKES] if case.problems]


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", READ, ids=named)
def test_what_other_programs_write_is_read(case: Case) -> None:
    """To the rows that are meant; and a guess is told."""
    manifest = read_manifest(case.content, check=check, charset=case.charset)
    assert [(row.id, row.final.first.input) for row in manifest.rows] == list(case.rows)
    assert bool(manifest.warnings) == bool(case.says), manifest.warnings
    assert case.says is None or case.says in "\n".join(manifest.warnings)


@pytest.mark.parametrize("case", REFUSED, ids=named)
def test_what_can_be_meant_in_two_ways_is_refused_with_its_line(case: Case) -> None:
    """And says what was seen, and what to write."""
    with pytest.raises(ManifestError) as caught:
        read_manifest(case.content, check=check, charset=case.charset)
    problems = caught.value.problems
    assert [(each.row, each.line, each.column) for each in problems] == list(case.problems)
    assert all(each.remedy for each in problems)
    assert case.says is None or case.says in f"{problems[0].problem}. {problems[0].remedy}"


@pytest.mark.parametrize(
    "content",
    [
        "id,prompt\na,b\n" + "-" * 2000 + "x",
        '"id,prompt"\n"a,b"' + "\t" * 80_000 + "x",
        "id,prompt" + " " * 60_000 + "x\na,b",
    ],
    ids=["a rule", "a line in quotes", "a name"],
)
def test_a_long_line_costs_what_it_has_signs(content: str) -> None:
    """Not the square of it, or its cube: nobody else is served meanwhile."""
    began = time.process_time()
    with suppress(ManifestError):
        read_manifest(content.encode(), check=check)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("before", ['{"prompt": "a"', '{"prompt": "a", '])
def test_a_comma_too_many_is_named_wherever_the_parser_points(before: str) -> None:
    """At the comma as of Python 3.13, at the bracket before."""
    assert "closing bracket" in _hint('{"prompt": "a", }', len(before))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_encoding_goes_with_every_delimiter(end: str, encoding: str, delimiter: str) -> None:
    """And with every end of line."""
    text = f'"id",prompt,seed{end}a,"ein ""schöner"" Fuchs",7{end}{end}'.replace(",", delimiter)
    (row,) = read_manifest(text.encode(encoding), check=check).rows
    assert (row.id, row.final.first.input) == ("a", {"prompt": 'ein "schöner" Fuchs', "seed": 7})


DEEP: dict[str, Any] = {"a": json.loads("[" * 200 + "]" * 200)}


@pytest.mark.parametrize(
    ("source", "how", "field"),
    [
        ([{"prompt": "a fox"}], {"defaults": DEEP}, "defaults"),
        ([{"prompt": "a fox"}], {"passes": Passes(draft=Pass(arguments=DEEP))}, "draft.arguments"),
        ([{"prompt": "a fox", "arguments": DEEP}], {}, "manifest"),
        ('{"prompt": "a fox", "arguments": ' + "[" * 100_000 + "]" * 100_000 + "}\n", {}, "manifest"),
        ("prompt,loras\na fox," + "[" * 200 + "]" * 200 + "\n", {}, "manifest"),
    ],
)
def test_what_is_nested_deep_is_refused(source: Any, how: dict[str, Any], field: str) -> None:
    """Wherever it lies, before anything looks into it level by level."""
    with pytest.raises(BadInput) as caught:
        read_manifest(source, check=check, **how)
    assert caught.value.field == field


def test_one_problem_is_told_with_its_remedy() -> None:
    """Where only the message is shown, as in Prefect's form."""
    with pytest.raises(ManifestError) as caught:
        read_manifest("id,prompt\na,a fox, red\n", check=check)
    assert "(line 2). It reads" in caught.value.message and "fox" not in caught.value.message


def test_what_is_guessed_of_many_rows_is_told_once() -> None:
    """With the first of them, and how many there are."""
    rows = "".join(f"a fox,{n}.2E+11\n" for n in range(1, 9))
    (said,) = read_manifest(f"prompt,seed\n{rows}", check=check).warnings
    assert said.startswith("seed of rows 1, 2, 3, 4, 5 and 3 more: ")
