"""`GET /v1/stream`: what happens, to whoever may hear it, each once and nothing missed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ledger_scenes import granted_picture, post
from running_gateway import NO_PREFECT, GivenBlocks, RunningGateway, gateway_process, running_gateway
from streams import reading
from support import SLOW, free_port, wait_until

from darkroom.clock import utc_now
from darkroom.deployments.gateway import stream_tokens
from darkroom.deployments.gateway.loops import news_feed
from darkroom.deployments.gateway.stream_tokens import ReadToken, read_token, write_token
from darkroom.ledger import JobStatus, Ledger, NewKey, StoredFile
from darkroom.ledger.keys import digest
from darkroom.settings import Settings

FILE = StoredFile(key="a.png", sha256="0" * 64, content_type="image/png", bytes=3, width=64, height=32)


@pytest.fixture
def settings(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PREFECT_API_URL", NO_PREFECT)
    return Settings(ledger_url=ledger_url, home=tmp_path, signing_key="a long random text", time_scale=0.2)  # type: ignore[arg-type]


@pytest.fixture
def gateway(settings: Settings) -> Iterator[RunningGateway]:
    with running_gateway(settings, blocks=GivenBlocks()) as gateway:
        yield gateway


@pytest.fixture
def ann(ledger: Ledger) -> NewKey:
    return ledger.users.add("ann")


def finish(ledger: Ledger, user_id: str) -> str:
    job = post(ledger, user_id)
    ledger.jobs.finish(job.id, JobStatus.COMPLETED)
    return job.id


def token(gateway: RunningGateway, key: str, *, body: object = None, **headers: str) -> dict[str, Any]:
    given = {"Authorization": f"Bearer {key}"} | headers
    answer = gateway.http.post("/v1/stream-tokens", json=body, headers=given)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_what_happens_is_heard_as_it_happens(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """From order to end, with a link to the file that needs no key; and from then on only what comes."""
    finish(ledger, ann.user_id)
    with reading(f"{gateway.url}/v1/stream", key=ann.key) as reader:
        picture = granted_picture(ledger, ann.user_id)
        ledger.jobs.take_up([picture.job_id])
        ledger.jobs.progress(picture.job_id, 50, "paints")
        ledger.assets.add(picture.job, ref=None, step="generate", n=0, file=FILE)
        ledger.jobs.finish(picture.job_id, JobStatus.COMPLETED)
        reader.until("job.completed")
    assert reader.events == ["job.created", "job.running", "job.progress", "asset.stored", "job.completed"]
    assert {(each["job_id"], each["kind"], each["user_id"]) for each in reader.news} == {
        (picture.job_id, "generate-image", ann.user_id)
    }
    assert reader.news[2]["data"] == {"percent": 50, "text": "paints"}
    assert "signature=" in reader.news[3]["data"]["url"]


@pytest.mark.parametrize("by", ["Last-Event-ID", "after"])
def test_a_reader_goes_on_where_it_stood(gateway: RunningGateway, ledger: Ledger, ann: NewKey, by: str) -> None:
    """By the header, which goes before the query's number: a browser sends both."""
    jobs = [finish(ledger, ann.user_id) for _ in range(news_feed.MOST_READ)]  # more than one page of two each
    with reading(f"{gateway.url}/v1/stream", key=ann.key, after=0) as reader:
        reader.until("job.completed", times=len(jobs))
    assert [each["job_id"] for each in reader.news if each["event"] == "job.created"] == jobs
    assert reader.numbers == sorted(set(reader.numbers))
    last = reader.numbers[9]
    given: dict[str, Any] = {"after": last} if by == "after" else {"after": 0, "headers": {"Last-Event-ID": str(last)}}
    with reading(f"{gateway.url}/v1/stream", key=ann.key, **given) as again:
        again.until("job.completed", times=len(jobs) - 5)
    assert again.numbers == reader.numbers[10:]


def test_everybody_hears_their_own(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """A service hears all its end users by its own ids of them, or the one that it names."""
    shop = ledger.users.add("shop", service=True)
    users = {name: ledger.users.end_user(shop.user_id, name).id for name in ("4711", "4712")}
    url = f"{gateway.url}/v1/stream"
    with (
        reading(url, key=ann.key) as own,
        reading(url, key=shop.key) as all_of_them,
        reading(url, key=shop.key, headers={"Darkroom-User": "4712"}) as one,
    ):
        for user_id in (*users.values(), ann.user_id, users["4712"]):
            finish(ledger, user_id)
        own.until("job.completed")
        all_of_them.until("job.completed", times=3)
        one.until("job.completed", times=2)
    assert {each["user_id"] for each in own.news} == {ann.user_id}
    assert [each["user"] for each in all_of_them.news if each["event"] == "job.completed"] == ["4711", "4712", "4712"]
    assert {each["user_id"] for each in one.news} == {users["4712"]}


def test_a_stream_can_be_of_one_job_and_some_events(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """Live as well as what was told before; a name that is none is refused, with those that are."""
    first = finish(ledger, ann.user_id)
    url = f"{gateway.url}/v1/stream"
    with (
        reading(url, key=ann.key, after=0, topic=["job.completed", "asset"]) as ends,
        reading(url, key=ann.key, after=0, job=first) as one,
    ):
        second = finish(ledger, ann.user_id)
        ends.until("job.completed", times=2)
    assert [each["job_id"] for each in ends.news] == [first, second]
    assert one.events == ["job.created", "job.completed"]
    refused = gateway.as_user(ann).get("/v1/stream?topic=jobs")
    assert (refused.status_code, refused.json()["field"]) == (422, "topic")
    refused = gateway.as_user(ann).get("/v1/stream", Last_Event_ID="x")
    assert (refused.status_code, refused.json()["field"]) == (422, "Last-Event-ID")


def test_a_browser_reads_with_a_token(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """In the address or in a cookie; it reads one user's stream, or one job's, and does nothing else."""
    job, other = finish(ledger, ann.user_id), finish(ledger, ann.user_id)
    whole, one = token(gateway, ann.key), token(gateway, ann.key, body={"job": job})
    url = f"{gateway.url}/v1/stream"
    for given in ({"token": whole["token"]}, {"headers": {"Cookie": f"darkroom_stream={whole['token']}"}}):
        with reading(url, after=0, **given) as reader:
            reader.until("job.completed", times=2)
    with reading(url, token=one["token"], after=0) as reader:
        reader.until("job.completed")
        assert reader.response.headers["Access-Control-Allow-Origin"] == "*"
        assert {each["job_id"] for each in reader.news} == {job}
    assert one["url"].endswith(f"/v1/stream?token={one['token']}")
    assert gateway.http.get("/v1/stream", params={"token": one["token"], "job": other}).status_code == 403
    assert gateway.as_user(one["token"]).get("/v1/jobs").status_code == 401
    somebody_elses = post(ledger, ledger.users.add("bob").user_id).id
    refused = gateway.http.post(
        "/v1/stream-tokens", json={"job": somebody_elses}, headers={"Authorization": f"Bearer {ann.key}"}
    )
    assert refused.status_code == 404


def test_a_services_token_is_for_one_end_user(gateway: RunningGateway, ledger: Ledger) -> None:
    """Also where it names none: never for all."""
    shop = ledger.users.add("shop", service=True)
    theirs = ledger.users.end_user(shop.user_id, "4711").id
    finish(ledger, theirs)
    with (
        reading(f"{gateway.url}/v1/stream", token=token(gateway, shop.key)["token"], after=0) as nobodys,
        reading(
            f"{gateway.url}/v1/stream",
            token=token(gateway, shop.key, **{"Darkroom-User": "4711"})["token"],
            after=0,
        ) as reader,
    ):
        reader.until("job.completed")
    assert nobodys.news == []


def test_a_token_is_good_for_an_hour_and_for_what_it_says(settings: Settings) -> None:
    """One that was changed, one signed elsewhere and one that has run out open nothing."""
    now = utc_now()
    ours = ReadToken(user_id="u1", job_id=None, expires=int((now + timedelta(hours=1)).timestamp()), key="0" * 64)
    written = write_token(ours, settings)
    assert read_token(written, settings, now=now) == ours
    assert len(written) < stream_tokens.LONGEST
    assert read_token(written, settings, now=now + timedelta(hours=1)) is None
    payload, _, signature = write_token(ReadToken(**vars(ours) | {"user_id": "u2"}), settings).partition(".")
    elsewhere = settings.model_copy(update={"signing_key": type(settings.signing_key)("another")})
    for forged in (f"{payload}.{written.partition('.')[2]}", write_token(ours, elsewhere), f"{payload}.", "", "é.é"):
        assert read_token(forged, settings, now=now) is None
    assert signature


def test_a_stream_ends_with_its_key(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """And with the key of which it has its token; those of others go on. Neither is opened again."""
    bob = ledger.users.add("bob")
    given = token(gateway, ann.key)["token"]
    url = f"{gateway.url}/v1/stream"
    with (
        reading(url, key=ann.key) as by_key,
        reading(url, token=given) as by_token,
        reading(url, key=bob.key) as other,
    ):
        ledger.users.revoke("ann")
        by_key.until_it_ends()
        by_token.until_it_ends()
        finish(ledger, bob.user_id)
        other.until("job.completed")
    assert ": its key holds no longer" in by_key.said
    for answer in (gateway.as_user(ann).get("/v1/stream"), gateway.http.get("/v1/stream", params={"token": given})):
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "revoke", [lambda ledger, key: ledger.keys.revoke(key.id), lambda ledger, _: ledger.users.revoke("ann")]
)
def test_a_revoked_keys_stream_waits_for_no_look(
    settings: Settings, ledger: Ledger, ann: NewKey, revoke: Callable[[Ledger, NewKey], object]
) -> None:
    """The gateways are told: by itself this one would look in ten minutes."""
    rarely = settings.model_copy(update={"time_scale": 600})
    with (
        running_gateway(rarely, blocks=GivenBlocks()) as gateway,
        reading(f"{gateway.url}/v1/stream", key=ann.key) as reader,
    ):
        finish(ledger, ann.user_id)
        reader.until("job.completed")
        revoke(ledger, ann)
        reader.until_it_ends()
    assert ": its key holds no longer" in reader.said


def test_a_stream_ends_with_its_token(gateway: RunningGateway, ledger: Ledger, ann: NewKey, settings: Settings) -> None:
    """At its hour's end."""
    soon = int((utc_now() + timedelta(seconds=3)).timestamp())
    key = digest(ann.key)
    given = write_token(ReadToken(user_id=ann.user_id, job_id=None, expires=soon, key=key), settings)
    with reading(f"{gateway.url}/v1/stream", token=given) as reader:
        reader.until_it_ends()
    assert ": its token holds no longer" in reader.said


def test_a_reader_that_is_too_slow_is_cut_off_and_loses_nothing(
    settings: Settings, ledger: Ledger, ann: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told when to come back; others are not held up."""
    monkeypatch.setattr(news_feed, "MOST_WAITING", 20)
    monkeypatch.setattr(news_feed, "MOST_READ", 50)  # one round is more than it keeps
    with running_gateway(settings, blocks=GivenBlocks()) as gateway:
        url = f"{gateway.url}/v1/stream"
        with reading(url, key=ann.key) as slow:
            with ledger._engine.begin() as connection:  # so many in one commit
                connection.exec_driver_sql(
                    "INSERT INTO notification (user_id, event, created_at) "
                    "SELECT %s, 'job.created', now() FROM generate_series(1, 40)",
                    (ann.user_id,),
                )
            slow.until_it_ends()
        assert ": its reader is too slow" in slow.said and slow.said[-2].startswith("retry: ")
        last = slow.numbers[-1] if slow.numbers else 0
        with reading(url, key=ann.key, after=last) as again:
            again.until("job.created", times=40 - len(slow.numbers))
    assert len({*slow.numbers, *again.numbers}) == 40


def test_one_user_has_a_bounded_number_of_streams(
    gateway: RunningGateway, ledger: Ledger, ann: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were closed do not count, and others have their own."""
    monkeypatch.setattr(news_feed, "MOST_OF_ONE", 1)
    url, bob = f"{gateway.url}/v1/stream", ledger.users.add("bob")
    with reading(url, key=ann.key), reading(url, key=bob.key):
        refused = gateway.as_user(ann).get("/v1/stream")
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:darkroom:problem:too-many-streams")

    def reopened() -> bool:
        with gateway.http.stream("GET", url, headers={"Authorization": f"Bearer {ann.key}"}) as answer:
            return answer.status_code == 200

    wait_until(reopened, what="the end of the first stream")


@pytest.fixture
def environment(ledger_url: str, tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "DARKROOM_LEDGER_URL": ledger_url,
        "DARKROOM_HOME": str(tmp_path),
        "DARKROOM_SIGNING_KEY": "a long random text",
        "PREFECT_API_URL": NO_PREFECT,
    }


def test_a_gateway_that_is_told_to_end_ends_its_streams(
    environment: dict[str, str], ledger: Ledger, ann: NewKey, tmp_path: Path
) -> None:
    """With the word when to come back, and long before it would be made to. No token is in its log."""
    with gateway_process(environment, tmp_path / "log") as gateway:
        given = token(gateway, ann.key)["token"]
        url = f"{gateway.url}/v1/stream"
        with reading(url, key=ann.key) as by_key, reading(url, token=given) as by_token:
            finish(ledger, ann.user_id)
            by_token.until("job.completed")
            gateway.process.send_signal(signal.SIGTERM)
            for reader in (by_key, by_token):
                reader.until_it_ends()
                assert reader.said[-3] == ": this gateway goes" and reader.said[-2].startswith("retry: ")
        assert gateway.process.wait(SLOW * 10) == -signal.SIGTERM  # as the server ends when it has finished
    log = (tmp_path / "log").read_text()
    assert "Cancel" not in log and "Traceback" not in log  # the server has cancelled nothing
    assert given not in log and given.partition(".")[2] not in log


def test_a_reader_misses_nothing_where_the_gateway_is_killed(
    environment: dict[str, str], ledger: Ledger, ann: NewKey, tmp_path: Path
) -> None:
    """It goes on from its last number at the gateway that follows, while jobs end all the time: each once."""
    port, done, heard = free_port(), threading.Event(), list[dict[str, Any]]()

    def work() -> list[str]:
        jobs = []
        while not done.is_set():
            jobs.append(finish(ledger, ann.user_id))
        return jobs

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(work)
        for _ in range(2):
            with gateway_process(environment, tmp_path / "log", port=port) as gateway:
                given = {"headers": {"Last-Event-ID": str(heard[-1]["number"])}} if heard else {"after": 0}
                with reading(f"{gateway.url}/v1/stream", key=ann.key, **given) as reader:
                    reader.until("job.completed", times=20)
                    gateway.process.kill()
                    reader.until_it_ends()
                heard += reader.news
        done.set()
        jobs = ended.result()
    with gateway_process(environment, tmp_path / "log", port=port) as gateway:
        with reading(f"{gateway.url}/v1/stream", key=ann.key, after=heard[-1]["number"]) as reader:
            wait_until(lambda: len(heard) + len(reader.news) >= 2 * len(jobs), what="the rest")
        heard += reader.news
    numbers = [each["number"] for each in heard]
    assert numbers == sorted(set(numbers))
    assert [each["job_id"] for each in heard if each["event"] == "job.completed"] == jobs
