"""A paid call as it is put on record: by a job, or by the gateway for the first call of an order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, cast

from darkroom.ledger import Asset, Lane, RequestSpec, content_hash
from darkroom.models import CardModel, Estimate
from darkroom.order import EstimatePart
from darkroom.providers.base import ASSET, Model
from darkroom.providers.models import find_ordered

_at_most: ContextVar[Decimal | None] = ContextVar("at_most", default=None)  # an order's own bound


def build_request(
    endpoint: str, arguments: Mapping[str, Any], *, step: str, lane: Lane = Lane.INTERACTIVE, reuse: bool = False
) -> RequestSpec:
    """Build the paid call that is put on record. Raise BadInput for what the model does not accept.

    `arguments`, `reuse`: as of `Job.start`.
    """
    ordered = find_ordered(endpoint)
    model = ordered.model
    checked = model.validate(_named(arguments, lambda asset: f"{ASSET}{asset.id}"))
    return RequestSpec(
        step=step,
        endpoint=endpoint,
        model_version=ordered.version,
        input=checked,
        estimate_usd=_estimated(model, checked),
        lane=lane,
        account_id=model.account_id,
        reuse_hash=content_hash(endpoint, _named(arguments, _by_content)) if reuse else None,
    )


@contextmanager
def priced_at_most(usd: Decimal | None) -> Iterator[None]:
    """Take a model without a price to cost as much as its order allows, inside the context."""
    token = _at_most.set(usd)
    try:
        yield
    finally:
        _at_most.reset(token)


def quote(model: Model, input: Mapping[str, Any], *, size: tuple[int, int] | None = None) -> Estimate:
    """Return what a call should cost at most, and how that is known. Raise NoPrice.

    `size`: of the pictures to come, if that is known.
    """
    if isinstance(model, CardModel):
        return model.quote(input, at_most_usd=_at_most.get(), size=size)
    quoted = getattr(model, "quote", None)
    if quoted is None:
        return Estimate(usd=model.estimate(input), source="list_price")
    return cast(Estimate, quoted(input) if size is None else quoted(input, size=size))


def part_of(spec: RequestSpec) -> EstimatePart:
    """Return what a call that was just built should cost, and how that is known: by an operator's price, too."""
    return as_part(quote(find_ordered(spec.endpoint).model, spec.input), spec.step, spec.endpoint)


def as_part(estimate: Estimate, step: str, endpoint: str) -> EstimatePart:
    return EstimatePart(step=step, endpoint=endpoint, **vars(estimate))


def _estimated(model: Model, input: Mapping[str, Any]) -> Decimal:
    return quote(model, input).usd


def _named(value: Any, name: Callable[[Asset], str]) -> Any:
    """Return the arguments with each asset in them replaced by its name."""
    if isinstance(value, Asset):
        return name(value)
    if isinstance(value, Mapping):
        return {key: _named(each, name) for key, each in value.items()}
    return [_named(each, name) for each in value] if isinstance(value, list | tuple) else value


def _by_content(asset: Asset) -> str:
    # So that a file which was brought twice, under two ids, is the same one.
    return f"sha256:{asset.sha256}"
