"""How an upload to Mux ended: pure functions from what Mux says of it to the ledger's words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from darkroom.errors import Permanent, Retry
from darkroom.ledger import Outcome, Request, Transition
from darkroom.providers.mux.model import MODEL
from darkroom.providers.outcomes import cancelled, failed

# After that nobody is bringing the film any more: the delivery itself gives up before.
ABANDONED_AFTER = timedelta(minutes=3)
MESSAGE_LIMIT = 300
UNREADABLE_FILM = frozenset({"invalid_input", "invalid_parameters"})


def is_abandoned(row: Request, upload: Mapping[str, Any], *, now: datetime) -> bool:
    """Return whether it has an address and no film, because the process that was to bring it is gone."""
    since = row.accepted_at or row.submitted_at
    return upload.get("status") == "waiting" and since is not None and now - since > ABANDONED_AFTER


def upload_outcome(row: Request, upload: Mapping[str, Any]) -> Outcome | None:
    """Return the outcome of an upload that became no asset; None while it may."""
    match upload.get("status"):
        case "cancelled" if row.cancel_requested_at is not None:
            return cancelled(row, Permanent("the upload was cancelled", code="client_cancelled"))
        case "cancelled":
            return failed(row, Retry("the upload was given up before the film was there", code="upload_abandoned"))
        case "timed_out":
            return failed(row, Retry("the upload's time was over before the film was there", code="upload_timed_out"))
        case "errored":
            return failed(row, _problem(_mapping(upload.get("error"))))
        case _:
            return None


def asset_outcome(row: Request, asset: Mapping[str, Any]) -> Outcome | None:
    """Return the outcome of an asset; None while it is being prepared."""
    match asset.get("status"):
        case "ready":
            output = _output(asset)
            cost: Decimal = MODEL.cost(row.input or {}, output, None)
            return Outcome(transition=Transition.SUCCEED, output=output, cost_usd=cost)
        case "errored":
            return failed(row, _problem(_mapping(asset.get("errors"))))
        # Neither good nor bad yet, and so is a word that Mux may have one day.
        case _:
            return None


def _output(asset: Mapping[str, Any]) -> dict[str, Any]:
    playback_id = _public_playback_id(asset)
    return {
        "asset_id": asset.get("id"),
        "upload_id": asset.get("upload_id"),
        "playback_id": playback_id,
        "stream_url": f"https://stream.mux.com/{playback_id}.m3u8" if playback_id else None,
        "seconds": asset.get("duration"),
        "aspect_ratio": asset.get("aspect_ratio"),
    }


def _public_playback_id(asset: Mapping[str, Any]) -> str | None:
    found = (_mapping(each) for each in asset.get("playback_ids") or ())
    return next((str(each["id"]) for each in found if each.get("policy") == "public" and each.get("id")), None)


def _problem(error: Mapping[str, Any]) -> Permanent | Retry:
    """Return the error in Mux' own words: `type`, and `message` of an upload or `messages` of an asset."""
    kind = str(error.get("type") or "errored")[:64]
    said = error.get("messages") or [error.get("message") or "no reason given"]
    words = "; ".join(str(each) for each in said)[:MESSAGE_LIMIT]
    if kind in UNREADABLE_FILM:
        return Permanent(f"Mux cannot use the film: {words}", code=kind)
    # What fails there has cost nothing, so all but a film that Mux cannot read may be tried again.
    return Retry(f"Mux failed with the film: {words}", code=kind)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
