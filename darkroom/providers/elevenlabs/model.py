"""What ElevenLabs' models accept and cost. Prices are list prices in USD for a thousand characters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic import Field

from darkroom.errors import Permanent
from darkroom.media.formats import Kind, RemoteFile
from darkroom.providers.inputs import Strict, Words, checked, money, recorded


class SpeechInput(Strict):
    """What both models understand."""

    # Some five minutes of speech, and as much as v3 takes.
    text: Words = Field(max_length=5_000, description="What is said.")
    # It becomes part of a URL, and the SDK does not quote it.
    voice_id: str = Field(pattern=r"^[A-Za-z0-9]{1,64}$", description="Of one of the account's voices.")
    stability: float | None = Field(None, ge=0, le=1, description="Low is lively, high is even; v3: 0, 0.5 or 1.")
    similarity_boost: float | None = Field(None, ge=0, le=1, description="How closely to keep to the voice.")
    style: float | None = Field(None, ge=0, le=1, description="How much of the voice's manner to exaggerate.")
    use_speaker_boost: bool | None = Field(None, description="More likeness, slower.")
    speed: float | None = Field(None, ge=0.7, le=1.2, description="1 is the voice's own.")
    language_code: str | None = Field(None, pattern=r"^[a-z]{2,3}$", description="ISO 639-1, e.g. `en`.")
    seed: int | None = Field(None, ge=0, le=2**32 - 1, description="Same seed and text: mostly the same sound.")


class TurboInput(SpeechInput):
    previous_text: Words | None = Field(None, max_length=5_000, description="What was said before, for the melody.")
    next_text: Words | None = Field(None, max_length=5_000, description="What is said after.")


@dataclass(frozen=True, kw_only=True)
class SpeechModel:
    """`name` is ElevenLabs', without our prefix."""

    name: str
    title: str
    input: type[SpeechInput]
    price_per_thousand: Decimal
    account_id: str = "elevenlabs"
    expected: timedelta = timedelta(seconds=5)
    # With what is added to it, longer than the call itself may last: a process that dies takes the answer along.
    start_timeout: timedelta = timedelta(seconds=50)
    deadline: timedelta = timedelta(minutes=5)

    @property
    def endpoint(self) -> str:
        return f"elevenlabs/{self.name}"

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return recorded(checked(self.input, arguments, endpoint=self.endpoint))

    def estimate(self, input: Mapping[str, Any]) -> Decimal:
        return money(len(str(input["text"])) * self.price_per_thousand / 1000)

    def cost(self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None) -> Decimal:
        """Return the estimate: every character is billed, whatever the outcome."""
        return self.estimate(input)

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        """Return the sound, within the answer until it was stored: then the name of the file takes its place."""
        audio = output.get("audio")
        url = audio.get("url") if isinstance(audio, Mapping) else None
        if not isinstance(url, str):
            raise Permanent(f"{self.endpoint} returned no sound", code="unexpected_output")
        return [RemoteFile(url=url, kind=Kind.AUDIO, content_type="audio/mpeg")]


CATALOGUE: Mapping[str, SpeechModel] = {
    model.endpoint: model
    for model in (
        SpeechModel(
            name="eleven_v3",
            title="Eleven v3: the most expressive",
            input=SpeechInput,
            price_per_thousand=Decimal("0.10"),
        ),
        SpeechModel(
            name="eleven_turbo_v2_5",
            title="Turbo v2.5: quick, at half the price",
            input=TurboInput,
            price_per_thousand=Decimal("0.05"),
        ),
    )
}
