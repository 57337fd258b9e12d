"""Whatever the simulator has a card of answers on the queue by its own schema, with real files of the right kind."""

from __future__ import annotations

import io
import json
import uuid
import wave
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import av
import fal_client
import httpx
import pytest
from fal_client.client import FalClientHTTPError
from jsonschema import Draft202012Validator
from PIL import Image
from simulated_fal import SimulatedFal

from darkroom.deployments.simulator.cards.checking import _as_json_schema
from darkroom.deployments.simulator.endpoints import ENDPOINTS

KEY = {"Authorization": "Key sim:key"}


def a_picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (320, 200), "teal").save(out, "PNG")
    return out.getvalue()


def a_sound(seconds: float = 3.5) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(int(2 * 8000 * seconds)))
    return out.getvalue()


def submitted(fal: fal_client.SyncClient, endpoint: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The output, and the billable units of its header."""
    handle = fal.submit(endpoint, dict(arguments))
    output = handle.get(interval=0.02)
    app = "/".join(endpoint.split("/")[:2])
    result = httpx.get(f"https://queue.fal.run/{app}/requests/{handle.request_id}", headers=KEY)
    return output, result.headers["x-fal-billable-units"]


def content(file: Mapping[str, Any]) -> bytes:
    return httpx.get(file["url"]).raise_for_status().content


def is_picture(body: bytes) -> bool:
    with Image.open(io.BytesIO(body)) as picture:
        picture.load()
        return picture.format in ("PNG", "JPEG", "WEBP")


def plays(seconds: float) -> Callable[[bytes], bool]:
    def is_as_long(body: bytes) -> bool:
        with av.open(io.BytesIO(body)) as played:
            return bool(abs((played.duration or 0) / av.time_base - seconds) < 0.2)

    return is_as_long


def begins_with(beginning: bytes) -> Callable[[bytes], bool]:
    return lambda body: body.startswith(beginning)


def is_weights(body: bytes) -> bool:
    return "__metadata__" in json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])


CASES: list[tuple[str, dict[str, Any], dict[str, Callable[[bytes], bool]], str]] = [
    ("openai/gpt-image-2/edit", {"prompt": "a hat", "image_urls": ["picture"]}, {"images.0": is_picture}, "0.219"),
    ("fal-ai/nano-banana/edit", {"prompt": "a hat", "image_urls": ["picture"]}, {"images.0": is_picture}, "1"),
    ("fal-ai/bria/background/remove", {"image_url": "picture"}, {"image": is_picture}, "1"),
    ("fal-ai/veo3/fast", {"prompt": "waves", "duration": "4s"}, {"video": plays(4)}, "4"),
    ("fal-ai/elevenlabs/tts/eleven-v3", {"text": "ten bytes!"}, {"audio": plays(0.7)}, "0.01"),
    ("fal-ai/stable-audio-25/text-to-audio", {"prompt": "x", "seconds_total": 2}, {"audio": plays(2)}, "1"),
    (
        "fal-ai/whisper",
        {"audio_url": "sound"},
        {"subtitles": begins_with(b"1\n00:00:00,000 --> "), "captions": begins_with(b"WEBVTT")},
        "0.05",
    ),
    ("fal-ai/hunyuan3d/v2", {"input_image_url": "picture"}, {"model_mesh": begins_with(b"glTF\2\0\0\0")}, "1"),
    ("fal-ai/moondream2", {"image_url": "picture", "prompt": "what is it?"}, {}, "1"),
    (
        "fal-ai/wan-trainer",
        {"training_data_url": "sound", "number_of_steps": 300},
        {"lora_file": is_weights, "config_file": json.loads, "samples": begins_with(b"PK")},
        "300",
    ),
]


def placed(value: Any, urls: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [placed(each, urls) for each in value]
    return urls.get(value, value) if isinstance(value, str) else value


def at(output: Any, path: str) -> Any:
    for part in path.split("."):
        output = output[int(part) if part.isdigit() else part]
    return output


@pytest.mark.parametrize(("endpoint", "arguments", "files", "units"), CASES, ids=[case[0] for case in CASES])
def test_a_card_answers_by_its_own_schema(
    fal: fal_client.SyncClient,
    endpoint: str,
    arguments: dict[str, Any],
    files: dict[str, Callable[[bytes], bool]],
    units: str,
) -> None:
    """The output fits the schema that the platform shows, its files are what they say, its units are of its unit."""
    urls = {
        "picture": fal.upload(a_picture(), "image/png", "a.png"),
        "sound": fal.upload(a_sound(), "audio/wav", "a.wav"),
    }
    output, counted = submitted(fal, endpoint, {name: placed(value, urls) for name, value in arguments.items()})
    card = ENDPOINTS[endpoint].card
    schema = _as_json_schema({**card.schema_of_output, "components": card.openapi["components"]})
    assert list(Draft202012Validator(schema).iter_errors(output)) == []
    for path, is_right in files.items():
        assert is_right(content(at(output, path)))
        assert len(content(at(output, path))) == at(output, path)["file_size"]
    assert counted == units


def test_a_film_is_enlarged_by_the_unit(fal: fal_client.SyncClient) -> None:
    """Ten units for a short film."""
    film = fal.subscribe("fal-ai/veo3/fast", {"prompt": "waves", "duration": "4s"})["video"]["url"]
    output, units = submitted(fal, "fal-ai/topaz/upscale/video", {"video_url": film})
    assert plays(4)(content(output["video"]))
    assert units == "10"


@pytest.mark.parametrize(
    ("endpoint", "arguments", "place"),
    [
        ("fal-ai/veo3/fast", {"prompt": "waves", "duration": "5s"}, ["body", "duration"]),
        ("fal-ai/nano-banana/edit", {"prompt": "a hat", "image_urls": []}, ["body", "image_urls"]),
        (
            "fal-ai/hunyuan3d/v2",
            {"input_image_url": "https://v3.fal.media/files/b/0/gone"},
            ["body", "input_image_url"],
        ),
        ("fal-ai/bria/background/remove", {"image_url": "data:,no picture"}, ["body", "image_url"]),
        ("openai/gpt-image-2", {"prompt": "x", "image_size": {"width": 3840, "height": 640}}, ["body", "image_size"]),
    ],
)
def test_what_a_card_does_not_take_is_a_422(
    simulator: SimulatedFal,
    fal: fal_client.SyncClient,
    endpoint: str,
    arguments: dict[str, Any],
    place: list[str],
) -> None:
    """It was accepted, and fails later; nothing is charged."""
    handle = fal.submit(endpoint, arguments)
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get(interval=0.02)
    assert caught.value.status_code == 422
    assert place in [detail["loc"] for detail in caught.value.response.json()["detail"]]
    assert handle.request_id not in simulator.invoice()["by_request"]


def test_a_model_that_appears_is_ordered_at_once(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """By a schema that nobody has seen before: files in lists and objects, at a price of its own."""
    endpoint = f"someone/new-{uuid.uuid4().hex}/make"
    file = {"$ref": "#/components/schemas/File"}
    example = {"allOf": [file], "examples": [{"url": "https://v3b.fal.media/files/b/x/print.zip"}]}
    part = {"type": "object", "properties": {"preview": {"$ref": "#/components/schemas/Image"}, "mesh_glb": file}}
    simulator.add_model(
        endpoint_id=endpoint,
        category="image-to-3d",
        unit="images",
        unit_price="0.123456789",
        input={
            "type": "object",
            "required": ["prompt"],
            "properties": {"prompt": {"type": "string"}, "num_parts": {"type": "integer", "maximum": 3, "default": 2}},
        },
        output={
            "type": "object",
            "properties": {
                "parts": {"type": "array", "minItems": 2, "items": part},
                "bundle": example,
                "extra": {"type": "object", "nullable": True, "properties": {"note": {"type": "string"}}},
                "blob": file,
            },
        },
    )
    listed = httpx.get("https://api.fal.ai/v1/models", params={"endpoint_id": endpoint, "expand": "openapi-3.0"}).json()
    assert f"/{endpoint}/requests/{{request_id}}" in listed["models"][0]["openapi"]["paths"]
    output, units = submitted(fal, endpoint, {"prompt": "a chair"})
    assert [content(each["mesh_glb"])[:4] for each in output["parts"]] == [b"glTF"] * 2
    assert all(is_picture(content(each["preview"])) for each in output["parts"])
    assert zipfile.ZipFile(io.BytesIO(content(output["bundle"]))).testzip() is None
    assert output["blob"]["content_type"] == "application/octet-stream"
    assert (units, simulator.invoice()["by_model"][endpoint]) == ("2", 246_913_578)


@pytest.mark.parametrize(
    ("duration", "seconds"), [(0.5, 0.5), ("2.5s", 2.5), (0.001, 0), (-1, 5), ("nan", 5), ("auto", 5)]
)
def test_a_film_is_as_long_as_was_asked_for(
    simulator: SimulatedFal, fal: fal_client.SyncClient, duration: Any, seconds: float
) -> None:
    """To the frame, of which it has one at least; what is no length is as good as none."""
    schema = {"type": "object", "properties": {"prompt": {"type": "string"}, "duration": {}}}
    video = {"type": "object", "properties": {"url": {"type": "string"}, "content_type": {"type": "string"}}}
    simulator.add_model(
        endpoint_id="someone/films",
        category="text-to-video",
        unit="seconds",
        unit_price="0.1",
        input=schema,
        output={"type": "object", "properties": {"video": {"$ref": "#/components/schemas/Video"}}},
        components={"Video": video},
    )
    output = fal.subscribe("someone/films", {"prompt": "waves", "duration": duration})
    assert plays(seconds)(content(output["video"]))


def test_a_film_may_be_large_and_sound(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Of the size asked for, and it plays: it has room at its end."""
    word = uuid.uuid4().hex
    simulator.rule(match=word, file="large", file_bytes=9_000_000)
    video = fal.subscribe("fal-ai/veo3/fast", {"prompt": word, "duration": "4s"})["video"]
    body = content(video)
    assert len(body) == 9_000_000
    assert plays(4)(body)


def test_a_schema_changes_while_it_runs(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """What was right is wrong from then on; `has_nsfw_concepts` says what a rule says."""
    word = uuid.uuid4().hex
    simulator.rule(match=word, flagged=True)
    schema = {"type": "object", "required": ["prompt", "style"], "properties": {"style": {"enum": ["oil", "ink"]}}}
    assert fal.subscribe("fal-ai/flux/dev", {"prompt": word, "image_size": "square"})["has_nsfw_concepts"] == [True]
    simulator.change_model("fal-ai/flux/dev", input={**schema, "required": ["style"]})
    assert fal.subscribe("fal-ai/flux/dev", {"style": "ink"})["images"]
    simulator.change_model("fal-ai/moondream2", input=schema)
    with pytest.raises(FalClientHTTPError) as caught:
        fal.subscribe("fal-ai/moondream2", {"prompt": "what?", "style": "chalk"})
    assert caught.value.response.json()["detail"][0]["type"] == "literal_error"


def test_a_renamed_model_answers_by_both_names(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """The old one is deprecated in the list."""
    simulator.rename_model("fal-ai/moondream2", "fal-ai/moondream3")
    url = fal.upload(a_picture(), "image/png", "a.png")
    for endpoint in ("fal-ai/moondream2", "fal-ai/moondream3"):
        assert fal.subscribe(endpoint, {"image_url": url, "prompt": "what?"})["output"]
    query = {"endpoint_id": ["fal-ai/moondream2", "fal-ai/moondream3"]}
    models = httpx.get("https://api.fal.ai/v1/models", params=query).json()["models"]
    assert [model["metadata"]["status"] for model in models] == ["deprecated", "active"]
