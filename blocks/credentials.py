"""What the blocks have in common of which an installation has one each, e.g. `gemini-account/default`.

Their secrets lie encrypted in Prefect's database and can be changed in its UI. `darkroom provision` creates those whose
variables are set; the others are simply not there until somebody needs one.
"""

from __future__ import annotations

from typing import ClassVar, Self, cast

import httpx
from prefect.blocks.core import Block
from pydantic import SecretStr

from blocks.errors import NeedsHuman, Park
from blocks.provider import Provider
from blocks.settings import Settings

NAME = "default"


class Configured(Block):
    """A block with the name `default`, which the environment may say once and Prefect's UI may change."""

    variables: ClassVar[tuple[str, ...]]  # of the environment, that a block is made from

    @classmethod
    def given(cls, settings: Settings) -> Self | None:
        """What the environment names; None where it names nothing."""
        raise NotImplementedError

    @classmethod
    def where_nothing_is_given(cls) -> Self | None:
        """What serves then, to be changed in the UI. None: nothing does."""
        return None

    @classmethod
    def slug(cls) -> str:
        return f"{cls._block_type_slug}/{NAME}"

    @classmethod
    def load_default(cls) -> Self:
        """As it stands in Prefect. Raises NeedsHuman if there is none, Park while Prefect does not answer."""
        try:
            return cast(Self, cls.load(NAME))
        except httpx.HTTPError as error:
            said = f"Prefect did not give the block {cls.slug()} ({type(error).__name__})"
            raise Park(said, code="prefect_down") from error
        except ValueError as error:
            given = " and ".join(cls.variables)
            raise NeedsHuman(
                f"there is no usable block {cls.slug()}: set {given} and run `darkroom provision`, "
                "or create it in the Prefect UI",
                code="no_account",
            ) from error

    def secrets(self) -> list[str]:
        return [value.get_secret_value() for value in self._own().values() if isinstance(value, SecretStr)]

    def same_as(self, other: Configured) -> bool:
        """Whether both say the same, with the same secrets."""
        return type(self) is type(other) and self._own() == other._own()

    def _own(self) -> dict[str, object]:
        names = type(self).model_fields.keys() - Block.model_fields.keys()
        return {name: getattr(self, name) for name in names}


class ProviderAccount(Configured):
    """Access to one account at a provider."""

    account_id: ClassVar[str]  # of the ledger

    def provider(self) -> Provider:
        """A client of this account, to be closed by the caller; one serves all threads of a process."""
        raise NotImplementedError
