"""A paid call as it is put on record: by a job, or by the gateway for the first call of an order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from darkroom.ledger import Asset, Lane, RequestSpec, content_hash
from darkroom.providers.base import ASSET
from darkroom.providers.models import find_model


def build_request(
    endpoint: str, arguments: Mapping[str, Any], *, step: str, lane: Lane = Lane.INTERACTIVE, reuse: bool = False
) -> RequestSpec:
    """Build the paid call that is put on record. Raise BadInput for what the model does not accept.

    `arguments`, `reuse`: as of `Job.start`.
    """
    model = find_model(endpoint)
    checked = model.validate(_named(arguments, lambda asset: f"{ASSET}{asset.id}"))
    return RequestSpec(
        step=step,
        endpoint=endpoint,
        input=checked,
        estimate_usd=model.estimate(checked),
        lane=lane,
        account_id=model.account_id,
        reuse_hash=content_hash(endpoint, _named(arguments, _by_content)) if reuse else None,
    )


def _named(value: Any, name: Callable[[Asset], str]) -> Any:
    """Return the arguments with each asset in them replaced by its name."""
    if isinstance(value, Asset):
        return name(value)
    if isinstance(value, Mapping):
        return {key: _named(each, name) for key, each in value.items()}
    return [_named(each, name) for each in value] if isinstance(value, list | tuple) else value


def _by_content(asset: Asset) -> str:
    return f"sha256:{asset.sha256}"
