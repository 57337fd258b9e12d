"""Somebody signs up: an account, a day later a welcome, and a reminder where their profile is not complete in a week.

Triggered by the event `user.signed_up`, the Prefect UI, or `prefect deployment run onboard-user/on-demand -p
account=u-1 -p email=ann@example.com`. Needs the block `notifier/default`. No process waits meanwhile: each pause is a
row that `darkroom why` tells. A profile that was completed before anybody waited for it counts. Fails where the
notifier's way is wrong for good; what may pass is tried again.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import BaseModel, ConfigDict, Field

from darkroom import Job, drive
from darkroom.blocks.notifier import Notifier
from darkroom.clock import utc_now
from darkroom.events.types import Address, Id
from darkroom.flows.parts.form import read, shown
from darkroom.ledger import OPERATOR

KIND = "onboard-user"
COMPLETED = "user.profile_completed"

Hours = Annotated[float, Field(ge=0, le=24 * 366)]

ACCOUNT = shown("Account", "Your application's id of who signed up.")
EMAIL = shown("Mail address", "Where the welcome goes.")
WELCOME_AFTER = shown("Welcome after", "Hours from the start; fractions too.", 24.0)
PROFILE_WITHIN = shown("Profile within", "Hours from the welcome; then a reminder goes out.", 7 * 24.0)
USER = shown("User", "Who it is for: a user's name or id.", OPERATOR)


class Onboarding(BaseModel):
    """Who signed up, and how long is waited for what."""

    model_config = ConfigDict(extra="forbid")

    account: Id = ACCOUNT
    email: Address = EMAIL
    welcome_after_hours: Hours = WELCOME_AFTER
    profile_within_hours: Hours = PROFILE_WITHIN


def onboard(job: Job) -> dict[str, Any]:
    who = read(Onboarding, job.parameters)
    job.step("create-account", partial(_create_account, who))
    job.sleep(timedelta(hours=who.welcome_after_hours), step="until-welcome")
    job.step("welcome", partial(_tell, who, WELCOME))
    completed = job.wait_for_event(
        COMPLETED,
        match={"account": who.account},
        timeout=timedelta(hours=who.profile_within_hours),
        step="profile",
    )
    if completed is None:
        job.step("reminder", partial(_tell, who, REMINDER))
    return {
        "account": who.account,
        "profile_completed": completed.id if completed else None,
        "reminded": completed is None,
    }


# Subject and text. Nothing of the event is in them: the log may be where they go.
CREATED = ("Your account is ready", "Hello,\n\nyour account is ready.")
WELCOME = ("Welcome", "Hello,\n\nwelcome! Complete your profile, and you are set.")
REMINDER = ("Your profile is not complete", "Hello,\n\nyour profile still lacks something. It takes a minute.")


def _create_account(who: Onboarding, key: str) -> dict[str, str]:
    """The place for a call of your own that makes the account. What it returns is on record, once."""
    _tell(who, CREATED, key)
    return {"account": who.account, "created_at": utc_now().isoformat()}


def _tell(who: Onboarding, news: tuple[str, str], key: str) -> str:
    subject, text = news
    return Notifier.load_default().tell(subject, text, to=who.email, key=key)


@flow(name=KIND, retries=0, log_prints=False)
def onboard_user(
    account: Id = ACCOUNT,
    email: Address = EMAIL,
    welcome_after_hours: Hours = WELCOME_AFTER,
    profile_within_hours: Hours = PROFILE_WITHIN,
    user: str = USER,
) -> State[Any]:
    """Somebody signs up: account, welcome, and a reminder where one is needed."""
    who = Onboarding(
        account=account,
        email=email,
        welcome_after_hours=welcome_after_hours,
        profile_within_hours=profile_within_hours,
    )
    return drive(onboard, parameters=who.model_dump(mode="json", exclude_defaults=True), user=user)
