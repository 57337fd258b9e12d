"""The JSON of what operators set: users, keys, plans, accounts, models."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema

from darkroom.deployments.gateway.schemas.base import Document, Usd
from darkroom.ledger import OVERLAP, USUAL, Account, KnownKey, Plan, Scope, User
from darkroom.ledger.breaker import halvings_now
from darkroom.ledger.keys import LONGEST_NAME
from darkroom.ledger.tables import MOST_QUEUED
from darkroom.ledger.users import LONGEST_OVERLAP, MOST_MARKUP
from darkroom.timing import Timing

MOST = 1_000_000
MOST_USD = 100_000
UserName = Annotated[str, Field(min_length=1, max_length=200, examples=["ann"])]
PlanName = Annotated[str, Field(min_length=1, max_length=100, examples=["studio"])]
Scopes = Annotated[list[Scope], Field(min_length=1, max_length=len(Scope), description="What it is good for.")]
Money = Annotated[
    Decimal,
    Field(gt=0, le=MOST_USD, max_digits=12, decimal_places=6),
    # A Decimal's own schema takes text, too.
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": MOST_USD}),
]
Weight = Annotated[
    Decimal,
    Field(ge=Decimal("0.001"), le=10_000, decimal_places=3),
    WithJsonSchema({"type": "number", "minimum": 0.001, "maximum": 10_000}),
]


Markup = Annotated[
    Decimal,
    Field(gt=0, le=MOST_MARKUP, decimal_places=4),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": MOST_MARKUP}),
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UserOrder(Body):
    name: UserName
    plan: PlanName = "pro"
    service: bool = Field(False, description="The key may act for end users of its own.")
    scopes: Scopes = [*USUAL]


class BudgetOrder(Body):
    daily_budget_usd: Money | None = Field(None, description="A day. Null: as the plan says. Left out: as it is.")
    monthly_budget_usd: Money | None = Field(None, description="A month. Null: as the plan says. Left out: as it is.")


class PlanChoice(Body):
    plan: PlanName


class RotationOrder(Body):
    overlap_seconds: int = Field(
        int(OVERLAP.total_seconds()),
        ge=0,
        le=int(LONGEST_OVERLAP.total_seconds()),
        description="So long the old keys go on. 0: they stop now.",
    )


class KeyOrder(Body):
    user: str = Field(min_length=1, max_length=200, description="A user's name or id.", examples=["ann"])
    name: str = Field(min_length=1, max_length=LONGEST_NAME, description="What it is for.", examples=["nightly report"])
    scopes: Scopes = [*USUAL]
    expires_at: AwareDatetime | None = Field(None, description="When it stops. Null: not by itself.")
    service: bool = Field(False, description="It may act for end users of its user's own.")


class PlanOrder(Body):
    name: PlanName
    in_flight: int = Field(ge=0, le=MOST, description="Requests at the provider at once, for each user.", examples=[20])
    weight: Weight = Field(description="Share when slots are short.", examples=[2.5])
    daily_budget_usd: Money | None = Field(None, description="Most a user spends a day. Null: no limit.")
    monthly_budget_usd: Money | None = Field(None, description="Most a user spends a month. Null: no limit.")
    markup: Markup = Field(
        Decimal(1),
        description="What `cost_usd` is multiplied by to be `price_usd`, for those who sell on what they order here. "
        "It holds for what is ordered from now on.",
        examples=[1.3],
        json_schema_extra={"default": 1},  # a Decimal's own would be text
    )
    most_queued: int = Field(MOST_QUEUED, ge=0, le=MOST, description="Requests of each user that may wait.")
    calls_per_minute: int | None = Field(
        None, ge=1, le=MOST, description="Calls with one key within a minute. Null: no limit."
    )


class AccountOrder(Body):
    name: str = Field(min_length=1, max_length=100, examples=["fal"])
    slots: int | None = Field(None, ge=0, le=MOST, description="Requests at once. Null: as it is.")
    endpoint_caps: dict[str, Annotated[int, Field(ge=0, le=MOST)]] = Field(
        {}, description="Caps of endpoints; those that are not named stay.", examples=[{"openai/gpt-image-2": 10}]
    )


class ModelOrder(Body):
    endpoint: str = Field(min_length=1, max_length=200, examples=["fal-ai/nano-banana"])
    allowed: bool | None = Field(None, description="Null: as the installation's setting says. Left out: as it is.")
    call_usd: Money | None = Field(None, description="What a call costs. Null: by its card. Left out: as it is.")


class KeyDocument(Document):
    id: str = Field(examples=["key_019aa1f0c5d2"])
    name: str = Field(description="Empty for a user's first key and for those of a rotation.")
    user_id: str
    scopes: list[Scope]
    service: bool
    status: str = Field(description="`open`, `expired` or `revoked`.", examples=["open"])
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None


class NewKeyDocument(KeyDocument):
    key: str = Field(description="The key itself. It is never shown again.")


class KeyPage(Document):
    items: list[KeyDocument]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


class UserDocument(Document):
    id: str
    name: str
    plan: str
    service_user_id: str | None = Field(description="Of an end user: whose.")
    daily_budget_usd: Usd | None = Field(description="Of their own. Null: as the plan says.")
    monthly_budget_usd: Usd | None = Field(description="Of their own. Null: as the plan says.")
    created_at: datetime
    keys: list[KeyDocument] = Field(description="Those that open.")


class NewUserDocument(UserDocument):
    key: str = Field(description="The key itself. It is never shown again.")


class UserPage(Document):
    items: list[UserDocument]
    next: str | None = Field(description="The `cursor` of the next page; null on the last.")


class PlanDocument(Document):
    name: str
    in_flight: int
    weight: Usd
    daily_budget_usd: Usd | None
    monthly_budget_usd: Usd | None
    markup: Usd
    most_queued: int
    calls_per_minute: int | None


class PlanList(Document):
    items: list[PlanDocument]


class AccountDocument(Document):
    name: str
    slots: int
    user_slots: int | None = Field(description="Most that one user holds. Null: as many as the plan says.")
    endpoint_caps: dict[str, int]
    down_since: datetime | None = Field(description="Since when its provider is out. Null: it is up.")
    slowed_at: datetime | None = Field(description="When its provider last said 429. Null: the slots are not halved.")


class AccountList(Document):
    items: list[AccountDocument]


class ModelChoiceDocument(Document):
    endpoint: str
    allowed: bool | None
    call_usd: Usd | None


def key_document(key: KnownKey, *, now: datetime) -> KeyDocument:
    return KeyDocument(**vars(key), status=key.status(now))


def user_document(user: User, keys: list[KnownKey], *, now: datetime) -> UserDocument:
    return UserDocument(
        id=user.id,
        name=user.name,
        plan=user.plan,
        service_user_id=user.parent_id,
        daily_budget_usd=user.daily_budget_usd,
        monthly_budget_usd=user.monthly_budget_usd,
        created_at=user.created_at,
        keys=[key_document(key, now=now) for key in keys],
    )


def plan_document(plan: Plan) -> PlanDocument:
    return PlanDocument.model_validate(plan)


def account_document(account: Account, *, now: datetime, timing: Timing) -> AccountDocument:
    slowed = halvings_now(account.halvings, account.slowed_at, now=now, timing=timing)
    return AccountDocument(
        name=account.id,
        slots=account.slots,
        user_slots=account.user_slots,
        endpoint_caps=account.endpoint_caps or {},
        down_since=account.down_since,
        slowed_at=account.slowed_at if slowed else None,  # on record it stays when the slots are given back
    )
