"""What may be asked of each model, what it will cost, and how its output is read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from darkroom.errors import BadInput, Permanent
from darkroom.media.formats import Kind, RemoteFile
from darkroom.models import CardModel, packaged_cards
from darkroom.providers.fal.account import FILE_HOSTS
from darkroom.providers.fal.refinements import REFINEMENTS
from darkroom.providers.models import find_model

DEV, SCHNELL, LORA, GPT = "fal-ai/flux/dev", "fal-ai/flux/schnell", "fal-ai/flux-lora", "openai/gpt-image-2"
CLARITY, ESRGAN, BIREFNET = "fal-ai/clarity-upscaler", "fal-ai/esrgan", "fal-ai/birefnet/v2"
TRAINING, KLING = "fal-ai/flux-lora-fast-training", "fal-ai/kling-video/v2.5-turbo/pro/image-to-video"
EVERY_MODEL = pytest.mark.parametrize("endpoint", [DEV, SCHNELL, LORA, GPT])
URL = "https://v3b.fal.media/files/b/0a1b2c3d/fox.jpg"
ASSET = "asset:ast_019aa1f0d8b4"


def image(**fields: Any) -> dict[str, Any]:
    return {"url": URL, **fields}


def packaged_schema(endpoint: str) -> dict[str, Any]:
    schema = packaged_cards()[endpoint].input_schema
    assert schema is not None
    return dict(schema["properties"])


def test_what_the_pipelines_need_is_refined() -> None:
    """Each by a function of its own, of a model that has a packaged card."""
    assert set(REFINEMENTS) == {DEV, SCHNELL, LORA, GPT, CLARITY, ESRGAN, BIREFNET, TRAINING, KLING}
    assert set(REFINEMENTS) <= set(packaged_cards())


def test_a_refinement_adds_to_what_the_card_says() -> None:
    """Its bounds are narrower, its prices and times are the card's, and a field that the card lacks stays unknown."""
    card, model = packaged_cards()[DEV], find_model(DEV)
    assert isinstance(model, CardModel)
    fields = model.input_schema["properties"]
    assert fields["prompt"] == {**packaged_schema(DEV)["prompt"], "maxLength": 4000}
    assert fields["acceleration"] == packaged_schema(DEV)["acceleration"]
    assert "loras" not in fields
    assert (model.card.unit_price, model.expected.total_seconds()) == (card.unit_price, card.usual_seconds)


def test_an_unknown_model_is_answered_with_the_known_ones() -> None:
    """The error names the field and what to choose from."""
    with pytest.raises(BadInput, match="openai/gpt-image-2") as caught:
        find_model("fal-ai/unheard-of")
    assert caught.value.field == "model"


@EVERY_MODEL
def test_a_prompt_alone_is_enough(endpoint: str) -> None:
    """Only what was given is sent, so fal's defaults stay fal's."""
    assert find_model(endpoint).validate({"prompt": "a fox"}) == {"prompt": "a fox"}


@pytest.mark.parametrize(
    ("endpoint", "arguments"),
    [
        (DEV, {"image_size": "square_hd", "seed": 0, "num_images": 4, "acceleration": "high"}),
        (DEV, {"image_size": {"width": 64, "height": 2048}, "guidance_scale": 5, "enable_safety_checker": False}),
        (SCHNELL, {"num_inference_steps": 12, "output_format": "png"}),
        (LORA, {"loras": [{"path": "https://v3.fal.media/files/b/x/fox.safetensors", "scale": 0.8}]}),
        (GPT, {"image_size": "auto", "quality": "low", "output_format": "webp"}),
        (GPT, {"image_size": {"width": 3840, "height": 2160}}),
    ],
)
def test_what_fal_documents_is_accepted(endpoint: str, arguments: dict[str, Any]) -> None:
    """The edges of the ranges are inside, and nothing is added or changed."""
    assert find_model(endpoint).validate({"prompt": "a fox", **arguments}) == {"prompt": "a fox", **arguments}


@pytest.mark.parametrize(
    ("endpoint", "arguments", "field"),
    [
        (DEV, {"prompt": ""}, "prompt"),
        (DEV, {"prompt": " \n\t"}, "prompt"),
        (DEV, {"prompt": "x" * 4001}, "prompt"),
        (DEV, {"prompt": "nul \x00"}, "prompt"),
        (DEV, {"prompt": "half a pair \ud800"}, "prompt"),
        (DEV, {"prompt": None}, "prompt"),
        (DEV, {"num_images": 5}, "num_images"),
        (DEV, {"num_images": 0}, "num_images"),
        (DEV, {"num_images": "2"}, "num_images"),
        (DEV, {"num_images": True}, "num_images"),
        (DEV, {"seed": -1}, "seed"),
        (DEV, {"seed": 2**60}, "seed"),
        (DEV, {"guidance_scale": float("nan")}, "guidance_scale"),
        (DEV, {"image_size": "enormous"}, "image_size"),
        (DEV, {"image_size": 7}, "image_size"),
        (DEV, {"image_size": {"width": 63, "height": 64}}, "image_size.width"),
        (DEV, {"image_size": {"width": 64}}, "image_size.height"),
        (DEV, {"image_size": {"width": 64, "height": 64, "depth": 1}}, "image_size.depth"),
        (DEV, {"sync_mode": True}, "sync_mode"),
        (DEV, {"webhookUrl": "https://example.com"}, "webhookUrl"),
        (SCHNELL, {"num_inference_steps": 28}, "num_inference_steps"),
        (LORA, {"acceleration": "high"}, "acceleration"),
        (LORA, {"loras": [{"path": "x", "scale": 9.0}]}, "loras.0.scale"),
        (GPT, {"seed": 1}, "seed"),
        (GPT, {"quality": "best"}, "quality"),
        (GPT, {"image_size": {"width": 1000, "height": 1024}}, "image_size.width"),
        (GPT, {"image_size": {"width": 3840, "height": 1024}}, "image_size"),
        (GPT, {"image_size": {"width": 512, "height": 512}}, "image_size"),
    ],
)
def test_what_a_model_does_not_take_is_refused_by_field(endpoint: str, arguments: dict[str, Any], field: str) -> None:
    """The field is named as the caller wrote it, the message begins with it or says what to do."""
    with pytest.raises(BadInput) as caught:
        find_model(endpoint).validate({"prompt": "a fox", **arguments})
    assert caught.value.field == field
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("endpoint", "arguments"),
    [
        (CLARITY, {"image_url": ASSET, "upscale_factor": 4, "creativity": 0.2, "seed": 7, "prompt": "fur"}),
        (CLARITY, {"image_url": URL}),
        (CLARITY, {"image_url": f"{ASSET}-0"}),
        (ESRGAN, {"image_url": ASSET, "scale": 1.5, "model": "RealESRGAN_x4plus_anime_6B", "output_format": "jpeg"}),
        (BIREFNET, {"image_url": ASSET, "model": "Matting", "operating_resolution": "2048x2048"}),
        (BIREFNET, {"image_url": ASSET, "model": "General Use (Dynamic)", "operating_resolution": "2304x2304"}),
        (TRAINING, {"images_data_url": ASSET, "trigger_word": "MOCHI", "steps": 10_000, "is_style": True}),
        (KLING, {"image_url": ASSET, "prompt": "it turns its head", "duration": "10"}),
    ],
)
def test_a_model_that_works_on_a_file_takes_it_by_reference(endpoint: str, arguments: dict[str, Any]) -> None:
    """One of our assets, or what is at fal already; the arguments as fal documents them."""
    assert find_model(endpoint).validate(arguments) == arguments


@pytest.mark.parametrize(
    "file",
    [
        "asset:",
        "asset:ast_../x",
        "asset:ast_019a\n",
        "ast_019aa1f0d8b4",
        "data:image/png;base64,AAAA",
        "http://v3.fal.media/x.png",
        "https://v3.fal.media/ x.png",
        7,
    ],
)
def test_what_is_no_files_address_is_refused(file: object) -> None:
    """A `data:` URL would be kept with every record of the call."""
    with pytest.raises(BadInput) as caught:
        find_model(CLARITY).validate({"image_url": file})
    assert caught.value.field == "image_url"


@pytest.mark.parametrize(
    ("endpoint", "arguments", "field"),
    [
        (CLARITY, {"image_url": ASSET, "upscale_factor": 4.1}, "upscale_factor"),
        (ESRGAN, {"image_url": ASSET, "scale": 0}, "scale"),
        (BIREFNET, {"image_url": ASSET, "output_mask": True}, "output_mask"),
        (BIREFNET, {"image_url": ASSET, "operating_resolution": "2304x2304"}, "operating_resolution"),
        (TRAINING, {"images_data_url": ASSET, "steps": 0}, "steps"),
        (KLING, {"image_url": ASSET, "prompt": "it turns", "duration": 5}, "duration"),
        (KLING, {"image_url": ASSET}, "prompt"),
    ],
)
def test_arguments_out_of_range_are_refused_there_too(endpoint: str, arguments: dict[str, Any], field: str) -> None:
    """Nothing is sent that fal would refuse, or ignore, a minute later."""
    with pytest.raises(BadInput) as caught:
        find_model(endpoint).validate(arguments)
    assert caught.value.field == field


@EVERY_MODEL
def test_a_missing_prompt_is_named(endpoint: str) -> None:
    """Not having one is an error of that field too."""
    with pytest.raises(BadInput, match="prompt") as caught:
        find_model(endpoint).validate({})
    assert caught.value.field == "prompt"


@pytest.mark.parametrize(
    ("endpoint", "name", "remedy"),
    [
        (GPT, "seed", "it accepts prompt, "),
        (DEV, "sync_mode", "leave it out"),
        (DEV, "num_image", "did you mean num_images?"),
    ],
)
def test_a_refused_field_comes_with_its_remedy(endpoint: str, name: str, remedy: str) -> None:
    """The message says what to do instead."""
    with pytest.raises(BadInput, match=remedy):
        find_model(endpoint).validate({"prompt": "a fox", name: True})


def test_a_refusal_never_quotes_the_prompt() -> None:
    """Neither the message nor what a logged traceback shows repeats what the user typed."""
    secret = "a fox nobody may read about" * 200
    with pytest.raises(BadInput) as caught:
        find_model(DEV).validate({"prompt": secret})
    assert "nobody" not in caught.value.message
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("endpoint", "arguments", "usd"),
    [
        (DEV, {}, "0.025"),
        (DEV, {"image_size": "square_hd"}, "0.025"),
        (DEV, {"image_size": {"width": 1024, "height": 1025}}, "0.050"),
        (DEV, {"image_size": {"width": 2048, "height": 2048}, "num_images": 4}, "0.400"),
        (SCHNELL, {"num_images": 2}, "0.006"),
        (LORA, {}, "0.035"),
        (GPT, {}, "0.19"),
        (GPT, {"quality": "auto"}, "0.19"),
        (GPT, {"quality": "low", "num_images": 3}, "0.06"),
        (GPT, {"quality": "medium", "image_size": "auto"}, "0.07"),
    ],
)
def test_the_estimate_counts_every_picture(endpoint: str, arguments: dict[str, Any], usd: str) -> None:
    """Begun megapixels times pictures, or the price of the quality times pictures."""
    assert find_model(endpoint).estimate({"prompt": "a fox", **arguments}) == Decimal(usd)


@pytest.mark.parametrize(
    ("endpoint", "arguments", "usd"),
    [
        (CLARITY, {}, "0.12"),
        (CLARITY, {"upscale_factor": 4}, "0.48"),
        (CLARITY, {"upscale_factor": 1.5}, "0.09"),
        (ESRGAN, {"scale": 4}, "0.0111"),
        (BIREFNET, {}, "0.00555"),
        (KLING, {"prompt": "it turns"}, "0.35"),
        (KLING, {"prompt": "it turns", "duration": "10"}, "0.70"),
    ],
)
def test_what_is_done_to_a_picture_is_estimated_too(endpoint: str, arguments: dict[str, Any], usd: str) -> None:
    """The megapixels of the result, seconds of film, or usual seconds of compute."""
    assert find_model(endpoint).estimate({"image_url": ASSET, **arguments}) == Decimal(usd)


def test_a_training_has_one_price() -> None:
    """By the run, estimated and paid."""
    training = find_model(TRAINING)
    assert training.estimate({"images_data_url": ASSET, "steps": 2000}) == Decimal(2)
    assert training.cost({"images_data_url": ASSET}, {}, None) == Decimal(2)


@pytest.mark.parametrize(
    ("endpoint", "arguments", "output", "units", "usd"),
    [
        (CLARITY, {}, {"image": image(width=2048, height=1536)}, None, "0.09"),
        (CLARITY, {}, {"image": image()}, None, "0.12"),
        (CLARITY, {}, {"image": image()}, "16", "0.48"),
        (ESRGAN, {}, {"image": image(width=8192, height=8192)}, None, None),
        (ESRGAN, {}, {"image": image()}, "2.5", "0.002775"),
        (KLING, {"prompt": "it turns"}, {"video": image()}, None, "0.35"),
    ],
)
def test_what_was_done_to_a_picture_is_costed(
    endpoint: str, arguments: dict[str, Any], output: dict[str, Any], units: str | None, usd: str | None
) -> None:
    """By fal's count, else by the size of what came; of compute that nobody counted nobody can say."""
    billed = None if units is None else Decimal(units)
    cost = find_model(endpoint).cost({"image_url": ASSET, **arguments}, output, billed)
    assert cost == (None if usd is None else Decimal(usd))


@pytest.mark.parametrize(
    ("endpoint", "arguments", "images", "units", "usd"),
    [
        (DEV, {"num_images": 4}, [image()], "3", "0.075"),
        (DEV, {}, [image()], "0", "0"),
        (DEV, {"num_images": 2}, [image(width=1024, height=768)], None, "0.025"),
        (DEV, {"image_size": {"width": 2048, "height": 1024}}, [image(), image()], None, "0.100"),
        (GPT, {"quality": "low"}, [image(), image()], None, "0.04"),
        (GPT, {"quality": "low"}, [image()], "0.219", "0.219"),
    ],
)
def test_the_cost_follows_fals_count_or_else_the_pictures(
    endpoint: str, arguments: dict[str, Any], images: list[Any], units: str | None, usd: str
) -> None:
    """Billed units decide where they are known; else the pictures that came, at their size or the size asked for."""
    billed = None if units is None else Decimal(units)
    cost = find_model(endpoint).cost({"prompt": "a fox", **arguments}, {"images": images}, billed)
    assert cost is not None
    assert cost == Decimal(usd)
    assert cost.as_tuple().exponent == -6


def test_the_files_of_an_output_are_listed() -> None:
    """URL, type and size where the provider tells them; nulls and nonsense in the extras are passed over."""
    odd = image(content_type=7, width="wide", height=True)
    full = image(content_type="image/jpeg", width=1024, height=768, file_name="fox.jpg", file_size=None)
    assert find_model(DEV).files({"images": [full, odd]}) == [
        RemoteFile(url=URL, hosts=FILE_HOSTS, content_type="image/jpeg", width=1024, height=768),
        RemoteFile(url=URL, hosts=FILE_HOSTS),
    ]


@pytest.mark.parametrize(
    ("endpoint", "output", "kinds"),
    [
        (CLARITY, {"image": image(), "seed": 7}, [Kind.IMAGE]),
        (BIREFNET, {"image": image(), "mask_image": None}, [Kind.IMAGE]),
        (KLING, {"video": image()}, [Kind.VIDEO]),
        (TRAINING, {"config_file": image(), "diffusers_lora_file": image()}, [Kind.WEIGHTS, Kind.CONFIG]),
    ],
)
def test_files_come_with_their_kind(endpoint: str, output: dict[str, Any], kinds: list[Kind]) -> None:
    """In the refinement's order, whatever the answer's."""
    assert [file.kind for file in find_model(endpoint).files(output)] == kinds


@pytest.mark.parametrize(
    ("endpoint", "output"),
    [
        (CLARITY, {"images": [image()]}),
        (CLARITY, {"image": None}),
        (TRAINING, {"diffusers_lora_file": image()}),
        (KLING, {"video": URL}),
    ],
)
def test_an_answer_that_lacks_a_file_is_a_lasting_failure(endpoint: str, output: dict[str, Any]) -> None:
    """Weights without their config are half a LoRA."""
    with pytest.raises(Permanent) as caught:
        find_model(endpoint).files(output)
    assert caught.value.code == "unexpected_output"


@pytest.mark.parametrize(
    "output",
    [
        {},
        {"images": []},
        {"images": None},
        {"images": [URL]},
        {"images": [{}]},
        {"images": [{"url": None}]},
        {"images": [{"url": "data:image/png;base64,AAAA"}]},
        {"images": [{"url": "http://v3.fal.media/x"}]},
        {"images": [image()] * 65},
    ],
)
def test_an_output_without_pictures_is_a_lasting_failure(output: dict[str, Any]) -> None:
    """What cannot be read as a list of web addresses will not get better by asking again."""
    with pytest.raises(Permanent) as caught:
        find_model(DEV).files(output)
    assert caught.value.code == "unexpected_output"
