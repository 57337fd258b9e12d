"""Mail, by the standard library's client."""

from __future__ import annotations

import re
import smtplib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from typing import Literal

from darkroom.blocks.notifier.message import Message
from darkroom.errors import BadInput, DarkroomError, Park, Permanent, Retry
from darkroom.events.mail_addresses import MAIL_ADDRESS
from darkroom.tls import tls_context

NOBODY_THERE = (ConnectionRefusedError, socket.gaierror)
SECONDS = 20.0  # for each answer of the server
BLOCK = "notifier/default"


@dataclass(frozen=True, kw_only=True)
class MailServer:
    host: str
    port: int
    encryption: Literal["starttls", "tls", "none"]
    sender: str
    username: str = ""
    password: str = ""


def send_mail(message: Message, server: MailServer, *, fallback: str) -> None:
    """Send the message. Raise as `Notifier.send` does.

    `fallback`: who gets what is for no user.
    """
    to = message.to or fallback
    if not re.fullmatch(MAIL_ADDRESS, to):
        raise BadInput("A message needs one mail address, name@example.com, of who gets it.", field="to")
    with _translated(server), _connected(server) as connection:
        refused = connection.send_message(_written(message, server, to), from_addr=server.sender, to_addrs=[to])
        assert not refused  # of one recipient: it would have been raised


def _written(message: Message, server: MailServer, to: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = server.sender
    mail["To"] = to
    mail["Subject"] = message.one_line()
    mail["Date"] = formatdate(time.time())
    # The same for every try: a mailbox that has it already shows it once.
    mail["Message-ID"] = f"<{message.id}@{server.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no absence note comes back
    mail.set_content(message.text)
    return mail


@contextmanager
def _connected(server: MailServer) -> Iterator[smtplib.SMTP]:
    if server.encryption == "tls":
        connection: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=SECONDS, context=tls_context())
    else:
        connection = smtplib.SMTP(server.host, server.port, timeout=SECONDS)
    try:
        if server.encryption == "starttls":
            connection.starttls(context=tls_context())
        if server.username:
            connection.login(server.username, server.password)
        yield connection
    finally:
        # Once it has taken the message nothing else matters, and a server that says goodbye badly is no failure.
        with suppress(smtplib.SMTPException, OSError):
            connection.quit()
        connection.close()


@contextmanager
def _translated(server: MailServer) -> Iterator[None]:
    """Translate what the client raises into our errors."""
    # Never with the server's words: they may repeat the address.
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        ((code, _),) = error.recipients.values()
        raise _refused(server, code, "recipient") from error
    except smtplib.SMTPAuthenticationError as error:
        raise _refused(server, error.smtp_code, "log-in") from error
    except smtplib.SMTPResponseException as error:
        raise _refused(server, error.smtp_code, "message") from error
    except smtplib.SMTPNotSupportedError as error:
        problem = f"the mail server {server.host} cannot do what the block {BLOCK} asks for (encryption or log-in)"
        raise Permanent(problem, code="not_supported") from error
    except NOBODY_THERE as error:
        # Nothing has left, so it is waited for, and no try is used up.
        raise Park(
            f"the mail server {server.host} is not there ({type(error).__name__})", code="unreachable"
        ) from error
    except (smtplib.SMTPException, OSError) as error:
        raise Retry(f"the mail server {server.host} cannot be reached ({type(error).__name__})") from error


def _refused(server: MailServer, code: int, what: str) -> DarkroomError:
    words = f"the mail server {server.host} refused the {what} ({code})"
    if code < 500:  # RFC 5321: a refusal with 4 in front may pass, one with 5 does not
        return Retry(words)
    if what == "recipient":
        return BadInput(words, field="to", code="recipient_refused")
    return Permanent(f"{words}: check the block {BLOCK}", code="unauthorized" if what == "log-in" else "refused")
