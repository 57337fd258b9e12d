"""ElevenLabs' sound and refusals, over the SDK as it comes and a transport of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from provider_rows import row_for

from darkroom.errors import BadInput, DarkroomError, OutOfMoney, Park, Permanent, RateLimited, Retry, SubmitUnknown
from darkroom.ledger import Outcome, Transition
from darkroom.media.formats import Kind, RemoteFile
from darkroom.providers.elevenlabs import Speech
from darkroom.providers.elevenlabs.failures import classify_refusal
from darkroom.providers.models import find_model

V3, TURBO = "elevenlabs/eleven_v3", "elevenlabs/eleven_turbo_v2_5"
VOICE = "JBFqnCBsd6RMkjVDRZzb"
TEXT = "Our very secret lemonade is better than yours."
Handler = Callable[[httpx.Request], httpx.Response]


def submit(handler: Handler, *, endpoint: str = V3, **arguments: Any) -> Outcome:
    row = row_for(endpoint, **{"text": TEXT, "voice_id": VOICE} | arguments)
    with closing(Speech(" key\n", transport=httpx.MockTransport(handler))) as speech:
        outcome = speech.submit(row, row.input or {}, webhook_url=None)
    assert isinstance(outcome, Outcome)
    return outcome


def failure(handler: Handler) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        submit(handler)
    return caught.value


def detail(status: str) -> dict[str, Any]:
    return {"detail": {"status": status, "message": f"words of {status}"}}


def test_the_sound_comes_within_the_answer_and_its_price_is_by_the_character() -> None:
    """As a `data:` address, which is how a file that is nowhere else reaches the media store."""
    outcome = submit(lambda _: httpx.Response(200, content=b"\xff\xfbsound", headers={"request-id": "r-1"}))
    assert outcome.transition is Transition.SUCCEED
    assert outcome.output == {
        "audio": {"url": "data:audio/mpeg;base64,//tzb3VuZA==", "content_type": "audio/mpeg"},
        "characters": len(TEXT),
        "request_id": "r-1",
    }
    assert outcome.cost_usd == Decimal("0.004600")
    files = find_model(V3).files(outcome.output)
    assert files == [RemoteFile(url=outcome.output["audio"]["url"], kind=Kind.AUDIO, content_type="audio/mpeg")]


def test_the_call_is_one_and_says_what_was_ordered() -> None:
    """Voice settings apart from the rest, as ElevenLabs wants them; the key without the line end it was pasted with."""
    sent: list[httpx.Request] = []

    def busy(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(429, json=detail("system_busy"))

    with pytest.raises(RateLimited):
        submit(busy, endpoint=TURBO, stability=0.4, speed=1.1, seed=7, language_code="en", previous_text="Well.")
    (request,) = sent
    assert request.url == f"https://api.elevenlabs.io/v1/text-to-speech/{VOICE}?output_format=mp3_44100_128"
    assert request.headers["xi-api-key"] == "key"
    assert json.loads(request.content) == {
        "text": TEXT,
        "model_id": "eleven_turbo_v2_5",
        "voice_settings": {"stability": 0.4, "speed": 1.1},
        "language_code": "en",
        "previous_text": "Well.",
        "seed": 7,
    }


def test_an_answer_without_a_sound_was_paid() -> None:
    """It ends the call as failed, with its cost, and may be tried again."""
    outcome = submit(lambda _: httpx.Response(200))
    assert outcome.transition is Transition.FAIL
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["retryable"]) == ("unexpected_output", True)
    assert outcome.cost_usd == Decimal("0.004600")


def test_a_sound_that_breaks_off_may_have_been_paid() -> None:
    """Nothing of it is kept, and it is not ordered again by itself."""

    def broken() -> Iterator[bytes]:
        yield b"\xff\xfb" * 1000
        raise httpx.ReadError("closed")

    assert type(failure(lambda _: httpx.Response(200, content=broken()))) is SubmitUnknown


def test_a_sound_without_end_is_left() -> None:
    """A trickle that never ends would hold its slot, and fill the memory."""

    def endless() -> Iterator[bytes]:
        while True:
            yield b"\0" * (1 << 20)

    assert type(failure(lambda _: httpx.Response(200, content=endless()))) is SubmitUnknown


@pytest.mark.parametrize(
    ("broken", "kind"),
    [(httpx.ConnectError("refused"), Park), (httpx.ReadTimeout("slow"), SubmitUnknown)],
)
def test_a_lost_answer_is_told_from_a_call_that_never_left(broken: Exception, kind: type[DarkroomError]) -> None:
    """What may have been paid is not sent again by itself."""

    def breaks(_: httpx.Request) -> httpx.Response:
        raise broken

    assert type(failure(breaks)) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (429, detail("too_many_concurrent_requests"), RateLimited, "rate_limited"),
        (429, detail("system_busy"), RateLimited, "rate_limited"),
        (429, "slow down", RateLimited, "rate_limited"),
        (401, detail("quota_exceeded"), OutOfMoney, "account_locked"),
        (402, detail("payment_required"), OutOfMoney, "account_locked"),
        (401, detail("invalid_api_key"), Permanent, "unauthorized"),
        (403, detail("missing_permissions"), Permanent, "unauthorized"),
        (400, detail("voice_not_found"), Permanent, "voice_not_found"),
        (400, detail("max_character_limit_exceeded"), Permanent, "max_character_limit_exceeded"),
        (400, detail("<script>"), Permanent, "rejected"),
        (404, {"detail": "Not Found"}, Permanent, "rejected"),
        (409, detail("conflict"), Retry, "transient"),
        (500, detail("internal_error"), Retry, "transient"),
        (503, {"detail": "Unavailable"}, Retry, "transient"),
        (502, "<html>", SubmitUnknown, "submit_unknown"),
        (403, "<html>", Retry, "unexpected_answer"),
    ],
)
def test_every_refusal_has_one_meaning(status: int, body: object, kind: type[DarkroomError], code: str) -> None:
    """401 is a bad key and an empty purse alike, so the body decides; a page proves nothing."""
    error = classify_refusal(status, body, {"retry-after": "3"})
    assert (type(error), error.code) == (kind, code)
    assert error.retry_after == (timedelta(seconds=3) if kind is RateLimited else None)


def test_a_malformed_request_is_quoted_without_what_was_sent() -> None:
    """Its items echo the text."""
    body = {"detail": [{"loc": ["body", "text"], "msg": "Field required", "type": "missing", "input": {"text": TEXT}}]}
    error = failure(lambda _: httpx.Response(422, json=body))
    assert isinstance(error, Permanent)
    assert error.message == "ElevenLabs: text: Field required"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": "x" * 5001}, "text"),
        ({"voice_id": "../v1/user"}, "voice_id"),
        ({"stability": 2.0}, "stability"),
        ({"previous_text": "only Turbo takes it"}, "previous_text"),
    ],
)
def test_a_bad_input_names_its_field(arguments: dict[str, Any], field: str) -> None:
    """A voice's id becomes part of an address, so it is nothing but letters and figures."""
    with pytest.raises(BadInput) as caught:
        find_model(V3).validate({"text": "Hello", "voice_id": VOICE} | arguments)
    assert caught.value.field == field


def test_an_output_whose_sound_was_stored_still_has_its_file() -> None:
    """Then the name of the stored file stands where the sound was; without either there is nothing to store."""
    model = find_model(TURBO)
    assert [file.url for file in model.files({"audio": {"url": "asset:ast_1"}})] == ["asset:ast_1"]
    with pytest.raises(Permanent):
        model.files({"audio": None})
    assert model.estimate({"text": "x" * 1000}) == Decimal("0.050000")
