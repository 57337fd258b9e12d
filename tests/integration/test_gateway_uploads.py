"""Files that users bring: by their own door, over a real connection, into a real folder."""

from __future__ import annotations

import errno
import hashlib
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BufferedRandom, BytesIO, FileIO
from pathlib import Path
from typing import Any

import httpx
import media_files
import pillow_heif
import pytest
from PIL import Image
from prefect.filesystems import LocalFileSystem
from running_gateway import RunningGateway, gateway_alone
from shared_gateway import home as home
from shared_gateway import ledger as ledger
from shared_gateway import ledger_url as ledger_url
from starlette.datastructures import UploadFile

from darkroom.deployments.gateway.routes import uploads
from darkroom.ledger import Ledger, new_id
from darkroom.media.archives import LARGEST_IMAGE
from darkroom.media.store import MediaStore


def picture(kind: str = "PNG", *, size: tuple[int, int] = (300, 200)) -> bytes:
    out = BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(out, kind)
    return out.getvalue()


def zipped(entries: Mapping[str, bytes], *, mode: int = stat.S_IFREG) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return out.getvalue()


@pytest.fixture(scope="module")
def files() -> LocalFileSystem:
    return LocalFileSystem()


@pytest.fixture
def folder(files: LocalFileSystem, tmp_path: Path) -> Path:
    """Where the one gateway puts what this test brings."""
    files.basepath = str(tmp_path / "media")
    return tmp_path / "media"


@pytest.fixture(scope="module")
def gateway(ledger_url: str, files: LocalFileSystem, home: Path) -> Iterator[RunningGateway]:
    with gateway_alone(ledger_url, home, media=MediaStore(files)) as gateway:
        yield gateway


@pytest.fixture
def ann(ledger: Ledger, folder: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {ledger.users.add(new_id('ann_'), plan='pro').key}"}


def brought(gateway: RunningGateway, who: dict[str, str], content: Any, kind: str) -> httpx.Response:
    return gateway.http.post("/v1/uploads", content=content, headers=who | {"Content-Type": kind})


@pytest.mark.parametrize(("kind", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_a_picture_lies_in_the_store_and_is_its_owners(
    gateway: RunningGateway, ann: dict[str, str], ledger: Ledger, folder: Path, kind: str, extension: str
) -> None:
    """As it came, under its owner's id and its own; the answer is its document."""
    content = picture(kind)
    answer = brought(gateway, ann, content, f"image/{kind.lower()}")
    assert answer.status_code == 201, answer.text
    document = answer.json()
    assert (document["content_type"], document["width"], document["height"]) == (f"image/{kind.lower()}", 300, 200)
    assert document["sha256"] == hashlib.sha256(content).hexdigest()
    asset = ledger.assets.get(document["id"])
    assert asset is not None and asset.job_id is None
    assert asset.key == f"uploads/{asset.user_id}/{asset.id}.{extension}"
    assert (folder / asset.key).read_bytes() == content
    assert gateway.http.get(f"/v1/assets/{asset.id}", headers=ann).content == content
    eve = {"Authorization": f"Bearer {ledger.users.add(new_id('eve_'), plan='pro').key}"}
    assert gateway.http.get(f"/v1/assets/{asset.id}", headers=eve).status_code == 404


def test_a_picture_is_what_its_bytes_say(gateway: RunningGateway, ann: dict[str, str]) -> None:
    """Whatever picture it was declared as."""
    assert brought(gateway, ann, picture("PNG"), "image/jpeg").json()["content_type"] == "image/png"


@pytest.mark.parametrize(
    ("kind", "kept", "declared"),
    [
        ("heic", "jpeg", "image/heic"),
        ("heic", "jpeg", "application/octet-stream"),
        ("avif", "jpeg", "image/avif"),
        ("gif", "png", "image/gif"),
        ("tiff", "png", "image/tiff"),
        ("bmp", "png", "image/bmp"),
    ],
)
def test_a_picture_of_another_kind_is_kept_as_one_that_every_program_reads(
    gateway: RunningGateway, ann: dict[str, str], kind: str, kept: str, declared: str
) -> None:
    """HEIC from a phone, AVIF from the web; also where the sender does not know what it is. The answer tells."""
    answer = brought(gateway, ann, of_kind(kind), declared)
    assert answer.status_code == 201, answer.text
    document = answer.json()
    assert (document["content_type"], document["width"], document["height"]) == (f"image/{kept}", 300, 200)
    assert document["notes"][0].startswith(f"It was {kind.upper()}")
    assert document["notes"][-1] == f"It is kept as {kept.upper()}."
    assert gateway.http.get(f"/v1/assets/{document['id']}", headers=ann).headers["content-type"] == f"image/{kept}"


def of_kind(kind: str) -> bytes:
    image, out = Image.effect_noise((300, 200), 50).convert("RGB"), BytesIO()
    if kind == "heic":
        pillow_heif.from_pillow(image).save(out)
    else:
        image.save(out, kind)
    return out.getvalue()


def test_what_a_picture_carries_is_left_out_unless_it_is_asked_for(
    gateway: RunningGateway, ann: dict[str, str], folder: Path, ledger: Ledger
) -> None:
    """Where a photograph was taken is nobody's business; without it the picture stands upright."""
    exif, out = Image.Exif(), BytesIO()
    exif[0x0110], exif[0x0112] = "a stranger's camera", 6
    exif.get_ifd(0x8825)[1] = "N"
    Image.effect_noise((300, 200), 50).save(out, "JPEG", exif=exif)
    left, kept = (
        gateway.http.post(f"/v1/uploads{asked}", content=out.getvalue(), headers=ann | {"Content-Type": "image/jpeg"})
        for asked in ("", "?metadata=keep")
    )
    assert (left.json()["width"], left.json()["height"]) == (200, 300)
    assert left.json()["notes"] == ["It was turned upright, and what it came with was left out."]
    assert kept.json()["notes"] == []
    asset = ledger.assets.get(left.json()["id"])
    assert asset is not None and b"stranger" not in (folder / asset.key).read_bytes()
    asset = ledger.assets.get(kept.json()["id"])
    assert asset is not None and (folder / asset.key).read_bytes() == out.getvalue()
    wrong = gateway.http.post("/v1/uploads?metadata=some", content=b"x", headers=ann | {"Content-Type": "image/jpeg"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "metadata")


@pytest.mark.parametrize("declared", ["application/zip", "application/x-zip-compressed", "application/octet-stream"])
def test_what_was_passed_over_in_an_archive_is_told(
    gateway: RunningGateway, ann: dict[str, str], declared: str
) -> None:
    """Before anything is ordered with it."""
    entries = {
        "photo\\a.jpg": picture("JPEG"),
        "Thumbs.db": b"x",
        "photo\\A.TXT": "a café".encode("cp1252"),
        "b.txt": b"of nobody",
    }
    answer = brought(gateway, ann, b"#!/bin/sh\n" + zipped(entries), declared)
    assert answer.status_code == 201, answer.text
    assert answer.json()["notes"] == [
        "Thumbs.db was passed over.",
        "photo\\A.TXT is not UTF-8: read as Windows-1252.",
        "b.txt is the caption of no picture: none has its name; it was passed over.",
    ]


def test_a_picture_of_which_the_sender_knows_nothing_is_no_larger_than_any(
    gateway: RunningGateway, ann: dict[str, str], folder: Path
) -> None:
    """It could have been an archive, which may be larger."""
    answer = brought(gateway, ann, picture("PNG") + bytes(LARGEST_IMAGE), "application/octet-stream")
    assert (answer.status_code, answer.json()["detail"]) == (413, "The body is larger than 20 MiB.")
    assert not folder.exists()


def test_an_archive_of_pictures_is_taken(gateway: RunningGateway, ann: dict[str, str]) -> None:
    """Its pictures are decoded once they are used; that it may be read is known now."""
    answer = brought(gateway, ann, zipped({"a.jpg": picture("JPEG"), "a.txt": b"a fox"}), "application/zip")
    assert answer.status_code == 201, answer.text
    assert (answer.json()["content_type"], answer.json()["width"]) == ("application/zip", None)


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "image/png", "empty"),
        (b"<html>a picture</html>", "image/png", "not a JPEG, PNG or WebP"),
        (picture()[:-100], "image/png", "does not decode"),
        (zipped({"a.jpg": b"x"}), "image/png", "not a JPEG, PNG or WebP"),
        (picture(), "application/zip", "no zip archive"),
        (b"", "application/zip", "no zip archive"),
        (zipped({"../a.jpg": b"x"}), "application/zip", "../a.jpg has a name that leads out"),
        (zipped({"a.jpg": b"/etc/passwd"}, mode=stat.S_IFLNK), "application/zip", "a.jpg is a link"),
        (zipped({"b.zip": b"x", "a.jpg": b"x"}), "application/zip", "b.zip is an archive inside"),
    ],
)
def test_what_must_not_be_stored_is_refused(
    gateway: RunningGateway, ann: dict[str, str], folder: Path, content: bytes, kind: str, words: str
) -> None:
    """422 with the reason, and nothing is left of it."""
    answer = brought(gateway, ann, content, kind)
    assert (answer.status_code, answer.json()["field"]) == (422, "body")
    assert words in answer.json()["detail"]
    assert answer.json()["remedy"]
    assert not folder.exists()


def test_a_file_that_is_too_large_is_refused(gateway: RunningGateway, ann: dict[str, str], folder: Path) -> None:
    """413, whether it declares its size or streams without, and the sender gets to read it."""
    declared = brought(gateway, ann, bytes(LARGEST_IMAGE + 1), "image/png")
    streamed = brought(gateway, ann, (bytes(100_000) for _ in range(220)), "image/png")
    for answer in (declared, streamed):
        assert answer.status_code == 413
        assert answer.json()["detail"] == "The body is larger than 20 MiB."
    assert not folder.exists()


def test_what_is_declared_as_no_file_is_refused(gateway: RunningGateway, ann: dict[str, str]) -> None:
    """A form or JSON in its place, before anything is read."""
    for declared in ("application/json", "multipart/form-data", "application/x-www-form-urlencoded"):
        answer = brought(gateway, ann, b"x", declared)
        assert (answer.status_code, answer.json()["field"]) == (415, "Content-Type")
        assert "application/zip" in answer.json()["remedy"]


LARGE_SOUND = b"RIFF\xff\xff\xff\x7fWAVEfmt "
OTHERS = {
    "a film": (media_files.film, "video/mp4", "video/mp4", "mp4"),
    "a sound": (lambda: media_files.sound(kind="wav"), "audio/x-wav", "audio/wav", "wav"),
    "a sound that its sender does not know": (
        lambda: media_files.sound(kind="mp3"),
        "application/octet-stream",
        "audio/mpeg",
        "mp3",
    ),
    # Longer than what is read of one.
    "a long sound": (lambda: LARGE_SOUND + bytes(65 << 20), "audio/wav", "audio/wav", "wav"),
    "3D": (lambda: b"glTF\x02\x00\x00\x00" + bytes(64), "model/gltf-binary", "model/gltf-binary", "glb"),
    "a document": (lambda: b"%PDF-1.7 PK\x05\x06", "application/octet-stream", "application/pdf", "pdf"),
    "what nobody knows": (lambda: b"a secret format", "model/x-secret", "application/octet-stream", "bin"),
    "a picture by another name": (picture, "video/mp4", "image/png", "png"),
}


@pytest.mark.parametrize(("made", "declared", "content_type", "ending"), OTHERS.values(), ids=OTHERS)
def test_whatever_a_model_takes_is_kept_as_it_is(
    gateway: RunningGateway,
    ann: dict[str, str],
    folder: Path,
    made: Callable[[], bytes],
    declared: str,
    content_type: str,
    ending: str,
) -> None:
    """By what its bytes say; what plays has its length."""
    content = made()
    answer = brought(gateway, ann, content, declared)
    assert answer.status_code == 201, answer.text
    document = answer.json()
    assert (document["content_type"], document["bytes"]) == (content_type, len(content))
    assert document["sha256"] == hashlib.sha256(content).hexdigest()
    (file,) = folder.rglob(f"*.{ending}")
    assert file.read_bytes() == content


def test_a_film_that_ends_too_soon_is_refused(gateway: RunningGateway, ann: dict[str, str], folder: Path) -> None:
    """Before a model is paid to fail on it."""
    answer = brought(gateway, ann, media_files.film()[:-4000], "video/mp4")
    assert (answer.status_code, answer.json()["field"]) == (422, "body")
    assert not folder.exists()


def test_a_large_file_without_a_key_is_answered(gateway: RunningGateway, folder: Path) -> None:
    """The sender gets to read that the key is missing, though it was still sending."""
    answer = brought(gateway, {}, bytes(LARGEST_IMAGE), "image/png")
    assert answer.status_code == 401
    assert not folder.exists()


def test_a_file_of_which_the_end_never_comes_is_not_kept(
    gateway: RunningGateway, ann: dict[str, str], folder: Path
) -> None:
    """The connection breaks in its middle, and the gateway lives on."""

    def breaking() -> Iterator[bytes]:
        yield picture()[:1000]
        raise httpx.WriteError("the cable was pulled")

    with pytest.raises(httpx.WriteError):
        brought(gateway, ann, breaking(), "image/png")
    assert brought(gateway, ann, b"", "image/png").status_code == 422
    assert not folder.exists()


@pytest.mark.parametrize(
    ("error", "status", "code", "remedy"),
    [
        (PermissionError(errno.EACCES, "no"), 503, "store-refused", "Check its block"),
        (OSError(errno.ENOSPC, "full"), 507, "store-full", "Make room in it"),
        (ConnectionError("no"), 503, "unavailable", "Send it again"),
    ],
    ids=["refuses", "full", "out"],
)
def test_a_store_in_trouble_is_told_with_what_to_do(
    gateway: RunningGateway,
    ann: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    status: int,
    code: str,
    remedy: str,
) -> None:
    """The file is not on record, and nothing of ours has gone wrong."""

    def in_trouble(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(LocalFileSystem, "write_path", in_trouble)
    answer = gateway.http.post("/v1/uploads", content=picture(), headers=ann | {"Content-Type": "image/png"})

    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"urn:darkroom:problem:{code}")
    assert problem["remedy"].startswith(remedy)


def test_a_gateway_without_room_for_what_comes_in_says_so(
    gateway: RunningGateway, ann: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture is not called damaged."""

    async def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(UploadFile, "write", full)
    answer = gateway.http.post("/v1/uploads", content=picture(), headers=ann | {"Content-Type": "image/png"})

    assert (answer.status_code, answer.json()["type"]) == (507, "urn:darkroom:problem:store-full")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
def test_a_gateway_without_room_for_the_end_of_what_comes_in_says_so(
    gateway: RunningGateway, ann: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in a buffer until the whole is there, and is tried once more as the file is closed."""
    monkeypatch.setattr(uploads, "SpooledTemporaryFile", lambda _: BufferedRandom(FileIO("/dev/full", "r+")))
    answer = brought(gateway, ann, zipped({"a.txt": b"a fox"}), "application/zip")

    assert (answer.status_code, answer.json()["type"]) == (507, "urn:darkroom:problem:store-full")
