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

from pydantic import Field

from darkroom import Job, Order, field, pipeline
from darkroom.blocks.notifier import Notifier
from darkroom.clock import utc_now
from darkroom.events.types import Address
from darkroom.order import OwnId

COMPLETED = "user.profile_completed"

Hours = Annotated[float, Field(ge=0, le=24 * 366)]


class Onboarding(Order):
    """Who signed up, and how long is waited for what."""

    account: OwnId = field("Account", "Your application's id of who signed up.")
    email: Address = field("Mail address", "Where the welcome goes.")
    welcome_after_hours: Hours = field("Welcome after", "Hours from the start; fractions too.", 24.0)
    profile_within_hours: Hours = field("Profile within", "Hours from the welcome; then a reminder goes out.", 7 * 24.0)


@pipeline(Onboarding)
def onboard_user(job: Job, who: Onboarding) -> dict[str, Any]:
    """Somebody signs up: account, welcome, and a reminder where one is needed."""
    job.step("create-account", partial(_create_account, who))
    job.sleep(timedelta(hours=who.welcome_after_hours), step="until-welcome")
    job.step("welcome", partial(_tell, who, WELCOME))
    # A profile that was completed before the job came here counts: it looks back to the job's beginning.
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
    """Create the account: the place for your own call. What it returns is on record, once."""
    _tell(who, CREATED, key)
    return {"account": who.account, "created_at": utc_now().isoformat()}


def _tell(who: Onboarding, news: tuple[str, str], key: str) -> str:
    subject, text = news
    return Notifier.load_default().send(subject, text, to=who.email, key=key)
