"""What the blocks have in common of which an installation has one each, e.g. `gemini-account/default`.

Their secrets lie encrypted in Prefect's database and can be changed in its UI. `darkroom provision` creates those whose
variables are set; the others are simply not there until somebody needs one. Here they are plain models, read over
Prefect's API: importing Prefect takes a second. `darkroom/providers/prefect_blocks.py` makes Prefect's own blocks of
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import Any, ClassVar, Protocol, Self

from pydantic import BaseModel, HttpUrl, SecretStr, ValidationError

from darkroom.errors import NeedsHuman, Park, Retry
from darkroom.models import Card, Refinement
from darkroom.orchestrator.api import PrefectApi, block_document
from darkroom.providers.base import Model, Provider
from darkroom.providers.webhooks import WebhookReceiver
from darkroom.settings import Settings

NAME = "default"


class Platform(Protocol):
    """What tells of a provider's models."""

    def card(self, endpoint: str) -> Card | None:
        """Return the card of a model; None for one that it does not have."""

    def usual_cost(self, endpoint: str) -> Decimal | None:
        """Return what a call of the model usually comes to, as the provider says; None where it does not."""

    def pages(self) -> Iterator[Sequence[Card]]:
        """Yield the cards of all models, page by page, each model once."""


class Configured(BaseModel):
    """A block with the name `default`, which the environment may say once and Prefect's UI may change."""

    # By the names that Prefect has for them.
    _block_type_name: ClassVar[str | None]
    _block_type_slug: ClassVar[str | None]
    _description: ClassVar[str | None]
    _documentation_url: ClassVar[HttpUrl | None] = None

    variables: ClassVar[tuple[str, ...]]  # of the environment, that a block is made from

    @classmethod
    def given(cls, settings: Settings) -> Self | None:
        """Return the block that the environment names; None where it names nothing."""
        raise NotImplementedError

    @classmethod
    def where_nothing_is_given(cls) -> Self | None:
        """Return the block that serves then, to be changed in the UI; None if nothing does."""
        return None

    @classmethod
    def slug(cls) -> str:
        return f"{cls._block_type_slug}/{NAME}"

    @classmethod
    def load_default(cls) -> Self:
        """Load the block from Prefect. Raise NeedsHuman if there is none, Park while Prefect does not answer."""
        try:
            with closing(PrefectApi.from_environment()) as api:
                data = block_document(api, cls.slug())
        except Retry as error:
            # Prefect is out, and not the account: the call waits for it and uses up no attempt.
            raise Park(f"Prefect did not give the block {cls.slug()}: {error.message}", code="prefect_down") from error
        if data is None:
            raise cls._unusable()
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            # Saved with other fields than today's, by another version of Darkroom.
            raise cls._unusable() from error

    @classmethod
    def _unusable(cls) -> NeedsHuman:
        return NeedsHuman(
            f"there is no usable block {cls.slug()}: set {' and '.join(cls.variables)} and run `darkroom provision`, "
            "or create it in the Prefect UI",
            code="no_account",
        )

    def secrets(self) -> list[str]:
        return [value.get_secret_value() for value in self.values().values() if isinstance(value, SecretStr)]

    def same_as(self, other: Configured) -> bool:
        """Return whether both say the same, with the same secrets."""
        return type(self) is type(other) and self.values() == other.values()

    def values(self) -> dict[str, object]:
        """Return the block's fields, with secrets as such."""
        return {name: getattr(self, name) for name in type(self).model_fields}


class ProviderAccount(Configured):
    """Access to one account at a provider: what a provider is registered by.

    A package of its own names its class in the group of entry points `darkroom.providers`.
    """

    account_id: ClassVar[str]  # of the ledger, and of the address of its webhooks: `/webhooks/{account_id}`
    slots: ClassVar[int] = 10  # calls under way at once, until an operator says otherwise
    user_slots: ClassVar[int | None] = None  # of these for one user; None: as many as the plan allows
    immediate: ClassVar[bool] = False  # whether the answer to a submit is the outcome, so that nobody is ever polled
    tells_bills: ClassVar[bool] = False  # whether its provider says afterwards what calls were billed at
    required: ClassVar[bool] = False  # whether Darkroom does not start without it
    # What is imported with its first call, and is large: the modules of its SDK.
    client_modules: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def models(cls) -> Mapping[str, Model]:
        """Return what can be ordered of it without a card, by endpoint."""
        return {}

    @classmethod
    def refinements(cls) -> Mapping[str, Refinement]:
        """Return what cards cannot say of some of its models, by endpoint."""
        return {}

    @classmethod
    def file_hosts(cls) -> re.Pattern[bytes]:
        """Return the hosts at which it has the files of models that are known by their cards."""
        raise NotImplementedError

    @classmethod
    @contextmanager
    def platform(cls) -> Iterator[Platform | None]:
        """Open what tells of its models, where it has that: their cards."""
        yield None

    @classmethod
    def sends_webhooks(cls, settings: Settings) -> bool:
        """Return whether it notifies us how its calls ended, where it can reach us; else it is polled."""
        return False

    @classmethod
    def receiver(cls, settings: Settings) -> WebhookReceiver | None:
        """Return what verifies its webhooks; None where it sends none."""
        return None

    @classmethod
    def may_pass(cls, code: str) -> bool:
        """Return whether a failure that is on record under this code may pass, by what is known of it today."""
        return False

    @classmethod
    def provider_user(cls, settings: Settings, block: ProviderAccount | None) -> str | None:
        """Return whose account it is in the provider's own words, where its webhooks carry that and it is known."""
        return None

    def provider(self) -> Provider:
        """Open a client of this account, to be closed by the caller; one serves all threads of a process."""
        raise NotImplementedError


class KeyAccount(ProviderAccount):
    """Access by keys that are made at the provider's site, and that the environment may say.

    The name and the slug of its block, and what is made of the environment, follow from what a subclass says of itself.
    """

    title: ClassVar[str]  # of the provider, as it writes itself
    keys_at: ClassVar[str]  # the page where its keys are made: Prefect links to it from the form
    said_by: ClassVar[Mapping[str, str]]  # the variable of the environment that says a field, by the field's name

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        # Here, as pydantic has collected `model_fields` only now: not yet in `__init_subclass__`.
        cls._block_type_name = f"{cls.title} account"
        cls._block_type_slug = f"{cls.account_id}-account"
        cls._documentation_url = HttpUrl(cls.keys_at)
        cls.variables = tuple(name for field, name in cls.said_by.items() if cls.model_fields[field].is_required())

    @classmethod
    def given(cls, settings: Settings) -> Self | None:
        """Return the account of the environment; None where it does not say all that there must be."""
        said = {field: settings.variable(name) for field, name in cls.said_by.items()}
        found = {field: value for field, value in said.items() if value}
        required = (field for field in cls.said_by if cls.model_fields[field].is_required())
        return cls(**found) if all(field in found for field in required) else None
