"""A batch as it is ordered: a manifest becomes rows on record, each with its draft, and what all of it will cost.

Used where an order comes in (the API, before anything is written) and where a batch is started in Prefect's UI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom.batches import (
    Checked,
    Forecast,
    Pass,
    Passes,
    Row,
    draft_of,
    duplicates,
    final_of,
    forecast,
    read_manifest,
)
from darkroom.batches.pictures import ARGUMENTS, model_of, required_by
from darkroom.errors import BadInput
from darkroom.flows.orders.bounds import FLAGGED, MAX_USD, Flagged, MaxUsd, require_within
from darkroom.flows.orders.generation import Generation
from darkroom.flows.orders.picture import Picture
from darkroom.flows.parts.trained_style import Style
from darkroom.ledger import BatchRow, Child, Lane, ManifestRow, RequestSpec
from darkroom.models import WrongInput
from darkroom.order import EstimatePart, Order, field
from darkroom.providers.models import find_model, makes_pictures

ANY_MODEL = "run-model"  # the kind of the jobs of rows that are no pictures from a prompt
INPUT = "input."
OF_INPUT = ("prompt", "image_size", "seed", "num_images")  # of a row's own fields those that a model has, or has not
Styles = Callable[[str], Style]
Files = Callable[[RequestSpec], None]  # raises BadInput for a file in a call's input that the user does not have
IfNobody = Literal["wait", "all", "none"]


class PassOrder(BaseModel):
    """What is different in a pass."""

    model_config = ConfigDict(extra="forbid", title="A pass")

    model: str | None = Field(None, title="Model", description="Empty: the row's own.")
    arguments: dict[str, Any] = Field({}, title="Arguments", description='E.g. {"quality": "medium"}.')

    def as_pass(self) -> Pass:
        return Pass(model=self.model, arguments=self.arguments)


class BatchOptions(Order):
    """What is ordered beside the rows."""

    defaults: dict[str, Any] = field("For all rows", 'What a row does not say, e.g. {"image_size": "square_hd"}.', {})
    draft: PassOrder | None = field("Drafts", "Empty: quality low where the model has it, else a cheaper model.", None)
    final: PassOrder | None = field("Finals", "Empty: quality high where the model has it, else as the row says.", None)
    deduplicate: bool = field("Pay identical rows once", "A row like one before it gets that one's picture.", False)
    answer_within_hours: float | None = field(
        "Hours to choose", "How long it waits for a person. Empty: as long as it takes.", None, gt=0, le=24 * 365
    )
    if_nobody_answers: IfNobody = field("If nobody chooses in time", "Wait on, take all drafts, or take none.", "wait")
    flagged: Flagged = FLAGGED
    max_usd: MaxUsd = MAX_USD

    @property
    def patience(self) -> timedelta | None:
        if self.answer_within_hours is None or self.if_nobody_answers == "wait":
            return None
        return timedelta(hours=self.answer_within_hours)

    def for_all_rows(self) -> dict[str, Any]:
        """Return what a row does not say itself."""
        given = {} if self.flagged == "keep" else {"flagged": self.flagged}
        # What the defaults say of it themselves goes before.
        return {**given, **self.defaults}

    def passes(self) -> Passes:
        return Passes(
            draft=self.draft.as_pass() if self.draft else None, final=self.final.as_pass() if self.final else None
        )


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """What goes on record before anything is paid."""

    rows: Sequence[ManifestRow]
    drafts: Sequence[Child]
    forecast: Forecast
    paid: Sequence[Row]  # those that are no copies of others
    warnings: Sequence[str] = ()  # how what is not usual in the manifest was understood

    @property
    def estimate_usd(self) -> Decimal:
        """Return the most that both passes should cost."""
        return self.forecast.most_usd

    def parts(self) -> list[EstimatePart]:
        """Tell that estimate by pass, model and how it is known: what is the same in these is one part."""
        drafts = _added_up("draft", (row.draft for row in self.paid))
        return [*drafts, *_added_up("final", (row.final for row in self.paid if not row.draft_is_final))]


def plan_batch(
    source: str | bytes | Sequence[Any],
    options: BatchOptions,
    *,
    style: Styles,
    files: Files = lambda _: None,
    charset: str | None = None,
) -> BatchPlan:
    """Plan the batch. Raise ManifestError, with all that is wrong by row and column, and BadInput for the options.

    That is one that may cost more than it says it may, too. `charset`: of the bytes, as their sender declared it.
    """
    known = cache(style)  # the ledger is asked once for a LoRA, not once for each row
    manifest = read_manifest(
        source,
        check=lambda asked: _check(asked, known, files),
        defaults=options.for_all_rows(),
        passes=options.passes(),
        charset=charset,
    )
    same = duplicates(manifest.rows) if options.deduplicate else {}
    paid = [row for row in manifest.rows if row.n not in same]
    plan = BatchPlan(
        rows=[ManifestRow(n=row.n, name=row.id, picture=row.picture, same_as=same.get(row.n)) for row in manifest.rows],
        drafts=[_child(row.n, row.draft.picture, row.draft.first) for row in paid],
        forecast=forecast(paid),
        paid=paid,
        warnings=manifest.warnings,
    )
    require_within(plan.estimate_usd, options.max_usd)
    return plan


def _added_up(step: str, asked: Iterable[Checked]) -> list[EstimatePart]:
    found = dict[tuple[object, ...], EstimatePart]()
    for each in asked:
        for part in _order_of(each.picture).parts(each.first):
            if not part.usd:
                continue
            key = part.endpoint, part.source, part.unit, part.unit_price_usd
            so_far = found.get(key)
            found[key] = replace(part, step=step) if so_far is None else so_far.plus(part)
    return list(found.values())


def finals(rows: Iterable[BatchRow], options: BatchOptions, *, style: Styles) -> list[Child]:
    """Build the second pass of these rows."""
    # Where the draft was the final already there is none: the person who chose it gets what was chosen.
    return [_child(row.n, asked, first) for row, asked, first, _ in _second_pass(rows, options, style)]


def price_of_finals(rows: Iterable[BatchRow], options: BatchOptions, *, style: Styles) -> tuple[int, Decimal]:
    """Return how many finals these rows would have, and what they should cost at most."""
    costs = [usd for _, _, _, usd in _second_pass(rows, options, style)]
    return len(costs), sum(costs, Decimal(0))


def _second_pass(
    rows: Iterable[BatchRow], options: BatchOptions, style: Styles
) -> Iterator[tuple[BatchRow, Mapping[str, Any], RequestSpec, Decimal]]:
    passes, known = options.passes(), cache(style)
    for row in rows:
        given = row.picture or {}
        if (asked := final_of(given, passes)) != draft_of(given, passes):
            yield row, asked, *_check(asked, known)


def _child(n: int, asked: Mapping[str, Any], first: RequestSpec) -> Child:
    # Behind single orders: a batch holds up nobody's one picture.
    first = replace(first, lane=Lane.BATCH)
    if _is_painted(asked):
        return Child(n=n, parameters=asked, first=first)
    return Child(n=n, parameters=_generation(asked), first=first, kind=ANY_MODEL)


def _is_painted(asked: Mapping[str, Any]) -> bool:
    """Return whether the row is an order of pictures from a prompt; any other is one of a model with its own input."""
    try:
        model = find_model(model_of(asked))
    except BadInput:  # a model that nobody knows: as either it is refused for that
        return True
    return makes_pictures(model) and ("prompt" in asked or "prompt" in required_by(model.endpoint))


def _generation(asked: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in asked.items() if name not in (*OF_INPUT, ARGUMENTS)}
    input = {name: asked[name] for name in OF_INPUT if name in asked} | asked.get(ARGUMENTS, {})
    return rest | {"model": model_of(asked), "input": input}


def _check(asked: Mapping[str, Any], style: Styles, files: Files = lambda _: None) -> tuple[RequestSpec, Decimal]:
    try:
        order = _order_of(asked)
    except ValidationError as error:
        # Not `from error`: pydantic's text quotes the value, which may be a prompt.
        found = error.errors(include_url=False, include_input=False, include_context=False)
        field = str(found[0]["loc"][0])
        # Of a field that may be of several kinds each says what it lacks; the deepest says most.
        innermost = max((each for each in found if each["loc"][0] == field), key=lambda each: len(each["loc"]))
        raise BadInput(f"{field}: {innermost['msg']}", field=field) from None
    try:
        spec = order.spec(style(order.lora) if order.lora else None)
    except BadInput as error:
        raise _of_a_row(error) from None
    files(spec)
    return spec, order.estimate(spec)


def _order_of(asked: Mapping[str, Any]) -> Picture | Generation:
    return Picture.model_validate(asked) if _is_painted(asked) else Generation.model_validate(_generation(asked))


def _of_a_row(error: BadInput) -> BadInput:
    """Return what is wrong with a field inside of `input` as what is wrong with the row's own."""
    message, field = error.message.removeprefix(INPUT), error.field.removeprefix(INPUT)
    if isinstance(error, WrongInput):
        problems = [replace(each, field=each.field.removeprefix(INPUT)) for each in error.problems]
        return WrongInput(message, problems=problems, field=field)
    return BadInput(message, field=field, code=error.code)
