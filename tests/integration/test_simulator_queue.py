"""The simulator's queue, driven by fal's own client where that speaks the call, else by plain HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import fal_client
import httpx
import pytest
from fal_client.client import FalClientHTTPError
from simulated_fal import SimulatedFal, fal_client_with
from support import wait_until

DEV = "fal-ai/flux/dev"
QUEUE = "https://queue.fal.run"
RUN = "https://fal.run"


@pytest.fixture
def http(simulator: SimulatedFal) -> Iterator[httpx.Client]:
    with httpx.Client(headers={"Authorization": "Key sim:key"}) as client:
        yield client


def a_prompt() -> str:
    return f"a fox {uuid.uuid4().hex}"


def held(simulator: SimulatedFal, fal: fal_client.SyncClient, number: int) -> list[Any]:
    """Requests that fill the account's slots until they are released."""
    prompt = a_prompt()
    simulator.rule(match=prompt, hold=True)
    handles = [fal.submit(DEV, {"prompt": prompt}) for _ in range(number)]
    wait_until(lambda: all(isinstance(handle.status(), fal_client.InProgress) for handle in handles))
    return handles


def finish(simulator: SimulatedFal, handles: list[Any]) -> None:
    for handle in handles:
        simulator.release(handle.request_id)
        handle.get(interval=0.02)


def test_a_request_goes_through_the_queue_and_yields_its_output(fal: fal_client.SyncClient) -> None:
    """fal's own client submits, polls and gets the output object of the model."""
    prompt = a_prompt()
    output = fal.subscribe(DEV, {"prompt": prompt, "seed": 7, "num_images": 2})
    assert output["prompt"] == prompt
    assert output["seed"] == 7
    assert [(image["width"], image["height"]) for image in output["images"]] == [(1024, 768)] * 2
    assert output["has_nsfw_concepts"] == [False, False]


def test_gpt_image_2_returns_images_only(fal: fal_client.SyncClient) -> None:
    """openai/gpt-image-2 has no seed to report."""
    assert set(fal.subscribe("openai/gpt-image-2", {"prompt": a_prompt()})) == {"images"}


def test_requests_beyond_the_accounts_slots_wait_in_order(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Two run, the others are told their position; the first to come is the first to go."""
    running = held(simulator, fal, 2)
    waiting = [fal.submit(DEV, {"prompt": a_prompt()}) for _ in range(3)]
    assert [handle.status() for handle in waiting] == [fal_client.Queued(position=n) for n in range(3)]
    finish(simulator, running)
    started = [simulator.operator.get(f"/requests/{handle.request_id}") for handle in waiting if handle.get()]
    times = [row.json()["started_at"] for row in started]
    assert times == sorted(times)
    assert simulator.stats()["max_in_progress_by_account"]["sim-user"] == 2
    assert simulator.stats()["max_open_by_account"]["sim-user"] >= 5


def test_a_queued_request_can_be_cancelled_and_never_runs(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Removed from the queue: over, never started, its result says client_cancelled."""
    running = held(simulator, fal, 2)
    handle = fal.submit(DEV, {"prompt": a_prompt()})
    answer = httpx.put(
        f"{QUEUE}/fal-ai/flux/requests/{handle.request_id}/cancel", headers={"Authorization": "Key sim:key"}
    )
    assert (answer.status_code, answer.json()) == (200, {"status": "OK"})
    assert handle.status().error_type == "client_cancelled"
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get()
    assert caught.value.status_code == 499
    assert simulator.operator.get(f"/requests/{handle.request_id}").json()["started_at"] is None
    finish(simulator, running)


def test_a_running_request_runs_on_when_cancelled(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Cancelling is only a signal, which models do not act on."""
    (handle,) = held(simulator, fal, 1)
    handle.cancel()
    assert isinstance(handle.status(), fal_client.InProgress)
    simulator.release(handle.request_id)
    assert handle.get()["images"]


def test_a_finished_request_cannot_be_cancelled(fal: fal_client.SyncClient) -> None:
    """400 ALREADY_COMPLETED."""
    handle = fal.submit(DEV, {"prompt": a_prompt()})
    handle.get()
    with pytest.raises(FalClientHTTPError) as caught:
        handle.cancel()
    assert caught.value.response.json() == {"status": "ALREADY_COMPLETED"}


def test_status_and_result_carry_fals_codes_and_headers(simulator: SimulatedFal, http: httpx.Client) -> None:
    """202 and 400 while in progress; then 200 with the request's id and its billable units."""
    prompt = a_prompt()
    simulator.rule(match=prompt, hold=True)
    size = {"width": 1536, "height": 1024}
    submitted = http.post(f"{QUEUE}/{DEV}", json={"prompt": prompt, "image_size": size, "num_images": 2}).json()
    assert submitted["status"] == "IN_QUEUE"
    assert "gateway_request_id" not in submitted
    status = wait_until(lambda: _in_progress(http.get(submitted["status_url"], params={"logs": 1})))
    assert status.status_code == 202
    assert status.json()["logs"][0]["message"]
    early = http.get(submitted["response_url"])
    assert (early.status_code, early.json()["detail"]) == (400, "Request is still in progress")
    simulator.release(submitted["request_id"])
    wait_until(lambda: http.get(submitted["status_url"]).status_code == 200)
    result = http.get(submitted["response_url"])
    assert result.headers["x-fal-request-id"] == submitted["request_id"]
    assert result.headers["x-fal-billable-units"] == "4"


def _in_progress(status: httpx.Response) -> httpx.Response | None:
    return status if status.json()["status"] == "IN_PROGRESS" else None


def test_the_long_form_of_a_requests_path_works_too(http: httpx.Client) -> None:
    """…/flux/dev/requests/{id} beside …/flux/requests/{id}, and the status as an event stream."""
    request_id = http.post(f"{QUEUE}/{DEV}", json={"prompt": a_prompt()}).json()["request_id"]
    stream = http.get(f"{QUEUE}/{DEV}/requests/{request_id}/status/stream")
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert '"COMPLETED"' in stream.text.splitlines()[-2]
    assert http.get(f"{QUEUE}/{DEV}/requests/{request_id}").json()["images"]
    assert http.get(f"{QUEUE}/fal-ai/flux/requests/{request_id}/response").json()["images"]
    assert http.get(f"{QUEUE}/fal-ai/flux-lora/requests/{request_id}").status_code == 404


def test_bad_input_is_accepted_and_fails_later_with_the_input_echoed(fal: fal_client.SyncClient) -> None:
    """The submit succeeds; the status shows no error; the result is 422 with pydantic's words."""
    handle = fal.submit(DEV, {"num_images": 9})
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get()
    assert caught.value.status_code == 422
    assert caught.value.error_type is None
    details = {tuple(item["loc"]): item for item in caught.value.response.json()["detail"]}
    assert details["body", "prompt"]["type"] == "missing"
    assert details["body", "num_images"]["input"] == 9
    assert handle.status().error is None


@pytest.mark.parametrize(
    ("result", "status_code", "error_type", "detail_type"),
    [
        ("422_content_policy", 422, None, "content_policy_violation"),
        ("500", 500, None, "internal_server_error"),
        ("error:generation_timeout", 504, None, "generation_timeout"),
        ("error:runner_disconnected", 503, "runner_disconnected", None),
        ("error:internal_error", 500, "internal_error", None),
    ],
)
def test_a_rule_decides_how_a_request_ends(
    simulator: SimulatedFal,
    fal: fal_client.SyncClient,
    result: str,
    status_code: int,
    error_type: str | None,
    detail_type: str | None,
) -> None:
    """A model's rejection is a list of details, a platform failure has an error type, also in the status."""
    prompt = a_prompt()
    simulator.rule(match=prompt, result=result)
    handle = fal.submit(DEV, {"prompt": prompt})
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get()
    assert (caught.value.status_code, caught.value.error_type) == (status_code, error_type)
    if detail_type:
        assert caught.value.response.json()["detail"][0]["type"] == detail_type
    assert handle.status().error_type == error_type


def test_a_result_can_be_unreadable_once(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """COMPLETED, yet the first fetch of the result is a 504 and the second one works."""
    prompt = a_prompt()
    simulator.rule(match=prompt, result="504_once")
    handle = fal.submit(DEV, {"prompt": prompt})
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get()
    assert caught.value.status_code == 504
    assert handle.get()["images"]


def test_the_start_timeout_ends_what_still_waits(simulator: SimulatedFal, http: httpx.Client) -> None:
    """504 request_timeout with the header that says whose time-out it was; a request that started is left alone."""
    prompt = a_prompt()
    simulator.rule(match=prompt, hold=True)
    headers = {"X-Fal-Request-Timeout": "0.3"}
    ids = [http.post(f"{QUEUE}/{DEV}", json={"prompt": prompt}, headers=headers).json()["request_id"] for _ in range(3)]
    url = f"{QUEUE}/fal-ai/flux/requests/{ids[2]}"
    wait_until(lambda: http.get(f"{url}/status").json()["status"] == "COMPLETED")
    result = http.get(url)
    assert (result.status_code, result.json()["error_type"]) == (504, "request_timeout")
    assert result.headers["x-fal-request-timeout-type"] == "user"
    assert http.get(f"{QUEUE}/fal-ai/flux/requests/{ids[0]}/status").json()["status"] == "IN_PROGRESS"


@pytest.mark.parametrize(("start_timeout", "status_code"), [("0.2", 504), ("60", 200)])
def test_the_start_timeout_counts_tries_without_a_runner(
    simulator: SimulatedFal, http: httpx.Client, start_timeout: str, status_code: int
) -> None:
    """None is begun after it, though the first one was in time."""
    prompt = a_prompt()
    simulator.rule(match=prompt, latency=0.3, retries=1)
    headers = {"X-Fal-Request-Timeout": start_timeout}
    request_id = http.post(f"{QUEUE}/{DEV}", json={"prompt": prompt}, headers=headers).json()["request_id"]
    url = f"{QUEUE}/fal-ai/flux/requests/{request_id}"
    wait_until(lambda: http.get(f"{url}/status").json()["status"] == "COMPLETED")
    result = http.get(url)
    assert result.status_code == status_code
    assert result.headers.get("x-fal-request-timeout-type") == ("user" if status_code == 504 else None)


@pytest.mark.parametrize("start_timeout", ["nan", "inf", "1e300", "soon"])
def test_a_start_timeout_that_is_no_time_is_refused(http: httpx.Client, start_timeout: str) -> None:
    """By name, before anything is queued."""
    answer = http.post(f"{QUEUE}/{DEV}", json={"prompt": "x"}, headers={"X-Fal-Request-Timeout": start_timeout})
    assert (answer.status_code, "X-Fal-Request-Timeout" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("endpoint", "app"),
    [
        ("workflows/me/foxes", "workflows/me/foxes"),
        ("comfy/me/foxes/draft", "comfy/me/foxes"),
        ("me/foxes/draft", "me/foxes"),
    ],
)
def test_an_app_is_named_with_its_kind(
    simulator: SimulatedFal, fal: fal_client.SyncClient, endpoint: str, app: str
) -> None:
    """Owner and alias; before them the word for workflows and for Comfy's graphs, as fal's client has it."""
    schema = {"type": "object", "properties": {"image": {"$ref": "#/components/schemas/Image"}}}
    image = {"type": "object", "properties": {"url": {"type": "string"}, "content_type": {"type": "string"}}}
    price = {"category": "text-to-image", "unit": "images", "unit_price": "0.01"}
    inputs = {"type": "object", "properties": {"prompt": {"type": "string"}}}
    simulator.add_model(endpoint_id=endpoint, input=inputs, output=schema, components={"Image": image}, **price)
    handle = fal.submit(endpoint, {"prompt": a_prompt()})
    assert handle.response_url == f"{QUEUE}/{app}/requests/{handle.request_id}"
    assert fal.get_handle(endpoint, handle.request_id).get(interval=0.02)["image"]["url"]


@pytest.mark.parametrize("host", [QUEUE, RUN])
def test_a_cut_submit_leaves_one_request_and_no_answer(simulator: SimulatedFal, http: httpx.Client, host: str) -> None:
    """The connection breaks, the request exists and runs; the account's request list shows it with its input."""
    prompt = a_prompt()
    simulator.rule(match=prompt, submit="cut")
    with pytest.raises(httpx.TransportError):
        http.post(f"{host}/{DEV}", json={"prompt": prompt})
    (request,) = simulator.requests(prompt)
    query = {"endpoint_id": DEV, "start": request["submitted_at"], "expand": "payloads", "limit": "100"}
    listing = http.get("https://api.fal.ai/v1/models/requests/by-endpoint", params=query).json()
    assert [item["request_id"] for item in listing["items"] if item["json_input"] == {"prompt": prompt}] == [
        request["request_id"]
    ]


def test_fals_client_pays_ten_times_for_cut_answers(
    simulator: SimulatedFal, fal: fal_client.SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why Darkroom does not submit with it: every repetition of a lost POST is another request."""
    monkeypatch.setattr("fal_client.client.BASE_DELAY", 0.001)
    prompt = a_prompt()
    simulator.rule(match=prompt, submit="cut")
    with pytest.raises(httpx.TransportError):
        fal.submit(DEV, {"prompt": prompt})
    assert len(simulator.requests(prompt)) == 10


@pytest.mark.parametrize(
    ("submit", "status_code", "from_fal"),
    [("429", 429, True), ("500_fal", 500, True), ("503_nginx", 503, False), ("403_locked", 403, True)],
)
@pytest.mark.parametrize("host", [QUEUE, RUN])
def test_a_refused_submit_leaves_no_request(
    simulator: SimulatedFal, http: httpx.Client, host: str, submit: str, status_code: int, from_fal: bool
) -> None:
    """Refusals of fal's own carry a request id; the ingress' page does not, and names nginx."""
    prompt = a_prompt()
    simulator.rule(match=prompt, submit=submit, times=1, retry_after=3)
    answer = http.post(f"{host}/{DEV}", json={"prompt": prompt})
    assert answer.status_code == status_code
    assert ("x-fal-request-id" in answer.headers) is from_fal
    assert ("nginx" in answer.text) is not from_fal
    assert answer.headers.get("retry-after") == ("3" if submit == "429" else None)
    assert simulator.requests(prompt) == []
    assert http.post(f"{host}/{DEV}", json={"prompt": prompt}).status_code == 200


@pytest.mark.parametrize(
    ("key", "path", "status_code", "words"),
    [
        ("Key sim:nobody", DEV, 401, "No user found"),
        ("Bearer sim:key", DEV, 401, "No user found"),
        ("", DEV, 401, "Authentication is required"),
        ("Key sim:locked", DEV, 403, "Exhausted balance"),
        ("Key sim:key", "fal-ai/flux-9/dev", 404, "Application 'fal-ai/flux-9' not found"),
    ],
)
def test_a_submit_without_right_or_address_is_refused(
    http: httpx.Client, key: str, path: str, status_code: int, words: str
) -> None:
    """In fal's words, before anything is queued."""
    answer = http.post(f"{QUEUE}/{path}", json={"prompt": a_prompt()}, headers={"Authorization": key})
    assert answer.status_code == status_code
    assert words in answer.json()["detail"]


def test_a_body_that_is_no_object_is_a_bad_request(http: httpx.Client) -> None:
    """Also one that is no JSON at all."""
    for body in ('["a fox"]', "{"):
        answer = http.post(f"{QUEUE}/{DEV}", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


def test_a_broken_character_spoils_nothing(simulator: SimulatedFal, http: httpx.Client) -> None:
    """Half a surrogate pair in a prompt is this request's 422, and the book can still be read."""
    submitted = http.post(f"{QUEUE}/{DEV}", content=b'{"prompt": "a fox \\ud83e"}').json()
    wait_until(lambda: http.get(submitted["status_url"]).status_code == 200)
    assert http.get(submitted["response_url"]).json()["detail"][0]["type"] == "string_unicode"
    assert submitted["request_id"] in {row["request_id"] for row in simulator.requests()}


def test_another_accounts_request_does_not_exist(simulator: SimulatedFal, fal: fal_client.SyncClient) -> None:
    """Status, result and cancel are 404 for everyone but the account that submitted."""
    handle = fal.submit(DEV, {"prompt": a_prompt()})
    with fal_client_with("sim:other") as client:
        other = client.get_handle(DEV, handle.request_id)
        for call in (other.status, other.get, other.cancel):
            with pytest.raises(FalClientHTTPError) as caught:
                call()
            assert caught.value.response.json() == {"status": "NOT_FOUND"}


def test_the_synchronous_call_answers_or_refuses_but_does_not_queue(
    simulator: SimulatedFal, fal: fal_client.SyncClient, http: httpx.Client
) -> None:
    """fal.run returns the output itself; with all slots taken it is a 429."""
    assert fal.run(DEV, {"prompt": a_prompt()})["images"]
    running = held(simulator, fal, 2)
    answer = http.post(f"https://fal.run/{DEV}", json={"prompt": a_prompt()})
    assert (answer.status_code, answer.json()["type"]) == (429, "concurrent_requests_limit")
    finish(simulator, running)


def test_the_request_list_is_paged(simulator: SimulatedFal, http: httpx.Client, fal: fal_client.SyncClient) -> None:
    """Newest first, followed by cursor to the end, each request once; other endpoints are not in it."""
    handles = [fal.submit("fal-ai/flux/schnell", {"prompt": a_prompt()}) for _ in range(5)]
    first = simulator.operator.get(f"/requests/{handles[0].request_id}").json()["submitted_at"]
    query: dict[str, str] = {"endpoint_id": "fal-ai/flux/schnell", "start": first, "limit": "2"}
    seen: list[str] = []
    more = True
    while more:
        page = http.get("https://api.fal.ai/v1/models/requests/by-endpoint", params=query).json()
        seen += [item["request_id"] for item in page["items"]]
        more, query["cursor"] = page["has_more"], page["next_cursor"] or ""
    assert seen == [handle.request_id for handle in reversed(handles)]


def test_in_an_outage_every_host_answers_as_the_ingress_does(simulator: SimulatedFal, http: httpx.Client) -> None:
    """503 nginx on queue, rest and CDN until it is over; requests already queued are still there."""
    submitted = http.post(f"{QUEUE}/{DEV}", json={"prompt": a_prompt()}).json()
    simulator.outage(60)
    for url in (submitted["status_url"], "https://rest.fal.ai/.well-known/jwks.json", "https://v3.fal.media/files/b/x"):
        answer = http.get(url)
        assert (answer.status_code, "nginx" in answer.text) == (503, True)
    simulator.outage(0)
    assert http.get(submitted["status_url"]).json()["request_id"] == submitted["request_id"]


def test_an_outage_can_refuse_connections(simulator: SimulatedFal, http: httpx.Client) -> None:
    """Open connections break, new ones are not made."""
    http.get(f"{QUEUE}/fal-ai/flux/requests/none/status")
    simulator.outage(60, mode="refuse")
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(f"{QUEUE}/{DEV}", json={"prompt": a_prompt()})
    with pytest.raises(httpx.ProxyError):
        http.post(f"{QUEUE}/{DEV}", json={"prompt": a_prompt()})
