"""The simulator's api.fal.ai over HTTP: catalogue, prices, bills, the list of requests, deletions, settings."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import fal_client
import httpx
import pytest
from simulated_fal import SimulatedFal
from support import wait_until

API = "https://api.fal.ai/v1"
DEV = "fal-ai/flux/dev"
SMALL = {"width": 64, "height": 64}


def keyed(key: str) -> httpx.Client:
    return httpx.Client(base_url=API, headers={"Authorization": f"Key {key}"})


@pytest.fixture
def api(simulator: SimulatedFal) -> Iterator[httpx.Client]:
    with keyed("sim:key") as client:
        yield client


@pytest.fixture
def admin(simulator: SimulatedFal) -> Iterator[httpx.Client]:
    with keyed("sim:admin") as client:
        yield client


def made(fal: fal_client.SyncClient, endpoint: str = DEV, **arguments: Any) -> str:
    """The id of a request that has succeeded."""
    handle = fal.submit(endpoint, {"prompt": "a fox", "image_size": SMALL, **arguments})
    handle.get(interval=0.02)
    return str(handle.request_id)


def pages(client: httpx.Client, path: str, rows: str, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    more = True
    while more:
        page = client.get(path, params=query).raise_for_status().json()
        found += page[rows]
        more, query["cursor"] = page["has_more"], page["next_cursor"] or ""
    return found


def events(client: httpx.Client, *request_ids: str) -> list[dict[str, Any]]:
    answer = client.get("/models/billing-events", params={"request_id": list(request_ids)}).raise_for_status()
    return list(answer.json()["billing_events"])


def error_type(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["type"]


def test_the_catalogue_is_read_page_by_page(api: httpx.Client) -> None:
    """Each model once while nothing changes; odd entries are among them; the cursor is a page's number."""
    first = api.get("/models", params={"limit": 10}).json()
    assert (first["next_cursor"], first["has_more"], len(first["models"])) == ("Mg==", True, 10)
    models = pages(api, "/models", "models", limit=10)
    ids = [model["endpoint_id"] for model in models]
    assert len(ids) == len(set(ids))
    without = [model["endpoint_id"] for model in models if "metadata" not in model]
    assert without == ["fal-ai/unlisted/draft"]
    assert {m["metadata"]["status"] for m in models if "metadata" in m} == {"active", "deprecated"}


def test_a_model_that_appears_while_the_list_is_read_shifts_the_rest(
    simulator: SimulatedFal, api: httpx.Client
) -> None:
    """The next page begins with what the last one ended with; where one goes, the next page leaves one out."""
    before = [model["endpoint_id"] for model in pages(api, "/models", "models")]
    simulator.platform(grows=1)
    during = [model["endpoint_id"] for model in pages(api, "/models", "models", limit=5)]
    assert (during[4], [*during[:5], *during[6:]]) == (during[5], before)
    simulator.platform(grows=-1)
    during = [model["endpoint_id"] for model in pages(api, "/models", "models", limit=5)]
    assert during == ["crowd/newcomer-1", *before[:4], *before[5:]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"endpoint_id": [DEV, "no/such"]}, {DEV}),
        ({"endpoint_id": f"{DEV},openai/gpt-image-2"}, {DEV, "openai/gpt-image-2"}),
        ({"q": "hunyuan"}, {"fal-ai/hunyuan3d/v2"}),
        ({"category": "training"}, {"fal-ai/flux-lora-fast-training", "fal-ai/wan-trainer"}),
        ({"status": "deprecated"}, {"fal-ai/sketch/v1"}),
        ({"endpoint_id": [DEV], "category": "training"}, set()),
    ],
)
def test_models_are_found_and_searched_for(api: httpx.Client, query: dict[str, Any], found: set[str]) -> None:
    """An id that is not known is left out."""
    models = api.get("/models", params=query).json()["models"]
    assert {model["endpoint_id"] for model in models} == found


def test_a_schema_comes_from_both_places(simulator: SimulatedFal, api: httpx.Client) -> None:
    """The same document, without a key as well; where it cannot be had the entry says so."""
    query = {"endpoint_id": [DEV, "fal-ai/broken-schema"], "expand": "openapi-3.0"}
    good, bad = httpx.get(f"{API}/models", params=query).json()["models"]
    site = httpx.get("https://fal.ai/api/openapi/queue/openapi.json", params={"endpoint_id": DEV}).json()
    assert good["openapi"] == site
    assert f"/{DEV}" in site["paths"]
    assert bad["openapi"]["error"]["code"] == "expansion_failed"
    assert "Pricing" in httpx.get(f"https://fal.ai/models/{DEV}/llms.txt").text


def test_prices_are_told_to_those_with_a_key(simulator: SimulatedFal, api: httpx.Client) -> None:
    """Fifty at a time; 404 where nothing is known; a new price holds from now on."""
    query = {"endpoint_id": [DEV, "openai/gpt-image-2", "no/such"]}
    prices = {price["endpoint_id"]: price for price in api.get("/models/pricing", params=query).json()["prices"]}
    assert prices[DEV] == {"endpoint_id": DEV, "unit_price": 0.025, "unit": "megapixels", "currency": "USD"}
    assert (prices["openai/gpt-image-2"]["unit_price"], prices["openai/gpt-image-2"]["unit"]) == (1, "units")
    assert error_type(httpx.get(f"{API}/models/pricing", params=query)) == (401, "authorization_error")
    assert error_type(api.get("/models/pricing", params={"endpoint_id": "no/such"})) == (404, "not_found")
    many = {"endpoint_id": [f"a/{n}" for n in range(51)]}
    assert error_type(api.get("/models/pricing", params=many)) == (400, "validation_error")
    simulator.platform(pricing_is_strict=True)
    assert error_type(api.get("/models/pricing", params=query)) == (404, "not_found")
    simulator.change_model(DEV, unit_price="0.03")
    assert api.get("/models/pricing", params={"endpoint_id": DEV}).json()["prices"][0]["unit_price"] == 0.03


def test_a_model_may_have_no_price(simulator: SimulatedFal, api: httpx.Client, fal: fal_client.SyncClient) -> None:
    """It is not in the list; its calls are charged all the same."""
    simulator.change_model(DEV, is_priced=False)
    assert error_type(api.get("/models/pricing", params={"endpoint_id": DEV})) == (404, "not_found")
    request_id = made(fal)
    assert simulator.invoice()["by_request"][request_id] == 25_000_000


def test_an_estimate_is_one_sum(simulator: SimulatedFal, api: httpx.Client, fal: fal_client.SyncClient) -> None:
    """By units and their prices, or by what calls have come to."""
    by_unit = {"estimate_type": "unit_price", "endpoints": {DEV: {"unit_quantity": 50}}}
    assert api.post("/models/pricing/estimate", json=by_unit).json()["total_cost"] == 1.25
    made(fal, "fal-ai/flux-lora")
    by_call = {"estimate_type": "historical_api_price", "endpoints": {"fal-ai/flux-lora": {"call_quantity": 100}}}
    assert api.post("/models/pricing/estimate", json=by_call).json()["total_cost"] == pytest.approx(3.5, rel=0.9)
    for wrong in ({"estimate_type": "guess"}, {**by_call, "endpoints": {DEV: {"call_quantity": 0.5}}}):
        assert error_type(api.post("/models/pricing/estimate", json=wrong)) == (400, "validation_error")


@pytest.mark.parametrize("path", ["/models/billing-events", "/models/usage", "/account/billing", "/storage/settings"])
def test_bills_and_settings_want_a_key_of_their_own(api: httpx.Client, admin: httpx.Client, path: str) -> None:
    """The ordinary key is refused by name, the ADMIN one is served."""
    assert error_type(api.get(path)) == (403, "authorization_error")
    assert admin.get(path).status_code == 200


def test_a_key_for_bills_reads_them_and_nothing_else(simulator: SimulatedFal) -> None:
    """It cannot submit, and does not see the balance."""
    with keyed("sim:billing") as client:
        assert client.get("/models/billing-events").status_code == 200
        assert client.get("/account/billing").status_code == 403
        assert client.post(f"https://queue.fal.run/{DEV}", json={"prompt": "x"}).status_code == 403


def test_a_bill_comes_late_and_agrees_with_the_header(
    simulator: SimulatedFal, admin: httpx.Client, fal: fal_client.SyncClient
) -> None:
    """Nothing at first, which is not the same as free; then what was charged, discount and all."""
    simulator.platform(discount="10", billing_lag=600)
    request_id = made(fal, num_images=2)
    assert events(admin, request_id) == []
    assert simulator.release_bills(request_id) == 1
    (event,) = events(admin, request_id)
    assert (event["output_units"], event["unit_price"], event["percent_discount"]) == (2, 0.025, 10)
    assert (event["cost_subtotal"], event["cost_discount"], event["cost_total"]) == (0.05, 0.005, 0.045)
    assert event["cost_estimate_nano_usd"] == 45_000_000


def test_bills_add_up_to_the_invoice(simulator: SimulatedFal, admin: httpx.Client, fal: fal_client.SyncClient) -> None:
    """In parts, corrected, at another price than the list's, and held back until they are released."""
    word = uuid.uuid4().hex
    simulator.platform(billing_lag=0)
    simulator.change_model(DEV, charged_price="0.0333333333")
    simulator.rule(match=word, billing=False, billing_parts=3)
    ids = [made(fal, prompt=word), made(fal)]
    assert {event["request_id"] for event in events(admin, *ids)} == {ids[1]}
    simulator.release_bills()
    simulator.correct_bill(ids[0], "-0.000000001")
    found = events(admin, *ids)
    assert len(found) == 5
    by_request = simulator.invoice()["by_request"]
    for request_id in ids:
        nano = sum(event["cost_estimate_nano_usd"] for event in found if event["request_id"] == request_id)
        assert nano == by_request[request_id]
    assert by_request[ids[1]] == 33_333_333
    assert simulator.invoice()["by_key"]["sim:key"] >= sum(by_request[each] for each in ids)


def test_gpt_image_is_billed_in_dollars(
    simulator: SimulatedFal, admin: httpx.Client, fal: fal_client.SyncClient
) -> None:
    """Its unit is called a unit and costs one dollar; the header says how many, or nothing where a rule says so."""
    simulator.platform(billing_lag=0)
    word = uuid.uuid4().hex
    simulator.rule(match=word, units="0.219", units_header=False)
    ids = [made(fal, "openai/gpt-image-2", image_size="square", quality="low", prompt=text) for text in ("a", word)]
    headers = [
        admin.get(f"https://queue.fal.run/openai/gpt-image-2/requests/{each}").headers.get("x-fal-billable-units")
        for each in ids
    ]
    assert headers == ["0.006", None]
    assert {each["request_id"]: each["cost_total"] for each in events(admin, *ids)} == dict(
        zip(ids, (0.006, 0.219), strict=True)
    )


def test_usage_is_summed_up(simulator: SimulatedFal, admin: httpx.Client, fal: fal_client.SyncClient) -> None:
    """By model, in one line for each price, and by time."""
    simulator.platform(billing_lag=0)
    endpoint = "fal-ai/nano-banana/edit"
    picture = fal.upload(
        httpx.get(fal.subscribe(DEV, {"prompt": "a", "image_size": SMALL})["images"][0]["url"]).content, "image/jpeg"
    )
    query = {"endpoint_id": endpoint, "expand": ["summary", "time_series"], "timeframe": "day"}
    before = sum(line["quantity"] for line in admin.get("/models/usage", params=query).json()["summary"])
    for _ in range(2):
        made(fal, endpoint, image_urls=[picture])
    usage = admin.get("/models/usage", params=query).json()
    (line,) = usage["summary"]
    assert (line["unit"], line["quantity"]) == ("images", before + 2)
    assert line["cost_total"] == pytest.approx((before + 2) * 0.039)
    assert [bucket["results"] for bucket in usage["time_series"]] == [[line]]


def test_a_balance_runs_out(simulator: SimulatedFal, admin: httpx.Client, fal: fal_client.SyncClient) -> None:
    """It goes down with each charge; at nothing submits are refused in fal's words until it is filled up."""
    simulator.balance("0.03")
    made(fal)
    credits = admin.get("/account/billing", params={"expand": "credits"}).json()["credits"]
    assert credits["current_balance"] == pytest.approx(0.005)
    made(fal)
    answer = admin.post(f"https://queue.fal.run/{DEV}", json={"prompt": "x"})
    assert (answer.status_code, "Exhausted balance" in answer.json()["detail"]) == (403, True)
    simulator.balance("1")
    made(fal)


def test_too_many_calls_are_refused_for_a_while(simulator: SimulatedFal, api: httpx.Client) -> None:
    """429 with the seconds until one may ask again; each key for itself."""
    simulator.platform(rate_limit=2, rate_seconds=60)
    assert [api.get("/meta").status_code for _ in range(3)] == [200, 200, 429]
    refused = api.get("/meta")
    assert refused.json()["error"]["type"] == "rate_limited"
    assert 1 <= int(refused.headers["x-ratelimit-reset"]) <= 60
    assert httpx.get(f"{API}/meta").status_code == 200


def test_the_list_may_show_only_what_is_over(
    simulator: SimulatedFal, api: httpx.Client, fal: fal_client.SyncClient
) -> None:
    """By the time of its end, with which `start` and `end` are compared then."""
    simulator.platform(request_list="ended")
    word = uuid.uuid4().hex
    simulator.rule(match=word, hold=True)
    handle = fal.submit(DEV, {"prompt": word, "image_size": SMALL})
    wait_until(lambda: isinstance(handle.status(), fal_client.InProgress))
    sent = datetime.now(UTC)

    def listed(**query: str) -> list[str]:
        begin = (sent - timedelta(minutes=1)).isoformat()
        found = pages(api, "/models/requests/by-endpoint", "items", endpoint_id=DEV, **{"start": begin, **query})
        return [item["request_id"] for item in found]

    assert handle.request_id not in listed()
    simulator.release(handle.request_id)
    handle.get(interval=0.02)
    assert listed()[0] == handle.request_id
    assert handle.request_id not in listed(end=sent.isoformat())


LIST = "/models/requests/by-endpoint"


def test_the_list_may_be_late(simulator: SimulatedFal, api: httpx.Client, fal: fal_client.SyncClient) -> None:
    """By now's time, so that an end in the future shows no more; what is old enough stays."""
    request_id, now = made(fal), datetime.now(UTC)
    ends = ({}, {"end": (now + timedelta(hours=1)).isoformat()}, {"end": now.isoformat()})

    def listed(lag: float) -> list[int]:
        simulator.platform(request_list_lag=lag)
        found = (api.get(LIST, params={"endpoint_id": DEV, "request_id": request_id, **end}) for end in ends)
        return [len(answer.json()["items"]) for answer in found]

    assert [listed(lag) for lag in (0, 600, 0.01)] == [[1, 1, 1], [0, 0, 0], [1, 1, 1]]


def test_the_list_may_be_asked_for_several_endpoints(api: httpx.Client, fal: fal_client.SyncClient) -> None:
    """From 1 to 50, repeated or separated by commas; the others are not in it."""
    names = (DEV, "fal-ai/flux/schnell", "fal-ai/flux-lora")
    ids = [made(fal, name) for name in names]
    for asked in (list(names[:2]), ",".join(names[:2])):
        items = api.get(LIST, params={"endpoint_id": asked, "request_id": ids}).json()["items"]
        assert {item["request_id"] for item in items} == set(ids[:2])
    assert error_type(api.get(LIST, params={"endpoint_id": [f"a/{n}" for n in range(51)]})) == (400, "validation_error")


@pytest.mark.parametrize("wrong", [{"status": "fine"}, {"start": "yesterday"}, {"request_id": ["1"] * 51}])
def test_a_wrong_question_is_refused_where_nothing_would_be_found(api: httpx.Client, wrong: dict[str, Any]) -> None:
    """As it is where something would be."""
    assert error_type(api.get(LIST, params={"endpoint_id": "a/b", **wrong})) == (400, "validation_error")


@pytest.mark.parametrize("host", ["queue.fal.run", "fal.run"])
def test_what_is_not_to_be_kept_is_not_told(api: httpx.Client, host: str) -> None:
    """The list has the request, without what went in and came out."""
    body = {"prompt": "a fox", "image_size": SMALL}
    ids = [
        api.post(f"https://{host}/{DEV}", json=body, headers=headers, timeout=30).headers["x-fal-request-id"]
        for headers in ({"X-Fal-Store-IO": "0"}, {})
    ]
    items = api.get(LIST, params={"endpoint_id": DEV, "expand": "payloads", "request_id": ids}).json()["items"]
    assert {item["request_id"]: "json_input" in item for item in items} == {ids[0]: False, ids[1]: True}


def test_what_went_through_can_be_erased(admin: httpx.Client, api: httpx.Client, fal: fal_client.SyncClient) -> None:
    """Result and output files are gone, uploads stay; the same idempotency key gets the same answer."""
    upload = fal.upload(b"mine", "text/plain", "mine.txt")
    handle = fal.submit(DEV, {"prompt": "a fox", "image_size": SMALL})
    url = handle.get(interval=0.02)["images"][0]["url"]
    path = f"/models/requests/{handle.request_id}/payloads"
    assert error_type(api.delete(path)) == (403, "authorization_error")
    answers = [admin.delete(path, headers={"Idempotency-Key": handle.request_id}).json() for _ in range(2)]
    assert answers == [{"cdn_delete_results": [{"link": url, "exception": None}]}] * 2
    assert httpx.get(url).status_code == 404
    assert api.get(f"https://queue.fal.run/fal-ai/flux/requests/{handle.request_id}").status_code == 404
    assert httpx.get(upload).status_code == 200


def test_the_accounts_setting_ends_files(admin: httpx.Client, fal: fal_client.SyncClient) -> None:
    """What is made from now on; a PUT replaces all of it."""
    admin.put("/storage/settings", json={"expiration_duration_seconds": 1}).raise_for_status()
    url = fal.subscribe(DEV, {"prompt": "a fox", "image_size": SMALL})["images"][0]["url"]
    wait_until(lambda: httpx.get(url).status_code == 404)
    kept = admin.put("/storage/settings", json={"initial_acl": {"default": "forbid", "rules": [{"user": "x"}]}}).json()
    assert kept == {"expiration_duration_seconds": None, "initial_acl": {"default": "forbid", "rules": []}}


@pytest.mark.parametrize("seconds", [None, 0])
def test_a_request_may_ask_that_its_files_stay(
    simulator: SimulatedFal, admin: httpx.Client, fal: fal_client.SyncClient, seconds: int | None
) -> None:
    """For ever, by null or 0; one that asks for nothing has the account's setting."""
    admin.put("/storage/settings", json={"expiration_duration_seconds": 1}).raise_for_status()
    body, urls = {"prompt": "a fox", "image_size": SMALL}, []
    for asked in ({"expiration_duration_seconds": seconds}, {}):
        headers = {"X-Fal-Object-Lifecycle-Preference": json.dumps(asked)}
        made = admin.post(f"https://fal.run/{DEV}", json=body, headers=headers, timeout=30).json()
        urls.append(made["images"][0]["url"])
    wait_until(lambda: httpx.get(urls[1]).status_code == 404)
    assert httpx.get(urls[0]).status_code == 200


@pytest.mark.parametrize("seconds", ["-1", "NaN", "Infinity", "1e300", '"a day"', "[]", "{}"])
def test_a_lifetime_that_is_none_is_refused(api: httpx.Client, seconds: str) -> None:
    """In words, before anything is queued."""
    headers = {"X-Fal-Object-Lifecycle-Preference": f'{{"expiration_duration_seconds": {seconds}}}'}
    answer = api.post(f"https://queue.fal.run/{DEV}", json={"prompt": "a fox"}, headers=headers)
    assert (answer.status_code, "expiration_duration_seconds" in answer.json()["detail"]) == (422, True)


@pytest.mark.parametrize("by", ["header", "setting"])
def test_what_is_made_can_be_forbidden_to_strangers(admin: httpx.Client, fal: fal_client.SyncClient, by: str) -> None:
    """By the header of the submit, or by the account's setting."""
    acl = {"initial_acl": {"default": "forbid"}}
    headers = {"X-Fal-Object-Lifecycle-Preference": json.dumps(acl)} if by == "header" else {}
    if by == "setting":
        admin.put("/storage/settings", json=acl).raise_for_status()
    body = {"prompt": "a fox", "image_size": SMALL}
    made = admin.post(f"https://fal.run/{DEV}", json=body, headers=headers, timeout=30).json()
    assert httpx.get(made["images"][0]["url"]).status_code == 403


@pytest.mark.parametrize(("access", "status_code"), [("allow", 200), ("forbid", 403), ("hide", 404)])
def test_a_file_can_be_kept_from_strangers(
    admin: httpx.Client, fal: fal_client.SyncClient, access: str, status_code: int
) -> None:
    """A signed address reads it all the same."""
    url = fal.upload(b"mine", "text/plain", "mine.txt")
    admin.put("/storage/files/acl", params={"url": url}, json={"default": access}).raise_for_status()
    assert httpx.get(url).status_code == status_code
    signed = admin.post("/storage/files/sign", params={"url": url}, json={"expiration_seconds": 60}).json()
    assert httpx.get(signed["signed_url"]).content == b"mine"


def test_a_strangers_file_is_no_file(admin: httpx.Client, fal: fal_client.SyncClient) -> None:
    """Another account's ADMIN key neither sees who may read it nor changes that, nor signs an address of it."""
    made = fal.subscribe(DEV, {"prompt": "a fox", "image_size": SMALL})["images"][0]["url"]
    for url in (fal.upload(b"mine", "text/plain", "mine.txt"), made):
        query = {"url": url}
        with keyed("sim:other-admin") as stranger:
            answers = [
                stranger.get("/storage/files/acl", params=query),
                stranger.put("/storage/files/acl", params=query, json={"default": "hide"}),
                stranger.post("/storage/files/sign", params=query, json={}),
            ]
        assert [error_type(answer) for answer in answers] == [(404, "not_found")] * 3
        assert admin.get("/storage/files/acl", params=query).json() == {"default": "allow", "rules": []}


def test_what_is_no_address_of_a_file_is_no_file(admin: httpx.Client, fal: fal_client.SyncClient) -> None:
    """Whatever is between the brackets, and though a file here has the same path: nobody signs for another host."""
    url = fal.upload(b"mine", "text/plain", "mine.txt")
    path = httpx.URL(url).path
    for asked in ("", "https://[", "http://[x]/", f"https://evil.example{path}", path, "//v3.fal.media"):
        query = {"url": asked}
        answers = [
            admin.get("/storage/files/acl", params=query),
            admin.put("/storage/files/acl", params=query, json={"default": "hide"}),
            admin.post("/storage/files/sign", params=query, json={}),
        ]
        assert [error_type(answer) for answer in answers] == [(404, "not_found")] * 3, asked
    signed = admin.post("/storage/files/sign", params={"url": f"{url}?a=b#c"}, json={}).json()["signed_url"]
    assert signed.startswith(f"{url}?identity=")
    assert httpx.get(signed).content == b"mine"


def test_an_idempotency_key_is_its_accounts_own(admin: httpx.Client, fal: fal_client.SyncClient) -> None:
    """Another account that chose the same one is not told what was deleted."""
    path, same = f"/models/requests/{made(fal)}/payloads", {"Idempotency-Key": uuid.uuid4().hex}
    assert admin.delete(path, headers=same).status_code == 200
    with keyed("sim:other-admin") as stranger:
        assert error_type(stranger.delete(path, headers=same)) == (404, "not_found")
