"""Manifests as people write them, held against the real models."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from darkroom.batches import (
    MOST_BYTES,
    MOST_ROWS,
    Manifest,
    ManifestError,
    Pass,
    Passes,
    Row,
    draft_of,
    duplicates,
    final_of,
    forecast,
    read_manifest,
)
from darkroom.batches.pictures import DEFAULT_MODEL, NAMED
from darkroom.errors import BadInput
from darkroom.flows.orders.picture import Picture
from darkroom.flows.parts.trained_style import TRIAL
from darkroom.ledger import RequestSpec
from darkroom.models import NoPrice, packaged_cards

DEV, SCHNELL, LORA, GPT = "fal-ai/flux/dev", "fal-ai/flux/schnell", "fal-ai/flux-lora", "openai/gpt-image-2"


def check(picture: Mapping[str, Any]) -> tuple[RequestSpec, Decimal]:
    """As where a single picture is ordered."""
    try:
        asked = Picture.model_validate(picture)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        field = str(found[0]["loc"][0])
        innermost = max((each for each in found if each["loc"][0] == field), key=lambda each: len(each["loc"]))
        raise BadInput(f"{field}: {innermost['msg']}", field=field) from None
    spec = asked.spec(TRIAL if asked.lora else None)
    return spec, asked.estimate(spec)


def read(source: Any, **how: Any) -> Manifest:
    return read_manifest(source, check=check, **how)


def refused(source: Any, **how: Any) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        read(source, **how)
    return caught.value


def places(error: ManifestError) -> list[tuple[int | None, str | None]]:
    return [(problem.row, problem.column) for problem in error.problems]


def only(source: Any, **how: Any) -> Row:
    (row,) = read(source, **how).rows
    return row


CSV = 'id,prompt,image_size,seed,guidance_scale\na,"a fox, in the snow",1024x768,7,5\nb,a hare,square_hd,,\n'
LINES = (
    '{"id": "a", "prompt": "a fox, in the snow", "image_size": {"width": 1024, "height": 768}, "seed": 7,'
    ' "guidance_scale": 5}\n\n{"id": "b", "prompt": "a hare", "image_size": "square_hd", "seed": null}\n'
)
OBJECTS = [
    {
        "id": "a",
        "prompt": "a fox, in the snow",
        "image_size": "1024 × 768",
        "seed": 7,
        "arguments": {"guidance_scale": 5},
    },
    {"id": "b", "prompt": "a hare", "image_size": "square_hd"},
]


@pytest.mark.parametrize(
    "source",
    [
        CSV,
        CSV.encode(),
        b"\xef\xbb\xbf" + CSV.encode(),
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n"),
        CSV.replace("\n", "\r"),
        CSV.replace("guidance_scale", "arguments.guidance_scale"),
        CSV.replace("id,prompt", " ID , Prompt "),
        "\n\n" + CSV + ",,,,\n\n",
        'id;prompt;image_size;seed;guidance_scale\na;"a fox, in the snow";1024x768;7;5,0\nb;a hare;square_hd;;\n',
        CSV.replace(", in", "+ in").replace(",", "\t").replace("+", ",").replace("\n", "\t\n"),
        LINES,
        LINES.encode(),
        json.dumps(OBJECTS),
        OBJECTS,
    ],
)
def test_the_same_rows_can_be_written_in_many_ways(source: Any) -> None:
    """CSV of an editor or a spreadsheet, JSON lines, a JSON array, objects: names, types and blanks are the same."""
    first, second = read(source).rows
    assert (first.n, first.number, first.id) == (0, 1, "a")
    assert first.final.first.input == {
        "prompt": "a fox, in the snow",
        "image_size": {"width": 1024, "height": 768},
        "seed": 7,
        "guidance_scale": 5.0,
    }
    assert (second.n, second.id, second.final.first.input) == (1, "b", {"prompt": "a hare", "image_size": "square_hd"})
    assert first.final.first.endpoint == second.final.first.endpoint == DEV


def test_a_prompt_may_have_quotes_and_line_breaks() -> None:
    """It arrives as it was written, and the next row is still found on its line."""
    first, second = read('prompt,seed\n"a poster that says ""OPEN""\nin red; and blue",1\na hare,2\n').rows
    assert first.final.first.input["prompt"] == 'a poster that says "OPEN"\nin red; and blue'
    assert (first.line, second.line) == (2, 4)


def test_a_list_of_prompts_alone_needs_no_quotes() -> None:
    """Where there is one column, nothing delimits."""
    assert [row.final.first.input["prompt"] for row in read("prompt\na fox, in the snow; at night\na hare\n").rows] == [
        "a fox, in the snow; at night",
        "a hare",
    ]


def test_a_cell_is_read_as_the_model_wants_it() -> None:
    """Numbers, truth values and lists; a text of digits stays text where text is wanted."""
    header = "prompt,model,num_images,num_inference_steps,guidance_scale,enable_safety_checker,output_format,loras\n"
    loras = '"[{""path"": ""https://v3.fal.media/files/b/x/fox.safetensors"", ""scale"": 0.5}]"'
    row = only(f"{header}1984, {LORA} ,2,30,2.5,FALSE,png,{loras}\n")
    assert row.final.first.input == {
        "prompt": "1984",
        "num_images": 2,
        "num_inference_steps": 30,
        "guidance_scale": 2.5,
        "enable_safety_checker": False,
        "output_format": "png",
        "loras": [{"path": "https://v3.fal.media/files/b/x/fox.safetensors", "scale": 0.5}],
    }


def test_what_a_row_leaves_out_comes_from_the_batch() -> None:
    """The row's own word counts, argument by argument."""
    defaults = {
        "model": DEV,
        "image_size": "768x1024",
        "seed": 1,
        "arguments": {"output_format": "png"},
        "acceleration": "high",
    }
    first, second = read("prompt,seed,acceleration\na fox,2,none\na hare,,\n", defaults=defaults).rows
    common = {"image_size": {"width": 768, "height": 1024}, "output_format": "png"}
    assert first.final.first.input == {"prompt": "a fox", "seed": 2, "acceleration": "none", **common}
    assert second.final.first.input == {"prompt": "a hare", "seed": 1, "acceleration": "high", **common}


def test_one_prompt_can_serve_for_all_rows() -> None:
    """Rows of seeds need no prompt of their own."""
    rows = read("seed\n1\n2\n", defaults={"prompt": "a fox"}).rows
    assert [row.final.first.input for row in rows] == [{"prompt": "a fox", "seed": 1}, {"prompt": "a fox", "seed": 2}]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """By row, line and column, several in one row too, each with its remedy; the message begins to list them."""
    error = refused(
        "id,prompt,model,image_size,seed,num_images,guidance_scale\n"
        "a,a fox,,100x5000,seven,9,99\n"
        "b,,,,,,\n"
        "a,a hare,fal-ai/none,,,,\n"
        f"c,a hare,{GPT},,5,,3\n"
        "d,a hare,,,,,,8\n"
        "e,a hare,,,,,\n"
    )
    assert places(error) == [
        (1, "image_size"),
        (1, "seed"),
        (1, "num_images"),
        (1, "guidance_scale"),
        (2, "prompt"),
        (3, "id"),
        (3, "model"),
        (4, "seed"),
        (4, "guidance_scale"),
        (5, None),
    ]
    for problem in error.problems:
        assert problem.row is not None and problem.line == problem.row + 1 and problem.problem and problem.remedy
    assert error.message.startswith("the manifest has 10 problems: row 1, image_size: Input should be ")
    assert error.message.endswith("; and 7 more")
    document = error.document()
    assert (document["code"], len(document["problems"]), document["more_problems"]) == ("bad_manifest", 10, 0)
    assert (error.field, str(ManifestError("as it comes back from Prefect"))) == (
        "manifest",
        "as it comes back from Prefect",
    )


def test_a_hundred_problems_are_listed_and_the_others_counted() -> None:
    """Nobody reads more."""
    error = refused([{"prompt": ""} for _ in range(150)] + [{"prompt": "a fox"}])
    assert places(error) == [(row, "prompt") for row in range(1, 101)]
    assert error.more == 50
    assert error.message.startswith("the manifest has 150 problems") and error.message.endswith("and 147 more")


def test_what_is_wrong_with_a_whole_column_is_told_once() -> None:
    """A column that the model does not know would else be ten thousand problems, and hide the others."""
    rows = "".join(f"a fox,spring,{'x' if n == 120 else n}\n" for n in range(150))
    error = refused(f"prompt,campaign,seed\n{rows}")
    assert places(error) == [(1, "campaign"), (121, "seed")]
    assert (error.problems[0].rows, error.problems[1].rows, error.more) == (150, 1, 0)


def test_a_mistake_of_the_batch_is_told_as_such() -> None:
    """In its defaults, in what it says of drafts."""
    assert places(refused("prompt\na fox\n", defaults={"seed": "x"})) == [(1, "defaults.seed")]
    drafts = Passes(draft=Pass(model=SCHNELL, arguments={"num_inference_steps": 40}))
    error = refused("prompt\na fox\n", passes=drafts)
    assert places(error) == [(1, "draft.arguments.num_inference_steps")]
    assert error.problems[0].problem.startswith("as a draft of fal-ai/flux/schnell: ")
    assert places(refused("prompt\na fox\n", passes=Passes(final=Pass(model="fal-ai/none")))) == [(1, "final.model")]


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({"defaults": {"seed": 1, "arguments": {"seed": 2}}}, "defaults.arguments.seed"),
        ({"defaults": {"arguments": "png"}}, "defaults.arguments"),
        ({"defaults": {"a fox in the snow": 1}}, "defaults"),
        ({"passes": Passes(draft=Pass(arguments={"a fox in the snow": 1}))}, "draft.arguments"),
    ],
)
def test_what_the_batch_says_for_all_rows_is_checked_first(how: dict[str, Any], field: str) -> None:
    """It names the field of the order."""
    with pytest.raises(BadInput) as caught:
        read("prompt\na fox\n", **how)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("", None, "it is empty"),
        (" \n\r\n", None, "it is empty"),
        (b"\xef\xbb\xbf", None, "it is empty"),
        ("id,prompt\n", None, "it has no rows"),
        ([], None, "it has no rows"),
        ("[]", None, "it has no rows"),
        ("[1", None, "it begins as a JSON array, but is none"),
        ("[" * 100_000, None, "it begins as a JSON array, but is none"),
        ("a fox in the snow,7\na hare,8\n", 1, "the header does not name this column"),
        ("fox\nhare\n", 1, "the header does not name this column"),
        ("\nprompt,a fox in the snow\na hare,1\n", 2, "the name of column 2 cannot be one"),
        ("prompt,seed,Seed\na fox,1,2\n", 1, "the header names this column twice"),
        (
            'prompt,seed\na fox,1\na "hare",2\n"never closed,3\n',
            4,
            "the quotes of the row that begins here do not match",
        ),
        ('prompt,seed\n"a fox" in the snow,1\n', 2, "the quotes of the row that begins here do not match"),
        ("prompt\n" + "a fox\n" * (MOST_ROWS + 1), None, "it has more than 10,000 rows"),
        (b" " * (MOST_BYTES + 1), None, "it has more than 20 MB"),
    ],
)
def test_what_cannot_be_read_at_all_says_why(source: Any, line: int | None, said: str) -> None:
    """One problem of the manifest as a whole, with the line to look at."""
    (problem,) = refused(source).problems
    assert (problem.row, problem.line, problem.problem) == (None, line, said)
    assert problem.remedy


@pytest.mark.parametrize(
    ("source", "row", "line", "column"),
    [
        ('{"prompt": "a fox"}\n{"prompt": "a hare"\n', 2, 2, None),
        ('{"prompt": "a fox"}\n\n["a hare"]\n', 2, 3, None),
        ('{"prompt": "a fox", "guidance_scale": NaN}\n', 1, 1, None),
        (["a fox"], 1, None, None),
        ([{"prompt": "a fox", "a hare in the snow": 1}], 1, None, None),
        ([{"prompt": "a fox", "arguments": {"a hare in the snow": 1}}], 1, None, "arguments"),
        ([{"prompt": "a fox", "arguments": 5}], 1, None, "arguments"),
        ([{"prompt": "a fox", "arguments": {"prompt": "a hare"}}], 1, None, "arguments.prompt"),
        ([{"prompt": 7}], 1, None, "prompt"),
        ([{"prompt": "a fox", "id": ""}], 1, None, "id"),
        ([{"prompt": "a fox", "id": "x" * 201}], 1, None, "id"),
        ([{"prompt": "a fox", "id": "two\nlines"}], 1, None, "id"),
        ([{"prompt": "a fox", "id": "half a pair \ud800"}], 1, None, "id"),
        ([{"prompt": "a fox", "id": True}], 1, None, "id"),
        ([{"prompt": "a fox", "id": "1"}, {"prompt": "a fox", "id": 1}], 2, None, "id"),
        ([{"prompt": "a fox", "quality": "low"}], 1, None, "quality"),
        ([{"prompt": "a fox", "model": GPT, "quality": "lowest"}], 1, None, "quality"),
        ([{"prompt": "a fox", "image_size": {"width": 1024}}], 1, None, "image_size"),
        ([{"prompt": "a fox", "image_size": "1000x1000", "model": GPT}], 1, None, "image_size"),
        ([{"prompt": "a fox", "post": "enlarge"}], 1, None, "post"),
        ([{"prompt": "a fox", "lora": "TOK", "model": GPT}], 1, None, "model"),
    ],
)
def test_a_row_that_is_wrong_is_named(source: Any, row: int, line: int | None, column: str | None) -> None:
    """By its number from 1, the line where there are lines, and the column in the words of whoever wrote it."""
    error = refused(source)
    assert [(problem.row, problem.line, problem.column) for problem in error.problems] == [(row, line, column)]


def test_no_cell_is_ever_repeated() -> None:
    """Whatever is wrong and wherever a prompt has slipped to: an error goes into logs."""
    chance = random.Random(7)
    secret = "night in Zanzibar"
    names = ["id", "prompt", "model", "image_size", "seed", "num_images", "guidance_scale", "arguments", "post", "lora"]
    pieces = [secret, f'"{secret}', f'"{secret}" x', "", "7", ",", ";", "\n", "{", '["', *names]
    tried = 0
    for _ in range(3000):
        source = "".join(chance.choice(pieces) + chance.choice(",,,\n;") for _ in range(chance.randint(1, 20)))
        header = chance.choice(["prompt,seed,model\n", "id,prompt,arguments,post\n", ""])
        try:
            read(header + source)
        except BadInput as error:
            tried += 1
            assert "zanzibar" not in (str(error) + json.dumps(error.document())).lower()
    assert tried > 1000


def test_a_draft_is_the_row_at_low_quality() -> None:
    """And its final at high, with the same prompt and arguments."""
    row = only(
        [{"prompt": "a fox", "model": GPT, "quality": "medium", "output_format": "webp", "image_size": "square_hd"}]
    )
    common = {"prompt": "a fox", "image_size": "square_hd", "output_format": "webp"}
    assert row.draft.first.input == {**common, "quality": "low"}
    assert row.final.first.input == {**common, "quality": "high"}
    assert (row.draft.estimate_usd, row.final.estimate_usd) == (Decimal("0.02"), Decimal("0.19"))
    assert not row.draft_is_final


def test_a_draft_is_made_by_a_cheaper_model() -> None:
    """With that one's own number of steps; what both know is the same."""
    row = only([{"prompt": "a fox", "seed": 7, "num_inference_steps": 40, "guidance_scale": 5, "post": ["upscale"]}])
    assert row.draft.first.endpoint == SCHNELL
    assert row.draft.first.input == {"prompt": "a fox", "seed": 7, "guidance_scale": 5.0}
    assert row.final.first.endpoint == DEV
    assert row.final.first.input == {"prompt": "a fox", "seed": 7, "guidance_scale": 5.0, "num_inference_steps": 40}
    assert "post" not in row.draft.picture and row.final.picture["post"] == ["upscale"]
    assert row.draft.estimate_usd == Decimal("0.003") and row.final.estimate_usd > Decimal("0.025")


@pytest.mark.parametrize(
    "picture", [{"model": SCHNELL}, {"model": LORA}, {"lora": "TOK"}, {"model": SCHNELL, "post": ["upscale"]}]
)
def test_where_nothing_is_cheaper_the_draft_is_the_final(picture: dict[str, Any]) -> None:
    """It need not be paid again, and who chose it gets what they saw."""
    assert only([{"prompt": "a fox", **picture}]).draft_is_final


def test_the_order_can_say_what_drafts_and_finals_are() -> None:
    """A model for them, and arguments over the row's."""
    passes = Passes(
        draft=Pass(model=SCHNELL, arguments={"image_size": "512x512", "num_inference_steps": 2, "num_images": 1}),
        final=Pass(arguments={"quality": "medium"}),
    )
    row = only(
        [{"prompt": "a fox", "model": GPT, "num_images": 4, "image_size": "1024x1024", "quality": "high"}],
        passes=passes,
    )
    small = {"prompt": "a fox", "image_size": {"width": 512, "height": 512}, "num_inference_steps": 2}
    assert (row.draft.first.endpoint, row.draft.first.input) == (SCHNELL, small)
    assert (row.final.first.endpoint, row.final.first.input["quality"]) == (GPT, "medium")


@pytest.mark.parametrize("endpoint", [DEV, SCHNELL, LORA, GPT])
@pytest.mark.parametrize("draft", [None, DEV, SCHNELL, GPT])
def test_a_row_that_is_right_has_a_draft_that_is_right(endpoint: str, draft: str | None) -> None:
    """Whatever the model of either: what the other does not know is left out, and nothing is changed in place."""
    full: dict[str, Any] = {"prompt": "a fox", "model": endpoint, "num_images": 2}
    full["image_size"] = {"width": 1024, "height": 1024}
    if endpoint != GPT:
        full |= {"seed": 7, "arguments": {"num_inference_steps": 12, "guidance_scale": 5, "acceleration": "regular"}}
    before = json.dumps(full)
    order = Passes(draft=Pass(model=draft)) if draft else Passes()
    for picture in (draft_of(full, order), final_of(full, order)):
        spec, _ = check(picture)
        assert spec.input["image_size"] == {"width": 1024, "height": 1024}
    assert json.dumps(full) == before


def test_identical_rows_are_found() -> None:
    """Whatever their ids and however they are written; the first of them stands for all."""
    rows = read(
        [
            {"id": "a", "prompt": "a fox", "image_size": "1024x768", "guidance_scale": 5},
            {"prompt": "a hare"},
            {
                "id": "c",
                "prompt": "a fox",
                "arguments": {"guidance_scale": 5.0},
                "image_size": {"height": 768, "width": 1024},
            },
            {"prompt": "a hare", "seed": 1},
            {"prompt": "a hare", "num_images": 1, "model": DEV},
            {"prompt": "a hare", "model": SCHNELL},
            {"prompt": "a hare", "post": ["watermark"]},
            {"prompt": "a fox", "image_size": "1024x768", "guidance_scale": 5},
        ]
    ).rows
    assert duplicates(rows) == {2: 0, 4: 1, 7: 0}


def test_a_forecast_adds_up_both_passes() -> None:
    """To the fraction of a cent: drafts for all, finals for the share that will be chosen, against finals for all."""
    rows = read(
        [{"prompt": f"fox {n}", "model": GPT} for n in range(900)] + [{"prompt": "a hare", "model": SCHNELL}] * 100
    )
    found = forecast(rows.rows, winners=Decimal("0.02"))
    assert found.rows == 1000
    assert found.draft_usd == Decimal("18.3")  # 900 × 0.02 + 100 × 0.003
    assert found.final_all_usd == Decimal("171.3")  # 900 × 0.19 + 100 × 0.003
    assert found.final_winners_usd == Decimal("3.42")  # schnell's drafts are finals already
    assert found.most_usd == Decimal("189.3")
    assert (found.expected_usd, found.saving_usd) == (Decimal("21.72"), Decimal("149.58"))
    assert found.document()["saving"] == "149.580000"


def test_a_row_is_asked_for_like_a_single_picture() -> None:
    """The same fields, and the same model where none is named; what it may cost at most is said of the whole batch."""
    assert {*NAMED, "arguments", "max_usd"} == set(Picture.model_fields)
    assert Picture.model_fields["model"].default == DEFAULT_MODEL
    assert {DEV, SCHNELL, LORA, GPT} <= set(packaged_cards())
    assert not set(string.whitespace) & set("".join(NAMED))


def test_a_row_whose_model_has_no_price_is_told_what_helps() -> None:
    """An operator's price: what the whole batch may cost bounds no row."""

    def unpriced(_: Mapping[str, Any]) -> tuple[RequestSpec, Decimal]:
        raise NoPrice("it has no price; give `max_usd`, or have an operator set one", field="model")

    with pytest.raises(ManifestError) as caught:
        read_manifest("prompt,model\na fox,fal-ai/new\n", check=unpriced)
    (problem,) = caught.value.problems
    assert (problem.column, problem.problem) == ("model", "fal-ai/new has no price")
    assert problem.remedy == "Have an operator set one: darkroom model price."
