"""Every route of the application, as it stands: who may call it, with which key, and that nobody sees another's.

The routes are read from the application itself. One that is new has to be declared in `scopes.py`, and where it takes
an id, a thing of that kind is to be made here.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from running_gateway import RunningGateway, routes_of
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger as ledger
from shared_gateway import ledger_url as ledger_url

from darkroom.clock import utc_now
from darkroom.deployments.gateway.app import create_app
from darkroom.deployments.gateway.scopes import ROUTES, WITHOUT_KEY, scope_of
from darkroom.ledger import Ledger, NewKey, Scope, StoredFile, new_id
from darkroom.settings import Settings

APP = create_app(Settings(ledger_url="postgresql://nowhere/none", signing_key=SecretStr("a long random text")))
ALL = sorted(routes_of(APP))
KEYED = [route for route in ALL if route not in WITHOUT_KEY]
# Of one thing that is somebody's. Models are everybody's, kinds of orders too, and operators see all users.
OF_A_THING = [route for route in KEYED if "{id}" in route and "/v1/admin/" not in route]
LISTS = [
    *("GET /v1/jobs", "GET /v1/dead-letters", "GET /v1/events", "GET /v1/loras", "GET /v1/pending-runs"),
    "GET /v1/starts",
    "GET /v1/callbacks",
]
PROFILE = {"account": "a1", "name": "Ann"}
BODIES: dict[str, Any] = {
    "POST /v1/batches/{id}/selection": {"winners": [0]},
    "POST /v1/waits/{id}/extend": {"until": "2050-01-01T00:00:00Z"},
}


@pytest.fixture(scope="module")
def ann(ledger: Ledger) -> NewKey:
    return ledger.users.add("ann", plan="studio")


@pytest.fixture(scope="module")
def bob(ledger: Ledger) -> NewKey:
    return ledger.users.add("bob", plan="studio", scopes=list(Scope))


@pytest.fixture(scope="module")
def things(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> dict[str, str]:
    """Ids of things of ann's, by the part of the path that they are under."""
    asset_id = new_id("ast_")
    file = StoredFile(key=asset_id, sha256="0" * 64, content_type="image/png", bytes=1, width=300, height=300)
    ledger.assets.add_upload(ann.user_id, asset_id=asset_id, file=file)
    trained = ledger.jobs.post(user_id=ann.user_id, kind="train-lora", parameters={}).job
    lora = ledger.loras.register(
        trained.id, user_id=ann.user_id, trigger_word="mochi_cat", weights=asset_id, config=asset_id
    )
    batch = call(gateway, "POST /v1/batches", ann.key, body={"rows": [{"prompt": "a fox"}]})
    assert batch.status_code == 202, batch.text
    event = call(gateway, "POST /v1/events", ann.key, body={"name": "profile.changed", "data": PROFILE})
    assert event.status_code == 202, event.text
    (pending,) = call(gateway, "GET /v1/pending-runs", ann.key).json()["items"]
    ledger.callbacks.put_endpoint(ann.user_id, url="https://app.example/hook", events=["job.completed"], thin=False)
    return {
        "assets": asset_id,
        "callbacks": ledger.callbacks.test(ann.user_id).id,
        "batches": batch.json()["job_id"],
        "jobs": batch.json()["job_id"],
        "events": event.json()["id"],
        "loras": lora.id,
        "pending-runs": pending["id"],
        "starts": pending["id"],
        "waits": ledger.waits.sleep(trained, "sleep-1", until=utc_now()).id,
    }


def call(gateway: RunningGateway, route: str, key: str | None, *, id: str = "x", body: Any = None) -> httpx.Response:
    method, _, path = route.partition(" ")
    at = path.replace("{id}", id).replace("{kind}", "generate-image").replace("{endpoint:path}", "fal-ai/flux/dev")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    given = {"json": {} if body is None else body} if method in ("POST", "PUT") else {}
    if at == "/v1/uploads":
        given, headers["Content-Type"] = {}, "image/png"
    return gateway.http.request(method, at.replace("{user}", "ann"), headers=headers, **given)


def test_every_route_is_declared() -> None:
    """With the scope that it takes, or as one that takes no key; and nothing is declared that is not there."""
    assert {*ALL} == {route for declared in ROUTES.values() for route in declared} | WITHOUT_KEY


@pytest.mark.parametrize("route", KEYED)
def test_nobody_gets_in_without_a_key(gateway: RunningGateway, route: str) -> None:
    """Nor with one that was never made, whatever else is wrong with the call."""
    for key in (None, "dk_invented"):
        answer = call(gateway, route, key)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), answer.text


@pytest.mark.parametrize("route", KEYED)
def test_a_key_opens_what_it_is_for(gateway: RunningGateway, ledger: Ledger, ann: NewKey, route: str) -> None:
    """With every scope but that of the route it is refused, with the remedy, and nothing happens."""
    needed = scope_of(*route.split(" "))
    others = [scope for scope in Scope if scope is not needed]
    key = ledger.keys.add(ann.user_id, name="all but one", scopes=others)
    answer = call(gateway, route, key.key)
    assert (answer.status_code, answer.json()["field"]) == (403, "Authorization"), answer.text
    assert f"`{needed}`" in answer.json()["detail"] and f"--scope {needed}" in answer.json()["remedy"]


@pytest.mark.parametrize("route", OF_A_THING)
def test_nobody_sees_what_is_anothers(
    gateway: RunningGateway, things: dict[str, str], ann: NewKey, bob: NewKey, route: str
) -> None:
    """It is as if it were not there, also for who has the scope `admin`; its owner sees it."""
    id = things[route.split("/")[2]]
    if "GET" in route and "assets" not in route:  # that of the asset here is not in the store
        assert call(gateway, route, ann.key, id=id).status_code == 200
    answer = call(gateway, route, bob.key, id=id, body=BODIES.get(route))
    assert answer.status_code == 404, answer.text
    assert answer.json() == call(gateway, route, bob.key, id="nonesuch", body=BODIES.get(route)).json()


@pytest.mark.parametrize("route", LISTS)
def test_lists_show_nothing_of_others(
    gateway: RunningGateway, things: dict[str, str], ann: NewKey, bob: NewKey, route: str
) -> None:
    """They are empty for who has nothing."""
    assert things
    assert call(gateway, route, bob.key).json()["items"] == []
    assert call(gateway, route, ann.key).json()["items"] or "dead-letters" in route
