"""What Gemini accepts and costs. Prices are Google's list prices of the paid tier, in USD per million tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic import Field

from darkroom.media.formats import RemoteFile
from darkroom.providers.gemini.answers import require_schema
from darkroom.providers.inputs import Strict, Words, checked, money, recorded

MILLION = Decimal(1_000_000)
# What the SDK and Google put around a prompt, and a schema's own words.
OVERHEAD_TOKENS = 100


class GeminiInput(Strict):
    """`schema` is the answer's JSON schema; without one the answer is plain text."""

    prompt: Words = Field(max_length=100_000, description="What to write.")
    system: Words | None = Field(None, max_length=20_000, description="Who writes, and how.")
    json_schema: dict[str, Any] | None = Field(
        None, alias="schema", description="JSON schema of the answer. Without it the answer is text."
    )
    temperature: float | None = Field(None, ge=0, le=2, description="0 is the most predictable.")
    # Ours, and so on record: Google's own, 65,536, would make every estimate a multiple of what a text costs.
    max_output_tokens: int = Field(8192, ge=1, le=65_536, description="Thinking included.")
    thinking_budget: int | None = Field(None, ge=0, le=24_576, description="Tokens to think with; 0: at once.")
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="Same seed and prompt: mostly the same text.")


@dataclass(frozen=True, kw_only=True)
class GeminiModel:
    """`name` is Google's, without our prefix."""

    name: str
    title: str
    input_price: Decimal
    output_price: Decimal
    account_id: str = "gemini"
    expected: timedelta = timedelta(seconds=5)
    # A process that dies with the call takes the answer along, so there is nothing to wait for but the call's own end.
    start_timeout: timedelta = timedelta(seconds=10)
    deadline: timedelta = timedelta(minutes=5)

    @property
    def endpoint(self) -> str:
        return f"google/{self.name}"

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        asked = checked(GeminiInput, arguments, endpoint=self.endpoint)
        if asked.json_schema is not None:
            require_schema(asked.json_schema, field="schema")
        return recorded(asked)

    def estimate(self, input: Mapping[str, Any]) -> Decimal:
        """Return the most that the call should cost, in USD."""
        asked = GeminiInput.model_validate(dict(input))
        # One token for each character is the most that written language comes to; and all of the answer is used.
        said = len(asked.prompt) + len(asked.system or "") + len(json.dumps(asked.json_schema or {}))
        return self.price(said + OVERHEAD_TOKENS, asked.max_output_tokens)

    def cost(self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None) -> Decimal:
        """Return the cost by Google's count in the answer, or the estimate where there is none."""
        usage = output.get("usage")
        if not isinstance(usage, Mapping):
            return self.estimate(input)
        # Thoughts are billed as answers are.
        answered = int(usage.get("output_tokens") or 0) + int(usage.get("thinking_tokens") or 0)
        return self.price(int(usage.get("prompt_tokens") or 0), answered)

    def price(self, input_tokens: int, output_tokens: int) -> Decimal:
        return money((input_tokens * self.input_price + output_tokens * self.output_price) / MILLION)

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        """Return no files, as all there is is in the answer."""
        return []


CATALOGUE: Mapping[str, GeminiModel] = {
    model.endpoint: model
    for model in (
        GeminiModel(
            name="gemini-2.5-flash",
            title="Gemini 2.5 Flash: scripts and other texts, quickly",
            input_price=Decimal("0.30"),
            output_price=Decimal("2.50"),
        ),
    )
}
