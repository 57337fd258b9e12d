"""Everything Darkroom reads from the environment, in one class.

Sources, strongest first: the environment (prefix `DARKROOM_`), then `$DARKROOM_HOME/stack.env`, the file in which
`darkroom up` records how its parts reach each other (mode 0600: it holds secrets). Settings are read at the edge
(commands, gateway start, flow entry) and passed in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from darkroom.errors import NeedsHuman
from darkroom.timing import UNSCALED, Timing

DEFAULT_HOME = ".darkroom"
ANY_MODEL = "any"
PREFIX = "DARKROOM_"
TIME_SCALE = f"{PREFIX}TIME_SCALE"
_REACH = frozenset({"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE"})
TimeScale = Annotated[float, Field(ge=0.01, le=10)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", populate_by_name=True)

    home: Path = Field(Path(DEFAULT_HOME), description="Folder of the local stack's state and secrets.")
    ledger_url: str = Field("", description="Postgres URL of the ledger. `darkroom up` sets it for its own stack.")
    public_url: str | None = Field(
        None, description="Where the provider reaches the gateway, e.g. https://media.example.com. Unset: polling."
    )
    gateway_url: str = Field(
        "http://127.0.0.1:8700", description="Where operators' browsers and the CLI reach the gateway."
    )
    api_key: SecretStr | None = Field(
        None, description="Whose calls the commands' are. Unset: the operator's, kept in HOME."
    )
    prefect_ui_url: str = Field(
        "", description="Where operators' browsers reach Prefect's UI. Default: the address of its API, without /api."
    )
    prefect_api_url: str = Field("", validation_alias=AliasChoices("PREFECT_API_URL", "prefect_api_url"))
    store: str = Field(
        "", description="Media store: a folder, s3://bucket/prefix, or block:<type-slug>/<name>. Default: $HOME/media."
    )
    asset_links: Literal["gateway", "presigned"] = Field(
        "gateway",
        description="Who sends the files of a store on S3: the gateway, or S3 itself, where the gateway leads to it.",
    )
    fal_user_id: str | None = Field(None, description="fal user id that webhooks must carry. Unset: learned.")
    time_scale: TimeScale = Field(
        1, description="By which all limits that anybody waits for are multiplied: less than 1 for tests and demos."
    )
    patience: timedelta = Field(
        default_factory=lambda given: UNSCALED.patience * given["time_scale"],
        ge=timedelta(0),
        description="How long a run waits in its process before it suspends (seconds or ISO 8601).",
    )
    cancel_grace: timedelta = Field(
        default_factory=lambda given: UNSCALED.cancel_grace * given["time_scale"],
        ge=timedelta(0),
        description="How long a cancelled run may take to end before its process is killed (seconds or ISO 8601).",
    )
    submit_at_grant: bool = Field(
        True,
        description="Whether a gateway sends a job's first call as it gets its slot, while its run is being made.",
    )
    models: str = Field(
        ANY_MODEL,
        description="Models that may be ordered of those that have cards: any, or globs, e.g. fal-ai/flux/*,openai/*.",
    )
    web_allow: str = Field(
        "",
        description="Private addresses that may be asked for files, and be sent callbacks, all the same, e.g. "
        "10.1.0.0/16, 127.0.0.1:8999.",
    )
    signing_key: SecretStr = Field(
        SecretStr(""),
        description="Key of the links to assets, and of the secrets of callbacks. Every gateway and worker of one "
        "installation shares it.",
    )
    fal_key: SecretStr | None = Field(None, validation_alias=AliasChoices("FAL_KEY", "fal_key"))
    fal_billing_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("FAL_BILLING_KEY", "fal_billing_key"),
        description="Key that may read fal's bills and balance. Unset: FAL_KEY, if it may.",
    )
    gemini_api_key: SecretStr | None = Field(None, validation_alias=AliasChoices("GEMINI_API_KEY", "gemini_api_key"))
    elevenlabs_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("ELEVENLABS_API_KEY", "elevenlabs_api_key")
    )
    mux_token_id: str | None = Field(None, validation_alias=AliasChoices("MUX_TOKEN_ID", "mux_token_id"))
    mux_token_secret: SecretStr | None = Field(
        None, validation_alias=AliasChoices("MUX_TOKEN_SECRET", "mux_token_secret")
    )
    mux_webhook_secret: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("MUX_WEBHOOK_SECRET", "mux_webhook_secret"),
        description="Signing secret of the webhook endpoint at Mux. Unset: Mux is asked how an upload went.",
    )
    oidc_issuer: str | None = Field(
        None,
        description="OpenID Connect provider by which operators may sign in to the Studio, e.g. https://id.example.com.",
    )
    oidc_client_id: str = Field("", description="What the gateway is called there.")
    oidc_client_secret: SecretStr | None = Field(None, description="… and its secret. Unset: it has none, PKCE alone.")
    oidc_operators: str = Field(
        "",
        description="Who of its users is an operator: verified e-mail addresses, or claim=value of the ID token, "
        "e.g. ann@example.com, groups=darkroom-operators.",
    )
    news_kept: timedelta = Field(
        timedelta(days=30),
        ge=timedelta(hours=1),
        description="How long what was told can be read again in the stream (seconds or ISO 8601).",
    )
    events_kept: timedelta = Field(
        timedelta(days=90),
        ge=timedelta(days=32),  # limits of flow control count over up to 31
        description="How long events, what they did, and pending runs that have begun or were dropped are on record "
        "(seconds or ISO 8601). The sender's id of an event is known for as long.",
    )
    balance_low_usd: Decimal | None = Field(
        Decimal(20), ge=0, description="The operator is told when a provider's balance falls below it. Empty: never."
    )
    balance_stop_usd: Decimal | None = Field(
        None, ge=0, description="Below this balance nothing more is granted at that provider. Unset: until it refuses."
    )
    notifier: str | None = Field(
        None,
        description="How flows reach people: log, smtp://user@host:587?from=…&to=…, smtps://…, https://… (a webhook), "
        "or a notification block of Prefect's, e.g. slack-webhook/team. Unset: log.",
    )
    notifier_secret: SecretStr | None = Field(None, description="The mail server's password, or the webhook's key.")
    payment_url: str | None = Field(None, description="Where `process-order` posts its charges.")
    payment_key: SecretStr | None = Field(None, description="Bearer key of those charges.")

    @field_validator(
        "public_url",
        "api_key",
        "fal_user_id",
        "fal_billing_key",
        "gemini_api_key",
        "elevenlabs_api_key",
        "mux_token_id",
        "mux_token_secret",
        "mux_webhook_secret",
        "oidc_issuer",
        "oidc_client_secret",
        "notifier",
        "notifier_secret",
        "payment_url",
        "payment_key",
        "balance_low_usd",
        "balance_stop_usd",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    @field_validator("patience", "cancel_grace", "news_kept", "events_kept", mode="before")
    @classmethod
    def _bare_number_is_seconds(cls, value: object) -> object:
        try:
            return timedelta(seconds=float(str(value)))
        except (ValueError, OverflowError):
            return value

    @field_validator("public_url", "gateway_url", "payment_url")
    @classmethod
    def _is_a_web_address(cls, value: str | None) -> str | None:
        if value and not re.match(r"https?://[^/\s]", value):
            raise PydanticCustomError("address", "An address begins with https:// or http:// and a host")
        return value

    @property
    def timing(self) -> Timing:
        """Return the scaled limits, but for those that are set for themselves: these hold as they are."""
        return replace(UNSCALED.scaled(self.time_scale), patience=self.patience, cancel_grace=self.cancel_grace)

    @property
    def media_store(self) -> str:
        return self.store or str(self.home.resolve() / "media")

    def variable(self, name: str) -> Any:
        """Return what the variable of that name says: a setting of ours, or else what a package's own is set to."""
        field = next((each for each in type(self).model_fields if _name_of(each) == name), None)
        return os.environ.get(name) if field is None else getattr(self, field)

    def webhook_url(self, account_id: str) -> str | None:
        """Return where that provider's webhooks are received, without a row's token; None without a public URL."""
        return f"{self.public_url.rstrip('/')}/webhooks/{account_id}" if self.public_url else None

    def run_url(self, flow_run_id: UUID | None) -> str | None:
        """Return the page of a run in Prefect's UI; None where there is no run yet, or nobody knows where that is."""
        ui = (self.prefect_ui_url or self.prefect_api_url.rstrip("/").removesuffix("/api")).rstrip("/")
        return f"{ui}/runs/flow-run/{flow_run_id}" if ui and flow_run_id else None

    @property
    def browser_url(self) -> str:
        return (self.public_url or self.gateway_url).rstrip("/")


# Of the variables that others have named.
_OTHERS_NAMES = frozenset(
    str(name).lower()
    for field in Settings.model_fields.values()
    if isinstance(field.validation_alias, AliasChoices)
    for name in field.validation_alias.choices
)


def load_settings() -> Settings:
    """Read the settings. Raise NeedsHuman, naming the variable that cannot be read.

    A process that belongs to the stack in our folder reaches the providers from then on as that stack does.
    """
    home = own_home()
    file = home / "stack.env"
    # Read here: pydantic's reader would put a variable's value in the place of `${…}` in a path or a password.
    recorded = dotenv_values(file, interpolate=False) if file.is_file() else {}
    _reach_as_the_stack(recorded)
    found = {_field(name): value for name, value in recorded.items() if name not in os.environ}
    try:
        return _made_of(
            frozenset({**found, "home": home}.items()),
            frozenset((name, value) for name, value in os.environ.items() if _is_read(name)),
        )
    except ValidationError as error:
        raise NeedsHuman(_unreadable(error)) from None


@lru_cache(maxsize=1)
def _made_of(given: frozenset[tuple[str, Any]], environment: frozenset[tuple[str, str]]) -> Settings:
    """Make the settings of what is given and of the environment's variables, which are read anew.

    That takes a tenth of what a short run takes, so a run has those that the process has made of which it is a fork.
    """
    return Settings.model_validate(dict(given))


def _is_read(variable: str) -> bool:
    """Tell whether a setting is read from the variable, which pydantic compares without regard to case."""
    return variable.upper().startswith(PREFIX) or variable.lower() in _OTHERS_NAMES


def own_home() -> Path:
    """Return the folder of the stack that this process belongs to. The other settings are recorded in it."""
    return Path(os.environ.get("DARKROOM_HOME") or DEFAULT_HOME)


def named_project() -> Path | None:
    """Return the folder that `DARKROOM_PROJECT` names, alone: a stack may be started where its settings are not."""
    return Path(named) if (named := os.environ.get("DARKROOM_PROJECT")) else None


def belongs_to(recorded: Mapping[str, str | None]) -> bool:
    """Tell whether this process works on the ledger of the stack that recorded this."""
    own = recorded.get("DARKROOM_LEDGER_URL")
    return bool(own) and os.environ.get("DARKROOM_LEDGER_URL", own) == own


def _field(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower() if variable.startswith(PREFIX) else variable


def _reach_as_the_stack(recorded: Mapping[str, str | None]) -> None:
    """Take over what HTTP clients read by themselves: a simulated provider is behind a proxy with its own certificates.

    It is in nobody's shell, where it would be in the way of everything else. Nor is what libpq reads by itself.
    """
    if not belongs_to(recorded):
        return
    for name in _REACH & recorded.keys():
        os.environ[name] = recorded[name] or ""
    forget_libpq()


def forget_libpq() -> None:
    """Take libpq's variables out of this process: they would bend the address of a stack's own Postgres."""
    for name in [each for each in os.environ if each.startswith("PG")]:
        del os.environ[name]


def timing_of(environment: Mapping[str, str]) -> Timing:
    """Return the limits that a stack's parts will have if they are started with that environment.

    Raise NeedsHuman like `load_settings`.
    """
    try:
        factor = TypeAdapter[float](TimeScale).validate_python(environment.get(TIME_SCALE, 1))
    except ValidationError as error:
        raise NeedsHuman(_unreadable(error, name=TIME_SCALE)) from None
    return UNSCALED.scaled(factor)


def _unreadable(error: ValidationError, *, name: str | None = None) -> str:
    """Say what cannot be read, without the value, which may be a secret."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    own = [each for each in found if each["type"] != "default_factory_not_called"]  # that is only what follows
    return "; ".join(f"{name or _variable(each)}: {each['msg']}" for each in own)


def _name_of(field: str) -> str:
    """Return the variable that a setting is read from."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{PREFIX}{field.upper()}"


def _variable(error: Any) -> str:
    name = str(error["loc"][0])
    return f"{PREFIX}{name.upper()}" if name in Settings.model_fields else name
