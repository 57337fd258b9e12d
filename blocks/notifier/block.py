"""The block `notifier/default`: the way for news is named there and nowhere else; flows say only what and to whom.

Without anything set, news goes to the run's log, where a developer sees it. A message carries an id made of its key: as
Message-ID of a mail, as `webhook-id` and `Idempotency-Key` of a webhook. Chats know no such thing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator

from darkroom.blocks.notifier.message import MOST_TEXT, Message
from darkroom.errors import BadInput, NeedsHuman
from darkroom.providers.account import Configured
from darkroom.settings import Settings

Way = Literal["log", "smtp", "webhook", "prefect"]
Encryption = Literal["starttls", "tls", "none"]
NEEDED: dict[Way, tuple[str, ...]] = {
    "log": (),
    "smtp": ("host", "sender"),
    "webhook": ("url", "signing_key"),
    "prefect": ("block",),
}
SCHEMES: dict[str, Encryption] = {"smtp": "starttls", "smtps": "tls", "smtp+plain": "none"}
# Of submission (RFC 6409), of submission under TLS (RFC 8314), and of relay.
PORTS: dict[Encryption, int] = {"starttls": 587, "tls": 465, "none": 25}


class Notifier(Configured):
    """News for people: to the log, by mail, to a webhook, or through a notification block of Prefect's (Slack, …)."""

    _block_type_name: ClassVar[str | None] = "Notifier"
    _block_type_slug: ClassVar[str | None] = "notifier"
    _description: ClassVar[str | None] = "How Darkroom's flows reach people: log, mail, webhook, Slack and other chats."

    variables: ClassVar[tuple[str, ...]] = ("DARKROOM_NOTIFIER", "DARKROOM_NOTIFIER_SECRET")

    # Flat fields, of which a way needs some, because Prefect's UI makes a form of them.
    way: Way = Field(
        "log", title="Way", description="log; smtp: mail; webhook: signed POST; prefect: a block such as Slack's."
    )
    host: str = Field("", title="Mail server", description="For smtp: its name or address.", max_length=253)
    port: int | None = Field(None, title="Port", description="For smtp. Empty: 587, 465 or 25.", ge=1, le=65535)
    encryption: Encryption = Field(
        "starttls", title="Encryption", description="For smtp: starttls, tls from the start, or none (own network)."
    )
    username: str = Field("", title="User name", description="For smtp. Empty: without log-in.", max_length=320)
    password: SecretStr = Field(SecretStr(""), title="Password", description="For smtp.")
    sender: str = Field("", title="Sender", description="For smtp: the address that mail comes from.", max_length=320)
    recipient: str = Field(
        "", title="Usual recipient", description="For smtp: who gets what is for nobody in particular.", max_length=320
    )
    url: str = Field(
        "",
        title="Address",
        description="For webhook: where it is posted to.",
        max_length=2000,
        pattern=r"^(https?://\S+)?$",
    )
    signing_key: SecretStr = Field(
        SecretStr(""),
        title="Signing key",
        description="For webhook: whsec_… (base64), or any text; receivers check it.",
    )
    block: str = Field(
        "",
        title="Prefect's block",
        description="For prefect: type and name of a notification block, e.g. slack-webhook/team.",
        max_length=200,
        pattern=r"^([a-z0-9-]+/[a-z0-9-]+)?$",
    )

    @model_validator(mode="after")
    def _has_what_its_way_needs(self) -> Self:
        if missing := [name for name in NEEDED[self.way] if not _filled(getattr(self, name))]:
            raise ValueError(f"{' and '.join(missing)} must be given for the way {self.way}")
        return self

    def send(self, subject: str, text: str, *, key: str, to: str | None = None) -> str:
        """Send the message and return its id. The same `key` is the same piece of news.

        `to` is a mail address, for mail alone.

        Raises Retry or Park where another try may bring it, BadInput for who or what cannot be written to, Permanent
        where the way itself is wrong.
        """
        if len(text) > MOST_TEXT:
            raise BadInput(f"A message has at most {MOST_TEXT:,} characters.", field="text")
        message = Message(subject=subject, text=text, key=key, to=to)
        self._send(message)
        return message.id

    def tell(self, subject: str, text: str, *, key: str, to: str | None = None) -> str:
        """Send the message. Deprecated: the name that `send` had in 0.1."""
        return self.send(subject, text, key=key, to=to)

    def _send(self, message: Message) -> None:
        # Imported here: an installation uses one way, and each brings its own library.
        match self.way:
            case "log":
                _log(message)
            case "smtp" if message.to is None and not self.recipient:
                _log(message)  # for no user, and nobody is named for that
            case "smtp":
                from darkroom.blocks.notifier.mail import MailServer, send_mail

                server = MailServer(
                    host=self.host,
                    port=self.mail_port,
                    encryption=self.encryption,
                    sender=self.sender,
                    username=self.username,
                    password=self.password.get_secret_value(),
                )
                send_mail(message, server, fallback=self.recipient)
            case "webhook":
                from darkroom.blocks.notifier.webhook import post

                post(message, url=self.url, signing_key=self.signing_key.get_secret_value())
            case "prefect":
                from darkroom.blocks.notifier.prefect_block import load, notify

                notify(message, load(self.block), name=self.block)

    @property
    def mail_port(self) -> int:
        return self.port or PORTS[self.encryption]

    @classmethod
    def given(cls, settings: Settings) -> Self | None:
        """Read DARKROOM_NOTIFIER: `log`, `smtp://user@host:587?from=…&to=…`, `https://…`, or `slack-webhook/<name>`."""
        if not settings.notifier:
            return None
        try:
            return cls(**_fields(settings.notifier, settings.notifier_secret))
        except ValueError as error:
            raise NeedsHuman(f"DARKROOM_NOTIFIER and DARKROOM_NOTIFIER_SECRET: {_words(error)}") from error

    @classmethod
    def where_nothing_is_given(cls) -> Self:
        return cls()


def _filled(value: str | SecretStr) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)


def _words(error: ValueError) -> str:
    """Say what is wrong, without what was given."""
    if isinstance(error, ValidationError):
        # Not the error's own text: pydantic quotes what was given, and that may be the secret.
        return "; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors())
    return "not a usable address"


def _fields(notifier: str, secret: SecretStr | None) -> dict[str, Any]:
    secret = secret or SecretStr("")
    if notifier == "log":
        return {"way": "log"}
    parts = urlsplit(notifier)
    if parts.scheme in SCHEMES:
        query = parse_qs(parts.query)
        return {
            "way": "smtp",
            "host": parts.hostname or "",
            "port": parts.port,
            "encryption": SCHEMES[parts.scheme],
            "username": unquote(parts.username or ""),
            "password": secret,
            "sender": query.get("from", [""])[0],
            "recipient": query.get("to", [""])[0],
        }
    if parts.scheme in ("http", "https"):
        return {"way": "webhook", "url": notifier, "signing_key": secret}
    return {"way": "prefect", "block": notifier}


def _log(message: Message) -> None:
    """Log that the message went."""
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_logger, get_run_logger

    try:
        logger = get_run_logger()
    except MissingContextError:  # outside of a run, where Prefect has no logger of one
        logger = get_logger("darkroom.notifier")
    # Neither to whom nor the text: logs are read by many.
    logger.info("Notifier %s: %s (%d characters)", message.id, message.one_line(), len(message.text))
