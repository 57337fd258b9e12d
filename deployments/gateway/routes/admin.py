"""`/v1/admin`: what operators set, live: users, their keys and plans, accounts, models. It takes the scope `admin`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Path, Query

from darkroom.deployments.gateway.auth import acting_caller
from darkroom.deployments.gateway.openapi import problem_responses
from darkroom.deployments.gateway.problems import Problem
from darkroom.deployments.gateway.routing import whole_router
from darkroom.deployments.gateway.schemas.admin import (
    AccountDocument,
    AccountList,
    AccountOrder,
    BudgetOrder,
    KeyDocument,
    KeyOrder,
    KeyPage,
    ModelChoiceDocument,
    ModelOrder,
    NewKeyDocument,
    NewUserDocument,
    PlanChoice,
    PlanDocument,
    PlanList,
    PlanOrder,
    RotationOrder,
    UserDocument,
    UserOrder,
    UserPage,
    account_document,
    key_document,
    plan_document,
    user_document,
)
from darkroom.deployments.gateway.schemas.paging import Cursor, Limit, created, cut, read_cursor
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.errors import BadInput
from darkroom.ledger import Account, KnownKey, User

router = whole_router(
    prefix="/v1/admin",
    tags=["Admin"],
    dependencies=[Depends(acting_caller)],  # most of the endpoints need not know who calls: this alone asks for the key
    responses=problem_responses(401, 403, 422),
)

UserPath = Annotated[str, Path(max_length=200, description="A user's id, or name.", examples=["ann"])]
KeyPath = Annotated[str, Path(max_length=100, examples=["key_019aa1f0c5d2"])]


@router.get("/users", summary="List users")
def list_users(
    services: ServicesOf,
    q: Annotated[str | None, Query(max_length=200, description="A part of the name.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> UserPage:
    """Newest first, end users of services too, each with the keys that open."""
    found = services.ledger.users.page(q=q, limit=limit + 1, before=read_cursor(cursor))
    page, following = cut(found, limit, created)
    keys = services.ledger.users.keys([user.id for user in page])
    now = services.ledger.clock()
    return UserPage(
        items=[user_document(user, keys.get(user.id, []), now=now) for user in page],
        next=following,
    )


@router.post("/users", status_code=201, summary="Add a user")
def add_user(order: UserOrder, services: ServicesOf) -> NewUserDocument:
    """Add a user with a first key, which is in this answer and never shown again."""
    users = services.ledger.users
    made = users.add(order.name, plan=order.plan, service=order.service, scopes=order.scopes)
    return NewUserDocument(**_user_document(users.find(made.user_id), services).model_dump(), key=made.key)


@router.get("/users/{user}", summary="Look at a user", responses=problem_responses(404))
def get_user(user: UserPath, services: ServicesOf) -> UserDocument:
    """Return the user of that id or name."""
    return _user_document(_user(user, services), services)


@router.post("/users/{user}/plan", summary="Put a user on another plan", responses=problem_responses(404))
def change_plan(user: UserPath, order: PlanChoice, services: ServicesOf) -> UserDocument:
    """Change the plan, with the next grant. End users that a service has already stay on theirs."""
    found = services.ledger.users.put_on(_user(user, services).id, order.plan)
    return _user_document(found, services)


@router.post("/users/{user}/budgets", summary="Give a user budgets of their own", responses=problem_responses(404))
def change_budgets(user: UserPath, order: BudgetOrder, services: ServicesOf) -> UserDocument:
    """Change those that are given, with the next grant. They go before the plan's, whether larger or smaller."""
    given = order.model_dump(exclude_unset=True)  # null takes a budget away, what is left out stays
    return _user_document(services.ledger.users.set_budgets(_user(user, services).id, given), services)


@router.post("/users/{user}/revoke", summary="End all keys of a user", responses=problem_responses(404))
def revoke_user(user: UserPath, services: ServicesOf) -> UserDocument:
    """Revoke all keys of a user at once, and their streams with them. What is ordered goes on; jobs and files stay."""
    found = _user(user, services)
    services.ledger.users.revoke(found.id)
    return _user_document(found, services)


@router.post("/users/{user}/rotate", status_code=201, summary="Give a user a new key", responses=problem_responses(404))
def rotate_user(user: UserPath, order: RotationOrder, services: ServicesOf) -> NewUserDocument:
    """In this answer, and never shown again: good for all that the old ones are, which stop later, or now."""
    found = _user(user, services)
    made = services.ledger.users.rotate(found.id, overlap=timedelta(seconds=order.overlap_seconds))
    return NewUserDocument(**_user_document(found, services).model_dump(), key=made.key)


@router.get("/keys", summary="List keys")
def list_keys(
    services: ServicesOf,
    user: Annotated[str | None, Query(max_length=200, description="Only of this user: an id, or a name.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> KeyPage:
    """Newest first, those that have ended too. What a key itself is nobody can tell any more."""
    user_id = services.ledger.users.find(user).id if user is not None else None
    found = services.ledger.keys.page(user_id=user_id, limit=limit + 1, before=read_cursor(cursor))
    page, following = cut(found, limit, lambda key: (key.created_at, key.id))
    now = services.ledger.clock()
    return KeyPage(items=[key_document(key, now=now) for key in page], next=following)


@router.post("/keys", status_code=201, summary="Make a key")
def make_key(order: KeyOrder, services: ServicesOf) -> NewKeyDocument:
    """Make one more key for that user. It is in this answer, and never shown again."""
    keys = services.ledger.keys
    made = keys.add(
        services.ledger.users.find(order.user).id,
        name=order.name,
        scopes=order.scopes,
        expires_at=order.expires_at,
        service=order.service,
    )
    return NewKeyDocument(**_key_document(_key(made.id, services), services).model_dump(), key=made.key)


@router.get("/keys/{id}", summary="Look at a key", responses=problem_responses(404))
def get_key(id: KeyPath, services: ServicesOf) -> KeyDocument:
    """Show what it is good for, and when it was used last."""
    return _key_document(_key(id, services), services)


@router.post("/keys/{id}/revoke", summary="End a key", responses=problem_responses(404))
def revoke_key(id: KeyPath, services: ServicesOf) -> KeyDocument:
    """Revoke one key at once. What reads the stream by it ends within a second. The user's other keys go on."""
    return _key_document(services.ledger.keys.revoke(_key(id, services).id), services)


@router.get("/plans", summary="List plans")
def list_plans(services: ServicesOf) -> PlanList:
    """List plans, those with the fewest requests at once first."""
    return PlanList(items=[plan_document(plan) for plan in services.ledger.users.plans()])


@router.post("/plans", summary="Change a plan, or make one")
def set_plan(order: PlanOrder, services: ServicesOf) -> PlanDocument:
    """Set a plan as a whole: what is left out is as in a new one. It takes effect with the next grant."""
    return plan_document(services.ledger.users.set_plan(**order.model_dump()))


@router.get("/accounts", summary="List accounts at providers")
def list_accounts(services: ServicesOf) -> AccountList:
    """List accounts: how much of each is used at once, and whether its provider is up."""
    return AccountList(items=[_account_document(account, services) for account in services.ledger.users.accounts()])


@router.post("/accounts", summary="Change how much of an account is used")
def set_account(order: AccountOrder, services: ServicesOf) -> AccountDocument:
    """Change what is given, with the next grant. The rest stays as it is."""
    users = services.ledger.users
    changed = users.set_account(order.name, slots=order.slots, endpoint_caps=order.endpoint_caps)
    return _account_document(changed, services)


@router.post("/models", summary="Allow, deny or price a model")
def set_model(order: ModelOrder, services: ServicesOf) -> ModelChoiceDocument:
    """Allow, deny or price a model, whatever the setting and its card say. It takes effect within ten seconds."""
    models = services.ledger.models
    if "allowed" in order.model_fields_set:  # null takes the choice back, what is left out stays
        models.allow(order.endpoint, order.allowed)
    if "call_usd" in order.model_fields_set:
        models.price(order.endpoint, order.call_usd)
    allowed, call_usd = models.choice(order.endpoint)
    return ModelChoiceDocument(endpoint=order.endpoint, allowed=allowed, call_usd=call_usd)


def _user(name_or_id: str, services: Services) -> User:
    try:
        return services.ledger.users.find(name_or_id)
    except BadInput:  # whose remedy is a command; and here the name is a part of the address
        raise _no("user", remedy="GET /v1/admin/users lists them.") from None


def _key(id: str, services: Services) -> KnownKey:
    if (found := services.ledger.keys.get(id)) is None:
        raise _no("key", remedy="GET /v1/admin/keys lists them.")
    return found


def _no(what: str, *, remedy: str) -> Problem:
    return Problem(404, f"There is no such {what}.", field="id" if what == "key" else what, remedy=remedy)


def _user_document(user: User, services: Services) -> UserDocument:
    keys = services.ledger.users.keys([user.id]).get(user.id, [])
    return user_document(user, keys, now=services.ledger.clock())


def _key_document(key: KnownKey, services: Services) -> KeyDocument:
    return key_document(key, now=services.ledger.clock())


def _account_document(account: Account, services: Services) -> AccountDocument:
    return account_document(account, now=services.ledger.clock(), timing=services.settings.timing)
