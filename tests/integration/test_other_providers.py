"""Gemini, ElevenLabs and Mux, by their own SDKs, against the simulator under their own addresses."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import uuid4

import media_files
import pytest
from provider_rows import row_for
from simulated_fal import SimulatedFal
from support import wait_until

from darkroom.clock import utc_now
from darkroom.errors import DarkroomError, OutOfMoney, Park, Permanent, RateLimited, Retry, SubmitUnknown
from darkroom.ledger import Outcome, Request, Transition
from darkroom.media.formats import Kind, Media, verify
from darkroom.providers.base import Accepted, Provider
from darkroom.providers.elevenlabs import Speech
from darkroom.providers.gemini import Gemini
from darkroom.providers.mux import Mux, MuxApi

FLASH, V3, UPLOAD = "google/gemini-2.5-flash", "elevenlabs/eleven_v3", "mux/upload"
VOICE = "JBFqnCBsd6RMkjVDRZzb"
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "lines": {"type": "array", "items": {"type": "string"}, "minItems": 2}},
}


@pytest.fixture(scope="module")
def film() -> Media:
    return verify(media_files.film(seconds=2, with_sound=True), Kind.VIDEO)


@pytest.fixture
def word() -> str:
    """What the rules and the calls of this test are known by."""
    return f"lemonade-{uuid4().hex[:8]}"


@pytest.fixture
def gemini(simulator: SimulatedFal) -> Iterator[Gemini]:
    with closing(Gemini("sim:gemini")) as provider:
        yield provider


@pytest.fixture
def speech(simulator: SimulatedFal) -> Iterator[Speech]:
    with closing(Speech("sim:elevenlabs")) as provider:
        yield provider


@pytest.fixture
def mux(simulator: SimulatedFal) -> Iterator[Mux]:
    with closing(Mux(MuxApi("sim-mux-token", "sim:mux"))) as provider:
        yield provider


def text_row(word: str, **arguments: Any) -> Request:
    return row_for(FLASH, prompt=f"Topic: {word}\nBrands: Fizz and Moo", schema=SCHEMA, **arguments)


def speech_row(word: str) -> Request:
    return row_for(V3, text=f"Everybody likes {word}, and that is that.", voice_id=VOICE)


def film_row(word: str) -> Request:
    return row_for(UPLOAD, video="asset:ast_1", title=word, at=utc_now())


def submit(provider: Provider, row: Request) -> Outcome:
    outcome = provider.submit(row, row.input or {}, webhook_url=None)
    assert isinstance(outcome, Outcome)
    return outcome


def failure(call: Callable[[], object]) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        call()
    return caught.value


class OneFilm:
    """A media store of one file."""

    def __init__(self, film: Media) -> None:
        self._film = film

    def read(self, reference: str) -> Media:
        assert reference == "asset:ast_1"
        return self._film


def take(mux: Mux, row: Request, film: Media) -> Accepted:
    """The upload is there, and on record; its film is not."""
    taken = mux.submit(row, mux.prepare(row.input or {}, files=OneFilm(film)), webhook_url=None)
    assert isinstance(taken, Accepted)
    row.request_id = taken.request_id
    return taken


def deliver(taken: Accepted) -> None:
    assert taken.deliver is not None
    taken.deliver()


def ended(mux: Mux, row: Request) -> Outcome:
    return wait_until(lambda: mux.poll(row), what="the end of the upload")


def test_a_script_obeys_its_schema_and_speaks_of_its_topic(gemini: Gemini, word: str) -> None:
    """JSON, parsed, with tokens counted and paid by the count."""
    outcome = submit(gemini, text_row(word))
    assert outcome.transition is Transition.SUCCEED
    assert outcome.output is not None
    assert word in outcome.output["json"]["title"]
    assert len(outcome.output["json"]["lines"]) >= 2
    assert outcome.output["usage"]["output_tokens"] > 0
    assert outcome.cost_usd is not None
    assert 0 < outcome.cost_usd < 0.01


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("429", RateLimited, "rate_limited"),
        ("500", Retry, "transient"),
        ("503", Park, "provider_down"),
        ("reject", Permanent, "invalid_argument"),
        ("quota", Permanent, "failed_precondition"),
        ("page", SubmitUnknown, "submit_unknown"),
        ("hang_up", SubmitUnknown, "submit_unknown"),
    ],
)
def test_gemini_is_asked_once_whatever_it_says(
    simulator: SimulatedFal, gemini: Gemini, word: str, fault: str, kind: type[DarkroomError], code: str
) -> None:
    """Neither SDK nor transport repeats a call by itself; the prompt is in no error."""
    simulator.call_rule(provider="gemini", match=word, fault=fault, retry_after=3)
    error = failure(lambda: submit(gemini, text_row(word)))
    assert (type(error), error.code) == (kind, code)
    assert error.retry_after == (timedelta(seconds=3) if fault == "429" else None)
    assert word not in error.message
    (call,) = simulator.calls(match=word)
    assert call["billed"] is (fault == "hang_up")


@pytest.mark.parametrize(
    ("fault", "code"),
    [("cut", "unexpected_output"), ("garbage", "unexpected_output"), ("blocked", "content_policy_violation")],
)
def test_a_script_that_is_no_use_is_on_record_with_its_cost(
    simulator: SimulatedFal, gemini: Gemini, word: str, fault: str, code: str
) -> None:
    """It was billed there, so it is here."""
    simulator.call_rule(provider="gemini", match=word, fault=fault)
    outcome = submit(gemini, text_row(word))
    assert outcome.transition is Transition.FAIL
    assert outcome.error is not None
    assert outcome.error["code"] == code
    assert outcome.cost_usd
    (call,) = simulator.calls(match=word)
    assert call["billed"]


def test_a_bad_key_is_for_a_person_to_see_to(simulator: SimulatedFal, word: str, film: Media) -> None:
    """Each provider has its own way to say so; the error names the block."""
    with closing(Gemini("wrong")) as gemini:
        first = failure(lambda: submit(gemini, text_row(word)))
    with closing(Speech("wrong")) as speech:
        second = failure(lambda: submit(speech, speech_row(word)))
    with closing(Mux(MuxApi("sim-mux-token", "wrong"))) as mux:
        third = failure(lambda: take(mux, film_row(word), film))
    for error, block in ((first, "gemini"), (second, "elevenlabs"), (third, "mux")):
        assert (type(error), error.code) == (Permanent, "unauthorized")
        assert f"{block}-account/default" in error.message
    assert simulator.calls(match=word) == []


def test_speech_is_a_sound_of_the_length_of_its_text(speech: Speech, word: str) -> None:
    """A real MP3, within the answer; some fifteen letters a second."""
    row = speech_row(word)
    outcome = submit(speech, row)
    assert outcome.output is not None
    sound = verify(base64.b64decode(outcome.output["audio"]["url"].partition(",")[2]), Kind.AUDIO)
    assert sound.content_type == "audio/mpeg"
    assert sound.seconds == pytest.approx(len(row.input["text"]) / 15, abs=0.2)  # type: ignore[index]
    assert outcome.output["request_id"]


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("429", RateLimited, "rate_limited"),
        ("quota", OutOfMoney, "account_locked"),
        ("500", Retry, "transient"),
        ("reject", Permanent, "text_rejected"),
        ("page", SubmitUnknown, "submit_unknown"),
        ("hang_up", SubmitUnknown, "submit_unknown"),
        ("cut", SubmitUnknown, "submit_unknown"),
    ],
)
def test_elevenlabs_is_asked_once_whatever_it_says(
    simulator: SimulatedFal, speech: Speech, word: str, fault: str, kind: type[DarkroomError], code: str
) -> None:
    """A sound that breaks off in its middle was paid, as was one whose answer was lost."""
    simulator.call_rule(provider="elevenlabs", match=word, fault=fault)
    error = failure(lambda: submit(speech, speech_row(word)))
    assert (type(error), error.code) == (kind, code)
    assert word not in error.message
    (call,) = simulator.calls(match=word)
    assert call["billed"] is (fault in ("hang_up", "cut"))


def test_a_voice_that_is_not_there_is_named(speech: Speech, word: str) -> None:
    """By ElevenLabs' own word for it."""
    error = failure(lambda: submit(speech, row_for(V3, text=word, voice_id="missing1")))
    assert (type(error), error.code) == (Permanent, "voice_not_found")


def test_a_film_becomes_a_stream(simulator: SimulatedFal, mux: Mux, word: str, film: Media) -> None:
    """Taken with its id before the film leaves; then ready, with an address and its length."""
    row = film_row(word)
    taken = take(mux, row, film)
    assert mux.poll(row) is None
    deliver(taken)
    outcome = ended(mux, row)
    assert outcome.transition is Transition.SUCCEED
    assert outcome.output is not None
    assert outcome.output["seconds"] == pytest.approx(2.0, abs=0.1)
    assert outcome.output["aspect_ratio"] == "16:9"
    assert outcome.output["upload_id"] == taken.request_id
    created, put = simulator.calls(match=word)
    assert put["input"]["sha256"] == film.sha256
    assert put["result"]["playback_id"] == outcome.output["playback_id"]
    settings = created["input"]["new_asset_settings"]
    assert settings["passthrough"] == row.ref
    assert settings["playback_policies"] == ["public"]
    assert created["input"]["test"] is settings["test"] is False


def test_a_lost_answer_to_the_creation_is_a_sure_refusal(
    simulator: SimulatedFal, mux: Mux, word: str, film: Media
) -> None:
    """An upload without a film costs nothing, so another may be made at once."""
    simulator.call_rule(provider="mux", match=word, operation="create_upload", fault="hang_up")
    error = failure(lambda: take(mux, film_row(word), film))
    assert type(error) is Retry
    assert len(simulator.calls(match=word)) == 1


def test_mux_out_of_reach_is_an_outage(
    simulator: SimulatedFal, word: str, film: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection to the proxy, and a proxy that makes none, are told from one that broke."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with closing(Mux(MuxApi("sim-mux-token", "sim:mux"))) as mux:
        assert type(failure(lambda: take(mux, film_row(word), film))) is Park
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{simulator.port}")
    with closing(Mux(MuxApi("sim-mux-token", "sim:mux", host="https://elsewhere.example"))) as mux:
        assert type(failure(lambda: take(mux, film_row(word), film))) is Park


@pytest.mark.parametrize("fault", ["500", "page"])
def test_an_upload_that_fails_leaves_nothing_that_could_still_be_carried_out(
    simulator: SimulatedFal, mux: Mux, word: str, film: Media, fault: str
) -> None:
    """It is cancelled at Mux before anybody hears that it failed: the next one is the only one."""
    simulator.call_rule(provider="mux", match=word, operation="put_film", fault=fault)
    row = film_row(word)
    taken = take(mux, row, film)
    error = failure(lambda: deliver(taken))
    assert (type(error), error.code) == (Retry, "upload_failed")
    assert [call["operation"] for call in simulator.calls(match=word)] == ["create_upload", "put_film", "cancel_upload"]
    outcome = mux.poll(row)
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error["code"] == "upload_abandoned"


def test_a_film_whose_receipt_was_lost_is_not_brought_again(
    simulator: SimulatedFal, mux: Mux, word: str, film: Media
) -> None:
    """Mux refuses to cancel what has its film: so it arrived, and goes on."""
    simulator.call_rule(provider="mux", match=word, operation="put_film", fault="hang_up")
    row = film_row(word)
    deliver(take(mux, row, film))
    assert ended(mux, row).transition is Transition.SUCCEED
    assert sum(call["billed"] for call in simulator.calls(match=word)) == 1


def test_a_failed_upload_that_cannot_be_cancelled_is_left_to_asking(
    simulator: SimulatedFal, mux: Mux, word: str, film: Media
) -> None:
    """With Mux out nobody can tell whether the film arrived, so it is not said that it failed."""
    simulator.call_rule(provider="mux", match=word, operation="put_film", fault="500")
    simulator.call_rule(provider="mux", match=word, operation="cancel_upload", fault="503")
    row = film_row(word)
    deliver(take(mux, row, film))
    assert mux.poll(row) is None


def test_an_upload_nobody_brings_a_film_to_is_given_up(
    simulator: SimulatedFal, mux: Mux, word: str, film: Media
) -> None:
    """The process that was to do it died between the two; three minutes later another upload may be made."""
    row = film_row(word)
    take(mux, row, film)
    assert mux.poll(row) is None
    row.accepted_at = utc_now() - timedelta(minutes=3, seconds=1)
    outcome = mux.poll(row)
    assert outcome is not None
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["retryable"]) == ("upload_abandoned", True)
    assert simulator.calls(match=word)[-1]["operation"] == "cancel_upload"


def test_a_cancel_ends_what_has_no_film_and_lets_the_rest_go_on(
    simulator: SimulatedFal, mux: Mux, word: str, film: Media
) -> None:
    """What is being prepared is billed, so its end is worth having."""
    empty, full = film_row(word), film_row(word)
    take(mux, empty, film)
    deliver(take(mux, full, film))
    for row in (empty, full):
        row.cancel_requested_at = utc_now()
        mux.cancel(row)
    outcome = mux.poll(empty)
    assert outcome is not None
    assert outcome.transition is Transition.CANCEL
    assert ended(mux, full).transition is Transition.SUCCEED


def test_what_is_no_film_is_found_out(mux: Mux, word: str) -> None:
    """Mux reads it, and says so for good."""
    row = film_row(word)
    deliver(take(mux, row, Media(content=b"not a film", content_type="video/mp4", extension="mp4", sha256="")))
    outcome = ended(mux, row)
    assert outcome.error is not None
    assert (outcome.error["class"], outcome.error["code"]) == ("permanent", "invalid_input")
    assert outcome.cost_usd is None


def test_an_upload_mux_does_not_know_has_failed(mux: Mux, word: str) -> None:
    """The account was changed, say: nobody will ever hear of it."""
    row = film_row(word)
    row.request_id = "nobody"
    outcome = mux.poll(row)
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error["code"] == "not_found"


def test_the_book_counts_what_was_billed(simulator: SimulatedFal, gemini: Gemini, word: str) -> None:
    """By which tests prove that nothing was paid twice; an outage of fal is not the others'."""
    before = simulator.stats()["calls_by_provider"]["gemini"]
    simulator.outage(30, mode="refuse")
    simulator.call_rule(provider="gemini", match=word, fault="429", times=1)
    assert isinstance(failure(lambda: submit(gemini, text_row(word))), RateLimited)
    submit(gemini, text_row(word))
    after = simulator.stats()["calls_by_provider"]["gemini"]
    assert {name: after[name] - before[name] for name in ("calls", "billed", "refused")} == {
        "calls": 2,
        "billed": 1,
        "refused": 1,
    }
