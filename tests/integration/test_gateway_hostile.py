"""What strangers send to any address: it is refused, by a problem, and never answered as a failure of our own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from urllib.parse import quote

import httpx
import pytest
from ledger_databases import Databases
from running_gateway import RunningGateway, gateway_alone

from darkroom.deployments.gateway.limits import LEVELS_OF_EVENTS
from darkroom.deployments.gateway.problems import MEDIA_TYPE
from darkroom.ledger import Ledger
from darkroom.media.store import LocalFolder, MediaStore

JSON = "application/json"
DEPTHS = (65, 300, 510, 900, 1500, 2499, 100_000)
# At all other addresses too much depth is refused in one place, before the address matters: there the first will do.
BOUNDED_ON_THEIR_OWN = (
    "/webhooks/fal",
    "/v1/events",
    "/v1/batches",
    "/v1/quotes",
    "/v1/images",
    "/v1/orders/make-postcard",
)
ODD_TEXTS = ("²", "draft-²", "final-٣", "\0", "é", "'", "%", "../x", "[", "0" * 4000)
ODD_VALUES = (
    "NaN",
    "1e999",
    "9" * 4000,
    "9" * 5000,
    '"\\u0000"',
    '"\\ud800"',
    '"9999-12-31T23:59:59-23:59"',
    '"0001-01-01T00:00:00+23:59"',
    "[[]]",
    "null",
)


def nested(depth: int) -> Iterator[bytes]:
    yield b"[" * depth + b"]" * depth
    yield b'{"a":' * depth + b"1" + b"}" * depth
    for within in (
        b'{"prompt": "a", "arguments": %s}',
        b'{"rows": [{"prompt": "a", "arguments": {"x": %s}}]}',
        b'{"name": "user.signed_up", "data": {"x": %s}}',
        b'[{"name": "user.signed_up", "data": {"x": %s}}]',
    ):
        yield within % (b"[" * depth + b"]" * depth)


def bodies(path: str) -> Iterator[tuple[str, bytes]]:
    depths = DEPTHS if path in BOUNDED_ON_THEIR_OWN else DEPTHS[:1]
    yield from ((JSON, body) for depth in depths for body in nested(depth))
    yield from ((JSON, body) for body in (b"", b"\xff", b"[" * 100_000, b'"', b"\xef\xbb\xbf{}", "{}".encode("utf-16")))
    for value in ODD_VALUES:
        yield JSON, f'{{"prompt": {value}, "seed": {value}, "until": {value}, "jobs": [{value}]}}'.encode()
        yield JSON, f'{{"filter": {{"failed_since": {value}}}, "reason": "x", "winners": [{value}]}}'.encode()
        yield JSON, f'{{"name": "user.signed_up", "ts": {value}, "data": {{"x": {value}}}, "user": {value}}}'.encode()
        yield JSON, f'{{"prompt": "a", "arguments": {{"x": {value}}}, "seed": {value}}}'.encode()
        yield JSON, f'{{"rows": [{{"prompt": "a", "x": {value}, "id": {value}}}], "defaults": {value}}}'.encode()


def manifests() -> Iterator[tuple[str, bytes]]:
    for depth in DEPTHS:
        deep = b"[" * depth + b"]" * depth
        yield "text/csv", b"prompt,arguments\na," + b'{"x":%s}' % deep + b"\n"
        line = b'{"prompt": "a", "arguments": {"x": %s}}' % deep
        yield "application/x-ndjson", line
        yield JSON, json.dumps({"manifest": line.decode()}).encode()
    yield "text/csv", b"prompt,seed\na," + b"9" * 5000
    yield "text/csv", b"prompt,seed\n\0,\xff"
    yield "application/x-ndjson", b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}"


@pytest.fixture(scope="module")
def gateway(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    home = tmp_path_factory.mktemp("home")
    with databases.fresh() as url:
        ledger = Ledger(url)
        key = ledger.users.add("ann", plan="studio").key
        ledger.close()
        with gateway_alone(url, home, media=MediaStore(LocalFolder(str(home)))) as gateway:
            gateway.http.headers["Authorization"] = f"Bearer {key}"
            yield gateway


def operations(gateway: RunningGateway) -> dict[tuple[str, str], list[str]]:
    """By method and path, the names of what may stand in the query."""
    paths = gateway.http.get("/openapi.json").json()["paths"]
    return {
        (method.upper(), path): [each["name"] for each in told.get("parameters", []) if each["in"] == "query"]
        for path, found in paths.items()
        for method, told in found.items()
    }


def ask(http: httpx.Client, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Of an answer that does not end, the head."""
    answer = http.send(http.build_request(method, path, headers=headers), stream=True)
    with closing(answer):
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            answer.read()
    return answer


def failures(answers: Iterator[httpx.Response]) -> list[str]:
    return [
        f"{answer.request.method} {answer.request.url} {answer.request.content[:80]!r}: {answer.status_code}"
        for answer in answers
        if answer.status_code >= 500 or (answer.status_code >= 400 and answer.headers["Content-Type"] != MEDIA_TYPE)
    ]


def test_no_body_is_answered_as_our_failure(gateway: RunningGateway) -> None:
    """However deep it nests, and whatever stands where a number, a time or a name should."""
    http = gateway.http
    posts = [
        path.replace("{id}", "job_1").replace("{kind}", "make-postcard")
        for m, path in operations(gateway)
        if m == "POST"
    ]
    sent = ((path, kind, body) for path in [*posts, "/webhooks/fal"] for kind, body in bodies(path))
    batches = (("/v1/batches", kind, body) for kind, body in manifests())

    answers = (
        http.post(path, content=body, headers={"Content-Type": kind}) for path, kind, body in chain(sent, batches)
    )

    assert failures(answers) == []


def test_no_parameter_is_answered_as_our_failure(gateway: RunningGateway) -> None:
    """In paths and in queries, where each name that an address knows has its turn, and those that others know."""
    http = gateway.http
    found = operations(gateway)
    paths = dict.fromkeys(
        (m, path.replace("{id}", quote(t, safe="")).replace("{kind}", quote(t, safe="")))
        for m, path in found
        for t in ODD_TEXTS
    )
    batch = http.post("/v1/batches", json={"rows": [{"prompt": "a fox"}]}).json()["job_id"]
    listed = {path.replace("{id}", batch): names for (m, path), names in found.items() if m == "GET"}
    known = set(chain.from_iterable(listed.values()))
    own = (f"{path}?{name}={quote(t)}" for path, names in listed.items() for name in names for t in ODD_TEXTS)
    others = (
        f"{path}?" + "&".join(f"{name}={quote(t[:40])}" for name in sorted(known.difference(names)))
        for path, names in listed.items()
        for t in ODD_TEXTS
    )
    queries = (("GET", address) for address in chain(own, others))
    times = (("GET", f"/v1/dead-letters?failed_since={quote(v.strip(chr(34)))}") for v in ODD_VALUES)

    assert failures(ask(http, method, path) for method, path in chain(paths, queries, times)) == []


@pytest.mark.parametrize("body", [*nested(LEVELS_OF_EVENTS + 1)])
def test_json_is_bounded_in_depth_before_it_is_parsed(gateway: RunningGateway, body: bytes) -> None:
    """In orders, batches and events alike; the refusal names the bound."""
    for path in ("/v1/images", "/v1/batches", "/v1/events", "/v1/orders/make-postcard"):
        answer = gateway.http.post(path, content=body, headers={"Content-Type": JSON})

        assert (answer.status_code, answer.json()["type"]) == (422, "urn:darkroom:problem:too-deep")
        assert "Nest at most" in answer.json()["remedy"]


def test_no_redirect_leads_to_where_the_header_host_says(gateway: RunningGateway) -> None:
    """A slash too many or too few is an address that is not there."""
    evil = {"Host": "evil.example"}
    asked = [(m, f"{path}/") for m, path in operations(gateway) if "{" not in path]
    asked += [("GET", path) for path in ("/", "/docs/", "/docs/static", "/v1/jobs/", "/webhooks/fal/")]
    answers = [ask(gateway.http, method, path, evil) for method, path in asked]

    assert {answer.headers.get("Location", "/")[:1] for answer in answers} == {"/"}
    assert not any("evil" in answer.headers.get("Location", "") for answer in answers)


@pytest.mark.parametrize(
    ("path", "allow"), [("/v1/events", "GET, POST"), ("/v1/loras", "GET, POST"), ("/v1/jobs/job_1", "GET")]
)
def test_the_header_allow_names_all_methods_of_an_address(gateway: RunningGateway, path: str, allow: str) -> None:
    """Also where several routes make it up."""
    answer = gateway.http.request("OPTIONS", path)

    assert (answer.status_code, answer.headers["Allow"]) == (405, allow)
