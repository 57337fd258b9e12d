"""Prefect's own notification blocks: Slack, Teams, Discord, PagerDuty and what else Apprise reaches."""

from __future__ import annotations

import httpx
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block

from darkroom.blocks.notifier.message import Message
from darkroom.errors import NeedsHuman, Park, Permanent, Retry


def load(name: str) -> NotificationBlock:
    """`name`: type and document, `slack-webhook/team`. Raises NeedsHuman if there is none of that name."""
    import prefect.blocks.notifications  # noqa: F401  (a block is loaded as what has registered itself)

    try:
        block = Block.load(name)
    except httpx.HTTPError as error:
        raise Park(f"Prefect did not give the block {name} ({type(error).__name__})", code="prefect_down") from error
    except ValueError as error:
        raise NeedsHuman(
            f"there is no usable block {name}: create it in the Prefect UI, or name another in notifier/default",
            code="no_notifier",
        ) from error
    if not isinstance(block, NotificationBlock):
        raise NeedsHuman(
            f"the block {name} sends no notifications: name another in notifier/default", code="no_notifier"
        )
    return block


def notify(message: Message, block: NotificationBlock, *, name: str) -> None:
    """Send the message by the block. Raise Retry where it was not delivered, Permanent where the block cannot send."""
    try:
        with block.raise_on_failure():
            block.notify(message.text, subject=message.one_line())  # type: ignore[unused-coroutine]  # sync, outside a loop
    except NotificationError:
        # Apprise tells why in its log alone, beside the address that is the credential: so each may be one that passes.
        raise Retry(f"the block {name} could not deliver the message", code="not_delivered") from None
    except (httpx.HTTPStatusError, httpx.TransportError) as error:
        raise Retry(f"the block {name} could not deliver the message ({type(error).__name__})") from error
    except (httpx.InvalidURL, ValueError) as error:
        raise Permanent(f"the block {name} cannot send: check its fields ({type(error).__name__})") from error
