"""Callbacks: what happens, told to a user's own application, whatever that answers and whichever gateway dies."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from customers import Application, Says, application
from ledger_databases import Db
from ledger_scenes import post
from reconciling import resources_of, turn
from running_gateway import NO_PREFECT, GivenBlocks, RunningGateway, gateway_process, running_gateway
from standardwebhooks import WebhookVerificationError
from support import wait_until

from darkroom.blocks.notifier import Notifier
from darkroom.ledger import JobStatus, Ledger, NewKey
from darkroom.settings import Settings


@pytest.fixture
def ann(ledger: Ledger) -> NewKey:
    return ledger.users.add("ann")


@pytest.fixture
def ledger_home(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PREFECT_API_URL", NO_PREFECT)
    return Settings(ledger_url=ledger_url, home=tmp_path, signing_key="a long random text", time_scale=0.2)  # type: ignore[arg-type]


@contextmanager
def gateway_to(settings: Settings, *applications: Application) -> Iterator[RunningGateway]:
    allowed = ", ".join(each.allowed for each in applications)
    with running_gateway(settings.model_copy(update={"web_allow": allowed}), blocks=GivenBlocks()) as gateway:
        yield gateway


def call(gateway: RunningGateway, key: NewKey, method: str, path: str, body: object = None, **headers: str) -> Any:
    given = {"Authorization": f"Bearer {key.key}"} | {name.replace("_", "-"): each for name, each in headers.items()}
    answer = gateway.http.request(method, path, json=body, headers=given)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def endpoint(gateway: RunningGateway, key: NewKey, url: str, **more: Any) -> str:
    """Set it, and return its secret."""
    found: str = call(gateway, key, "PUT", "/v1/callback-endpoint", {"url": url, **more})["secret"]
    return found


def finish(ledger: Ledger, user_id: str) -> str:
    job = post(ledger, user_id)
    ledger.jobs.finish(job.id, JobStatus.COMPLETED)
    return job.id


def due(db: Db) -> None:
    """Let the pause be over that follows a failed attempt."""
    db.execute("UPDATE callback SET next_at = now() WHERE status = 'pending' AND attempts > 0 AND next_at > now()")


def ended(db: Db, *, status: str, attempts: int | None = None) -> list[dict[str, Any]]:
    rows = db.execute("SELECT * FROM callback WHERE status = %s ORDER BY number", [status]).fetchall()
    return [dict(row) for row in rows if attempts is None or row["attempts"] == attempts]


def test_an_application_is_told_with_the_jobs_document(ledger_home: Settings, ledger: Ledger, ann: NewKey) -> None:
    """Signed so that the standard's own client takes it; by default of ends alone."""
    with application() as shop, gateway_to(ledger_home, shop) as gateway:
        secret = endpoint(gateway, ann, f"{shop.url}/hook")
        job_id = finish(ledger, ann.user_id)
        wait_until(lambda: shop.calls, what="the callback")
        (told,) = shop.calls
        found = told.verified(secret)
        assert (told.path, found["type"], found["data"]["job_id"]) == ("/hook", "job.completed", job_id)
        assert (found["data"]["job"]["id"], found["data"]["job"]["status"]) == (job_id, "completed")
        wait_until(lambda: call(gateway, ann, "GET", "/v1/callbacks?status=delivered")["items"], what="the record")
        (item,) = call(gateway, ann, "GET", "/v1/callbacks")["items"]
        assert (item["id"], item["attempts"], item["last_status"]) == (told.id, 1, 200)
        assert (item["last_answer"], item["next_at"]) == ("thanks", None)
        with pytest.raises(WebhookVerificationError):
            told.verified("whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldCE=")


def test_an_order_has_an_address_of_its_own(ledger_home: Settings, ledger: Ledger, ann: NewKey) -> None:
    """With the events that it names; where it is the endpoint's, too, it is called once. Repeated, it has it still."""
    with application() as shop, gateway_to(ledger_home, shop) as gateway:
        order = {
            "prompt": "a fox",
            "callback_url": f"{shop.url}/order",
            "callback_events": ["job.created", "job.failed"],
        }
        job_id = call(gateway, ann, "POST", "/v1/images", order)["job_id"]
        wait_until(lambda: shop.calls, what="that it is there")
        stored = ledger.jobs.get(job_id)
        assert stored is not None and not {"callback_url", "callback_events"} & set(stored.parameters)
        secret = call(gateway, ann, "POST", "/v1/callback-endpoint/rotate")["secret"]
        call(
            gateway, ann, "PUT", "/v1/callback-endpoint", {"url": f"{shop.url}/order", "events": ["job"], "thin": True}
        )
        ledger.jobs.finish(job_id, JobStatus.FAILED, error={"code": "content_policy"})
        again = call(gateway, ann, "POST", f"/v1/jobs/{job_id}/repeat")["job_id"]
        wait_until(lambda: len(shop.calls) == 3, what="its end, and the other one's beginning")
        first, end, other = sorted((each.document for each in shop.calls), key=lambda each: each["data"]["number"])
        assert [each["type"] for each in (first, end, other)] == ["job.created", "job.failed", "job.created"]
        assert set(end["data"]) == {"number", "event", "user_id", "user", "job_id", "kind"}  # thin
        assert other["data"]["job_id"] == again
        assert shop.calls[-1].verified(secret)


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"callback_url": "ftp://example.com"}, "callback_url"),
        ({"callback_url": "https://example.com:8443/hook"}, "callback_url"),
        ({"callback_url": "https://ann:secret@example.com/hook"}, "callback_url"),
        ({"callback_url": "https://example.com", "callback_events": ["job.lost"]}, "callback_events"),
        ({"callback_events": ["job.failed"]}, "callback_events"),
    ],
)
def test_what_could_never_be_sent_is_refused(
    ledger_home: Settings, ledger: Ledger, ann: NewKey, order: dict[str, Any], field: str
) -> None:
    """By its field, with nothing ordered."""
    with gateway_to(ledger_home) as gateway:
        answer = gateway.as_user(ann).order({"prompt": "a fox", **order})
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert ledger.jobs.page(ann.user_id, limit=1) == []


@pytest.mark.parametrize(
    ("says", "error", "status"),
    [
        (Says(status=500, body=b"x" * 10_000), "it answered 500", 500),
        (Says(status=302, headers={"Location": "http://127.0.0.1:9/"}), "redirects are not followed", 302),
        (Says(after=threading.Event()), "did not answer in time", None),
    ],
)
def test_what_fails_is_sent_again_under_the_same_id(
    ledger_home: Settings, ledger: Ledger, db: Db, ann: NewKey, says: Says, error: str, status: int | None
) -> None:
    """Whatever it failed by; the answer is on record as far as 4 KiB."""
    with application(lambda n: says if n < 3 else Says()) as shop, gateway_to(ledger_home, shop) as gateway:
        secret = endpoint(gateway, ann, shop.url)
        finish(ledger, ann.user_id)
        for attempt in (1, 2):
            (row,) = wait_until(lambda n=attempt: ended(db, status="pending", attempts=n), what="an attempt")  # type: ignore[misc]
            assert error in row["last_error"] and row["last_status"] == status
            assert status != 500 or row["last_answer"] == "x" * 4096
            due(db)
        (row,) = wait_until(lambda: ended(db, status="delivered"), what="the delivery")
        if says.after is not None:
            says.after.set()
        assert (row["attempts"], row["last_error"]) == (3, None)
        assert {each.id for each in shop.calls} == {row["id"]} and len(shop.calls) == 3
        assert all(each.verified(secret) for each in shop.calls)
        assert ledger.callbacks.endpoint(ann.user_id).failing_since is None


def test_a_private_address_is_not_called(ledger_home: Settings, ledger: Ledger, db: Db, ann: NewKey) -> None:
    """It is given up at once, with the reason; what cannot be resolved now may be later."""
    with gateway_to(ledger_home) as gateway:
        endpoint(gateway, ann, "http://127.0.0.1/hook")
        finish(ledger, ann.user_id)
        (row,) = wait_until(lambda: ended(db, status="dead"), what="the end of it")
    assert (row["attempts"], row["last_error"]) == (1, "the address is not on the public internet")


def test_what_was_given_up_is_sent_again_by_hand(ledger_home: Settings, ledger: Ledger, db: Db, ann: NewKey) -> None:
    """One, or all since a time, with the ids that they had."""
    comes_back = threading.Event()
    with (
        application(lambda n: Says(status=200 if comes_back.is_set() else 503)) as shop,
        gateway_to(ledger_home, shop) as gateway,
    ):
        endpoint(gateway, ann, shop.url)
        for _ in range(3):
            finish(ledger, ann.user_id)
        wait_until(lambda: len(ended(db, status="pending", attempts=1)) == 3, what="the first attempts")
        db.execute("UPDATE callback SET attempts = 7, next_at = now()")
        dead = wait_until(lambda: len(found := ended(db, status="dead", attempts=8)) == 3 and found, what="the end")
        ids = {each.id for each in shop.calls}
        comes_back.set()
        call(gateway, ann, "POST", f"/v1/callbacks/{dead[1]['id']}/resend")  # type: ignore[index]
        wait_until(lambda: ended(db, status="delivered"), what="the one")
        since = {"since": "2020-01-01T00:00:00Z"}
        assert call(gateway, ann, "POST", "/v1/callbacks/resend", since) == {"resent": 2}
        wait_until(lambda: len(ended(db, status="delivered")) == 3, what="the others")
        assert {each.id for each in shop.calls} == ids and len(ids) == 3
        call(gateway, ann, "POST", "/v1/callback-endpoint/test")
        wait_until(lambda: shop.calls[-1].document["type"] == "callback.test", what="the test")


def test_who_says_gone_is_called_no_more(ledger_home: Settings, ledger: Ledger, db: Db, ann: NewKey) -> None:
    """410 ends it: the endpoint is off, and what comes meanwhile dead on record, until it is set again."""
    gone = [True]
    with (
        application(lambda n: Says(status=410 if gone[0] else 200)) as shop,
        gateway_to(ledger_home, shop) as gateway,
    ):
        endpoint(gateway, ann, shop.url)
        finish(ledger, ann.user_id)
        wait_until(lambda: ended(db, status="dead", attempts=1), what="the end of it")
        assert "410" in call(gateway, ann, "GET", "/v1/callback-endpoint")["off_reason"]
        finish(ledger, ann.user_id)
        wait_until(lambda: ended(db, status="dead", attempts=0), what="what was not sent")
        refused = gateway.as_user(ann).post("/v1/callback-endpoint/test")
        assert refused.status_code == 409
        gone[0] = False
        call(gateway, ann, "PUT", "/v1/callback-endpoint", {"url": shop.url})
        assert call(gateway, ann, "POST", "/v1/callbacks/resend", {"since": "2020-01-01T00:00:00Z"}) == {"resent": 2}
        wait_until(lambda: len(ended(db, status="delivered")) == 2, what="both")


def test_an_endpoint_that_fails_for_days_is_switched_off(
    ledger_home: Settings, ledger: Ledger, db: Db, ann: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its user is told by the stream, and the operator once, by the notifier. No secret of its address is shown."""
    told: list[str] = []
    monkeypatch.setattr(Notifier, "load_default", lambda: Notifier())
    monkeypatch.setattr(Notifier, "send", lambda self, subject, text, **_: told.append(f"{subject}: {text}"))
    with application(lambda n: Says(status=500)) as shop, gateway_to(ledger_home, shop) as gateway:
        endpoint(gateway, ann, f"{shop.url}?token=abc#sig=abc")
        finish(ledger, ann.user_id)
        wait_until(lambda: ended(db, status="pending", attempts=1), what="an attempt")
        shown = f"{shop.url}?token=…#sig=…"
        assert [each["url"] for each in call(gateway, ann, "GET", "/v1/callbacks")["items"]] == [shown]
        db.execute("UPDATE callback_endpoint SET failing_since = failing_since - interval '3 days'")
        due(db)
        wait_until(lambda: ended(db, status="dead"), what="the end of it")
    (news,) = db.execute("SELECT user_id, data FROM notification WHERE event = 'callback.disabled'").fetchall()
    assert (news["user_id"], news["data"]["url"]) == (ann.user_id, shown)
    for _ in range(2):
        turn(resources_of(ledger))
    (text,) = told
    assert "ann" in text and "it answered 500" in text


def test_a_slow_customer_delays_nobody(ledger_home: Settings, ledger: Ledger, db: Db, ann: NewKey) -> None:
    """While all that goes to one hangs, what goes to another is there: slots are each endpoint's own."""
    bob, released = ledger.users.add("bob"), threading.Event()
    with ExitStack() as opened:
        opened.callback(released.set)
        slow = opened.enter_context(application(lambda n: Says(after=released)))
        quick = opened.enter_context(application())
        gateway = opened.enter_context(gateway_to(ledger_home, slow, quick))
        endpoint(gateway, ann, slow.url)
        secret = endpoint(gateway, bob, quick.url)
        for _ in range(40):
            finish(ledger, ann.user_id)
        wait_until(lambda: slow.calls, what="that it hangs")
        for _ in range(20):
            finish(ledger, bob.user_id)
        wait_until(lambda: len(quick.calls) == 20, what="bob's")
        assert len(slow.calls) < 40
        assert all(each.verified(secret) for each in quick.calls)


def test_both_secrets_sign_while_a_rotation_lasts(ledger_home: Settings, ledger: Ledger, db: Db, ann: NewKey) -> None:
    """After it the old one does not; the ledger has neither, and nobody is shown one twice."""
    with application() as shop, gateway_to(ledger_home, shop) as gateway:
        old = endpoint(gateway, ann, shop.url)
        new = call(gateway, ann, "POST", "/v1/callback-endpoint/rotate")["secret"]
        finish(ledger, ann.user_id)
        wait_until(lambda: len(shop.calls) == 1, what="the first")
        assert shop.calls[0].verified(old) == shop.calls[0].verified(new)
        db.execute("UPDATE callback_endpoint SET before_until = now()")
        finish(ledger, ann.user_id)
        wait_until(lambda: len(shop.calls) == 2, what="the second")
        assert shop.calls[1].verified(new)
        with pytest.raises(WebhookVerificationError):
            shop.calls[1].verified(old)
        assert call(gateway, ann, "PUT", "/v1/callback-endpoint", {"url": shop.url})["secret"] is None
        assert call(gateway, ann, "GET", "/v1/callback-endpoint")["secret"] is None
    row = str(dict(db.execute("SELECT * FROM callback_endpoint").fetchone() or {}))
    assert new.removeprefix("whsec_") not in row and old.removeprefix("whsec_") not in row


def test_a_service_is_told_of_its_end_users(ledger_home: Settings, ledger: Ledger, ann: NewKey) -> None:
    """By the service's own names of them; an end user has no endpoint, and others see nothing."""
    service = ledger.users.add("shop", service=True)
    with application() as shop, gateway_to(ledger_home, shop) as gateway:
        secret = endpoint(gateway, service, shop.url)
        finish(ledger, ledger.users.end_user(service.user_id, "4711").id)
        wait_until(lambda: shop.calls, what="the callback")
        assert shop.calls[0].verified(secret)["data"]["user"] == "4711"
        for name, n in (("4711", 1), ("4712", 0)):
            assert len(call(gateway, service, "GET", "/v1/callbacks", Darkroom_User=name)["items"]) == n
        refused = gateway.as_user(service).get("/v1/callback-endpoint", Darkroom_User="4711")
        assert (refused.status_code, refused.json()["field"]) == (403, "Darkroom-User")
        id = shop.calls[0].id
        assert call(gateway, ann, "GET", "/v1/callbacks")["items"] == []
        assert gateway.as_user(ann).post(f"/v1/callbacks/{id}/resend").status_code == 404
        call(gateway, service, "DELETE", "/v1/callback-endpoint")
        assert gateway.as_user(service).get("/v1/callback-endpoint").status_code == 404


def test_a_gateway_that_is_killed_loses_none(
    ledger: Ledger, ledger_url: str, db: Db, ann: NewKey, tmp_path: Path
) -> None:
    """What it was sending is sent by another one, under the same id, and what it had not read is read."""
    released = threading.Event()
    with application(lambda n: Says(after=released)) as shop:
        environment = os.environ | {
            "DARKROOM_LEDGER_URL": ledger_url,
            "DARKROOM_HOME": str(tmp_path),
            "DARKROOM_SIGNING_KEY": "a long random text",
            "DARKROOM_TIME_SCALE": "0.1",
            "DARKROOM_WEB_ALLOW": shop.allowed,
            "PREFECT_API_URL": NO_PREFECT,
        }
        bearer = {"Authorization": f"Bearer {ann.key}"}
        with gateway_process(environment, tmp_path / "log") as gateway:
            answer = gateway.http.put("/v1/callback-endpoint", json={"url": shop.url}, headers=bearer)
            jobs = {finish(ledger, ann.user_id) for _ in range(3)}
            wait_until(lambda: shop.calls, what="that it is sending")
            gateway.process.kill()
            gateway.process.wait()
        jobs |= {finish(ledger, ann.user_id) for _ in range(3)}
        released.set()
        with gateway_process(environment, tmp_path / "log"):
            wait_until(lambda: len(ended(db, status="delivered")) == 6, what="all of them")
    told = {each.id: each.verified(answer.json()["secret"])["data"]["job_id"] for each in shop.calls}
    assert sorted(told.values()) == sorted(jobs) and len(shop.calls) > 6
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_gateways_beside_each_other_put_each_on_record_once(ledger: Ledger, ledger_home: Settings, ann: NewKey) -> None:
    """Whoever comes first reads on; none is made twice."""
    with application() as shop, gateway_to(ledger_home, shop) as one, gateway_to(ledger_home, shop):
        endpoint(one, ann, shop.url)
        for _ in range(30):
            finish(ledger, ann.user_id)
        wait_until(lambda: len({each.id for each in shop.calls}) == 30, what="all of them")
        assert len({each.document["data"]["number"] for each in shop.calls}) == len(shop.calls) == 30
