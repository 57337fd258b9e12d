"""The simulator's files: pictures that decode to what was asked for, uploads, and files that are not what they seem."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import fal_client
import httpx
import pytest
from PIL import Image
from simulated_fal import SimulatedFal

DEV = "fal-ai/flux/dev"


def picture_url(fal: fal_client.SyncClient, endpoint: str = DEV, **arguments: Any) -> str:
    output = fal.subscribe(endpoint, {"prompt": "a fox", **arguments})
    url: str = output["images"][0]["url"]
    return url


def faulty_url(simulator: SimulatedFal, fal: fal_client.SyncClient, **rule: Any) -> str:
    prompt = f"a fox {uuid.uuid4().hex}"
    simulator.rule(match=prompt, **rule)
    return picture_url(fal, prompt=prompt)


@pytest.mark.parametrize(
    ("endpoint", "arguments", "size", "image_format"),
    [
        ("fal-ai/flux/dev", {}, (1024, 768), "JPEG"),
        ("fal-ai/flux/schnell", {"image_size": "square", "output_format": "png"}, (512, 512), "PNG"),
        ("fal-ai/flux-lora", {"image_size": {"width": 300, "height": 200}}, (300, 200), "JPEG"),
        ("openai/gpt-image-2", {"image_size": {"width": 1024, "height": 1536}}, (1024, 1536), "PNG"),
        ("openai/gpt-image-2", {"image_size": "auto", "output_format": "webp"}, (1024, 1024), "WEBP"),
    ],
)
def test_a_picture_has_the_size_and_format_asked_for(
    fal: fal_client.SyncClient, endpoint: str, arguments: dict[str, Any], size: tuple[int, int], image_format: str
) -> None:
    """A real file of that type, from fal's CDN, without a key."""
    answer = httpx.get(picture_url(fal, endpoint, **arguments))
    with Image.open(io.BytesIO(answer.content)) as picture:
        picture.load()
        assert (picture.size, picture.format) == (size, image_format)
    assert answer.headers["content-type"] == f"image/{image_format.lower()}"
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_the_same_prompt_and_seed_give_the_same_picture(fal: fal_client.SyncClient) -> None:
    """Byte for byte, under an address of its own each time; another seed gives another picture."""
    first, again, other = (picture_url(fal, seed=seed, image_size="square") for seed in (5, 5, 6))
    assert first != again
    assert httpx.get(first).content == httpx.get(again).content != httpx.get(other).content


def test_with_sync_mode_the_picture_is_a_data_uri(fal: fal_client.SyncClient) -> None:
    """Nothing is left on the CDN."""
    assert picture_url(fal, sync_mode=True, image_size="square").startswith("data:image/jpeg;base64,/9j/")


def test_reading_a_file_with_the_key_is_noticed(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Files are public; a client that sends its key along shows it to whoever serves the file."""
    url, before = picture_url(fal), simulator.stats()["cdn_reads_with_key"]
    httpx.get(url)
    assert simulator.stats()["cdn_reads_with_key"] == before
    httpx.get(url, headers={"Authorization": "Key sim:key"})
    assert simulator.stats()["cdn_reads_with_key"] == before + 1


def test_an_upload_can_be_read_back(fal: fal_client.SyncClient) -> None:
    """fal's client: token, then one POST. Two uploads of the same bytes have two addresses."""
    urls = {fal.upload(b"some bytes", "text/x-test", "notes.txt") for _ in range(2)}
    assert len(urls) == 2
    for url in urls:
        answer = httpx.get(url)
        assert (answer.content, answer.headers["content-type"]) == (b"some bytes", "text/x-test")


def test_a_large_upload_goes_in_parts(
    fal: fal_client.SyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fal's client does so above its threshold, which is lowered here; the parts come out in order."""
    monkeypatch.setattr("fal_client.client.MULTIPART_THRESHOLD", 1000)
    monkeypatch.setattr("fal_client.client.MULTIPART_CHUNK_SIZE", 400)
    content = bytes(range(256)) * 8
    file = tmp_path / "large.bin"
    file.write_bytes(content)
    assert httpx.get(fal.upload_file(file)).content == content


INITIATE = "https://rest.fal.ai/storage/upload/initiate"
KEYED = {"Authorization": "Key sim:key"}


def test_an_upload_by_the_other_way_can_be_read_back(simulator: SimulatedFal) -> None:
    """initiate and PUT, as fal's JavaScript client does it; the address to PUT to serves once, the file for a time."""
    body = {"file_name": "a.txt", "content_type": "text/x-test"}
    headers = KEYED | {"X-Fal-Object-Lifecycle-Preference": '{"expiration_duration_seconds": 3600}'}
    ticket = httpx.post(INITIATE, params={"storage_type": "fal-cdn-v3"}, json=body, headers=headers).json()
    put = [httpx.put(ticket["upload_url"], content=b"x") for _ in range(2)]
    assert [answer.status_code for answer in put] == [200, 403]
    answer = httpx.get(ticket["file_url"])
    assert (answer.content, answer.headers["content-type"]) == (b"x", "text/x-test")
    (row,) = simulator.operator.get("/uploads", params={"match": ticket["file_url"]}).json()
    assert row["lifetime_seconds"] == 3600


def test_the_storage_of_before_is_refused(simulator: SimulatedFal) -> None:
    """fal's Python client still falls back to it, and gets no address."""
    answer = httpx.post(INITIATE, params={"storage_type": "gcs"}, json={"file_name": "a.txt"}, headers=KEYED)
    assert (answer.status_code, "gcs" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("way", ["post", "parts", "initiate"])
def test_an_upload_may_be_kept_from_strangers_from_the_beginning(
    fal: fal_client.SyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """By its own word, whichever way it comes."""
    kept = fal_client.StorageSettings(initial_acl=fal_client.StorageACL(default="forbid"))
    if way == "initiate":
        headers = KEYED | {"X-Fal-Object-Lifecycle-Preference": '{"initial_acl": {"default": "forbid"}}'}
        ticket = httpx.post(INITIATE, json={"file_name": "a.txt"}, headers=headers).json()
        httpx.put(ticket["upload_url"], content=b"mine").raise_for_status()
        url = ticket["file_url"]
    else:
        monkeypatch.setattr("fal_client.client.MULTIPART_THRESHOLD", 1 if way == "parts" else 100)
        url = fal.upload(b"mine", "text/plain", "mine.txt", lifecycle=kept)
    assert httpx.get(url).status_code == 403


def test_uploads_are_under_the_accounts_settings(fal: fal_client.SyncClient) -> None:
    """As what models make; their own word comes first."""
    settings = {"expiration_duration_seconds": 3600, "initial_acl": {"default": "forbid"}}
    with httpx.Client(headers={"Authorization": "Key sim:admin"}) as admin:
        admin.put("https://api.fal.ai/v1/storage/settings", json=settings).raise_for_status()
    own = fal_client.StorageSettings(expires_in="1d", initial_acl=fal_client.StorageACL(default="allow"))
    plain, said = fal.upload(b"x", "text/plain"), fal.upload(b"x", "text/plain", lifecycle=own)
    assert [httpx.get(url).status_code for url in (plain, said)] == [403, 200]


def test_a_large_upload_has_the_type_that_its_client_says(
    fal: fal_client.SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its name looks like."""
    monkeypatch.setattr("fal_client.client.MULTIPART_THRESHOLD", 1)
    assert httpx.get(fal.upload(b"some bytes", "text/x-test", "notes.png")).headers["content-type"] == "text/x-test"


def test_a_large_upload_is_finished_by_who_began_it(simulator: SimulatedFal) -> None:
    """Another account's token finds none of that id; a list of parts that is none is refused."""
    url, tokens = "https://v3.fal.media/files/upload/multipart", []
    for key in ("sim:key", "sim:other"):
        answer = httpx.post("https://rest.fal.ai/storage/auth/token", headers={"Authorization": f"Key {key}"}, json={})
        tokens.append({"Authorization": f"Bearer {answer.json()['token']}"})
    begun = httpx.post(url, headers=tokens[0]).json()
    complete = f"{begun['access_url']}/multipart/{begun['uploadId']}/complete"
    assert httpx.post(complete, headers=tokens[1], json={"parts": []}).status_code == 404
    for wrong in ({}, {"parts": [1]}, {"parts": [{"partNumber": 1}]}):
        assert httpx.post(complete, headers=tokens[0], json=wrong).status_code == 400
    assert httpx.post(complete, headers=tokens[0], json={"parts": []}).status_code == 200


def test_an_upload_needs_a_token_and_a_token_needs_a_key(simulator: SimulatedFal) -> None:
    """401 for both."""
    assert httpx.post("https://v3.fal.media/files/upload", content=b"x").status_code == 401
    assert httpx.post("https://rest.fal.ai/storage/auth/token", json={}).status_code == 401


def test_a_file_can_be_missing(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """404, though the result names it."""
    assert httpx.get(faulty_url(simulator, fal, file="missing")).status_code == 404


def test_a_file_can_break_off(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """The connection ends before the declared length."""
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(faulty_url(simulator, fal, file="truncated"))


def test_a_file_can_break_off_once(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """The second read gets all of it."""
    url = faulty_url(simulator, fal, file="truncated_once")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(url)
    with Image.open(io.BytesIO(httpx.get(url).content)) as picture:
        picture.load()


def test_a_file_can_stall_once(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """It begins, and then nothing comes; the second read gets all of it."""
    url = faulty_url(simulator, fal, file="stalled_once")
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(url, timeout=0.5)
    with Image.open(io.BytesIO(httpx.get(url).content)) as picture:
        picture.load()


def test_a_file_can_be_half_a_picture(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """The length is honest, the picture does not decode."""
    content = httpx.get(faulty_url(simulator, fal, file="cut_short")).content
    with Image.open(io.BytesIO(content)) as picture, pytest.raises(OSError, match="truncated"):
        picture.load()


def test_a_file_can_be_a_web_page(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Under a picture's name."""
    url = faulty_url(simulator, fal, file="html")
    assert url.endswith(".jpg")
    assert httpx.get(url).headers["content-type"].startswith("text/html")


def test_a_result_can_point_elsewhere(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """To a host that is not fal's, at once or by a redirect."""
    assert faulty_url(simulator, fal, file="foreign_host").startswith("https://evil.example/")
    redirect = httpx.get(faulty_url(simulator, fal, file="redirect"))
    assert (redirect.status_code, redirect.headers["location"]) == (302, "https://evil.example/picture.jpg")


@pytest.mark.parametrize(("file", "declared"), [("huge", "3000000"), ("huge_undeclared", None)])
def test_a_file_can_be_huge(
    simulator: SimulatedFal, fal: fal_client.SyncClient, file: str, declared: str | None
) -> None:
    """As many bytes as the rule says, declared beforehand or not."""
    answer = httpx.get(faulty_url(simulator, fal, file=file, file_bytes=3_000_000))
    assert answer.headers.get("content-length") == declared
    assert len(answer.content) == 3_000_000


def test_a_file_can_be_a_pixel_bomb(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """A small and valid PNG of 400 million pixels."""
    content = httpx.get(faulty_url(simulator, fal, file="pixel_bomb")).content
    assert len(content) < 100_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(content))
