"""The media store over a real folder, a real S3 protocol, and real Prefect blocks."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from prefect import flow, task
from prefect.filesystems import LocalFileSystem, WritableFileSystem
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect_server import PrefectServer

from darkroom.errors import BadInput, DarkroomError, Park, Permanent, StoreFull
from darkroom.media.store import LocalFolder, MediaStore, make_store_block, open_media_store, store_block_slug
from darkroom.settings import Settings

KEY = "images/usr_1/job_1/generate-0.png"
BUCKET = "darkroom-test"


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer  # not above, where every process of tests would import it

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of an operator whose bucket is on another S3."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    return s3_endpoint


@pytest.fixture(params=["folder", "s3"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "media")
    request.getfixturevalue("aws")
    return f"s3://{BUCKET}/made/by/{tmp_path.name}"


@pytest.fixture
def store(setting: str) -> MediaStore:
    if not setting.startswith("s3://"):
        return MediaStore(LocalFolder(setting))
    block = make_store_block(setting)
    assert isinstance(block, WritableFileSystem)
    return MediaStore(block)


@pytest.fixture
def prefect_api(prefect: PrefectServer) -> Iterator[None]:
    """This process as a client of the server."""
    url, auth = (prefect.environment[name] for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"))
    with temporary_settings(
        {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth, PREFECT_LOGGING_TO_API_ENABLED: False}
    ):
        yield


def test_what_is_written_is_read(store: MediaStore) -> None:
    """Bytes come back as they were, also large ones that S3 takes in parts."""
    large = os.urandom(1024) * 9 * 1024
    store.write(KEY, b"\x00\xffsmall")
    store.write("images/usr_1/job_1/large.png", large)
    assert store.read(KEY) == b"\x00\xffsmall"
    assert store.read("images/usr_1/job_1/large.png") == large


def test_a_large_file_goes_in_and_out_piece_by_piece(store: MediaStore) -> None:
    """Written from a file, in parts where S3 wants them; read by range, here and there, and to its end."""
    large = os.urandom(1024) * 18 * 1024
    store.write_file(KEY, BytesIO(large))
    with closing(store.stream(KEY, stop=len(large))) as whole:
        assert b"".join(whole) == large
    with closing(store.stream(KEY, start=1_000_000, stop=1_000_010)) as part:
        assert list(part) == [large[1_000_000:1_000_010]]
    with closing(store.random_access(KEY, size=len(large))) as file:
        file.seek(-7, os.SEEK_END)
        assert file.read() == large[-7:]
        file.seek(3_000_000)
        assert file.read(2_000_000) == large[3_000_000:5_000_000]


def test_a_missing_file_is_told_before_its_first_byte(store: MediaStore) -> None:
    """As by `read`: whoever streams it has not begun to answer yet."""
    for call in (lambda: store.stream(KEY, stop=1), lambda: store.random_access(KEY, size=1)):
        with pytest.raises(Permanent) as caught:
            call()
        assert caught.value.code == "media_missing"


def test_s3_answers_by_a_link_that_nobody_else_can_make(setting: str, store: MediaStore) -> None:
    """With the type and the name that the link carries; a folder has no address of its own."""
    store.write(KEY, b"a film")
    headers = {"Content-Type": "video/mp4", "Content-Disposition": 'attachment; filename="a.mp4"'}
    link = store.link(KEY, lifetime=timedelta(minutes=5), method="GET", headers=headers)
    if not setting.startswith("s3://"):
        assert link is None
        return
    assert link is not None and "X-Amz-Signature" in link and "X-Amz-Expires=300" in link
    answer = httpx.get(link, headers={"Range": "bytes=2-"}, trust_env=False)
    assert (answer.status_code, answer.content) == (206, b"film")
    assert (answer.headers["Content-Type"], answer.headers["Content-Disposition"]) == tuple(headers.values())


def test_a_key_is_replaced_by_a_second_write(store: MediaStore) -> None:
    """A step that is done again after a crash leaves one whole file, also when the new one is shorter."""
    store.write(KEY, b"first and longer")
    store.write(KEY, b"second")
    assert store.read(KEY) == b"second"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../outside.png",
        "images/../../outside.png",
        "images/./x.png",
        "images//x.png",
        "images/",
        "~/x.png",
        ".hidden",
        "images/.hidden",
        "images\\x.png",
        "images/x\x00.png",
        "images/x\n.png",
        "images/a b.png",
        "images/ü.png",
        "s3://other/x.png",
        "x" * 513,
    ],
)
def test_a_hostile_key_reaches_no_file(store: MediaStore, tmp_path: Path, key: str) -> None:
    """Only plain relative keys are used, for reading and for writing."""
    for call in (lambda: store.write(key, b"x"), lambda: store.read(key)):
        with pytest.raises(Permanent) as caught:
            call()
        assert caught.value.code == "bad_key"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_key_nobody_wrote_is_missing(store: MediaStore) -> None:
    """For good: asking again will not bring it."""
    store.write(KEY, b"x")
    with pytest.raises(Permanent) as caught:
        store.read("images/usr_1/job_1/never.png")
    assert caught.value.code == "media_missing"


def test_it_works_from_tasks_threads_and_under_a_running_loop(store: MediaStore, prefect_api: None) -> None:
    """Prefect's methods turn into coroutines where a loop runs; the store's never do."""

    @task
    def write_in_task(key: str) -> None:
        store.write(key, b"task")

    @flow
    def write_in_flow() -> None:
        write_in_task("a/task.png")
        store.write("a/flow.png", b"flow")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(store.write, "a/thread.png", b"thread").result()

    async def write_under_a_loop() -> None:
        store.write("a/loop.png", b"loop")

    write_in_flow()
    asyncio.run(write_under_a_loop())
    for name in ("task", "flow", "thread", "loop"):
        assert store.read(f"a/{name}.png") == name.encode()


def test_many_threads_share_one_store(store: MediaStore) -> None:
    """The runner stores several pictures at once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.write(f"many/{n}.png", b"%d" % n), range(24)))
        assert list(pool.map(lambda n: store.read(f"many/{n}.png"), range(24))) == [b"%d" % n for n in range(24)]


@pytest.mark.parametrize(
    ("given", "slug"),
    [
        ("/var/lib/darkroom/media", "local-file-system/darkroom-media"),
        ("s3://bucket/prefix", "s3-bucket/darkroom-media"),
        ("block:gcs-bucket/mine", "gcs-bucket/mine"),
    ],
)
def test_a_givennames_its_block(given: str, slug: str) -> None:
    """Darkroom's own under one name, an operator's as it is."""
    assert store_block_slug(given) == slug


def test_a_saved_block_opens_as_the_store_it_was_made_for(setting: str, prefect_api: None) -> None:
    """Made from a setting, saved in Prefect, loaded by name: credentials included."""
    kind, _ = store_block_slug(setting).split("/")
    name = f"media-{uuid4().hex}"
    block = make_store_block(setting)
    block.save(name)
    opened = open_media_store(Settings(store=f"block:{kind}/{name}"))
    opened.write(KEY, b"opened")
    assert MediaStore(block).read(KEY) == b"opened"  # type: ignore[arg-type]


def test_a_block_that_is_not_there_is_named(prefect_api: None) -> None:
    """The error says which one, and what makes it."""
    with pytest.raises(Permanent, match=r"local-file-system/never-saved.*darkroom provision"):
        open_media_store(Settings(store="block:local-file-system/never-saved"))


def test_a_block_that_holds_no_files_is_refused(prefect_api: None) -> None:
    """A setting may name any block; only file systems will do."""
    from prefect.blocks.system import Secret

    Secret(value="x").save("not-a-store", overwrite=True)
    with pytest.raises(Permanent, match="secret/not-a-store") as caught:
        open_media_store(Settings(store="block:secret/not-a-store"))
    assert caught.value.code == "store_misconfigured"


def test_a_file_system_written_by_hand_will_do() -> None:
    """Prefect's interface is async; a plain one is as good."""

    class Memory(WritableFileSystem):
        files: dict[str, bytes] = {}  # noqa: RUF012

        async def read_path(self, path: str) -> bytes:
            return self.files[path]

        def write_path(self, path: str, content: bytes) -> None:  # type: ignore[override]
            self.files[path] = content

    store = MediaStore(Memory())
    store.write(KEY, b"kept")
    assert store.read(KEY) == b"kept"


def test_a_full_or_broken_folder_is_told_from_a_forbidden_one(tmp_path: Path) -> None:
    """A file where a folder should be will not mend itself; the error does not tell where the folder is."""
    (tmp_path / "images").write_bytes(b"in the way")
    with pytest.raises(Permanent) as caught:
        MediaStore(LocalFileSystem(basepath=str(tmp_path))).write(KEY, b"x")
    assert caught.value.code == "store_refused"
    assert str(tmp_path) not in caught.value.message


def test_a_bucket_that_is_not_there_is_waited_for(aws: str) -> None:
    """An operator makes it: what is paid is kept until then, and the reason is told."""
    store = MediaStore(make_store_block("s3://made-in-a-moment/x"))  # type: ignore[arg-type]
    with pytest.raises(Park, match="NoSuchBucket") as caught:
        store.write(KEY, b"x")
    assert caught.value.code == "store_refused"

    boto3.client("s3").create_bucket(Bucket="made-in-a-moment")
    store.probe()


REFUSALS = {
    "the bucket denies": (ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject"), Park, "store_refused"),
    "the keys have run out": (ClientError({"Error": {"Code": "ExpiredToken"}}, "PutObject"), Park, "store_refused"),
    "no keys": (NoCredentialsError(), Park, "store_refused"),
    "the folder is another's": (PermissionError(13, "no"), Park, "store_refused"),
    "the disk is full": (OSError(errno.ENOSPC, "full"), StoreFull, "store_full"),
    "the quota is used up": (OSError(errno.EDQUOT, "quota"), StoreFull, "store_full"),
    "the bucket is full": (ClientError({"Error": {"Code": "XMinioStorageFull"}}, "PutObject"), StoreFull, "store_full"),
    "a block that is none": (TypeError("no"), Permanent, "store_refused"),
}


@pytest.mark.parametrize(("error", "kind", "code"), REFUSALS.values(), ids=REFUSALS)
def test_what_a_person_mends_is_waited_for(error: Exception, kind: type[DarkroomError], code: str) -> None:
    """Only what no mending of the place would change is for good."""

    def write_path(path: str, content: bytes) -> None:
        raise error

    store = MediaStore(SimpleNamespace(write_path=write_path, read_path=write_path))
    with pytest.raises(DarkroomError) as caught:
        store.write(KEY, b"x")
    assert (type(caught.value), caught.value.code) == (kind, code)


def test_a_disk_without_room_keeps_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is written beside its place and renamed, so none is ever empty or half."""
    store = MediaStore(LocalFolder(str(tmp_path)))
    store.write(KEY, b"first")
    written = Path.write_bytes

    def half(self: Path, content: bytes) -> int:
        written(self, content[:1])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", half)
    for key in (KEY, "images/usr_1/job_2/generate-0.png"):
        with pytest.raises(StoreFull):
            store.write(key, b"second")
    with pytest.raises(StoreFull):
        store.probe()

    assert {file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == {b"first"}


def test_a_store_that_is_down_is_tried_again(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is an outage, and the error comes within seconds."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    store = MediaStore(make_store_block(f"s3://{BUCKET}"))  # type: ignore[arg-type]
    with pytest.raises(Park) as caught:
        store.write(KEY, b"x")
    assert caught.value.code == "store_unavailable"


def test_temporary_keys_are_not_saved_with_the_block(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be stale within hours; without them boto3 asks the environment of whoever uses the block."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for an hour")
    block = make_store_block(f"s3://{BUCKET}")
    assert "for an hour" not in repr(block)
    assert block.credentials.aws_access_key_id is None  # type: ignore[attr-defined]
    MediaStore(block).write(KEY, b"x")  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["block:gcs-bucket/mine", "s3://", "s3:///prefix"])
def test_what_cannot_be_made_is_refused(given: str) -> None:
    """Operators' own blocks are theirs to save, and a bucket needs a name."""
    with pytest.raises(BadInput):
        make_store_block(given)
