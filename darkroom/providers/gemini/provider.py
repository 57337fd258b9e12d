"""Gemini behind the seam of all providers: one POST, whose answer is the outcome.

The SDK (`google-genai`) sends it, with what it would do by itself switched off. It repeats nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx

from darkroom.ledger import Outcome, Request, Transition
from darkroom.providers.base import Accepted, Provider
from darkroom.providers.gemini.answers import classify_refusal, flaw, read_answer
from darkroom.providers.gemini.model import CATALOGUE, GeminiInput, GeminiModel
from darkroom.providers.http import lost_submit
from darkroom.providers.outcomes import failed
from darkroom.tls import tls_context

if TYPE_CHECKING:
    from google.genai.types import GenerateContentConfig

# The row counts as lost after 60 s: an answer that comes later is still taken, but none is waited for much longer.
TIMEOUT_SECONDS = 60
# Structured output is documented for this version; the SDK's default is another.
API_VERSION = "v1beta"


class Gemini(Provider):
    """One account. Thread-safe; `transport` is the seam for tests."""

    immediate = True

    def __init__(self, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        # Imported by who needs it: a third of a second, and 25 MB.
        from google import genai
        from google.genai.types import HttpOptions

        self._http = httpx.Client(transport=transport, verify=tls_context())
        self._client = genai.Client(
            api_key=key.strip(),
            vertexai=False,  # whatever the environment says: the key is of the other service
            http_options=HttpOptions(
                api_version=API_VERSION,
                httpx_client=self._http,
                # Never used, and never connected: without it the SDK makes one, with a TLS context of its own.
                httpx_async_client=httpx.AsyncClient(verify=tls_context(), trust_env=False),
                timeout=TIMEOUT_SECONDS * 1000,  # without one it waits for ever
            ),
        )

    def submit(self, row: Request, input: Mapping[str, Any], *, webhook_url: str | None) -> Accepted | Outcome:
        from google.genai.errors import APIError

        model, asked = CATALOGUE[row.endpoint], GeminiInput.model_validate(dict(input))
        config = _config(asked)
        try:
            response = self._client.models.generate_content(model=model.name, contents=asked.prompt, config=config)
        except APIError as error:
            # Not `from error`: its text is the whole answer, and may quote what was sent.
            raise classify_refusal(error.code, error.details, _headers(error)) from None
        except httpx.HTTPError as error:
            raise lost_submit("Gemini", error) from error
        except ValueError:
            # A 200 that the SDK cannot read. It was paid; how much, nobody says.
            return _outcome(row, model, {"text": "", "finish_reason": "UNREADABLE"}, schema=asked.json_schema)
        output = read_answer(response, as_json=asked.json_schema is not None)
        return _outcome(row, model, output, schema=asked.json_schema)

    def poll(self, row: Request) -> Outcome | None:
        """Return None, as nobody can be asked: an answer exists once."""
        return None

    def close(self) -> None:
        self._http.close()


def _config(asked: GeminiInput) -> GenerateContentConfig:
    from google.genai import types

    thinking = asked.thinking_budget
    return types.GenerateContentConfig(
        system_instruction=asked.system,
        temperature=asked.temperature,
        max_output_tokens=asked.max_output_tokens,
        seed=asked.seed,
        response_mime_type="application/json" if asked.json_schema is not None else None,
        response_json_schema=asked.json_schema,
        thinking_config=None if thinking is None else types.ThinkingConfig(thinking_budget=thinking),
        # Else it goes on with an answer that was cut, which is a second paid call, and calls functions.
        automatic_continuation=False,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )


def _headers(error: Any) -> Mapping[str, str]:
    return getattr(error.response, "headers", None) or {}


def _outcome(row: Request, model: GeminiModel, output: dict[str, Any], *, schema: Mapping[str, Any] | None) -> Outcome:
    cost = model.cost(row.input or {}, output, None)
    wrong = flaw(output, schema=schema)
    if wrong is None:
        return Outcome(transition=Transition.SUCCEED, output=output, cost_usd=cost)
    return failed(row, wrong, cost_usd=cost)
