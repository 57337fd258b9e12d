"""A model that is known by its card alone: what it accepts, what it costs, how long it takes, where its files are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from darkroom.errors import BadInput
from darkroom.media.formats import RemoteFile
from darkroom.models.card import Card
from darkroom.models.checking import check_input
from darkroom.models.outputs import Hosts, files_of
from darkroom.models.prices import Estimate, Size, estimate, is_a_count, money, picture_size, units_of, with_defaults
from darkroom.models.schemas import Path, file_places, properties, sides

# Where the card does not say how long a call takes.
USUAL_SECONDS = {"training": 1200, "video": 120, "3d": 90, "audio": 30, "speech": 20}
PICTURES = ("images", "image")


@dataclass(frozen=True, kw_only=True)
class CardModel:
    """What can be ordered by a card.

    `operators_usd`: an operator's price of a call. `own_calls_usd`: of our own. `platform_usd`: what its platform says
    of everybody's calls. `own_time`: within which nearly all of our calls have ended.
    """

    card: Card
    hosts: Hosts
    operators_usd: Decimal | None = None
    own_calls_usd: Callable[[], Decimal | None] = lambda: None
    platform_usd: Callable[[], Decimal | None] = lambda: None
    own_time: timedelta | None = None

    @property
    def endpoint(self) -> str:
        return self.card.endpoint

    @property
    def account_id(self) -> str:
        return self.card.account_id

    @property
    def input_schema(self) -> Mapping[str, Any]:
        return self.card.input_schema or {}

    @property
    def counted_by_provider(self) -> bool:
        """Return whether only the provider knows how many units a call has come to."""
        is_sure = is_a_count(self.card.unit or "", category=self.card.category)
        return self.card.unit_price is not None and self.operators_usd is None and not is_sure

    @property
    def expected(self) -> timedelta:
        if self.own_time is not None:
            return self.own_time
        if self.card.usual_seconds:
            return timedelta(seconds=self.card.usual_seconds)
        about = f"{self.card.kind} {self.card.category}"
        return timedelta(seconds=next((each for word, each in USUAL_SECONDS.items() if word in about), 15))

    @property
    def start_timeout(self) -> timedelta:
        return max(timedelta(minutes=30 if self.card.kind == "training" else 15), 2 * self.expected)

    @property
    def deadline(self) -> timedelta:
        return max(self.start_timeout + 4 * self.expected, timedelta(minutes=30))

    @property
    def makes_pictures(self) -> bool:
        """Return whether its answer has pictures, as its card says."""
        schema = self.card.output_schema or {}
        return self.card.category.endswith("-to-image") or any(
            name in properties(sides(schema, schema)) for name in PICTURES
        )

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check the arguments and return the input to record: what was given, so that defaults stay the provider's."""
        if self.card.input_schema is None:
            raise BadInput(
                f"{self.endpoint} has no schema to check an input by; fetch it: darkroom model sync {self.endpoint}",
                field="model",
            )
        check_input(self.endpoint, self.card.input_schema, arguments)
        return dict(arguments)

    def file_places(self, input: Mapping[str, Any]) -> list[Path]:
        """Return the paths at which an input names files."""
        return [path for path, _ in file_places(self.card.input_schema or {}, input)]

    def quote(
        self, input: Mapping[str, Any], *, at_most_usd: Decimal | None = None, size: Size | None = None
    ) -> Estimate:
        """Return the most that a call should cost, and how that is known. Raise NoPrice."""
        return estimate(
            self.card,
            input,
            operators_usd=self.operators_usd,
            own_calls_usd=self.own_calls_usd,
            platform_usd=self.platform_usd,
            at_most_usd=at_most_usd,
            size=size,
        )

    def estimate(self, input: Mapping[str, Any], *, size: Size | None = None) -> Decimal:
        return self.quote(input, size=size).usd

    def size(self, input: Mapping[str, Any]) -> Size:
        return picture_size(with_defaults(self.card, input))

    def cost(
        self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None
    ) -> Decimal | None:
        """Return what a call did cost: the provider's count times the card's price, else the units that were asked for.

        None where nobody can say: as much as was expected.
        """
        if self.card.unit_price is None:
            return None
        if billable_units is None and self.operators_usd is None:
            billable_units = units_of(self.card.unit or "", with_defaults(self.card, input))
        return None if billable_units is None else money(billable_units * self.card.unit_price)

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        return files_of(self.endpoint, output, hosts=self.hosts)
