"""An order: validated, charged once, confirmed. The recipe for a flow that has nothing to do with media.

Triggered by the event `order.placed`, the Prefect UI, or `prefect deployment run process-order/on-demand`. Needs the
blocks `payment-account/default` and `notifier/default`. Each step's result is on record, so a process that dies goes on
behind its last one; the charge, which may have happened though its answer was lost, carries a key by which the provider
knows it again. Sends `order.confirmed`. Fails where the order does not add up or the payment is declined, before
anything is confirmed.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import Any

from darkroom import Job, field, pipeline
from darkroom import Order as BaseOrder
from darkroom.blocks.notifier import Notifier
from darkroom.blocks.payments import Charge, PaymentAccount
from darkroom.errors import BadInput
from darkroom.events.types import Address, Cents, Currency, Ordered, PaymentMethod
from darkroom.order import OwnId

CONFIRMED = "order.confirmed"


class Order(BaseOrder):
    """What was ordered, and how it is paid."""

    order: OwnId = field("Order", "Your application's id of it.")
    items: Ordered = field("Items", "What was ordered: 1 to 200.")
    total_cents: Cents = field("Total", "Hundredths of the currency, e.g. 1990; what the items must come to.")
    payment_method: PaymentMethod = field(
        "Payment method", "The payment provider's id of it, e.g. pm_…; never a card's number."
    )
    currency: Currency = field("Currency", "Three letters.", "USD")
    email: Address | None = field(
        "Mail address", "Where the confirmation goes. Empty: to the notifier's usual recipient.", None
    )

    def require_sound(self) -> dict[str, int]:
        """Return what the order adds up to. Raise BadInput for one that does not add up."""
        if len({item.sku for item in self.items}) < len(self.items):
            raise BadInput("An article stands there twice. Send it once, with its quantity.", field="items")
        comes_to = sum(item.quantity * item.price_cents for item in self.items)
        if comes_to != self.total_cents:
            raise BadInput(f"The items come to {comes_to}, not to {self.total_cents}.", field="total_cents")
        return {"items": len(self.items), "total_cents": comes_to}

    def charge(self, *, user_id: str) -> Charge:
        """Return the charge. The same order for the same money by the same way is one charge, in whichever job."""
        # An event that is sent twice under two ids starts two jobs, and is paid once all the same.
        same = "\n".join([user_id, self.order, str(self.total_cents), self.currency, self.payment_method])
        return Charge(
            order=self.order,
            amount_cents=self.total_cents,
            currency=self.currency,
            payment_method=self.payment_method,
            key=f"order-{sha256(same.encode()).hexdigest()[:40]}",
        )


@pipeline(Order)
def process_order(job: Job, order: Order) -> dict[str, Any]:
    """Validate an order, charge it and confirm it."""
    job.step("validate", order.require_sound)
    # Not by the step's own key: that is another one in another job of the same order.
    charge_id = job.step("charge", partial(_charge, order.charge(user_id=job.user_id)))
    job.step("confirm", partial(_confirm, order))
    confirmed = job.send_event(CONFIRMED, {"order": order.order, "charge": charge_id}, step="announce")
    return {"order": order.order, "charge": charge_id, "confirmed": confirmed}


def _charge(charge: Charge) -> str:
    if charge.amount_cents == 0:
        return "free"
    return PaymentAccount.load_default().charge(charge)


def _confirm(order: Order, key: str) -> str:
    text = f"Hello,\n\nthank you for your order {order.order}. It is paid and on its way."
    return Notifier.load_default().send("Your order is confirmed", text, to=order.email, key=key)
