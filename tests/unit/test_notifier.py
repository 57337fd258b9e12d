"""News reaches people by each way, once by its id, and a failure says whether another try may help."""

from __future__ import annotations

import base64
import hmac
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from mail_server import MailBox, open_mail_box
from prefect.blocks.notifications import SlackWebhook
from pydantic import SecretStr, ValidationError
from support import free_port
from till import SIGNING_KEY, Till, open_till

from darkroom.blocks.notifier import Message, Notifier
from darkroom.blocks.notifier.prefect_block import notify
from darkroom.blocks.notifier.webhook import signed
from darkroom.errors import BadInput, DarkroomError, NeedsHuman, Park, Permanent, RateLimited, Retry
from darkroom.settings import Settings

KEY = "job_1/welcome"
apprise = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # which Apprise looks for


@pytest.fixture
def box() -> Iterator[MailBox]:
    with open_mail_box() as box:
        yield box


@pytest.fixture
def till() -> Iterator[Till]:
    with open_till() as till:
        yield till


def by_mail(box: MailBox, **more: Any) -> Notifier:
    return Notifier(way="smtp", host="127.0.0.1", port=box.port, encryption="none", sender="studio@example.com", **more)


def by_webhook(till: Till) -> Notifier:
    return Notifier(way="webhook", url=till.news_url, signing_key=SecretStr(SIGNING_KEY))


def test_a_mail_arrives_as_it_was_told(box: MailBox) -> None:
    """Subject in one line whatever is in it, text, sender and recipient, and a log-in where there is a user."""
    notifier = by_mail(box, username="studio", password=SecretStr("word"))
    notifier.send("Welcome\r\nBcc: everybody@example.com", "Hello Ann,\n\nwelcome – ü.", key=KEY, to="ann@example.com")
    (mail,) = box.mails
    assert mail["Subject"] == "Welcome Bcc: everybody@example.com"
    assert mail["Bcc"] is None
    assert (mail["From"], mail["To"]) == ("studio@example.com", "ann@example.com")
    assert mail.get_content().splitlines() == ["Hello Ann,", "", "welcome – ü."]
    assert box.log_ins == ["studio\0word"]


def test_a_mail_sent_again_has_the_same_id(box: MailBox) -> None:
    """A mailbox can tell; another piece of news has another id."""
    notifier = by_mail(box)
    for key in (KEY, KEY, "job_1/reminder"):
        notifier.send("Welcome", "Hello", key=key, to="ann@example.com")
    first, again, other = (mail["Message-ID"] for mail in box.mails)
    assert first == again != other


def test_what_is_for_nobody_in_particular_goes_to_the_usual_recipient(box: MailBox) -> None:
    """And to nobody where there is none: the log has it."""
    by_mail(box, recipient="team@example.com").send("Joined", "All done", key=KEY)
    assert box.recipients == ["<team@example.com>"]
    by_mail(box).send("Joined", "All done", key=KEY)
    assert len(box.mails) == 1


@pytest.mark.parametrize(
    "to",
    ["", "ann", "a@example.com, b@example.com", "Ann <ann@example.com>", "a@b.c\r\nBcc: x@y.z", "a@", "@b.c"],
)
def test_a_mail_goes_to_one_address_alone(box: MailBox, to: str | None) -> None:
    """Anything else is refused before it is sent, by field."""
    with pytest.raises(BadInput) as refused:
        by_mail(box).send("Welcome", "Hello", key=KEY, to=to)
    assert refused.value.field == "to"
    assert not box.recipients


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        ("RCPT", "550 no such user ann@example.com", BadInput),
        ("RCPT", "450 try later", Retry),
        ("AUTH", "535 wrong password", Permanent),
        ("AUTH", "454 not now", Retry),
        ("DATA", "554 spam", Permanent),
        ("DATA", "452 full", Retry),
        ("MAIL", "421 closing", Retry),
        ("QUIT", "500 what?", None),
    ],
)
def test_a_mail_servers_refusal_says_whether_to_come_again(
    box: MailBox, command: str, answer: str, kind: type[DarkroomError] | None
) -> None:
    """By its code; its words are not repeated, as addresses may be in them."""
    box.answers[command] = answer
    notifier = by_mail(box, username="studio", password=SecretStr("word"))
    if kind is None:
        notifier.send("Welcome", "Hello", key=KEY, to="ann@example.com")
        return
    with pytest.raises(kind) as refused:
        notifier.send("Welcome", "Hello", key=KEY, to="ann@example.com")
    assert answer[:3] in str(refused.value)
    assert answer[4:] not in str(refused.value)


def test_a_mail_is_not_sent_unencrypted_where_encryption_is_asked_for(box: MailBox) -> None:
    """A server that cannot is a mistake in the block."""
    notifier = Notifier(way="smtp", host="127.0.0.1", port=box.port, sender="studio@example.com")
    with pytest.raises(Permanent):
        notifier.send("Welcome", "Hello", key=KEY, to="ann@example.com")
    assert not box.recipients


def test_a_webhook_is_signed_so_that_its_receiver_can_tell(till: Till) -> None:
    """As Standard Webhooks has it: over id, time and body, with the key that both know; the id is the same again."""
    for _ in range(2):
        by_webhook(till).send("Welcome", "Hello", key=KEY, to="ann@example.com")
    post, again = till.posts
    id, at = post.headers["webhook-id"], post.headers["webhook-timestamp"]
    secret = base64.b64decode(SIGNING_KEY.removeprefix("whsec_"))
    mac = hmac.digest(secret, f"{id}.{at}.".encode() + post.raw, "sha256")
    assert post.headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    assert post.body == {"id": id, "subject": "Welcome", "text": "Hello", "to": "ann@example.com"}
    assert id == post.headers["idempotency-key"] == again.headers["webhook-id"]


def test_the_signature_is_the_one_of_the_specification() -> None:
    """The worked example that the specification's libraries test themselves with."""
    headers = signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        '{"test": 2432232314}',
        signing_key="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        at=1614265330,
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, Retry),
        (503, Retry),
        (409, Retry),
        (429, RateLimited),
        (400, Permanent),
        (401, Permanent),
        (302, Permanent),
    ],
)
def test_a_webhooks_refusal_says_whether_to_come_again(till: Till, status: int, kind: type[DarkroomError]) -> None:
    """By its status."""
    till.statuses["Hello"] = [status]
    with pytest.raises(kind, match=str(status)):
        by_webhook(till).send("Welcome", "Hello", key=KEY)


def test_whom_nobody_reaches_may_be_reached_later(till: Till, box: MailBox) -> None:
    """Neither a mail server nor a webhook that is down is a mistake."""
    nobody = free_port()
    down = Notifier(way="smtp", host="127.0.0.1", port=nobody, encryption="none", sender="studio@example.com")
    with pytest.raises(Park):
        down.send("Welcome", "Hello", key=KEY, to="ann@example.com")
    with pytest.raises(Park):
        Notifier(way="webhook", url=f"http://127.0.0.1:{nobody}", signing_key=SecretStr("k")).send("a", "b", key=KEY)


@apprise
def test_slack_is_told_by_prefects_own_block(till: Till) -> None:
    """Through Apprise, which here speaks to another address than Slack's."""
    message = Message(subject="Joined", text="3 of 3", key=KEY)
    block = SlackWebhook(url=SecretStr(f"json://127.0.0.1:{till.port}/chat"))
    notify(message, block, name="slack-webhook/team")
    (post,) = till.posts
    assert (post.body["title"], post.body["message"]) == ("Joined", "3 of 3")


@apprise
def test_a_chat_that_takes_nothing_may_take_it_later(till: Till) -> None:
    """Apprise does not say why, but in its log, where the address is: that is not repeated."""
    block = SlackWebhook(url=SecretStr(f"json://127.0.0.1:{free_port()}/T0KEN"))
    with pytest.raises(Retry) as refused:
        notify(Message(subject="Joined", text="3 of 3", key=KEY), block, name="slack-webhook/team")
    assert "slack-webhook/team" in str(refused.value)
    assert "T0KEN" not in str(refused.value)


def test_the_log_has_that_there_is_news_and_neither_text_nor_recipient(caplog: pytest.LogCaptureFixture) -> None:
    """Logs are read by many."""
    with caplog.at_level(logging.INFO):
        logging.getLogger("prefect.darkroom.notifier").addHandler(caplog.handler)
        Notifier().send("Welcome", "Hello", key=KEY, to="ann@example.com")
    assert "Welcome" in caplog.text
    assert not {word for word in ("ann@", "Hello") if word in caplog.text}


@pytest.mark.parametrize(
    ("given", "secret", "fields"),
    [
        ("log", None, {"way": "log"}),
        (
            "smtp://me%40x.org@mail.example.com?from=s@example.com&to=team@example.com",
            "word",
            {
                "way": "smtp",
                "mail_port": 587,
                "encryption": "starttls",
                "username": "me@x.org",
                "sender": "s@example.com",
            },
        ),
        ("smtps://mail.example.com?from=s@example.com", None, {"mail_port": 465, "encryption": "tls", "username": ""}),
        ("smtp+plain://10.0.0.5:2525?from=s@example.com", None, {"mail_port": 2525, "encryption": "none"}),
        ("https://app.example.com/news?x=1", "k", {"way": "webhook", "url": "https://app.example.com/news?x=1"}),
        ("slack-webhook/team", None, {"way": "prefect", "block": "slack-webhook/team"}),
    ],
)
def test_the_environment_names_a_way_in_one_line(given: str, secret: str | None, fields: dict[str, Any]) -> None:
    """The secret is apart from it."""
    settings = Settings(notifier=given, notifier_secret=SecretStr(secret) if secret else None)
    notifier = Notifier.given(settings)
    assert notifier is not None
    assert {name: getattr(notifier, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("smtp://mail.example.com", "sender"),
        ("https://app.example.com/news", "signing_key"),
        ("smtp://mail.example.com:99999?from=a@b.c", "address"),
        ("carrier pigeon", "block"),
    ],
)
def test_a_way_that_cannot_be_is_said_at_once(given: str, word: str) -> None:
    """By the variable's name and by what is missing."""
    with pytest.raises(NeedsHuman, match="DARKROOM_NOTIFIER") as refused:
        Notifier.given(Settings(notifier=given))
    assert word in str(refused.value)


def test_a_block_that_lacks_what_its_way_needs_is_not_made() -> None:
    """In Prefect's UI too, as soon as it is used."""
    with pytest.raises(ValidationError, match="host and sender"):
        Notifier(way="smtp")
