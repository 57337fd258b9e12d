"""What Mux accepts and costs. Watching is billed by the minute watched, and later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic import Field

from darkroom.media.formats import RemoteFile
from darkroom.providers.base import ASSET
from darkroom.providers.inputs import Strict, Words, checked, money, recorded

# Of its quality `basic`: encoding is free, and a month of storage is the least that is billed (list price, 1080p).
USD_PER_MINUTE = Decimal("0.003")
MOST_SECONDS = 1_000_000
LONGEST = Decimal(600)  # seconds; taken for the length of a film whose own is not told


class UploadInput(Strict):
    video: str = Field(pattern=rf"^{ASSET}", max_length=200, description="The film: a file of the media store.")
    title: Words | None = Field(None, max_length=512, description="How it is called in Mux's dashboard.")
    seconds: float | None = Field(
        None, gt=0, le=MOST_SECONDS, description="How long it is, for the estimate. Mux is not told."
    )


@dataclass(frozen=True, kw_only=True)
class MuxModel:
    endpoint: str = "mux/upload"
    title: str = "Mux: streaming, ready in seconds"
    account_id: str = "mux"
    expected: timedelta = timedelta(seconds=20)
    start_timeout: timedelta = timedelta(0)  # an upload whose id was lost costs nothing: another may be made at once
    deadline: timedelta = timedelta(minutes=30)

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return recorded(checked(UploadInput, arguments, endpoint=self.endpoint))

    def estimate(self, input: Mapping[str, Any]) -> Decimal:
        return _price(Decimal(str(input.get("seconds") or LONGEST)))

    def cost(self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None) -> Decimal:
        """Return the cost by the length that Mux found, or the estimate where it has found none."""
        seconds = output.get("seconds")
        return self.estimate(input) if seconds is None else _price(Decimal(str(seconds)))

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        """Return no files, as the film stays with Mux."""
        return []


def _price(seconds: Decimal) -> Decimal:
    return money(seconds / 60 * USD_PER_MINUTE)


MODEL = MuxModel()
CATALOGUE: Mapping[str, MuxModel] = {MODEL.endpoint: MODEL}
