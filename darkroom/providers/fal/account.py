"""The fal account as a Prefect block: the key lives encrypted in Prefect's database and can be changed in its UI.

Flows and gateway load `fal-account/default`; `darkroom provision` creates it from FAL_KEY.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, HttpUrl, SecretStr

from darkroom.providers.account import Configured
from darkroom.providers.fal.client import Fal
from darkroom.settings import Settings

DEFAULT_ACCOUNT = "fal-account/default"


class FalAccount(Configured):
    """Access to one account at fal.ai."""

    _block_type_name: ClassVar[str | None] = "fal account"
    _block_type_slug: ClassVar[str | None] = "fal-account"
    _description: ClassVar[str | None] = "The fal.ai account that generates and is billed."
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl("https://fal.ai/dashboard/keys")

    variables: ClassVar[tuple[str, ...]] = ("FAL_KEY",)

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

    def client(self) -> Fal:
        """Open a client of this account, to be closed by the caller; one serves all threads of a process."""
        return Fal(self.key.get_secret_value())

    @classmethod
    def given(cls, settings: Settings) -> Self | None:
        key = settings.fal_key.get_secret_value() if settings.fal_key else ""
        return cls(key=SecretStr(key), user_id=settings.fal_user_id) if key else None
