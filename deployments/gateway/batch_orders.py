"""A batch as it is sent: rows or a manifest or those of a batch before it, and what is the same for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict, Field, ValidationError

from darkroom.batches import without_defaults
from darkroom.batches.json_rows import DEEPEST, nested_deeper
from darkroom.deployments.gateway.schemas.base import either
from darkroom.deployments.gateway.schemas.labels import FIELDS, Labelled
from darkroom.errors import BadInput
from darkroom.flows.parts.batch_order import BatchOptions
from darkroom.ledger import BATCH, Job, Labels, Ledger

Rows = list[dict[str, Any]]
SOURCES = ("rows", "manifest", "rows_of")


class BatchOrder(Labelled, BatchOptions):
    """Rows, a manifest, or the rows of a batch before it, and what is the same for all."""

    model_config = ConfigDict(json_schema_extra=either(*SOURCES))

    rows: Rows | None = Field(
        None, description="Up to 10,000; each takes what a picture takes, or what its model does."
    )
    manifest: str | None = Field(None, description="The same as CSV with a header, or as JSON lines.")
    rows_of: str | None = Field(
        None,
        max_length=100,
        description="The id of a batch of yours: its rows once more, without what its `defaults` said, which may be "
        "said otherwise now.",
    )

    def given(self) -> str | Rows | None:
        """Return what came with the order itself; None where another batch has the rows."""
        if sum(getattr(self, name) is not None for name in SOURCES) != 1:
            raise BadInput("Give either rows, manifest or rows_of.", field="rows")
        return self.manifest if self.rows is None else self.rows


def read_batch(
    body: Any, asked: dict[str, Any], ledger: Ledger, *, user_id: str
) -> tuple[BatchOptions, str | bytes | Sequence[Any], Labels]:
    """Read the options, the rows and the labels: a JSON object has them all.

    With rows alone the query has the options, and there are no labels.
    """
    if isinstance(body, bytes | list):
        return BatchOptions(**asked), body, Labels()
    _require_shallow(body)
    try:
        order = BatchOrder.model_validate(body)
    except ValidationError as error:
        # What came in is never repeated: it may be a prompt.
        found = error.errors(include_url=False, include_input=False)
        # As if FastAPI had read it, so that it is answered like any other order.
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None
    options = BatchOptions.model_validate(order.model_dump(exclude={*SOURCES, *FIELDS}))
    rows = order.given()
    return options, _rows_of(str(order.rows_of), ledger, user_id=user_id) if rows is None else rows, order.labels()


def own_rows(ledger: Ledger, id: str, *, user_id: str) -> Rows | None:
    """Return the rows of a batch as they were given, without its defaults; None where the user has no such batch."""
    job = ledger.jobs.get(id)
    if job is None or job.user_id != user_id or job.kind != BATCH:
        return None
    rows = ledger.batches.rows(id)
    # Else what the defaults of that order said would be each row's own, and no other default could take its place.
    own = without_defaults([row.picture or {} for row in rows], options_of(job).for_all_rows())
    return [({} if row.name is None else {"id": row.name}) | dict(each) for row, each in zip(rows, own, strict=True)]


def options_of(job: Job) -> BatchOptions:
    """Return what a batch was ordered with beside its rows."""
    # By their names, as the digest of the rows stands beside them.
    given = job.parameters or {}
    return BatchOptions.model_validate({name: given[name] for name in BatchOptions.model_fields if name in given})


def _rows_of(id: str, ledger: Ledger, *, user_id: str) -> Rows:
    rows = own_rows(ledger, id, user_id=user_id)
    if rows is None:
        raise BadInput("You have no batch of this id. Take one of GET /v1/jobs?kind=render-batch.", field="rows_of")
    return rows


def _require_shallow(body: Any) -> None:
    """Bound the options before anything that calls itself looks into them; rows are by whoever reads them."""
    if not isinstance(body, dict):
        return
    for name in body.keys() - {"rows"}:
        if nested_deeper(body[name], DEEPEST):
            field = name if name in BatchOrder.model_fields else "body"
            raise BadInput(f"{field}: it is nested more than {DEEPEST} levels deep. Write it flatter.", field=field)
