"""Models that are known by their cards: what they accept, what they cost, what comes back."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from darkroom.errors import BadInput
from darkroom.media.formats import Kind
from darkroom.models import (
    Card,
    CardModel,
    NoPrice,
    WrongInput,
    check_input,
    file_places,
    packaged_cards,
    rest_of,
    self_contained,
)
from darkroom.models.outputs import files_of
from darkroom.models.prices import is_a_count, units_of

HOSTS = re.compile(rb"(?:[a-z0-9-]+\.)*files\.example")
URL = "https://v3.files.example/b/fox.png"
ASSET = "asset:ast_019aa1f0d8b4"

# As OpenAPI 3.0 has it, and as it is found: both ways to say "above", a reference to itself, one out of the document.
COMPONENTS = {
    "Size": {"type": "object", "properties": {"width": {"type": "integer", "exclusiveMinimum": 0, "maximum": 100}}},
    "Shot": {
        "type": "object",
        "required": ["image_url"],
        "properties": {
            "image_url": {"type": "string"},
            "still": {"type": "string", "ui": {"field": "image"}},
            "weight": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
            "next": {"$ref": "#/components/schemas/Shot"},
        },
    },
}
INPUT = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 20},
        "size": {"anyOf": [{"$ref": "#/components/schemas/Size"}, {"type": "string", "enum": ["small", "large"]}]},
        "seed": {"type": "integer", "nullable": True},
        "quality": {"type": "string", "enum": ["low", "high"], "default": "low"},
        "shots": {"type": "array", "maxItems": 2, "items": {"$ref": "#/components/schemas/Shot"}},
        "extra": {"type": "object", "additionalProperties": True},
        "elsewhere": {"$ref": "https://example.com/schema.json"},
        "odd": {"type": "string", "pattern": "(unbalanced"},
        "sync_mode": {"type": "boolean"},
    },
}
SCHEMA = self_contained(INPUT, COMPONENTS)
assert SCHEMA is not None


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"size": "small", "seed": None, "quality": "high"},
        {"size": {"width": 1}, "seed": 7},
        {"shots": [{"image_url": ASSET, "weight": 0.1, "next": {"image_url": "https://example.com/x.png"}}]},
        {"extra": {"anything": [1, {"goes": True}]}, "elsewhere": 5, "odd": "x"},
        {"sync_mode": False},
    ],
)
def test_what_a_schema_says_is_accepted(given: dict[str, Any]) -> None:
    """Nullable, alternatives, references within the document; what cannot be read of a schema checks nothing."""
    check_input("a/model", SCHEMA, {"prompt": "a fox", **given})


@pytest.mark.parametrize(
    ("given", "field", "remedy"),
    [
        ({"prompt": None}, "prompt", "use a text"),
        ({"prompt": ""}, "prompt", "at least 1"),
        ({"prompt": "  "}, "prompt", "describe"),
        ({"prompt": "x" * 21}, "prompt", "at most 20"),
        ({"prompt": "nul \x00"}, "prompt", "remove"),
        ({"promt": "x"}, "promt", "did you mean prompt"),
        ({"zzz": 1}, "zzz", "it accepts prompt, size"),
        ({"size": "huge"}, "size", "small, large"),
        ({"size": 5}, "size", "an object with width .*small, large"),
        ({"size": {"width": 0}}, "size.width", "above 0 to 100"),
        ({"size": {"widht": 1}}, "size.widht", "did you mean width"),
        ({"seed": True}, "seed", "whole number"),
        ({"seed": "7"}, "seed", "whole number or null"),
        ({"quality": "best"}, "quality", "use low, high"),
        ({"quality": 5}, "quality", "low, high"),
        ({"shots": [{"image_url": ASSET}] * 3}, "shots", "at most 2"),
        ({"shots": [{}]}, "shots.0.image_url", "add it"),
        ({"shots": [{"image_url": "fox.png"}]}, "shots.0.image_url", "asset:"),
        ({"shots": [{"image_url": "http://example.com/x"}]}, "shots.0.image_url", "https://"),
        ({"shots": [{"image_url": "data:image/png;base64,AA"}]}, "shots.0.image_url", "POST /v1/uploads"),
        ({"shots": [{"image_url": ASSET, "weight": 0}]}, "shots.0.weight", "above 0"),
        ({"shots": [{"image_url": ASSET, "next": {"image_url": 5}}]}, "shots.0.next.image_url", "use a text"),
        ({"sync_mode": True}, "sync_mode", "never inline"),
        ({"extra": {"number": float("inf")}}, "extra.number", "give a number"),
    ],
)
def test_what_a_schema_does_not_take_is_refused_by_path(given: dict[str, Any], field: str, remedy: str) -> None:
    """The path, and what is allowed there."""
    with pytest.raises(WrongInput) as caught:
        check_input("a/model", SCHEMA, {"prompt": "a fox", **given})
    assert [problem.field for problem in caught.value.problems] == [field]
    assert re.search(remedy, caught.value.problems[0].remedy)
    assert caught.value.field == field


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Each by its path; what was given is not repeated, as it may be a prompt."""
    with pytest.raises(WrongInput) as caught:
        check_input("a/model", SCHEMA, {"promt": "secret", "size": "secret", "shots": [{"weight": -1}]})
    found = [problem.field for problem in caught.value.problems]
    assert sorted(found) == ["prompt", "promt", "shots.0.image_url", "shots.0.weight", "size"]
    assert "secret" not in "".join(map(str, caught.value.problems)) + caught.value.message
    assert caught.value.within("input").problems[0].field.startswith("input.")


def test_a_schema_that_is_its_own_alternative_comes_to_an_end() -> None:
    """Twice over at each turn, and it is looked at once."""
    a = {"$ref": "#/components/schemas/A"}
    schema = self_contained(
        {"type": "object", "properties": {"a": a}}, {"A": {"properties": {"b": a}, "anyOf": [a, a]}}
    )
    assert schema is not None
    assert list(file_places(schema, {"a": {"b": {"url": ASSET}}})) == [(("a", "b", "url"), ASSET)]
    check_input("a/model", schema, {"a": {"b": {}}})


def test_a_schema_that_is_none_is_left_out() -> None:
    """There is none where nothing of it can be understood, or where what stands there says that it was not made."""
    assert self_contained({"type": 5}, {}) is None
    assert self_contained(None, {}) is None


BROKEN: dict[str, Any] = {
    "type": ["string", "string"],
    "properties": [],
    "required": "prompt",
    "items": [{"type": "string"}],
    "enum": "small",
    "anyOf": [],
    "allOf": {"type": "string"},
    "minimum": "1",
    "exclusiveMaximum": None,
    "multipleOf": 0,
    "minLength": -1,
    "maxItems": 1.5,
    "pattern": "(unbalanced",
    "format": 7,
    "uniqueItems": "yes",
    "additionalProperties": "no",
    "description": ["x"],
    "examples": "a fox",
}


@pytest.mark.parametrize("keyword", sorted(BROKEN))
def test_a_keyword_that_no_validator_understands_is_left_out(keyword: str) -> None:
    """What else the schema says is still checked: it is valid without being held against JSON Schema's own."""
    broken = {"title": "Broken", "type": "object", keyword: BROKEN[keyword]}
    schema = self_contained({"type": "object", "properties": {"a": broken}, "required": ["a"]}, {})
    assert schema is not None
    Draft202012Validator.check_schema(schema)
    kept = {name: value for name, value in broken.items() if name != keyword}
    assert schema == {"type": "object", "properties": {"a": kept}, "required": ["a"]}


def test_files_are_where_the_schema_says() -> None:
    """By name, by format and by the form's hint, in lists and objects; a prompt is a prompt whatever it says."""
    given = {"prompt": ASSET, "shots": [{"image_url": ASSET, "still": ASSET, "next": {"image_url": ASSET}}]}
    assert {path for path, _ in file_places(SCHEMA, given)} == {
        ("shots", 0, "image_url"),
        ("shots", 0, "still"),
        ("shots", 0, "next", "image_url"),
    }


@pytest.mark.parametrize("endpoint", sorted(packaged_cards()))
def test_a_packaged_card_is_whole(endpoint: str) -> None:
    """Its schemas stand on their own, its files are found, and a price is there where its unit is."""
    card = packaged_cards()[endpoint]
    assert card.title
    assert card.category
    assert card.input_schema
    assert card.output_schema
    assert (card.unit is not None) >= (card.unit_price is not None)
    with pytest.raises(WrongInput):
        check_input(endpoint, card.input_schema, {"no_such_field": 1})


def test_there_are_cards_of_every_category() -> None:
    """For a first start where nothing can be reached."""
    categories = {card.category for card in packaged_cards().values()}
    wanted = {"text-to-image", "image-to-image", "text-to-video", "image-to-video", "video-to-video", "text-to-speech"}
    assert categories >= wanted | {"text-to-audio", "speech-to-text", "image-to-3d", "training", "vision"}
    assert len(packaged_cards()) >= 30


@pytest.mark.parametrize(
    ("unit", "given", "units"),
    [
        ("images", {"num_images": 3}, "3"),
        ("image", {}, "1"),
        ("megapixels", {"image_size": {"width": 1024, "height": 1025}, "num_images": 2}, "4"),
        ("megapixels", {"image_size": "square"}, "1"),
        ("seconds", {"duration": "8s"}, "8"),
        ("seconds", {"duration": 5}, "5"),
        ("minutes", {"duration": "30"}, "0.5"),
        ("1000 characters ", {"text": "x" * 1500}, "1.5"),
        ("trainings", {}, "1"),
        ("steps", {"steps": 1000}, "1000"),
        ("seconds", {}, None),
        ("units", {}, None),
        ("1m tokens", {"prompt": "x"}, None),
        ("something new", {}, None),
    ],
)
def test_units_are_read_from_the_input(unit: str, given: dict[str, Any], units: str | None) -> None:
    """As far as the unit's word tells; it is an open vocabulary."""
    assert units_of(unit, given) == (None if units is None else Decimal(units))


@pytest.mark.parametrize(
    ("unit", "given", "units"),
    [
        ("megapixels", {"scale": 0.0001}, "1"),
        ("megapixels", {"image_size": {"width": 512, "height": 4096}, "upscale_factor": 0.0001}, "1"),
        ("seconds", {"duration": 1e-9}, "1"),
        ("seconds", {"duration": 0}, None),
        ("steps", {"steps": 0}, None),
        ("images", {"num_images": 0}, "1"),
    ],
)
def test_no_number_makes_a_call_free(unit: str, given: dict[str, Any], units: str | None) -> None:
    """It would pass any budget, whatever the provider makes of it. None: as where it was left out."""
    assert units_of(unit, given) == (None if units is None else Decimal(units))


@pytest.mark.parametrize(
    ("unit", "given", "field"),
    [
        ("seconds", {"duration": 1e30}, "duration"),
        ("seconds", {"duration": "1e999999"}, "duration"),
        ("seconds", {"duration": "40000000s", "num_images": 4}, "duration"),
        ("images", {"num_images": 10**30}, "num_images"),
        ("images", {"num_images": 25_000_000}, "num_images"),
        ("megapixels", {"scale": "1e9999999"}, "scale"),
        ("megapixels", {"upscale_factor": 1e6}, "upscale_factor"),
        ("megapixels", {"image_size": {"width": 10**30, "height": 1}}, "image_size"),
        ("megapixels", {"width": 10**9, "height": 10**8}, "width"),
        ("steps", {"steps": 10**9}, "steps"),
    ],
)
def test_what_no_call_can_cost_is_refused_by_field(unit: str, given: dict[str, Any], field: str) -> None:
    """The ledger could not keep the amount, and some could not be reckoned with."""
    with pytest.raises(BadInput) as caught:
        model(unit=unit).estimate(given)
    assert caught.value.field == field
    assert f"{field}: " in caught.value.message


def test_the_dearest_call_can_be_kept() -> None:
    assert model(unit_price=Decimal("0.999999")).estimate({"num_images": 1_000_000}) == Decimal("999999")
    with pytest.raises(BadInput):
        model(unit_price=Decimal("0.999999999999")).estimate({"num_images": 1_000_000})


def model(**facts: Any) -> CardModel:
    given = {"unit": "images", "unit_price": Decimal("0.04"), "input_schema": SCHEMA, **facts}
    own_calls, platform = given.pop("own_calls_usd", None), given.pop("platform_usd", None)
    operators = given.pop("operators_usd", None)
    card = Card(endpoint="a/model", account_id="fal", **given)
    return CardModel(
        card=card,
        hosts=HOSTS,
        operators_usd=operators,
        own_calls_usd=lambda: own_calls,
        platform_usd=lambda: platform,
    )


@pytest.mark.parametrize(
    ("facts", "usd", "source"),
    [
        ({}, "0.08", "list_price"),
        ({"operators_usd": Decimal("0.5")}, "0.5", "operator"),
        ({"unit": "units", "own_calls_usd": Decimal("0.3"), "platform_usd": Decimal("0.2")}, "0.3", "own_calls"),
        ({"unit": "units", "platform_usd": Decimal("0.2")}, "0.2", "platform"),
        ({"unit": "units"}, "0.04", "guess"),
        ({"unit": "compute seconds", "usual_seconds": 5.0}, "0.2", "guess"),
    ],
)
def test_an_estimate_says_how_it_is_known(facts: dict[str, Any], usd: str, source: str) -> None:
    """The list price, an operator's, what our own calls came to, or a guess."""
    found = model(**facts).quote({"num_images": 2})
    assert (found.usd, found.source) == (Decimal(usd), source)


def test_a_model_without_a_price_needs_a_bound() -> None:
    """The order's own, or an operator's price."""
    free = model(unit=None, unit_price=None)
    with pytest.raises(NoPrice, match="max_usd"):
        free.quote({})
    assert free.quote({}, at_most_usd=Decimal(2)).usd == 2
    assert model(unit=None, unit_price=None, operators_usd=Decimal(1)).estimate({}) == 1


@pytest.mark.parametrize(
    ("facts", "units", "usd"),
    [
        ({"unit": "units", "unit_price": Decimal(1)}, "0.219", "0.219"),
        ({"unit": "seconds"}, "3.008", "0.12032"),
        ({}, None, "0.04"),
        ({"unit": "units"}, None, None),
        ({"unit_price": None}, "1", None),
    ],
)
def test_a_cost_is_the_providers_count_times_the_cards_price(
    facts: dict[str, Any], units: str | None, usd: str | None
) -> None:
    """Else what the input alone tells; None where only the provider knows."""
    cost = model(**facts).cost({}, {}, None if units is None else Decimal(units))
    assert cost == (None if usd is None else Decimal(usd))


def test_only_counts_are_known_without_the_provider() -> None:
    """Seconds and units may be billed otherwise than they were asked for: these are asked for once more."""
    assert is_a_count("images", category="image-to-video")
    assert is_a_count("megapixels", category="text-to-image")
    assert not is_a_count("megapixels", category="image-to-image")
    assert not is_a_count("seconds", category="text-to-video")


OUTPUT = {
    "images": [{"url": URL, "width": 640, "height": 480, "content_type": "image/png"}, {"url": URL}],
    "mesh": {"parts": {"glb": {"url": "https://files.example/x.glb", "file_name": "x.glb"}}},
    "preview": "data:image/png;base64,AAAA",
    "sources": [{"url": "https://news.example/story", "title": "a link"}],
    "text": "a fox",
    "seed": 7,
}


def test_every_object_with_an_address_at_the_provider_is_a_file() -> None:
    """Wherever it stands, and what is inline too; an address elsewhere is a link."""
    files = files_of("a/model", OUTPUT, hosts=HOSTS)
    assert [file.url for file in files] == [URL, URL, "https://files.example/x.glb", "data:image/png;base64,AAAA"]
    assert {file.kind for file in files} == {Kind.FILE}
    assert (files[0].width, files[0].content_type) == (640, "image/png")


def test_a_file_that_is_named_by_its_address_alone_is_one_too() -> None:
    """As users' workflows answer: after all others, each once; not one that stands in a text, or elsewhere."""
    output = {
        "image": f"{URL}?alone",
        "frames": [f"{URL}?alone", URL],
        "video": {"url": URL, "thumbnail_url": f"{URL}?small"},
        "text": f"It is at {URL}?text",
        "page": "https://news.example/story",
    }
    files = files_of("workflows/ann/foxes", output, hosts=HOSTS)
    assert [file.url for file in files] == [URL, f"{URL}?alone", f"{URL}?small"]
    rest = rest_of(output, {file.url: f"ast_{n}" for n, file in enumerate(files)})
    assert rest["image"] == {"asset_id": "ast_1"}
    assert rest["frames"] == [{"asset_id": "ast_1"}, {"asset_id": "ast_0"}]
    assert rest["video"] == {"asset_id": "ast_0", "thumbnail_url": {"asset_id": "ast_2"}}
    assert (rest["text"], rest["page"]) == (output["text"], output["page"])


def test_the_rest_of_an_output_names_the_files() -> None:
    """In their places, by the assets that they became."""
    files = files_of("a/model", OUTPUT, hosts=HOSTS)
    rest = rest_of(OUTPUT, {file.url: f"ast_{n}" for n, file in enumerate(files)})
    assert rest["images"][1] == {"asset_id": "ast_1"}
    assert rest["mesh"]["parts"]["glb"] == {"asset_id": "ast_2", "file_name": "x.glb"}
    assert rest["preview"] == {"asset_id": "ast_3"}
    assert rest["sources"] == OUTPUT["sources"]
    assert (rest["text"], rest["seed"]) == ("a fox", 7)


def test_a_file_that_lay_inline_keeps_its_number() -> None:
    """Once it is in the store its place has a reference: those after it are still the same."""
    output = {**OUTPUT, "preview": ASSET, "last": {"url": URL}}
    assert [file.url for file in files_of("a/model", output, hosts=HOSTS)][3:] == [ASSET, URL]
