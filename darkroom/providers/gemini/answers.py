"""What Gemini's answers mean: from a response to an outcome, from a refusal to an error. Pure.

Google refuses in one form of JSON, and what it refuses is not billed. A page of something in between says nothing about
what Google did. An answer may be one and yet no use: withheld, cut short, or not the JSON that was asked for. All of
these were paid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from darkroom.errors import BadInput, DarkroomError, Park, Permanent, RateLimited, Retry, SubmitUnknown
from darkroom.providers.http import bounded, retry_after

if TYPE_CHECKING:
    from google.genai.types import Candidate, GenerateContentResponse
    from jsonschema.protocols import Validator

BLOCK = "gemini-account/default"
MESSAGE_LIMIT = 300
# Google repeats a value it cannot read, and that may be the prompt.
QUOTED = re.compile(r'"[^"]{24,}("|$)', re.DOTALL)
DELAY = re.compile(r"(\d+(?:\.\d+)?)s")
WITHHELD = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "JAILBREAK", "IMAGE_SAFETY"}
)
TRANSIENT_STATUSES = frozenset({408, 409, 425, 499})  # 499 is how Google writes gRPC's CANCELLED


def read_answer(response: GenerateContentResponse, *, as_json: bool) -> dict[str, Any]:
    """Return the output to record, without `json` where that could not be read, which `flaw` reports."""
    candidate = _candidate(response)
    text = _text(candidate)
    output = {
        "text": text,
        "finish_reason": _finish_reason(response, candidate),
        "usage": _usage(response),
        "model_version": response.model_version,
        "response_id": response.response_id,
    }
    return output | _parsed(text) if as_json else output


def flaw(output: Mapping[str, Any], *, schema: Mapping[str, Any] | None) -> DarkroomError | None:
    """Return what is wrong with an answer that was paid, or None."""
    reason = output["finish_reason"]
    if reason in WITHHELD:
        words = f"Gemini withheld its answer ({reason}): change the prompt"
        return Permanent(words, code="content_policy_violation")
    if reason == "MAX_TOKENS":
        return _unexpected("Gemini's answer was cut at max_output_tokens: allow more, or ask for less")
    if reason != "STOP" or not output["text"]:
        return _unexpected(f"Gemini gave no whole answer ({reason})")
    if schema is None:
        return None
    if "json" not in output:
        return _unexpected("Gemini's answer is not the JSON it was asked for")
    # A schema binds Gemini's grammar, but not in all it says.
    return _disobedience(output["json"], schema)


def classify_refusal(http_status: int, body: object, headers: Mapping[str, str]) -> DarkroomError:
    """Return the error for an answer with another status than 200.

    `body` is the parsed JSON, or what else it was.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping) or not isinstance(error.get("status"), str):
        return _not_googles(http_status)
    words = _say(error, http_status)
    if http_status == 429:
        return RateLimited(words, retry_after=_retry_delay(error) or retry_after(headers))
    # A wrong key is an invalid argument to Google, a 400: only the reason tells.
    if http_status in (401, 403) or _reason(error) == "API_KEY_INVALID":
        return Permanent(f"{words} (check the key in the block {BLOCK})", code="unauthorized")
    # "The model is overloaded": an outage, and nothing about this call.
    if http_status == 503:
        return Park(words)
    if http_status >= 500 or http_status in TRANSIENT_STATUSES:
        return Retry(words)
    return Permanent(words, code=str(error["status"]).lower()[:64])


def _not_googles(http_status: int) -> DarkroomError:
    # It may stand before a call that was taken; with a lesser status it was turned away on its way there.
    if http_status >= 500:
        return SubmitUnknown(f"something between us and Gemini answered HTTP {http_status}")
    return Retry(f"something between us and Gemini answered HTTP {http_status}", code="unexpected_answer")


def _candidate(response: GenerateContentResponse) -> Candidate | None:
    return response.candidates[0] if response.candidates else None


def _text(candidate: Candidate | None) -> str:
    parts = candidate.content.parts if candidate and candidate.content else None
    # The model's thoughts are parts of its answer as well.
    return "".join(part.text for part in parts or () if part.text and not part.thought)


def _finish_reason(response: GenerateContentResponse, candidate: Candidate | None) -> str:
    """Return why the answer ended. A prompt that is refused has no candidates, but its own reason."""
    if candidate is not None and candidate.finish_reason is not None:
        return str(candidate.finish_reason.value)
    feedback = response.prompt_feedback
    return str(feedback.block_reason.value) if feedback and feedback.block_reason else "UNKNOWN"


def _usage(response: GenerateContentResponse) -> dict[str, int]:
    found = response.usage_metadata
    return {
        "prompt_tokens": (found and found.prompt_token_count) or 0,
        "output_tokens": (found and found.candidates_token_count) or 0,
        "thinking_tokens": (found and found.thoughts_token_count) or 0,
        "total_tokens": (found and found.total_token_count) or 0,
    }


def _parsed(text: str) -> dict[str, Any]:
    try:
        return {"json": json.loads(text, parse_constant=_refuse_constant)}
    except (ValueError, RecursionError):
        return {}


def _disobedience(answer: object, schema: Mapping[str, Any]) -> DarkroomError | None:
    """Return how the answer breaks its schema: by the place and the rule, not the words that stand there."""
    try:
        broken = next(_validator(schema).iter_errors(answer), None)
    except Exception as error:  # whatever a schema makes the library raise: the answer is there, and paid
        words = f"The schema cannot be applied to Gemini's answer ({type(error).__name__}): mend the schema"
        return Permanent(words, code="bad_schema")
    if broken is None:
        return None
    return _unexpected(f"Gemini's answer does not obey its schema: {broken.validator} at {broken.json_path[:100]}")


def require_schema(schema: Mapping[str, Any], *, field: str) -> None:
    """Raise BadInput where that is no JSON schema, or one that refers to others."""
    from jsonschema.exceptions import SchemaError

    try:
        type(_validator(schema)).check_schema(schema)
    except SchemaError as error:
        path = error.json_path.removeprefix("$")[:100]
        raise BadInput(f"{field}{path} is no JSON schema: look at {error.validator}", field=field) from None
    for name in _references(schema):
        if not name.startswith("#"):
            raise BadInput(f"{field} refers to {name[:100]!r}: put that schema's own text in $defs", field=field)


def _validator(schema: Mapping[str, Any]) -> Validator:
    """Return what checks values by the schema alone: it fetches none, and no pattern of a stranger's is tried."""
    # Imported by who needs them: a tenth of a second.
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend
    from referencing import Registry

    # Google's grammar knows no patterns. Python's may take for ever, and holds all other threads meanwhile.
    kind = extend(Draft202012Validator, {"pattern": lambda *_: (), "patternProperties": lambda *_: ()})
    return kind(schema, registry=Registry())


def _references(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def _refuse_constant(name: str) -> NoReturn:
    # NaN and Infinity are no JSON.
    raise ValueError(name)


def _unexpected(words: str) -> Retry:
    return Retry(words, code="unexpected_output")


def _say(error: Mapping[str, Any], http_status: int) -> str:
    words = error.get("message")
    said = QUOTED.sub('"…"', words)[:MESSAGE_LIMIT] if isinstance(words, str) else ""
    return f"Gemini: {said}" if said else f"Gemini answered HTTP {http_status}"


def _details(error: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = error.get("details")
    return [each for each in details if isinstance(each, Mapping)] if isinstance(details, list) else []


def _reason(error: Mapping[str, Any]) -> object:
    return next((each["reason"] for each in _details(error) if "reason" in each), None)


def _retry_delay(error: Mapping[str, Any]) -> timedelta | None:
    """Read the pause from the detail `RetryInfo`, e.g. "55s"."""
    said = next((each["retryDelay"] for each in _details(error) if "retryDelay" in each), None)
    found = DELAY.fullmatch(said) if isinstance(said, str) else None
    return bounded(float(found[1])) if found else None
