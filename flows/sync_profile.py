"""Somebody changes their profile: its picture comes into the media store, square and small, and who cares is told.

Triggered by the event `profile.changed`, the Prefect UI, or `prefect deployment run sync-profile/debounced -p
account=u-1 -p name=Ann`. Events are debounced (`flow_control` in prefect.yaml): it begins five minutes after a user's
last change, an hour after the first at the latest, with the profile as the last one says that it is. Needs the media
store. Without a picture only the event `profile.synced` is sent. Fails where the picture's address is refused.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from darkroom import Job, Order, RetryPolicy, field, pipeline
from darkroom.events.types import Id
from darkroom.ledger import Asset
from darkroom.media.resize import square
from darkroom.providers.web.model import ENDPOINT, LONGEST_URL

SYNCED = "profile.synced"
SIDE = 256  # pixels
WIDEST = 1024  # pixels of the picture as it is fetched, of which the square is made
PATIENT = RetryPolicy(attempts=3, longest=timedelta(seconds=30))

Name = Annotated[str, Field(min_length=1, max_length=200)]
Url = Annotated[str, Field(min_length=1, max_length=LONGEST_URL)] | None


class Profile(Order):
    """As it is now."""

    account: Id = field("Account", "Your application's id of whose profile it is.")
    name: Name = field("Name", "As others see it.")
    picture_url: Url = field("Picture", "Address of a picture on the public web. Empty: there is none.", None)


@pipeline(Profile)
def sync_profile(job: Job, profile: Profile) -> dict[str, Any]:
    """Bring a profile's picture into the media store."""
    picture = None if profile.picture_url is None else _square(job, profile.picture_url)
    picture_id = None if picture is None else picture.id
    synced = job.send_event(SYNCED, {"account": profile.account, "picture": picture_id}, step="tell")
    return {"account": profile.account, "name": profile.name, "picture": picture_id, "synced": synced}


def _square(job: Job, url: str) -> Asset:
    (fetched,) = job.store(job.infer(ENDPOINT, {"url": url, "max_width": WIDEST}, step="fetch", retry=PATIENT))
    return job.make("square", partial(_drawn, job, fetched))


def _drawn(job: Job, fetched: Asset) -> bytes:
    return square(job.read(fetched), side=SIDE)
