"""A model that is known by its card: what it accepts, what it costs, how long it takes, where its files are.

What a card cannot say of a model, a `Refinement` does: a function that is given the model and returns a fuller one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Self

from darkroom.errors import BadInput
from darkroom.media.formats import Kind, RemoteFile
from darkroom.models.card import Card
from darkroom.models.checking import InputProblem, WrongInput, check_input
from darkroom.models.outputs import Hosts, files_of, files_under
from darkroom.models.prices import (
    OF_PICTURES,
    Estimate,
    Size,
    estimate,
    is_a_count,
    is_length,
    money,
    picture_size,
    units_of,
    with_defaults,
)
from darkroom.models.schemas import Path, file_places, properties, sides, with_numbers

# Where the card does not say how long a call takes.
USUAL_SECONDS = {"training": 1200, "video": 120, "3d": 90, "audio": 30, "speech": 20}
PICTURES = ("images", "image")


Input = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CardModel:
    """What can be ordered by a card.

    `operators_usd`: an operator's price of a call. `own_calls_usd`: of our own. `platform_usd`: what its platform says
    of everybody's calls. `own_time`: within which nearly all of our calls have ended.

    By its refinement: `check` tells what is wrong with an input that its schema takes; `usual_units` what an input
    comes to where the unit says nothing; `outputs` where its answer must have files, one or a list, and of what kind;
    `patience` its start time-out, and its deadline at least, where the usual ones do not fit; `draft` the endpoint of a
    cheaper model that makes much the same.
    """

    card: Card
    hosts: Hosts
    operators_usd: Decimal | None = None
    own_calls_usd: Callable[[], Decimal | None] = lambda: None
    platform_usd: Callable[[], Decimal | None] = lambda: None
    own_time: timedelta | None = None
    check: Callable[[Input], Iterable[InputProblem]] = lambda _: ()
    usual_units: Callable[[Input], Decimal] | None = None
    outputs: Mapping[str, Kind] = field(default_factory=dict)
    patience: tuple[timedelta, timedelta] | None = None
    draft: str | None = None

    def narrowed(self, **fields: Mapping[str, Any]) -> Self:
        """Return the model with narrower bounds of its input: keywords of JSON Schema, by the fields that it has."""
        schema = self.card.input_schema
        if schema is None:
            return self
        known = schema.get("properties", {})
        # A field that the card of the day lacks is not brought back by a bound of it.
        bounds = {name: {**known[name], **fields[name]} for name in fields if name in known}
        return replace(self, card=replace(self.card, input_schema={**schema, "properties": {**known, **bounds}}))

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
        # A film's seconds and an enlarged picture's megapixels are billed as they turned out, not as asked for.
        is_sure = is_a_count(self.card.unit or "", category=self.card.category)
        return self.card.unit_price is not None and self.operators_usd is None and not is_sure

    @property
    def expected(self) -> timedelta:
        # None where there were hardly any calls of ours.
        if self.own_time is not None:
            return self.own_time
        if self.card.usual_seconds:
            return timedelta(seconds=self.card.usual_seconds)
        about = f"{self.card.kind} {self.card.category}"
        return timedelta(seconds=next((each for word, each in USUAL_SECONDS.items() if word in about), 15))

    @property
    def start_timeout(self) -> timedelta:
        if self.patience is not None:
            return self.patience[0]
        # It follows our own calls, and is never shorter than where there are none.
        return max(timedelta(minutes=30 if self.card.kind == "training" else 15), 2 * self.expected)

    @property
    def deadline(self) -> timedelta:
        least = timedelta(minutes=30) if self.patience is None else self.patience[1]
        return max(self.start_timeout + 4 * self.expected, least)

    @property
    def makes_pictures(self) -> bool:
        """Return whether its answer has pictures, as its card says."""
        schema = self.card.output_schema or {}
        return self.card.category.endswith("-to-image") or any(
            name in properties(sides(schema, schema)) for name in PICTURES
        )

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check the arguments and return the input to record."""
        if self.card.input_schema is None:
            raise BadInput(
                f"{self.endpoint} has no schema to check an input by; fetch it: darkroom model sync {self.endpoint}",
                field="model",
            )
        check_input(self.endpoint, self.card.input_schema, arguments)
        if problems := list(self.check(arguments)):
            raise WrongInput.of_problems(self.endpoint, problems)
        # What was given and no more: defaults stay the provider's.
        return with_numbers(self.card.input_schema, arguments)

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
            usual_units=self.usual_units,
        )

    def estimate(self, input: Mapping[str, Any], *, size: Size | None = None) -> Decimal:
        return self.quote(input, size=size).usd

    def size(self, input: Mapping[str, Any]) -> Size:
        return picture_size(with_defaults(self.card, input))

    def cost(
        self, input: Mapping[str, Any], output: Mapping[str, Any], billable_units: Decimal | None
    ) -> Decimal | None:
        """Return what a call did cost: the provider's count times the card's price, else by what was asked and came.

        None where nobody can say: as much as was expected.
        """
        if self.card.unit_price is None:
            return None
        # An operator's price is not reckoned with: without a count it is what was expected.
        if billable_units is None and self.operators_usd is None:
            billable_units = self._units_that_came(with_defaults(self.card, input), output)
        return None if billable_units is None else money(billable_units * self.card.unit_price)

    def files(self, output: Mapping[str, Any]) -> list[RemoteFile]:
        if self.outputs:
            return files_under(self.outputs, self.endpoint, output, hosts=self.hosts)
        return files_of(self.endpoint, output, hosts=self.hosts)

    def _units_that_came(self, input: Input, output: Mapping[str, Any]) -> Decimal | None:
        """Return the units of an answer: each picture's at its own size, where pictures are what is counted."""
        unit = self.card.unit or ""
        if self.usual_units is None and unit.strip().lower().removesuffix("s") not in OF_PICTURES:
            return units_of(unit, input)
        came: Any = next((output[name] for name in PICTURES if output.get(name)), [])
        pictures = came if isinstance(came, list) else [came]
        one = {**input, "num_images": 1}
        each = [self._units(one, _size_of(picture)) for picture in pictures] or [self._units(input, None)]
        return None if None in each else sum(filter(None, each), Decimal(0))

    def _units(self, input: Input, size: Size | None) -> Decimal | None:
        return self.usual_units(input) if self.usual_units else units_of(self.card.unit or "", input, size=size)


Refinement = Callable[[CardModel], CardModel]


def _size_of(picture: Any) -> Size | None:
    width, height = (picture.get(name) if isinstance(picture, Mapping) else None for name in ("width", "height"))
    return (width, height) if is_length(width) and is_length(height) else None
