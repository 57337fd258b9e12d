"""Callbacks: what an attempt came to, when the next one is due, and the signature under what is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from darkroom.clock import utc_now
from darkroom.deployments.gateway.callback_signing import as_text, secret_of, secrets_of, signed
from darkroom.deployments.gateway.loops.callbacks import what_became
from darkroom.errors import DarkroomError, Refused, Retry
from darkroom.ledger import CallbackEndpoint
from darkroom.providers.web.posting import Answer, retry_after
from darkroom.settings import Settings
from darkroom.timing import UNSCALED

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def answer(status: int, retry_after: timedelta | None = None) -> Answer:
    return Answer(status=status, text="said", retry_after=retry_after)


@pytest.mark.parametrize(
    ("given", "attempts", "pause"),
    [
        (answer(500), 0, timedelta(seconds=5)),
        (answer(404), 1, timedelta(minutes=5)),
        (answer(302), 2, timedelta(minutes=30)),
        (Retry("the host did not answer in time", code="slow"), 3, 2 * HOUR),
        (Refused("there is no host of that name", code="unknown_host"), 6, 10 * HOUR),
        (answer(429, timedelta(minutes=7)), 0, timedelta(minutes=7)),
        (answer(503, timedelta(seconds=1)), 1, timedelta(minutes=5)),  # not sooner than the schedule
        (answer(503, timedelta(days=400)), 1, timedelta(days=1)),
        (answer(500), 7, None),
        (answer(410), 0, None),
        (Refused("the address is not on the public internet", code="private_address"), 0, None),
        (Refused("that is not a URL", code="bad_url"), 0, None),
    ],
)
def test_a_failed_attempt_is_followed_by_the_standards_schedule(
    given: Answer | DarkroomError, attempts: int, pause: timedelta | None
) -> None:
    """Up to a tenth later, by chance; `Retry-After` is honoured, and some failures end it."""
    sent = what_became(given, attempts=attempts, now=NOW, timing=UNSCALED)
    assert sent.error is not None
    assert sent.gone is (isinstance(given, Answer) and given.status == 410)
    if pause is None:
        assert sent.again is None
    else:
        assert sent.again is not None and pause <= sent.again - NOW <= pause * 1.1


def test_the_schedule_takes_about_a_day() -> None:
    """As the standard has it."""
    assert len(UNSCALED.callback_again) == 7
    assert 24 * HOUR < sum(UNSCALED.callback_again, timedelta()) < 30 * HOUR


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_success_is_one(status: int) -> None:
    """Whatever the body says."""
    sent = what_became(answer(status), attempts=3, now=NOW, timing=UNSCALED)
    assert (sent.error, sent.status, sent.again) == (None, status, None)


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("120", timedelta(seconds=120)),
        ("Tue, 01 Jan 2030 12:01:00 GMT", timedelta(minutes=1)),
        ("Tue, 01 Jan 2030 11:00:00 GMT", timedelta(0)),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_has_seconds_or_a_date(value: str, pause: timedelta | None) -> None:
    """What is neither counts for nothing."""
    assert retry_after(value, now=NOW) == pause


def test_the_standards_client_takes_our_signature(tmp_path: Path) -> None:
    """By each secret of a rotation, by no other salt's, and not with another body."""
    settings = Settings(home=tmp_path, signing_key=SecretStr("a long random text"))
    now = utc_now()
    endpoint = CallbackEndpoint(user_id="u1", salt="new", salt_before="old", before_until=now + HOUR)
    headers = signed("msg_1", b'{"a": 1}', secrets_of(endpoint, settings, now=now), now=now)
    for salt in ("new", "old"):
        assert Webhook(as_text(secret_of(salt, settings))).verify(b'{"a": 1}', headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(as_text(secret_of("older", settings))).verify(b'{"a": 1}', headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(as_text(secret_of("new", settings))).verify(b'{"a": 2}', headers)
    assert secrets_of(endpoint, settings, now=now + HOUR) == [secret_of("new", settings)]
