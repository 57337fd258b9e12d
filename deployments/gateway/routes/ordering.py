"""What every order does once it is checked: it is put on record, answered with where to follow it, and carried out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from fastapi import BackgroundTasks, Depends, Header, Response

from darkroom.deployments.gateway.auth import UserId
from darkroom.deployments.gateway.schemas.jobs import Accepted, accepted
from darkroom.deployments.gateway.schemas.labels import labels_of
from darkroom.deployments.gateway.services import Services, ServicesOf
from darkroom.ledger import Labels, Posted
from darkroom.order import Order

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text, new for each order. The same key again gives the same job instead of paying twice.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class OrderContext:
    """Where a request's order is given in, by its user, under its idempotency key."""

    user_id: str
    services: Services
    idempotency_key: str | None
    response: Response
    after: BackgroundTasks

    def submit(self, kind: str, order: Order) -> Accepted:
        """Check the order and put it on record. The same key with another order raises `BadInput`."""
        order.check()
        prepared = order.prepare(self.services.ledger, user_id=self.user_id)
        posted = self.services.ledger.jobs.post(
            user_id=self.user_id,
            kind=kind,
            parameters=order.parameters(),
            first=prepared.first,
            estimate_usd=prepared.estimate_usd or Decimal(0),
            labels=self.checked(labels_of(order)),
            idempotency_key=self.idempotency_key,
        )
        return self.answer(posted, estimate_usd=prepared.estimate_usd if prepared.tell_estimate else None)

    def checked(self, labels: Labels) -> Labels:
        """Return the labels. Raise `BadInput` where nothing could be sent to their address."""
        if labels.callback_url is not None:
            self.services.callbacks.check(labels.callback_url, field="callback_url")
        return labels

    def answer(self, posted: Posted, *, estimate_usd: Decimal | None = None) -> Accepted:
        """Answer an order that is on record."""
        # What it implies is done after the answer: nobody who orders waits for Prefect.
        self.after.add_task(self.services.act_on, posted.implied)
        document = accepted(posted.job, estimate_usd=estimate_usd)
        self.response.headers["Location"] = document.links.job
        return document


async def _order_context(
    user_id: UserId,
    services: ServicesOf,
    response: Response,
    after: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> OrderContext:
    # `async`: a plain function would be a round trip to another thread, for every request.
    return OrderContext(
        user_id=user_id, services=services, idempotency_key=idempotency_key, response=response, after=after
    )


OrderContextOf = Annotated[OrderContext, Depends(_order_context)]
