"""Sessions: a bearer in place of a key, for half a day, that ends with the key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from running_gateway import RunningGateway
from streams import reading

from darkroom.clock import utc_now
from darkroom.ledger import Ledger, NewKey, Scope


@pytest.fixture
def ann(ledger: Ledger) -> NewKey:
    return ledger.users.add("ann", scopes=[Scope.READ])


def opened(gateway: RunningGateway, key: NewKey) -> str:
    answer = gateway.as_user(key).post("/v1/sessions")
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


def test_a_session_opens_what_its_key_does(gateway: RunningGateway, ann: NewKey) -> None:
    """The same user, the same scopes, and no more."""
    page = gateway.as_user(opened(gateway, ann))
    assert page.get("/v1/jobs").status_code == 200
    assert page.order().status_code == 403
    told = page.get("/v1/sessions/current").json()
    assert (told["user"], told["key_id"], told["scopes"]) == ("ann", ann.id, ["read"])


def test_a_session_cannot_prolong_itself(gateway: RunningGateway, ann: NewKey) -> None:
    """Only the key opens one, so it ends after half a day for who has the session alone."""
    answer = gateway.as_user(opened(gateway, ann)).post("/v1/sessions")
    assert answer.status_code == 403 and answer.json()["remedy"]


def test_a_session_ends_when_it_is_said_to(gateway: RunningGateway, ann: NewKey) -> None:
    """And its key stays, also where it is shown itself in the session's place."""
    token = opened(gateway, ann)
    assert gateway.as_user(token).delete("/v1/sessions/current").status_code == 204
    assert gateway.as_user(token).get("/v1/jobs").status_code == 401
    assert gateway.as_user(ann).delete("/v1/sessions/current").status_code == 204
    assert gateway.as_user(ann).get("/v1/jobs").status_code == 200


ENDINGS: dict[str, Callable[[Ledger, NewKey], object]] = {
    "the key is revoked": lambda ledger, key: ledger.keys.revoke(key.id),
    "the user is": lambda ledger, key: ledger.users.revoke(key.user_id),
    "the key is rotated now": lambda ledger, key: ledger.users.rotate("ann", overlap=timedelta(0)),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_a_session_ends_with_its_key(
    gateway: RunningGateway, ledger: Ledger, ann: NewKey, end: Callable[[Ledger, NewKey], object]
) -> None:
    """With the next call: nothing remembers that it held. Another key's goes on."""
    token, other = opened(gateway, ann), opened(gateway, ledger.users.add("bob"))
    end(ledger, ann)
    assert gateway.as_user(token).get("/v1/jobs").status_code == 401
    assert gateway.as_user(other).get("/v1/jobs").status_code == 200


def test_a_session_ends_after_half_a_day_and_with_a_key_that_runs_out(ledger_url: str) -> None:
    """Whichever comes first; what has run out is forgotten when the key opens another."""
    now = utc_now()
    ledger = Ledger(ledger_url, clock=lambda: now)
    ann = ledger.users.add("ann")
    brief = ledger.keys.add(ann.user_id, name="brief", expires_at=now + timedelta(hours=1))
    caller, short = ledger.users.authenticate(ann.key), ledger.users.authenticate(brief.key)
    assert caller and short
    session, ending = ledger.sessions.open(caller.key).token, ledger.sessions.open(short.key).token
    now += timedelta(hours=2)
    assert ledger.users.authenticate(session) and not ledger.users.authenticate(ending)
    now += timedelta(hours=10)
    assert not ledger.users.authenticate(session)
    ledger.sessions.open(caller.key)
    assert ledger.sessions.get(session) is None
    ledger.close()


def test_the_stream_of_a_session_ends_with_the_key(gateway: RunningGateway, ledger: Ledger, ann: NewKey) -> None:
    """Also one that was opened by a token that the session has made."""
    token = opened(gateway, ann)
    link, url = gateway.as_user(token).post("/v1/stream-tokens").json()["token"], f"{gateway.url}/v1/stream"
    with reading(url, key=token) as own, reading(url, token=link) as by_link:
        ledger.keys.revoke(ann.id)
        own.until_it_ends()
        by_link.until_it_ends()


def test_the_ledger_keeps_no_session_in_clear(gateway: RunningGateway, ledger: Ledger, db: object, ann: NewKey) -> None:
    """Whoever reads the table finds nothing to call with."""
    token = opened(gateway, ann)
    (row,) = db.execute("SELECT * FROM session").fetchall()  # type: ignore[attr-defined]
    assert token not in str(row)
