"""The fal block against the simulator, under fal's own addresses: what it does on the wire, faults included."""

from __future__ import annotations

import gc
import io
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import pytest
from PIL import Image
from simulated_fal import Receiver, SimulatedFal
from support import wait_until

from darkroom.clock import utc_now
from darkroom.errors import (
    DarkroomError,
    OutOfMoney,
    Park,
    Permanent,
    RateLimited,
    Refused,
    Retry,
    SubmitUnknown,
    Unverified,
)
from darkroom.media.fetching import fetch_file
from darkroom.providers.fal import (
    Fal,
    Jwks,
    ProviderResult,
    Submitted,
    classify_webhook_error,
)
from darkroom.providers.fal.account import FILE_HOSTS
from darkroom.providers.models import find_model
from darkroom.providers.outcomes import is_outcome
from darkroom.providers.webhooks import Rejection, WebhookRejected

DEV = "fal-ai/flux/dev"
SIZE = {"width": 320, "height": 192}


@pytest.fixture
def client(simulator: SimulatedFal) -> Iterator[Fal]:
    with Fal("sim:key") as fal:
        yield fal


@pytest.fixture
def prompt() -> str:
    """One of its own, so that rules of one test meet no other's requests."""
    return f"a fox {uuid.uuid4().hex}"


def submit(client: Fal, prompt: str, *, webhook_url: str | None = None, **arguments: Any) -> Submitted:
    checked = find_model(DEV).validate({"prompt": prompt, "image_size": SIZE, **arguments})
    return client.submit(DEV, checked, webhook_url=webhook_url, start_timeout=timedelta(minutes=5))


def finished(client: Fal, prompt: str, **arguments: Any) -> str:
    request_id = submit(client, prompt, **arguments).request_id
    wait_until(lambda: client.status(DEV, request_id).state == "COMPLETED")
    return request_id


def failure(call: Callable[[], object]) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        call()
    return caught.value


def test_a_picture_comes_out_of_the_queue(client: Fal, prompt: str) -> None:
    """Submit, status, result, download: every byte verified, the size as asked, the cost as billed."""
    result: ProviderResult = client.result(DEV, finished(client, prompt, seed=7, num_images=2))
    model = find_model(DEV)
    files = model.files(result.output)
    images = [fetch_file(file.url, hosts=FILE_HOSTS) for file in files]
    assert [(image.width, image.height) for image in images] == [(320, 192)] * 2
    assert [(file.width, file.height, file.content_type) for file in files] == [(320, 192, "image/jpeg")] * 2
    assert images[0].sha256 != images[1].sha256
    assert result.billable_units == 2
    assert model.cost({"prompt": prompt}, result.output, result.billable_units) == Decimal("0.05")


@pytest.mark.parametrize(("output_format", "extension"), [("jpeg", "jpg"), ("png", "png"), ("webp", "webp")])
def test_every_format_a_model_offers_can_be_fetched(client: Fal, output_format: str, extension: str) -> None:
    """What the catalogue lets people ask for is what the file check lets in."""
    endpoint = "openai/gpt-image-2"
    model = find_model(endpoint)
    checked = model.validate({"prompt": "a fox", "quality": "low", "output_format": output_format})
    made = client.submit(endpoint, checked, webhook_url=None, start_timeout=timedelta(minutes=5))
    wait_until(lambda: client.status(endpoint, made.request_id).state == "COMPLETED")
    (file,) = model.files(client.result(endpoint, made.request_id).output)
    assert fetch_file(file.url, hosts=FILE_HOSTS).extension == extension


def test_a_waiting_request_shows_its_place_and_can_be_taken_out(
    simulator: SimulatedFal, client: Fal, prompt: str
) -> None:
    """Two run, the third waits; cancelled in the queue it never runs, and a cancel that comes late says so."""
    simulator.rule(match=prompt, hold=True)
    ids = [submit(client, prompt).request_id for _ in range(3)]
    wait_until(lambda: client.status(DEV, ids[1]).state == "IN_PROGRESS")
    waiting = client.status(DEV, ids[2])
    assert (waiting.state, waiting.queue_position) == ("IN_QUEUE", 0)
    assert failure(lambda: client.result(DEV, ids[2])).code == "in_progress"
    assert client.cancel(DEV, ids[2]) == "requested"
    wait_until(lambda: client.status(DEV, ids[2]).state == "COMPLETED")
    error = failure(lambda: client.result(DEV, ids[2]))
    assert (type(error), error.code, is_outcome(error)) == (Permanent, "client_cancelled", True)
    for request_id in ids[:2]:
        simulator.release(request_id)
        wait_until(lambda request_id=request_id: client.status(DEV, request_id).state == "COMPLETED")
        assert client.cancel(DEV, request_id) == "already_completed"


def test_a_request_of_nobody_is_not_found(client: Fal) -> None:
    """Unknown ids are told apart from failures by every call."""
    unknown = str(uuid.uuid4())
    assert client.status(DEV, unknown).state == "NOT_FOUND"
    assert client.cancel(DEV, unknown) == "not_found"
    assert client.confirm(DEV, unknown) is False
    error = failure(lambda: client.result(DEV, unknown))
    assert (error.code, is_outcome(error)) == ("not_found", False)


def test_a_request_is_confirmed_as_ours_with_our_key_only(client: Fal, prompt: str) -> None:
    """The id is good from the first moment, under its own endpoint."""
    request_id = submit(client, prompt).request_id
    assert client.confirm(DEV, request_id) is True
    assert client.confirm("openai/gpt-image-2", request_id) is False
    with Fal("not:ours") as stranger:
        error = failure(lambda: stranger.confirm(DEV, request_id))
    assert (type(error), error.code) == (Retry, "unauthorized")


def test_a_cut_answer_leaves_one_job(simulator: SimulatedFal, client: Fal, prompt: str) -> None:
    """The submit is unknown, and it was sent once."""
    simulator.rule(match=prompt, submit="cut")
    assert type(failure(lambda: submit(client, prompt))) is SubmitUnknown
    assert len(simulator.requests(prompt)) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("429", RateLimited, "rate_limited"),
        ("500_fal", Retry, "internal_error"),
        ("503_nginx", Park, "provider_down"),
        ("403_locked", OutOfMoney, "balance_exhausted"),
    ],
)
def test_a_refused_submit_leaves_no_job(
    simulator: SimulatedFal, client: Fal, prompt: str, fault: str, kind: type[DarkroomError], code: str
) -> None:
    """Each refusal says what to do next; the pace of a 429 is fal's."""
    simulator.rule(match=prompt, submit=fault, retry_after=3)
    error = failure(lambda: submit(client, prompt))
    assert (type(error), error.code) == (kind, code)
    assert error.retry_after == (timedelta(seconds=3) if kind is RateLimited else None)
    assert simulator.requests(prompt) == []


@pytest.mark.parametrize(("mode", "code"), [("nginx", "provider_down"), ("refuse", "unreachable")])
def test_an_outage_parks_while_it_lasts(
    simulator: SimulatedFal, client: Fal, prompt: str, mode: str, code: str
) -> None:
    """Whether the entrance answers or nobody does: nothing was sent, and nobody waits for its end."""
    request_id = submit(client, prompt).request_id
    simulator.outage(60, mode=mode)
    with Fal("sim:key") as fresh:
        errors = [failure(lambda: submit(fresh, prompt)), failure(lambda: fresh.status(DEV, request_id))]
    assert [(type(error), error.code) for error in errors] == [(Park, code)] * 2
    simulator.outage(0)
    assert client.confirm(DEV, request_id)


def test_a_proxy_that_is_not_there_parks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection to the proxy: nothing has left this machine."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Fal("sim:key") as fal:
        assert failure(lambda: submit(fal, "a fox")).code == "unreachable"


@pytest.mark.parametrize(
    ("fault", "kind", "code", "ended"),
    [
        ("422_content_policy", Permanent, "content_policy_violation", True),
        ("500", Retry, "internal_server_error", True),
        ("504_once", Retry, "transient", False),
        ("error:startup_timeout", Retry, "startup_timeout", True),
        ("error:bad_request", Permanent, "bad_request", True),
    ],
)
def test_a_result_may_be_a_failure(
    simulator: SimulatedFal, client: Fal, prompt: str, fault: str, kind: type[DarkroomError], code: str, ended: bool
) -> None:
    """COMPLETED is no success; the GET decides, and tells an end from a stumble. The prompt is never repeated."""
    simulator.rule(match=prompt, result=fault)
    request_id = finished(client, prompt)
    error = failure(lambda: client.result(DEV, request_id))
    assert (type(error), error.code, is_outcome(error)) == (kind, code, ended)
    assert prompt not in error.message
    if fault == "504_once":
        assert client.result(DEV, request_id).output["images"]


def test_one_client_serves_many_threads(simulator: SimulatedFal, client: Fal, prompt: str) -> None:
    """As many jobs as submits, each with an id of its own."""
    with ThreadPoolExecutor(12) as pool:
        ids = {made.request_id for made in pool.map(lambda _: submit(client, prompt), range(24))}
    assert len(ids) == len(simulator.requests(prompt)) == 24


def test_an_upload_can_be_fetched_again(simulator: SimulatedFal, client: Fal) -> None:
    """The URL is public and under fal's file hosts, the bytes are the same, and it has an end."""
    out = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(out, "PNG")
    day = timedelta(days=1)
    url = client.upload(out.getvalue(), content_type="image/png", file_name="teal.png", lifetime=day)
    assert fetch_file(url, hosts=FILE_HOSTS).content == out.getvalue()
    (uploaded,) = simulator.operator.get("/uploads", params={"match": url}).json()
    assert uploaded["lifetime_seconds"] == day.total_seconds()


def test_uploads_share_a_connection_that_is_closed(simulator: SimulatedFal) -> None:
    """From several threads at once; a connection that nobody closes would be a warning, and so an error here."""
    with Fal("sim:key") as fal, ThreadPoolExecutor(4) as pool:
        upload = partial(fal.upload, content_type="text/plain", file_name="x.txt", lifetime=timedelta(hours=1))
        urls = set(pool.map(upload, [b"x"] * 8))
    assert len(urls) == 8
    gc.collect()


def test_an_upload_with_a_bad_key_is_a_lasting_failure(simulator: SimulatedFal) -> None:
    """fal_client's own errors do not come through."""
    with Fal("not:ours") as stranger:
        error = failure(
            lambda: stranger.upload(b"x", content_type="text/plain", file_name="x", lifetime=timedelta(hours=1))
        )
    assert (type(error), error.code) == (Permanent, "unauthorized")


def test_an_upload_that_fails_can_be_tried_again(
    simulator: SimulatedFal, client: Fal, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad moment of fal's CDN is no lasting failure, as the older way would be that fal_client turns to."""
    monkeypatch.setattr("fal_client.client.CDN_URL", receiver.url.partition("/webhooks")[0])
    receiver.answers = [500]
    upload = partial(client.upload, b"x", content_type="text/plain", file_name="x", lifetime=timedelta(hours=1))
    assert type(failure(upload)) is Retry


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("missing", Retry, "file_missing"),
        ("truncated", Unverified, "file_unverified"),
        ("cut_short", Unverified, "file_unverified"),
        ("html", Refused, "wrong_type"),
        ("foreign_host", Refused, "foreign_host"),
        ("redirect", Refused, "foreign_host"),
        ("huge", Refused, "too_large"),
        ("huge_undeclared", Refused, "too_large"),
        ("pixel_bomb", Refused, "too_many_pixels"),
    ],
)
def test_a_bad_file_is_not_let_in(
    simulator: SimulatedFal, client: Fal, prompt: str, fault: str, kind: type[DarkroomError], code: str
) -> None:
    """Over a real connection each fault has its name; none shows the key to a file host."""
    simulator.rule(match=prompt, file=fault, file_bytes=8 * 1024**2)
    (file,) = find_model(DEV).files(client.result(DEV, finished(client, prompt)).output)
    before = simulator.stats()["cdn_reads_with_key"]
    error = failure(lambda: fetch_file(file.url, hosts=FILE_HOSTS, max_bytes=4 * 1024**2))
    assert (type(error), error.code) == (kind, code)
    assert simulator.stats()["cdn_reads_with_key"] == before


def test_a_file_that_was_cut_once_is_whole_the_next_time(simulator: SimulatedFal, client: Fal, prompt: str) -> None:
    """Unverified is a Retry because this happens."""
    simulator.rule(match=prompt, file="truncated_once")
    (file,) = find_model(DEV).files(client.result(DEV, finished(client, prompt)).output)
    assert type(failure(lambda: fetch_file(file.url, hosts=FILE_HOSTS))) is Unverified
    assert fetch_file(file.url, hosts=FILE_HOSTS).width == 320


def test_fals_webhooks_are_believed_before_and_after_a_rotation(
    simulator: SimulatedFal, client: Fal, prompt: str, receiver: Receiver
) -> None:
    """Signature, ids and payload of what really arrives; the keys come from fal's own address."""
    now = 0.0
    jwks = Jwks(clock=lambda: now)
    for number, user_token in enumerate(["one", "two"], 1):
        request_id = submit(client, prompt, webhook_url=f"{receiver.url}&turn={user_token}").request_id
        received = receiver.wait_for(number)[-1]
        envelope = jwks.verify(received.headers, received.body, utc_now())
        assert (envelope.request_id, envelope.user_id, envelope.status) == (request_id, "sim-user", "OK")
        assert find_model(DEV).files(envelope.payload or {})
        assert received.path.endswith(f"token=abc&turn={user_token}")
        simulator.rotate()
        simulator.rotate()
        now += 60


@pytest.mark.parametrize(("fault", "reason"), [("forged", Rejection.BAD_SIGNATURE), ("old", Rejection.STALE)])
def test_false_webhooks_are_rejected(
    simulator: SimulatedFal, client: Fal, prompt: str, receiver: Receiver, fault: str, reason: Rejection
) -> None:
    """Not signed by fal, or not lately."""
    simulator.rule(match=prompt, webhook=fault)
    submit(client, prompt, webhook_url=receiver.url)
    received = receiver.wait_for(1)[0]
    with pytest.raises(WebhookRejected) as caught:
        Jwks().verify(received.headers, received.body, utc_now())
    assert caught.value.reason is reason


def test_another_accounts_webhook_names_its_account(
    simulator: SimulatedFal, client: Fal, prompt: str, receiver: Receiver
) -> None:
    """fal signs for all its customers, so the user id is what the caller has to compare."""
    simulator.rule(match=prompt, webhook="other_account")
    submit(client, prompt, webhook_url=receiver.url)
    received = receiver.wait_for(1)[0]
    assert Jwks().verify(received.headers, received.body, utc_now()).user_id != "sim-user"


def test_an_error_webhook_carries_the_providers_words(
    simulator: SimulatedFal, client: Fal, prompt: str, receiver: Receiver
) -> None:
    """The same class, code and message as the result GET gives."""
    simulator.rule(match=prompt, result="422_content_policy")
    request_id = submit(client, prompt, webhook_url=receiver.url).request_id
    received = receiver.wait_for(1)[0]
    envelope = Jwks().verify(received.headers, received.body, utc_now())
    told = classify_webhook_error({"error": envelope.error, "payload": envelope.payload})
    asked = failure(lambda: client.result(DEV, request_id))
    assert envelope.status == "ERROR"
    assert (type(told), told.code, told.message) == (type(asked), asked.code, asked.message)


def test_a_success_without_payload_is_fetched(
    simulator: SimulatedFal, client: Fal, prompt: str, receiver: Receiver
) -> None:
    """OK with a null payload says why; the result is where it always is."""
    simulator.rule(match=prompt, webhook="null_payload")
    request_id = submit(client, prompt, webhook_url=receiver.url).request_id
    received = receiver.wait_for(1)[0]
    envelope = Jwks().verify(received.headers, received.body, utc_now())
    assert (envelope.status, envelope.payload) == ("OK", None)
    assert envelope.payload_error
    assert client.result(DEV, request_id).output["images"]


def test_keys_that_cannot_be_fetched_ask_the_sender_to_come_again(simulator: SimulatedFal) -> None:
    """Without keys nothing can be told, so it is neither believed nor turned away for good."""
    simulator.outage(60)
    assert failure(Jwks().keys).code == "jwks_unavailable"


def test_the_simulators_certificate_is_checked(simulator: SimulatedFal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared TLS context follows SSL_CERT_FILE: without it the same address is not trusted."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with Fal("sim:key") as fal:
        error = failure(lambda: submit(fal, "a fox"))
    assert (error.code, type(error.__cause__)) == ("unreachable", httpx.ConnectError)
