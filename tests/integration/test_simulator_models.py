"""The simulator's models that are given files: what they make of them, and how they say what is wrong with them."""

from __future__ import annotations

import base64
import io
import json
import re
import uuid
import zipfile
from collections.abc import Mapping
from typing import Any

import av
import fal_client
import httpx
import pytest
from fal_client.client import FalClientHTTPError
from PIL import Image, ImageDraw
from simulated_fal import SimulatedFal
from support import wait_until

DEV = "fal-ai/flux/dev"
LORA = "fal-ai/flux-lora"
CLARITY = "fal-ai/clarity-upscaler"
ESRGAN = "fal-ai/esrgan"
BIREFNET = "fal-ai/birefnet/v2"
KLING = "fal-ai/kling-video/v2.5-turbo/pro/image-to-video"
TRAINING = "fal-ai/flux-lora-fast-training"
RED, GREEN, WHITE = (200, 30, 30), (30, 160, 60), (250, 250, 250)


def a_picture(width: int = 320, height: int = 320, color: tuple[int, int, int] = RED) -> bytes:
    """A disc on white."""
    picture = Image.new("RGB", (width, height), WHITE)
    ImageDraw.Draw(picture).ellipse((width // 4, height // 4, 3 * width // 4, 3 * height // 4), fill=color)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def an_archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def pictures(number: int, color: tuple[int, int, int] = RED) -> dict[str, bytes]:
    return {f"{n:03}.png": a_picture(64 + n, 64, color) for n in range(number)}


def uploaded(fal: fal_client.SyncClient, content: bytes | None = None, name: str = "picture.png") -> str:
    return fal.upload(a_picture() if content is None else content, "application/octet-stream", name)


def opened(url: str) -> Image.Image:
    picture = Image.open(io.BytesIO(httpx.get(url).raise_for_status().content))
    picture.load()
    return picture


def refusal(fal: fal_client.SyncClient, endpoint: str, arguments: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(FalClientHTTPError) as caught:
        fal.subscribe(endpoint, arguments)
    assert caught.value.status_code == 422
    (detail,) = caught.value.response.json()["detail"]
    return dict(detail)


def trained(fal: fal_client.SyncClient, **pictures_by_name: Any) -> dict[str, Any]:
    archive = an_archive(pictures_by_name.get("files") or pictures(4))
    arguments = {"images_data_url": uploaded(fal, archive, "faces.zip"), "trigger_word": "TOK", "steps": 200}
    return dict(fal.subscribe(TRAINING, arguments))


def billable_units(request_id: str, endpoint: str) -> str:
    app = "/".join(endpoint.split("/")[:2])
    result = httpx.get(f"https://queue.fal.run/{app}/requests/{request_id}", headers={"Authorization": "Key sim:key"})
    return str(result.headers["x-fal-billable-units"])


@pytest.mark.parametrize(
    ("endpoint", "arguments", "size", "image_format"),
    [
        (CLARITY, {}, (640, 640), "PNG"),
        (CLARITY, {"upscale_factor": 1.5}, (480, 480), "PNG"),
        (ESRGAN, {"scale": 4, "output_format": "jpeg"}, (1280, 1280), "JPEG"),
    ],
)
def test_an_upscaler_makes_the_picture_larger(
    fal: fal_client.SyncClient, endpoint: str, arguments: dict[str, Any], size: tuple[int, int], image_format: str
) -> None:
    """By the factor asked for; it is still the same picture, and what the answer says of it is true."""
    image = fal.subscribe(endpoint, {"image_url": uploaded(fal), **arguments})["image"]
    picture = opened(image["url"])
    assert (picture.size, picture.format) == (size, image_format)
    assert (image["width"], image["height"], image["content_type"]) == (*size, f"image/{image_format.lower()}")
    red, green, _ = picture.convert("RGB").getpixel((size[0] // 2, size[1] // 2))
    assert red > 180 > 60 > green


def test_the_background_becomes_transparent(fal: fal_client.SyncClient) -> None:
    """The disc stays, the white around it goes; the mask comes where it was asked for."""
    output = fal.subscribe(BIREFNET, {"image_url": uploaded(fal), "output_mask": True})
    picture = opened(output["image"]["url"])
    assert (picture.mode, picture.size) == ("RGBA", (320, 320))
    assert [picture.getpixel(place)[3] for place in ((160, 160), (5, 5), (5, 315))] == [255, 0, 0]
    assert opened(output["mask_image"]["url"]).getpixel((160, 160)) == 255


def test_an_upscaler_keeps_transparency(fal: fal_client.SyncClient) -> None:
    """So that the steps of a chain may come in any order."""
    cut_out = fal.subscribe(BIREFNET, {"image_url": uploaded(fal)})["image"]["url"]
    picture = opened(fal.subscribe(ESRGAN, {"image_url": cut_out})["image"]["url"])
    assert picture.getpixel((5, 5))[3] == 0


@pytest.mark.parametrize("duration", [5, 10])
def test_a_film_is_made_of_the_picture(fal: fal_client.SyncClient, duration: int) -> None:
    """H.264 of the length asked for, that shows the picture and moves; without sound."""
    arguments = {"prompt": "the disc rolls", "image_url": uploaded(fal), "duration": str(duration)}
    video = fal.subscribe(KLING, arguments)["video"]
    content = httpx.get(video["url"]).content
    assert (video["content_type"], video["file_size"]) == ("video/mp4", len(content))
    with av.open(io.BytesIO(content)) as film:
        (stream,) = film.streams
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 960, 960)
        frames = list(film.decode(stream))
        first, last = frames[0].to_image(), frames[-1].to_image()
    assert len(frames) == duration * 24
    assert first.tobytes() != last.tobytes()
    red, green, _ = last.getpixel((480, 480))
    assert red > 150 > 80 > green


def test_a_training_yields_weights_and_config(fal: fal_client.SyncClient) -> None:
    """A safetensors file that holds what its header says, and a JSON file that names the trigger word and the steps."""
    output = trained(fal)
    weights, config = (httpx.get(output[name]["url"]).content for name in ("diffusers_lora_file", "config_file"))
    assert output["diffusers_lora_file"]["file_name"] == "pytorch_lora_weights.safetensors"
    assert output["diffusers_lora_file"]["file_size"] == len(weights) > 100_000
    length = int.from_bytes(weights[:8], "little")
    tensors = json.loads(weights[8 : 8 + length])
    tensors.pop("__metadata__")
    ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
    assert max(ends) == len(weights) - 8 - length
    assert {"trigger_word": "TOK", "steps": 200}.items() <= json.loads(config).items()


def test_a_picture_shows_which_lora_it_was_made_with(fal: fal_client.SyncClient) -> None:
    """Its colours are those of the pictures that the LoRA was trained on."""
    red, green = (trained(fal, files=pictures(4, color))["diffusers_lora_file"]["url"] for color in (RED, GREEN))
    arguments = {"prompt": "TOK", "seed": 1, "image_size": "square"}
    by_path = {
        path: opened(fal.subscribe(LORA, {**arguments, "loras": loras})["images"][0]["url"]).resize((1, 1))
        for path, loras in ((None, []), (red, [{"path": red}]), (green, [{"path": green}]))
    }
    assert len({picture.tobytes() for picture in by_path.values()}) == 3
    assert by_path[red].getpixel((0, 0))[0] > by_path[green].getpixel((0, 0))[0]
    assert by_path[green].getpixel((0, 0))[1] > by_path[red].getpixel((0, 0))[1]


def test_a_trainings_log_shows_how_far_it_is(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """A progress bar of its steps, line by line, that grows with the time and ends at all of them."""
    trigger = f"tok{uuid.uuid4().hex}"
    simulator.rule(match=trigger, latency=1.5)
    archive = uploaded(fal, an_archive(pictures(4)), "faces.zip")
    handle = fal.submit(TRAINING, {"images_data_url": archive, "trigger_word": trigger, "steps": 200})

    def steps_done() -> list[int]:
        logs = getattr(handle.status(with_logs=True), "logs", None) or []
        bars = [re.search(r"Training: +\d+%\|.{10}\| (\d+)/200 \[\d\d:\d\d<", line["message"]) for line in logs]
        return [int(bar[1]) for bar in bars if bar]

    wait_until(lambda: any(0 < done < 100 for done in steps_done()))
    early = wait_until(steps_done)
    wait_until(lambda: len(steps_done()) > len(early))
    handle.get(interval=0.05)
    assert steps_done() == sorted(steps_done())
    assert steps_done()[-1] == 200


@pytest.mark.parametrize("endpoint", [CLARITY, ESRGAN, BIREFNET, KLING])
@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "https://v3.fal.media/files/b/0/gone.png", "https://[", "data:,"]
)
def test_a_file_that_cannot_be_had_is_named(fal: fal_client.SyncClient, endpoint: str, url: str) -> None:
    """At another host, or not there any more: `file_download_error`; what is no picture is an `image_load_error`."""
    detail = refusal(fal, endpoint, {"prompt": "a fox", "image_url": url})
    assert detail["type"] == ("image_load_error" if url.startswith("data:") else "file_download_error")
    assert (detail["loc"], detail["input"]) == (["body", "image_url"], url)


def test_a_picture_may_come_as_a_data_address(fal: fal_client.SyncClient) -> None:
    """Small ones, as fal advises."""
    url = f"data:image/png;base64,{base64.b64encode(a_picture()).decode()}"
    assert fal.subscribe(ESRGAN, {"image_url": url})["image"]["width"] == 640


def test_a_picture_that_is_too_large_is_refused(fal: fal_client.SyncClient) -> None:
    """Before it is decoded, with the size that would do."""
    detail = refusal(fal, ESRGAN, {"image_url": uploaded(fal, a_picture(1000, 10)), "scale": 8})
    assert detail["type"] == "image_too_large"
    assert detail["ctx"] == {"max_width": 768, "max_height": 768}


def test_a_picture_that_is_too_small_makes_no_film(fal: fal_client.SyncClient) -> None:
    """Kling wants 300 pixels."""
    detail = refusal(fal, KLING, {"prompt": "it moves", "image_url": uploaded(fal, a_picture(299, 400))})
    assert (detail["type"], detail["ctx"]) == ("image_too_small", {"min_width": 300, "min_height": 300})


@pytest.mark.parametrize(
    ("archive", "error_type"),
    [
        (b"no archive at all", "invalid_archive"),
        (an_archive(pictures(4))[:-40], "invalid_archive"),
        (an_archive({**pictures(3), "003.txt": b"a caption", "000_mask.png": a_picture(64, 64)}), "archive_file_count"),
        (an_archive({**pictures(4), "004.png": b"no picture"}), "image_load_error"),
    ],
    ids=["no archive", "cut short", "three pictures", "a broken picture"],
)
def test_a_bad_archive_is_refused_soon(fal: fal_client.SyncClient, archive: bytes, error_type: str) -> None:
    """In fal's words, and not only after the time a training takes."""
    handle = fal.submit(TRAINING, {"images_data_url": uploaded(fal, archive, "faces.zip")})
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get(interval=0.02)
    (detail,) = caught.value.response.json()["detail"]
    assert detail["type"].startswith(error_type)
    assert handle.status().metrics["inference_time"] < 0.5


def test_what_is_charged_is_counted_as_fal_counts(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Megapixels of what comes out, seconds of film, runs, seconds of the machine."""
    url, archive = uploaded(fal), uploaded(fal, an_archive(pictures(4)), "faces.zip")
    simulator.rule(endpoint=BIREFNET, latency=0.25)
    wanted: list[tuple[str, dict[str, Any], str]] = [
        (CLARITY, {"image_url": url, "upscale_factor": 4}, "2"),
        (KLING, {"image_url": url, "prompt": "it moves", "duration": "10"}, "10"),
        (TRAINING, {"images_data_url": archive}, "1"),
        (BIREFNET, {"image_url": url}, "0.250"),
    ]
    for endpoint, arguments, units in wanted:
        handle = fal.submit(endpoint, arguments)
        handle.get(interval=0.05)
        assert billable_units(handle.request_id, endpoint) == units


def test_a_missing_lora_is_named(fal: fal_client.SyncClient) -> None:
    """By its place in the list."""
    loras = [{"path": trained(fal)["diffusers_lora_file"]["url"]}, {"path": "https://v3.fal.media/files/b/0/gone"}]
    detail = refusal(fal, LORA, {"prompt": "TOK", "loras": loras})
    assert (detail["type"], detail["loc"]) == ("file_download_error", ["body", "loras", 1, "path"])


def test_a_rule_finds_a_request_by_the_name_of_its_file(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Where there is no prompt: an upload's address ends in the name it was given."""
    name = f"{uuid.uuid4().hex}.png"
    simulator.rule(match=name, result="500")
    with pytest.raises(FalClientHTTPError):
        fal.subscribe(ESRGAN, {"image_url": uploaded(fal, name=name)})
    assert [row["http_status"] for row in simulator.requests(name)] == [500]


def test_the_book_tells_which_files_were_read(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """And how many requests each endpoint had."""
    url, before = uploaded(fal), simulator.stats()["submits_by_endpoint"].get(ESRGAN, 0)
    handle = fal.submit(ESRGAN, {"image_url": url})
    handle.get(interval=0.02)
    assert simulator.operator.get(f"/requests/{handle.request_id}").json()["files_read"] == [url]
    assert simulator.stats()["submits_by_endpoint"][ESRGAN] == before + 1


def test_an_upload_lives_as_long_as_was_asked_for(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Then it is gone, for readers and for models; the record of it stays."""
    lifetime = fal_client.client.StorageSettings(expires_in=1)
    url = fal.upload(a_picture(), "image/png", "short.png", lifecycle=lifetime)
    assert httpx.get(url).status_code == 200
    wait_until(lambda: httpx.get(url).status_code == 404)
    assert refusal(fal, ESRGAN, {"image_url": url})["type"] == "file_download_error"
    (row,) = [row for row in simulator.operator.get("/uploads").json() if row["url"] == url]
    assert (row["lifetime_seconds"], row["bytes"]) == (1, len(a_picture()))
    assert row["expires_at"] > row["uploaded_at"]


def test_what_a_request_makes_lives_as_long_as_it_asked_for(simulator: SimulatedFal) -> None:
    """By the header of the submit; without it, for ever."""
    headers = {"Authorization": "Key sim:key"}
    preference = {"X-Fal-Object-Lifecycle-Preference": json.dumps({"expiration_duration_seconds": 0.3})}
    short, lasting = (
        httpx.post(f"https://fal.run/{DEV}", json={"prompt": "a fox"}, headers={**headers, **more}, timeout=30).json()
        for more in (preference, {})
    )
    wait_until(lambda: httpx.get(short["images"][0]["url"]).status_code == 404)
    assert httpx.get(lasting["images"][0]["url"]).status_code == 200
