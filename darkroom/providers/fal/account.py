"""The fal account as a Prefect block: the key lives encrypted in Prefect's database and can be changed in its UI.

Flows and gateway load `fal-account/default`; `darkroom provision` creates it from FAL_KEY.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import ClassVar

from pydantic import Field, SecretStr

from darkroom.models import Refinement
from darkroom.providers.account import Configured, KeyAccount, Platform, ProviderAccount
from darkroom.providers.base import Provider
from darkroom.providers.fal.client import Fal
from darkroom.providers.fal.failures import may_pass
from darkroom.providers.webhooks import WebhookReceiver
from darkroom.settings import Settings, load_settings

# With any name in front: fal has moved its files from one to another before (v3, v3b).
FILE_HOSTS = re.compile(rb"(?:[a-z0-9-]+\.)*fal\.media")


class FalAccount(KeyAccount):
    """Access to one account at fal.ai."""

    _description: ClassVar[str | None] = "The fal.ai account that generates and is billed."

    account_id: ClassVar[str] = "fal"
    title: ClassVar[str] = "fal"
    keys_at: ClassVar[str] = "https://fal.ai/dashboard/keys"
    required: ClassVar[bool] = True
    tells_bills: ClassVar[bool] = True
    said_by: ClassVar[Mapping[str, str]] = {
        "key": "FAL_KEY",
        "user_id": "DARKROOM_FAL_USER_ID",
        "billing_key": "FAL_BILLING_KEY",
    }

    key: SecretStr = Field(
        title="API key",
        description="From fal.ai/dashboard/keys, as `id:secret`. Every paid call uses it; file hosts never see it.",
    )
    user_id: str | None = Field(
        None,
        title="User id",
        description=(
            "The fal user id that webhooks must carry (`X-Fal-Webhook-User-Id`). "
            "Leave empty to learn it from the first webhook for a request of ours."
        ),
    )

    billing_key: SecretStr | None = Field(
        None,
        title="Key for bills",
        description="Of the scope ADMIN, or of the preset Billing, which may read no balance. Empty: the API key.",
    )

    @classmethod
    def refinements(cls) -> Mapping[str, Refinement]:
        from darkroom.providers.fal.refinements import REFINEMENTS

        return REFINEMENTS

    @classmethod
    def file_hosts(cls) -> re.Pattern[bytes]:
        return FILE_HOSTS

    @classmethod
    @contextmanager
    def platform(cls) -> Iterator[Platform | None]:
        from darkroom.providers.fal.platform import FalPlatform

        with closing(FalPlatform(cls.load_default().key.get_secret_value())) as platform:
            yield platform

    @classmethod
    def sends_webhooks(cls, settings: Settings) -> bool:
        return True

    @classmethod
    def receiver(cls, settings: Settings) -> WebhookReceiver:
        from darkroom.providers.fal.receiver import FalReceiver

        return FalReceiver()

    @classmethod
    def may_pass(cls, code: str) -> bool:
        return may_pass(code)

    def same_as(self, other: Configured) -> bool:
        """Compare the keys alone: the user id may have been filled in by hand."""
        return isinstance(other, FalAccount) and self._keys() == other._keys()

    @classmethod
    def provider_user(cls, settings: Settings, block: ProviderAccount | None) -> str | None:
        return settings.fal_user_id or (block.user_id if isinstance(block, FalAccount) else None)

    def provider(self) -> Provider:
        from darkroom.providers.fal.billing import FalBilling
        from darkroom.providers.fal.provider import FalProvider

        # The key for bills is asked with first, that of calls where it may not.
        return FalProvider(self.client(), timing=load_settings().timing, billing=FalBilling(*reversed(self._keys())))

    def _keys(self) -> list[str]:
        """Return the key of calls, and that of bills where it is another."""
        given = [self.key, *([self.billing_key] if self.billing_key else [])]
        return list(dict.fromkeys(key.get_secret_value().strip() for key in given))

    def client(self) -> Fal:
        """Open a client of this account, to be closed by the caller; one serves all threads of a process."""
        return Fal(self.key.get_secret_value())
