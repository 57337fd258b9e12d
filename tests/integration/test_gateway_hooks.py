"""Webhooks of others over HTTP: the examples of docs/hooks.md, as GitHub and the others call them, good and forged."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import pytest
import yaml
from pydantic import Field, SecretStr
from running_gateway import NO_PREFECT, Customer, GivenBlocks, RunningGateway, running_gateway
from shared_gateway import ledger as ledger
from shared_gateway import ledger_url as ledger_url

from darkroom.deployments.gateway.limits import HOOK_CAP
from darkroom.events import hooks, triggers
from darkroom.events.types import Cents, EventData, Id, event
from darkroom.ledger import Ledger
from darkroom.orchestrator import project_file
from darkroom.settings import Settings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
GITHUB, STRIPE, SLACK, SLACK_BEFORE = (f"secret-{name}-{uuid4().hex}" for name in "abcd")
SLACK_HOOK = {
    "name": "slack",
    "scheme": "slack",
    "secret": [{"block": "slack"}, {"block": "slack-before"}],
    "events": [{"event": "slack.said", "data": {"text": "payload.event.text"}}],
}
PUSH: Mapping[str, Any] = {
    "ref": "refs/heads/main",
    "after": "0" * 40,
    "repository": {"full_name": "ann/shop", "id": 17},
    "commits": [{"message": "Draw a fox"}, {"message": "Draw a hare"}],
}
PAID: Mapping[str, Any] = {
    "id": "evt_1",
    "type": "checkout.session.completed",
    "data": {
        "object": {
            "id": "cs_1",
            "payment_status": "paid",
            "amount_total": 1900,
            "currency": "eur",
            "client_reference_id": "4711",
        }
    },
}


def documented(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def declared() -> str:
    """All that the document declares, as one file, with a hook of Slack's beside it."""
    whole: dict[str, list[Any]] = {"deployments": [], "hooks": [SLACK_HOOK]}
    for block in documented("yaml"):
        for section, entries in yaml.safe_load(block).items():
            whole.get(section, []).extend(entries)
    return yaml.safe_dump(whole)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("project") / "prefect.yaml"
    file.write_text(declared())
    return file


@pytest.fixture(scope="module")
def blocks() -> GivenBlocks:
    return GivenBlocks(secrets={"slack": SLACK, "slack-before": SLACK_BEFORE})


@pytest.fixture(scope="module")
def gateway(
    ledger_url: str, file: Path, blocks: GivenBlocks, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    names = {"event": event, "EventData": EventData, "Id": Id, "Cents": Cents, "Annotated": Annotated, "Field": Field}
    for block in documented("python"):
        exec(block, {**names, "__name__": __name__})
    event("slack.said")(type("SlackSaid", (EventData,), {"__annotations__": {"text": str}}))
    settings = Settings(
        ledger_url=ledger_url, home=tmp_path_factory.mktemp("home"), signing_key=SecretStr("a long text")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", NO_PREFECT)
        patch.setenv("DARKROOM_GITHUB_SECRET", GITHUB)
        patch.setenv("DARKROOM_STRIPE_SECRET", STRIPE)
        for module in (hooks, triggers, project_file):
            patch.setattr(module, "project_files", lambda: [file])
        with running_gateway(settings, blocks=blocks) as running:
            yield running


@pytest.fixture(scope="module")
def operator(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.rotate("operator"))


@pytest.fixture(scope="module")
def shop(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add("shop", service=True))


def _hex(secret: str, content: bytes) -> str:
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def github(
    gateway: RunningGateway, payload: object, *, secret: str = GITHUB, about: str = "push", delivery: str | None = None
) -> httpx.Response:
    body = json.dumps(payload).encode()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": about,
        "X-GitHub-Delivery": delivery or str(uuid4()),
        "X-Hub-Signature-256": f"sha256={_hex(secret, body)}",
    }
    return gateway.http.post("/v1/hooks/github", content=body, headers=headers)


def stripe(gateway: RunningGateway, payload: object, *, secret: str = STRIPE, age: int = 0) -> httpx.Response:
    body, at = json.dumps(payload).encode(), int(time.time()) - age
    headers = {"Content-Type": "application/json; charset=utf-8"}
    headers["Stripe-Signature"] = f"t={at},v1={_hex(secret, b'%d.' % at + body)},v0={'0' * 64}"
    return gateway.http.post("/v1/hooks/stripe", content=body, headers=headers)


def slack(gateway: RunningGateway, payload: object, *, secret: str = SLACK) -> httpx.Response:
    body, at = json.dumps(payload).encode(), str(int(time.time()))
    headers = {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={_hex(secret, f'v0:{at}:'.encode() + body)}"}
    return gateway.http.post("/v1/hooks/slack", content=body, headers=headers)


def seen(customer: Customer, id: str) -> dict[str, Any]:
    shown = customer.get(f"/v1/events/{id}")
    assert shown.status_code == 200, shown.text
    return dict(shown.json())


def kept(customer: Customer) -> int:
    return len(customer.get("/v1/events?limit=100").json()["items"])


def test_a_push_at_github_is_an_event_that_starts_a_flow(
    gateway: RunningGateway, operator: Customer, ledger: Ledger
) -> None:
    """As docs/hooks.md declares it; the job is on record when GitHub is answered."""
    answer = github(gateway, PUSH, delivery="d-1")
    assert (answer.status_code, answer.json()["new"]) == (200, True)
    found = seen(operator, answer.json()["id"])
    assert (found["name"], found["sent_id"], found["user_id"]) == ("code.pushed", "github:d-1", None)
    assert found["data"] == {
        "repository": "ann/shop",
        "branch": "refs/heads/main",
        "commits": ["Draw a fox", "Draw a hare"],
    }
    (effect,) = found["effects"]
    assert (effect["what"], effect["deployment"]) == ("started", "picture-of-push/on-demand")
    job = ledger.jobs.get(effect["job_id"])
    assert job is not None and (job.user_id, job.parameters) == ("operator", {"repository": "ann/shop"})


def test_what_is_delivered_again_is_the_same_event(gateway: RunningGateway, operator: Customer, shop: Customer) -> None:
    """And what no event is for is answered, and passed over."""
    first, again = (github(gateway, PUSH, delivery="d-2").json() for _ in range(2))
    assert (first["id"], first["new"], again["new"]) == (again["id"], True, False)
    paid, once_more = (stripe(gateway, PAID | {"id": "evt_2"}, age=age).json() for age in (0, 3))
    assert (paid["id"], paid["new"], once_more["new"]) == (once_more["id"], True, False)
    before = kept(operator)
    ping = github(gateway, {"zen": "Speak like a human."}, about="ping")
    assert (ping.status_code, ping.json(), kept(operator)) == (200, {"verdict": "ignored"}, before)


def test_a_payment_at_stripe_is_about_the_owners_end_user(
    gateway: RunningGateway, shop: Customer, operator: Customer, ledger: Ledger
) -> None:
    """Whom the payload names; the owner sees it, and nobody else."""
    answer = stripe(gateway, PAID)
    assert answer.status_code == 200, answer.text
    found = seen(shop, answer.json()["id"])
    assert found["data"] == {"session": "cs_1", "cents": 1900, "currency": "eur"}
    assert ledger.users.find(found["user_id"]).name == "4711"
    assert operator.get(f"/v1/events/{found['id']}").status_code == 404


def test_what_is_forged_or_old_is_refused_and_nothing_is_kept(
    gateway: RunningGateway, shop: Customer, operator: Customer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether by another secret, another body or another time; no hook of that name is 404; a key opens nothing."""
    before = kept(operator), kept(shop)
    good = stripe(gateway, PAID | {"id": "evt_3"})
    altered = good.request.read().replace(b"1900", b"1901")
    answers = [
        github(gateway, PUSH, secret="guessed"),
        stripe(gateway, PAID, secret="guessed"),
        stripe(gateway, PAID, age=301),
        stripe(gateway, PAID, age=-400),
        gateway.http.post("/v1/hooks/stripe", content=altered, headers=dict(good.request.headers)),
        gateway.http.post("/v1/hooks/stripe", json=PAID),
        gateway.http.post("/v1/hooks/stripe", json=PAID, headers={"Authorization": f"Bearer {shop.key}"}),
    ]
    assert [answer.status_code for answer in answers] == [401] * len(answers)
    assert gateway.http.post("/v1/hooks/nowhere", json=PAID).status_code == 404
    assert (kept(operator), kept(shop)) == (before[0], before[1] + 1)
    assert not any(
        secret in caplog.text for secret in (GITHUB, STRIPE, SLACK, good.request.headers["stripe-signature"])
    )


def test_slack_hears_its_challenge_and_either_secret_is_good(gateway: RunningGateway, operator: Customer) -> None:
    """The challenge is signed, too."""
    challenge = {"type": "url_verification", "challenge": "3eZbrw1aB"}
    assert slack(gateway, challenge).json() == {"challenge": "3eZbrw1aB"}
    assert slack(gateway, challenge, secret="guessed").status_code == 401
    said = {"type": "event_callback", "event_id": "Ev1", "event": {"text": "a fox, please"}}
    for secret, new in ((SLACK, True), (SLACK_BEFORE, False)):
        answer = slack(gateway, said, secret=secret)
        assert (answer.status_code, answer.json()["new"]) == (200, new)
    assert seen(operator, answer.json()["id"])["data"] == {"text": "a fox, please"}


def test_a_form_is_read_as_well(gateway: RunningGateway) -> None:
    """GitHub's other content type, and Slack's: JSON in the field `payload`."""
    body = str(httpx.QueryParams({"payload": json.dumps(PUSH)})).encode()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "d-9",
    }
    headers["X-Hub-Signature-256"] = f"sha256={_hex(GITHUB, body)}"
    answer = gateway.http.post("/v1/hooks/github", content=body, headers=headers)
    assert (answer.status_code, answer.json()["verdict"]) == (200, "accepted")


def test_bodies_are_bounded_before_they_are_parsed(gateway: RunningGateway) -> None:
    """In size, whoever sends them; in depth, signed or not."""
    assert github(gateway, {"a": "x" * HOOK_CAP}).status_code == 413
    deep: Any = {}
    for _ in range(100):
        deep = {"a": deep}
    assert (github(gateway, deep).status_code, github(gateway, deep, secret="guessed").status_code) == (422, 401)
    signed = {"X-Hub-Signature-256": f"sha256={_hex(GITHUB, b'no json')}"}
    assert gateway.http.post("/v1/hooks/github", content=b"no json", headers=signed).status_code == 422


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"repository": None}, "hooks.github.events.0.data.repository"),
        ({"ref": 17}, "hooks.github.events.0.if"),
        ({"commits": [{"message": "x" * 3000}]}, "data.commits.0"),
    ],
)
def test_what_cannot_be_made_an_event_is_told_loudly_and_kept(
    gateway: RunningGateway, operator: Customer, caplog: pytest.LogCaptureFixture, changed: dict[str, Any], field: str
) -> None:
    """The answer and the log name the expression or the field, without a value; the payload is with the event."""
    with caplog.at_level(logging.ERROR):
        answer = github(gateway, PUSH | changed, delivery=f"d-{field}")
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, field)
    (logged,) = [record for record in caplog.records if record.name.endswith("hook_ingest")]
    assert field in logged.getMessage() and "Draw a" not in logged.getMessage()
    refused = operator.get(problem["instance"]).json()
    assert (refused["status"], refused["problem"]["field"], refused["effects"]) == ("refused", field, [])
    assert refused["data"]
    again = github(gateway, PUSH, delivery=f"d-{field}")
    assert again.json()["new"], "put right, it is taken with the same id"


def test_a_secret_that_is_not_known_yet_is_no_forgery(gateway: RunningGateway, blocks: GivenBlocks) -> None:
    """While a block cannot be read, what it may have signed is to come again; what another has signed is taken."""
    said = {"type": "event_callback", "event_id": f"Ev{uuid4().hex}", "event": {"text": "hello"}}
    known = dict(blocks.secrets)
    secrets: dict[str, str] = blocks.secrets  # type: ignore[assignment]
    del secrets["slack-before"]
    try:
        assert slack(gateway, said, secret=SLACK_BEFORE).status_code == 503
        assert slack(gateway, said).status_code == 200
    finally:
        secrets.update(known)


def test_the_hooks_are_read_again_when_the_file_changes(gateway: RunningGateway, file: Path) -> None:
    """A file that is broken then changes nothing."""
    try:
        file.write_text(declared().replace("name: slack", "name: chat"))
        assert slack(gateway, {"type": "url_verification", "challenge": "x"}).status_code == 404
        file.write_text(declared().replace("payload.event.text", "payload.event."))
        assert slack(gateway, {"type": "url_verification", "challenge": "x"}).status_code == 404
    finally:
        file.write_text(declared())
    assert slack(gateway, {"type": "url_verification", "challenge": "x"}).status_code == 200


def test_one_webhook_sent_again_and_again_is_refused_after_a_while(gateway: RunningGateway) -> None:
    """A signature of GitHub's holds for ever, and may be seen by somebody."""
    statuses = [github(gateway, PUSH | {"after": "1"}, delivery="d-many").status_code for _ in range(31)]
    assert statuses == [200] * 30 + [429]
