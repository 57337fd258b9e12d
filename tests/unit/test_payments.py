"""A charge is one POST that may be repeated; what came of it is an id, or says whether another try may help."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from support import free_port
from till import KEY, Till, open_till

from darkroom.blocks.payments import Charge, PaymentAccount
from darkroom.errors import DarkroomError, Park, Permanent, RateLimited, Retry
from darkroom.settings import Settings

ORDER = Charge(order="o-17", amount_cents=1990, currency="USD", payment_method="pm_ann", key="order-17")


@pytest.fixture
def till() -> Iterator[Till]:
    with open_till() as till:
        yield till


def account(till: Till) -> PaymentAccount:
    return PaymentAccount(url=till.charge_url, key=SecretStr(KEY))


def test_the_same_key_is_the_same_charge(till: Till) -> None:
    """However often it is asked for, as after an answer that was lost."""
    ids = {account(till).charge(ORDER) for _ in range(3)}
    assert len(ids) == 1
    assert till.charged("o-17") == list(ids)
    assert {post.headers["idempotency-key"] for post in till.posts} == {"order-17"}


def test_the_key_of_the_account_is_a_header_alone(till: Till) -> None:
    """What is charged is in the body, and no secret is."""
    account(till).charge(ORDER)
    (post,) = till.posts
    assert post.headers["authorization"] == f"Bearer {KEY}"
    assert post.body == {"amount": 1990, "currency": "USD", "order": "o-17", "payment_method": "pm_ann"}


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (402, Permanent, "payment_declined"),
        (400, Permanent, "payment_refused"),
        (401, Permanent, "unauthorized"),
        (409, Retry, "transient"),
        (429, RateLimited, "rate_limited"),
        (500, Retry, "transient"),
    ],
)
def test_a_refusal_says_whether_to_come_again(till: Till, status: int, kind: type[DarkroomError], code: str) -> None:
    """By its status."""
    till.statuses["o-17"] = [status]
    with pytest.raises(kind) as refused:
        account(till).charge(ORDER)
    assert refused.value.code == code


def test_a_provider_that_is_not_there_is_waited_for() -> None:
    """Nothing was charged, and no try is used up."""
    nobody = PaymentAccount(url=f"http://127.0.0.1:{free_port()}/charges", key=SecretStr(KEY))
    with pytest.raises(Park):
        nobody.charge(ORDER)


def test_the_environment_names_an_account_whole_or_not_at_all() -> None:
    """An address without its key charges nobody."""
    assert PaymentAccount.given(Settings(payment_url="https://pay.example.com/charges")) is None
    given = Settings(payment_url="https://pay.example.com/charges", payment_key=SecretStr("k"))
    assert PaymentAccount.given(given) is not None
