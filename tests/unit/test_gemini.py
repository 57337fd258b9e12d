"""Gemini's answers and refusals, over the SDK as it comes and a transport of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from provider_rows import row_for

from darkroom.errors import BadInput, DarkroomError, Park, Permanent, RateLimited, Retry, SubmitUnknown
from darkroom.ledger import Outcome, Transition
from darkroom.providers.gemini import Gemini
from darkroom.providers.gemini.answers import classify_refusal
from darkroom.providers.models import find_model

FLASH = "google/gemini-2.5-flash"
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}}
PROMPT = "Write something about the very secret launch of our lemonade."
Handler = Callable[[httpx.Request], httpx.Response]


def refusal(code: int, status: str = "", message: str = "No.", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def answer(text: str = '{"title": "Tea"}', reason: str = "STOP", **usage: int) -> dict[str, Any]:
    counted = {"promptTokenCount": 1000, "candidatesTokenCount": 200, "thoughtsTokenCount": 100} | usage
    candidate = {"content": {"parts": [{"text": "Hm.", "thought": True}, {"text": text}]}, "finishReason": reason}
    return {"candidates": [candidate], "usageMetadata": counted, "modelVersion": "m", "responseId": "r"}


def submit(answers: object, *, status: int = 200, **arguments: Any) -> Outcome:
    """What becomes of a call that is answered so: by JSON, or as a handler says."""
    handler: Handler = answers if callable(answers) else (lambda _: httpx.Response(status, json=answers))
    row = row_for(FLASH, **{"prompt": PROMPT, "schema": SCHEMA} | arguments)
    with closing(Gemini("key", transport=httpx.MockTransport(handler))) as gemini:
        outcome = gemini.submit(row, row.input or {}, webhook_url=None)
    assert isinstance(outcome, Outcome)
    return outcome


def failure(answers: object, **changes: Any) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        submit(answers, **changes)
    return caught.value


def test_an_answer_is_read_with_what_it_cost() -> None:
    """Its text without the model's thoughts, the JSON in it, and the price by Google's own count of tokens."""
    outcome = submit(answer())
    assert outcome.transition is Transition.SUCCEED
    assert outcome.output is not None
    assert outcome.output["text"] == '{"title": "Tea"}'
    assert outcome.output["json"] == {"title": "Tea"}
    assert outcome.output["finish_reason"] == "STOP"
    assert outcome.output["usage"]["thinking_tokens"] == 100
    assert outcome.cost_usd == Decimal("0.001050")  # 1000 × 0.30 and 300 × 2.50, for a million


def test_a_text_is_a_text() -> None:
    """Without a schema nothing is parsed."""
    outcome = submit(answer("Once upon a time"), schema=None)
    assert outcome.output is not None
    assert "json" not in outcome.output


def test_the_call_is_one_and_says_what_was_ordered() -> None:
    """Also when Google says that there is more to come: going on by itself would be a second paid call."""
    sent: list[httpx.Request] = []

    def once(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        more = answer(reason="CONTINUATION" if len(sent) == 1 else "STOP")
        more["candidates"][0]["continuationToken"] = "bW9yZQ=="
        return httpx.Response(200, json=more)

    outcome = submit(once, system="You are brief.", temperature=0.2, seed=7, thinking_budget=0, max_output_tokens=500)
    assert (outcome.transition, outcome.error and outcome.error["code"]) == (Transition.FAIL, "unexpected_output")
    (request,) = sent
    assert str(request.url).endswith("/v1beta/models/gemini-2.5-flash:generateContent")
    assert request.headers["x-goog-api-key"] == "key"
    body = json.loads(request.content)
    assert body["contents"] == [{"parts": [{"text": PROMPT}], "role": "user"}]
    assert body["systemInstruction"]["parts"] == [{"text": "You are brief."}]
    assert body["generationConfig"] == {
        "temperature": 0.2,
        "maxOutputTokens": 500,
        "seed": 7,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
        "thinkingConfig": {"thinking_budget": 0},
    }


def test_the_environment_does_not_redirect_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that speaks to Vertex otherwise, with another key, sends ours where it belongs."""
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_API_KEY", "another")
    sent: list[httpx.Request] = []

    def once(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=answer())

    submit(once)
    assert sent[0].url.host == "generativelanguage.googleapis.com"
    assert sent[0].headers["x-goog-api-key"] == "key"


@pytest.mark.parametrize(
    ("body", "code", "kind", "usd"),
    [
        (answer('{"title": "Te', "MAX_TOKENS"), "unexpected_output", "retry", "0.001050"),
        (answer("Here you are!"), "unexpected_output", "retry", "0.001050"),
        (answer('{"title": NaN}'), "unexpected_output", "retry", "0.001050"),
        (answer('{"title": 7}'), "unexpected_output", "retry", "0.001050"),
        (answer("", "OTHER"), "unexpected_output", "retry", "0.001050"),
        (answer("", "STOP"), "unexpected_output", "retry", "0.001050"),
        (answer("", "SAFETY"), "content_policy_violation", "permanent", "0.001050"),
        (answer("", "RECITATION"), "content_policy_violation", "permanent", "0.001050"),
        (
            {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 1000}},
            "content_policy_violation",
            "permanent",
            "0.000300",
        ),
        ({}, "unexpected_output", "retry", "0.000000"),
    ],
)
def test_an_answer_that_is_no_use_was_paid(body: dict[str, Any], code: str, kind: str, usd: str) -> None:
    """It ends the call as failed, with its cost; whether it may be tried again is told by the class."""
    outcome = submit(body)
    assert outcome.transition is Transition.FAIL
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["class"]) == (code, kind)
    assert (outcome.error["step"], outcome.error["ref"]) == ("step", "req_1")
    assert outcome.cost_usd == Decimal(usd)


def test_an_answer_that_disobeys_its_schema_is_told_by_place_and_rule() -> None:
    """Not by the words that stand there: they may repeat the prompt."""
    schema = {"type": "object", "properties": {"lines": {"type": "array", "items": {"maxLength": 10}}}}
    outcome = submit(answer(json.dumps({"lines": ["short", PROMPT]})), schema=schema)
    assert outcome.error is not None
    assert "maxLength at $.lines[1]" in outcome.error["message"]
    assert "secret" not in outcome.error["message"]


@pytest.mark.parametrize("schema", [{"$ref": "#/$defs/nowhere"}, {"$ref": "#"}])
def test_a_schema_that_cannot_be_applied_fails_an_answer_that_was_paid(schema: dict[str, Any]) -> None:
    """Not the run: then nothing were on record, and the call were made, and paid, again."""
    outcome = submit(answer(), schema=schema)
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["class"]) == ("bad_schema", "permanent")
    assert outcome.cost_usd == submit(answer()).cost_usd


def test_a_pattern_of_a_strangers_is_not_tried() -> None:
    """Python may take longer for it than the sun lasts, and holds the other threads of the process meanwhile."""
    pattern = "^(a+)+$"
    schema = {"type": "object", "properties": {"title": {"pattern": pattern}}, "patternProperties": {pattern: False}}
    find_model(FLASH).validate({"prompt": "a", "schema": schema})
    outcome = submit(answer(json.dumps({"title": 60 * "a" + "!"})), schema=schema)
    assert outcome.transition is Transition.SUCCEED


def test_an_answer_nobody_can_read_costs_what_was_expected() -> None:
    """It says 200, so it was paid; how much, nobody says."""
    row = row_for(FLASH, prompt=PROMPT, schema=SCHEMA)
    outcome = submit(lambda _: httpx.Response(200, text="<html>"))
    assert outcome.error is not None
    assert outcome.error["code"] == "unexpected_output"
    assert outcome.cost_usd == find_model(FLASH).estimate(row.input or {}) > 0


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (429, refusal(429, "RESOURCE_EXHAUSTED"), RateLimited, "rate_limited"),
        (400, refusal(400, "INVALID_ARGUMENT"), Permanent, "invalid_argument"),
        (400, refusal(400, "FAILED_PRECONDITION"), Permanent, "failed_precondition"),
        (400, refusal(400, "INVALID_ARGUMENT", "", {"reason": "API_KEY_INVALID"}), Permanent, "unauthorized"),
        (403, refusal(403, "PERMISSION_DENIED"), Permanent, "unauthorized"),
        (404, refusal(404, "NOT_FOUND"), Permanent, "not_found"),
        (499, refusal(499, "CANCELLED"), Retry, "transient"),
        (500, refusal(500, "INTERNAL"), Retry, "transient"),
        (504, refusal(504, "DEADLINE_EXCEEDED"), Retry, "transient"),
        (503, refusal(503, "UNAVAILABLE"), Park, "provider_down"),
        # Not Google's own words: what became of the call nobody knows, unless it was turned away on its way there.
        (502, "<html>Bad Gateway</html>", SubmitUnknown, "submit_unknown"),
        (503, {"message": "upstream"}, SubmitUnknown, "submit_unknown"),
        (404, "<html>Not here</html>", Retry, "unexpected_answer"),
    ],
)
def test_a_refusal_is_told_by_googles_own_words(
    status: int, body: object, kind: type[DarkroomError], code: str
) -> None:
    """Its JSON was not billed; whatever else answers with a server's error may stand before a call that was."""
    error = classify_refusal(status, body, {})
    assert (type(error), error.code) == (kind, code)


def test_a_limit_says_how_long_to_wait() -> None:
    """By `RetryInfo`, else by the header."""
    told = refusal(429, "RESOURCE_EXHAUSTED", "", {"@type": "x"}, {"retryDelay": "55s"})
    assert classify_refusal(429, told, {}).retry_after == timedelta(seconds=55)
    by_header = classify_refusal(429, refusal(429, "RESOURCE_EXHAUSTED"), {"Retry-After": "7"})
    assert by_header.retry_after == timedelta(seconds=7)


def test_a_refusal_comes_out_of_the_sdk_without_the_prompt() -> None:
    """Google repeats a value it cannot read; a log must not."""
    error = failure(refusal(400, "INVALID_ARGUMENT", f"Invalid value at 'contents' (TYPE), \"{PROMPT}\""), status=400)
    assert isinstance(error, Permanent)
    assert "Invalid value at 'contents'" in error.message
    assert "lemonade" not in error.message
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (httpx.ConnectError("refused"), Park),
        (httpx.ConnectTimeout("slow"), Park),
        (httpx.ReadTimeout("slow"), SubmitUnknown),
        (httpx.RemoteProtocolError("closed"), SubmitUnknown),
        (httpx.WriteError("closed"), SubmitUnknown),
    ],
)
def test_a_lost_answer_is_told_from_a_call_that_never_left(broken: Exception, kind: type[DarkroomError]) -> None:
    """What may have been paid is not sent again by itself."""

    def breaks(_: httpx.Request) -> httpx.Response:
        raise broken

    assert type(failure(breaks)) is kind


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": "a", "schema": "object"}, "schema"),
        ({"prompt": "a", "schema": {"properties": {"title": {"type": "words"}}}}, "schema"),
        ({"prompt": "a", "schema": {"properties": {"title": {"pattern": "["}}}}, "schema"),
        ({"prompt": "a", "schema": {"items": [{"$ref": "http://127.0.0.1/secret.json"}]}}, "schema"),
        ({"prompt": "a", "temperature": 3.0}, "temperature"),
        ({"prompt": "a", "max_tokens": 5}, "max_tokens"),
        ({}, "prompt"),
    ],
)
def test_a_bad_input_names_its_field(arguments: dict[str, Any], field: str) -> None:
    """Before anything is queued."""
    with pytest.raises(BadInput) as caught:
        find_model(FLASH).validate(arguments)
    assert caught.value.field == field


def test_what_is_recorded_holds_the_bound_that_the_estimate_is_made_of() -> None:
    """Google's own, 65,536 tokens, would make the estimate of every text a multiple of its price."""
    model = find_model(FLASH)
    recorded = model.validate({"prompt": "x" * 900})
    assert recorded == {"prompt": "x" * 900, "max_output_tokens": 8192}
    assert model.estimate(recorded) == Decimal("0.020781")  # (900 + 2 + 100) × 0.30 + 8192 × 2.50, for a million
