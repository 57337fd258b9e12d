"""Users, their keys and plans, and the accounts at the providers: what operators set, live, without a restart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import or_, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from darkroom.errors import BadInput
from darkroom.ledger.database import OUTAGES, run
from darkroom.ledger.key_tables import USUAL, ApiKey, Scope
from darkroom.ledger.keys import (
    USED_EVERY,
    Caller,
    KnownKey,
    NewKey,
    digest,
    known,
    known_scopes,
    new_key,
    scopes_of,
    tell_streams,
)
from darkroom.ledger.part import Part
from darkroom.ledger.tables import MOST_QUEUED, Account, Plan, User, new_id

OPERATOR = "operator"
BUDGETS = frozenset({"daily_budget_usd", "monthly_budget_usd"})  # of a user and of a plan
MOST_MARKUP = 1000
_LEAST_WEIGHT, _MOST_WEIGHT = Decimal("0.001"), Decimal("99999.999")
# A day, so that what uses the old key is changed at daylight and nothing stops meanwhile.
OVERLAP, LONGEST_OVERLAP = timedelta(hours=24), timedelta(days=365)
# Foreign keys of new rows look at users and accounts too, and need not wait for us.
_NO_KEY = {"key_share": True}


class Users(Part):
    def add(self, name: str, *, plan: str = "pro", service: bool = False, scopes: Sequence[str] = USUAL) -> NewKey:
        """Add a user with a first key, which is good for the scopes."""
        wanted = known_scopes(scopes)
        with Session(self._engine) as session:
            _require_plan(session, plan)
            user = User(id=new_id("u"), name=name, plan=plan)
            session.add(user)
            try:
                session.flush()  # at once, so that a name that is taken is told from any other failure
            except IntegrityError as error:
                taken = f"A user {name!r} exists. Choose another name, or rotate the key of that one."
                raise BadInput(taken, field="name") from error
            key = new_key(session, user.id, service=service, scopes=wanted)
            session.commit()
            return key

    def all(self) -> list[User]:
        with Session(self._engine) as session:
            return [*session.exec(select(User).order_by(col(User.created_at)))]

    def page(self, *, limit: int, before: tuple[datetime, str] | None = None, q: str | None = None) -> list[User]:
        """Return users, newest first. `q`: a part of their name."""
        asked = select(User).order_by(col(User.created_at).desc(), col(User.id).desc()).limit(limit)
        if q:
            asked = asked.where(col(User.name).icontains(q, autoescape=True))
        if before is not None:
            asked = asked.where(tuple_(col(User.created_at), col(User.id)) < tuple_(*before))
        with Session(self._engine) as session:
            return [*session.exec(asked)]

    def keys(self, user_ids: Sequence[str] | None = None) -> dict[str, list[KnownKey]]:
        """Return the keys that open now, oldest first, by their user's id: of these users, or of all."""
        now, found = self._now(), dict[str, list[KnownKey]]()
        opens = col(ApiKey.revoked_at).is_(None), or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > now)
        asked = select(ApiKey).where(*opens).order_by(col(ApiKey.created_at))
        if user_ids is not None:
            asked = asked.where(col(ApiKey.user_id).in_(user_ids))
        with Session(self._engine) as session:
            for key in session.exec(asked):
                found.setdefault(key.user_id, []).append(known(key))
        return found

    def rotate(self, name: str, *, overlap: timedelta = OVERLAP) -> NewKey:
        """Make a new key; the old ones stop working after `overlap`, or sooner where they were to already.

        The new one is good for all that those are that were not revoked.
        """
        if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
            raise BadInput(f"An overlap is up to {LONGEST_OVERLAP.days} days; none with --now.", field="overlap")
        with Session(self._engine) as session:
            user = self._require(session, name)
            was = session.exec(select(ApiKey).where(ApiKey.user_id == user.id)).all()
            service = any(key.service for key in was)
            scopes = scopes_of(user, [key for key in was if key.revoked_at is None], operator=OPERATOR)
            _let_expire(session, user.id, now=self._now(), overlap=overlap)
            key = new_key(session, user.id, service=service, scopes=scopes)
            session.commit()
            return key

    def revoke(self, name: str) -> None:
        """End all keys of a user, by name or id."""
        with Session(self._engine) as session:
            _revoke(session, self._require(session, name).id, now=self._now())
            session.commit()

    def authenticate(self, key: str) -> Caller | None:
        """Return whom the key, or a session of it, belongs to; None where it does not open.

        Note that the key was used, by the minute.
        """
        now, hashed = self._now(), digest(key)
        found = self._run("key_caller", digest=hashed, now=now).one_or_none()
        if found is None:
            return None
        if found.last_used_at is None or found.last_used_at < now - USED_EVERY:
            self._note_use(found.digest, now=now)
        return Caller(
            user_id=found.user_id,
            service=found.service,
            scopes=frozenset(scope for scope in Scope if scope in found.scopes),
            calls_per_minute=found.calls_per_minute,
            key=found.digest,
            session=found.session,
        )

    def holding(self, digests: Collection[str]) -> frozenset[str]:
        """Return those of the keys and sessions, by their digests, that hold still."""
        return frozenset(self._run("keys_that_hold", digests=list(digests), now=self._now()).scalars())

    def end_user(self, service_user_id: str, name: str) -> User:
        """Return the end user of a service, made on first use with the service's own plan."""
        with Session(self._engine) as session:
            owner = session.get_one(User, service_user_id)
            values = {"id": new_id("u"), "name": name, "parent_id": owner.id, "plan": owner.plan, "notified": 0}
            # Two first calls for the same one make it once.
            statement = insert(User).values(**values, created_at=self._now()).on_conflict_do_nothing()
            session.execute(statement)
            session.commit()
            return session.exec(select(User).where(User.parent_id == service_user_id, User.name == name)).one()

    def end_users(self, service_user_id: str, names: Sequence[str]) -> dict[str, str]:
        """Return the ids of many end users of a service, by name; made on first use as `end_user` does."""
        with self._engine.begin() as connection:
            # In one order, so that two who name the same new ones do not wait for each other.
            given = sorted(set(names))
            run(connection, "end_users_make", parent_id=service_user_id, names=given, ids=_ids(given), now=self._now())
            found = run(connection, "end_users_named", parent_id=service_user_id, names=given)
            return {row.name: row.id for row in found}

    def find(self, name_or_id: str) -> User:
        with Session(self._engine) as session:
            user = session.get(User, name_or_id) or self._named(session, name_or_id)
            if user is None:
                raise BadInput(f"There is no user {name_or_id!r}. Add one: darkroom user add NAME.", field="user")
            return user

    def put_on(self, name: str, plan: str) -> User:
        """Put a user, by name or id, on another plan. It takes effect with the next grant."""
        with Session(self._engine) as session:
            _require_plan(session, plan)
            user = self._require(session, name)
            user.plan = plan
            session.add(user)
            session.commit()
            session.refresh(user)
            return user

    def set_budgets(self, name: str, budgets: Mapping[str, Decimal | None]) -> User:
        """Give a user, by name or id, budgets of their own: those of `BUDGETS` that are given; None: the plan's again.

        It takes effect with the next grant.
        """
        for field, usd in budgets.items():
            _require_limit(field, usd)
        with Session(self._engine) as session:
            user = self._require(session, name)
            for field in BUDGETS & budgets.keys():
                setattr(user, field, budgets[field])
            session.add(user)
            session.commit()
            session.refresh(user)
            return user

    def plan_of(self, user_id: str) -> Plan:
        with Session(self._engine) as session:
            return session.get_one(Plan, session.get_one(User, user_id).plan)

    def plans(self) -> list[Plan]:
        with Session(self._engine) as session:
            return [*session.exec(select(Plan).order_by(col(Plan.in_flight)))]

    def set_plan(
        self,
        name: str,
        *,
        in_flight: int,
        weight: Decimal,
        daily_budget_usd: Decimal | None = None,
        monthly_budget_usd: Decimal | None = None,
        markup: Decimal = Decimal(1),
        most_queued: int = MOST_QUEUED,
        calls_per_minute: int | None = None,
    ) -> Plan:
        """Change the plan or make it, as a whole. It takes effect with the next grant."""
        _require_limit("in_flight", in_flight)
        _require_limit("most_queued", most_queued)
        _require_limit("daily_budget_usd", daily_budget_usd)
        _require_limit("monthly_budget_usd", monthly_budget_usd)
        if calls_per_minute is not None and calls_per_minute < 1:
            raise BadInput("calls_per_minute is 1 or more; leave it out for as many as come.", field="calls_per_minute")
        if not 0 < markup <= MOST_MARKUP:
            raise BadInput(f"A mark-up is above 0 and up to {MOST_MARKUP}; 1 is the cost itself.", field="markup")
        if not _LEAST_WEIGHT <= weight <= _MOST_WEIGHT:
            raise BadInput(f"A weight is between {_LEAST_WEIGHT} and {_MOST_WEIGHT}.", field="weight")
        with Session(self._engine) as session:
            wanted = Plan(
                name=name,
                in_flight=in_flight,
                weight=weight,
                daily_budget_usd=daily_budget_usd,
                monthly_budget_usd=monthly_budget_usd,
                markup=markup,
                most_queued=most_queued,
                calls_per_minute=calls_per_minute,
            )
            plan = session.merge(wanted)
            session.commit()
            session.refresh(plan)
            return plan

    def account(self, account_id: str = "fal") -> Account:
        with Session(self._engine) as session:
            return session.get_one(Account, account_id)

    def accounts(self) -> list[Account]:
        with Session(self._engine) as session:
            return [*session.exec(select(Account).order_by(col(Account.id)))]

    def set_account(
        self, account_id: str, *, slots: int | None = None, endpoint_caps: Mapping[str, int] | None = None
    ) -> Account:
        """Change what is given; merge caps by endpoint. It takes effect with the next grant."""
        _require_limit("slots", slots)
        for endpoint, cap in (endpoint_caps or {}).items():
            _require_limit(endpoint, cap)
        with Session(self._engine) as session:
            account = session.get(Account, account_id, with_for_update=_NO_KEY) or Account(id=account_id, slots=10)
            account.slots = account.slots if slots is None else slots
            account.endpoint_caps = {**(account.endpoint_caps or {}), **(endpoint_caps or {})}
            session.add(account)
            session.commit()
            session.refresh(account)
            return account

    def learn_provider_user(self, account_id: str, provider_user_id: str) -> str:
        """Note the provider's id of our account: the first one learned stays. Return the one that stands."""
        with Session(self._engine) as session:
            account = session.get_one(Account, account_id, with_for_update=_NO_KEY)
            account.provider_user_id = account.provider_user_id or provider_user_id
            session.commit()
            return account.provider_user_id

    def _note_use(self, hashed: str, *, now: datetime) -> None:
        """Note when a key was used last. A ledger without room for it answers whoever reads all the same."""
        with suppress(*OUTAGES), self._engine.begin() as connection:
            run(connection, "key_used", digest=hashed, now=now, before=now - USED_EVERY)

    def _named(self, session: Session, name: str) -> User | None:
        return session.exec(select(User).where(User.name == name, col(User.parent_id).is_(None))).one_or_none()

    def _require(self, session: Session, name: str) -> User:
        """Return the user, by name or id, locked."""
        user = session.get(User, name) or self._named(session, name)
        if user is None:
            raise BadInput(f"There is no user {name!r}. See: darkroom user list.", field="name")
        # Locked, so that of two who rotate the key at once, the second revokes the first one's.
        session.refresh(user, with_for_update=_NO_KEY)
        return user


def _ids(names: Sequence[str]) -> list[str]:
    return [new_id("u") for _ in names]


def _let_expire(session: Session, user_id: str, *, now: datetime, overlap: timedelta) -> None:
    if not overlap:
        _revoke(session, user_id, now=now)
        return
    end = now + overlap
    for key in session.exec(select(ApiKey).where(ApiKey.user_id == user_id, col(ApiKey.revoked_at).is_(None))):
        key.expires_at = end if key.expires_at is None else min(key.expires_at, end)
        session.add(key)


def _revoke(session: Session, user_id: str, *, now: datetime) -> None:
    for key in session.exec(select(ApiKey).where(ApiKey.user_id == user_id, col(ApiKey.revoked_at).is_(None))):
        key.revoked_at = now
        session.add(key)
    tell_streams(session)


def _require_limit(field: str, value: Decimal | int | None) -> None:
    if value is not None and value < 0:
        raise BadInput(f"{field} is {value}; give 0 (nothing at all) or more.", field=field)


def _require_plan(session: Session, name: str) -> None:
    if session.get(Plan, name) is None:
        raise BadInput(
            f"There is no plan {name!r}. Make one: darkroom plan set {name} --in-flight N --weight W.", field="plan"
        )
