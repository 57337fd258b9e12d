"""Every route of the Studio as it stands: led to sign in, closed to who is no operator, blind to what is another's.

The routes are read from the application itself. One that is new is tried by itself; where it takes an id of another
kind of thing, such a thing is to be made here.
"""

from __future__ import annotations

from decimal import Decimal

import httpx
import pytest
from asset_rows import made, picture
from ledger_scenes import FAILURE
from running_gateway import RunningGateway, routes_of
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger as ledger
from shared_gateway import ledger_url as ledger_url
from shared_gateway import store as store
from studio_browser import OWN, Visitor, visiting

from darkroom.deployments.studio.app import create_studio
from darkroom.deployments.studio.static_files import PREFIX
from darkroom.ledger import JobStatus, Ledger, NewKey, RequestSpec, Scope
from darkroom.media.store import MediaStore

HERS = "kestrel"  # in every text of ann's
OPEN = frozenset({"/sign-in", "/static/{name}"})  # for who is not signed in


async def _nothing(*_: object) -> None: ...


ROUTES = sorted(tuple(route.split(" ", 1)) for route in routes_of(create_studio(_nothing)))
OF_OPERATORS = [each for each in ROUTES if each[1].startswith("/operators")]
CLOSED = [each for each in ROUTES if each[1] not in OPEN]
OF_A_THING = [each for each in CLOSED if "{" in each[1] and each not in OF_OPERATORS and "{endpoint" not in each[1]]
assert len(OF_OPERATORS) > 15 and len(OF_A_THING) > 20  # as they were found at all
FORM = {"numbers": "1", "cause": "x", "budget": "1", "name": "x", "manifest": "prompt\na fox\n"}


@pytest.fixture(scope="module", autouse=True)
def no_slots(ledger: Ledger) -> None:
    """Nothing is granted but by the test."""
    ledger.users.set_account("fal", slots=0)


@pytest.fixture(scope="module")
def ann(ledger: Ledger) -> NewKey:
    return ledger.users.add(f"ann {HERS}", plan="studio")


@pytest.fixture(scope="module")
def things(gateway: RunningGateway, ledger: Ledger, store: MediaStore, ann: NewKey) -> dict[str, str]:
    """Ids of things of ann's, by the screen that shows them, and by the last part before the id."""
    asset = made(ledger, store, ann, prompt=f"a {HERS}", model="fal-ai/flux/dev", content=picture(), tags=(HERS,))
    failed = ledger.jobs.post(
        user_id=ann.user_id,
        kind="generate-image",
        parameters={"prompt": f"a {HERS} that fails"},
        first=RequestSpec(
            step="generate", endpoint="fal-ai/flux/dev", input={"prompt": HERS}, estimate_usd=Decimal("0.025")
        ),
    ).job
    ledger.requests.settle(ledger.requests.of_job(failed.id)[0].ref, FAILURE, via="poll")
    error = {"code": HERS, "class": "permanent", "message": HERS, "step": None, "ref": None, "retryable": False}
    ledger.jobs.finish(failed.id, JobStatus.FAILED, error=error)
    trained = ledger.jobs.post(user_id=ann.user_id, kind="train-lora", parameters={"trigger_word": HERS}).job
    lora = ledger.loras.register(trained.id, user_id=ann.user_id, trigger_word=HERS, weights=asset.id, config=asset.id)
    ledger.loras.ready(lora.id, sample=asset.id)
    body = {"rows": [{"prompt": f"a {HERS}"}], "metadata": {"name": HERS}}
    batch = gateway.http.post("/v1/batches", json=body, headers={"Authorization": f"Bearer {ann.key}"})
    ledger.callbacks.put_endpoint(ann.user_id, url=f"https://{HERS}.example/hook", events=["job.completed"], thin=False)
    return {
        "again": failed.id,
        "batches": str(batch.json()["job_id"]),
        "callbacks": ledger.callbacks.test(ann.user_id).id,
        "gallery": asset.id,
        "jobs": failed.id,
        "loras": lora.id,
        "users": ann.user_id,
    }


def address(path: str, things: dict[str, str]) -> str:
    """With ids in it: that of the part before, or of the screen for what is shown by its rows."""
    parts = path.split("/")
    for n, part in enumerate(parts):
        if part in ("{id}", "{job_id}"):
            parts[n] = things[parts[n - 1]] if parts[n - 1] in things else things[parts[1]]
    given = {"{endpoint:path}": "fal-ai/flux/dev", "{key}": "key_1", "{name}": "fal"}
    filled = PREFIX + "/".join(given.get(part, part) for part in parts)
    assert "{" not in filled, f"an id of another kind: {path}"
    return filled


def ask(visitor: Visitor, method: str, path: str, token: str = "") -> httpx.Response:
    if method == "GET":
        return visitor.get(path, Accept="text/html")
    return visitor.http.request(method, path, data=FORM | {"csrf": token}, headers=OWN)


def on_record(ledger: Ledger, ann: NewKey) -> object:
    """What others might change of hers."""
    jobs = ledger.jobs.page(ann.user_id, limit=100)
    assets = [asset for job in jobs for asset in ledger.assets.of_job(job.id)]
    return [(job.id, job.status, job.cancel_requested_at) for job in jobs], [asset.id for asset in assets]


def test_who_is_not_signed_in_is_led_to_sign_in(gateway: RunningGateway, things: dict[str, str]) -> None:
    """Whatever is asked or sent."""
    with visiting(gateway) as nobody:
        for method, path in CLOSED:
            if path == "/":
                continue
            answer = ask(nobody, method, address(path, things))
            assert answer.status_code == 303, (method, path)
            assert answer.headers["Location"].startswith(f"{PREFIX}/sign-in"), (method, path)


def test_nobody_sees_a_byte_of_anothers(
    gateway: RunningGateway, ledger: Ledger, things: dict[str, str], ann: NewKey
) -> None:
    """On no page, in no part of one, and by no form; what is named by its id is as if it were not there."""
    bob = ledger.users.add("bob", scopes=list(set(Scope) - {Scope.ADMIN}))
    before = on_record(ledger, ann)
    with visiting(gateway, bob.key) as visitor:
        token = visitor.token()
        for method, path in CLOSED:
            if path in ("/sign-out", "/stream"):
                continue
            answer = ask(visitor, method, address(path, things), token)
            assert HERS not in answer.text + str(answer.headers), (method, path)
            assert answer.status_code < 500, (method, path)
            if (method, path) in OF_A_THING:
                refused = answer.status_code in (404, 422) or "You have no" in answer.text  # as part of a page
                assert refused, (method, path)
            elif (method, path) in OF_OPERATORS:
                assert answer.status_code == 403, (method, path)
    assert on_record(ledger, ann) == before


def test_its_owner_sees_all_of_it(gateway: RunningGateway, things: dict[str, str], ann: NewKey) -> None:
    """So what others do not see is there."""
    with visiting(gateway, ann.key) as visitor:
        for method, path in OF_A_THING:
            if method == "GET" and path != "/static/{name}":
                asked = "?stage=draft&since=2030-01-01T00:00:00Z" if path.startswith("/batches") else ""
                answer = visitor.get(address(path, things) + asked)
                assert answer.status_code in (200, 204, 303), (path, answer.text)
        for screen in ("jobs", "gallery", "batches", "loras", "money/callbacks"):
            assert HERS in visitor.get(f"{PREFIX}/{screen}").text, screen
