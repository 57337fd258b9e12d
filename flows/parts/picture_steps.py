"""What may be done to a picture once it is there: made larger, cut out, marked, or whatever a model makes of it.

The steps as they are asked for, by the API and in Prefect's form, and what is known of them before anything is done:
which call each is, what it costs, how large its picture will be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from darkroom.engine.request_spec import as_part, build_request, quote
from darkroom.errors import BadInput
from darkroom.ledger import Asset, RequestSpec
from darkroom.media.watermark import MARGIN, OPACITY, TEXT, Position, undrawable
from darkroom.models import Estimate, WrongInput, picture_field
from darkroom.order import EstimatePart, InForm, field, in_order
from darkroom.providers.base import ASSET
from darkroom.providers.models import find_model, find_ordered, find_picture_model, places_of_files

MOST_STEPS = 8
# Of a picture that was made larger. A PNG of them has up to 60 MB; the media store takes 64 MiB, and 50 million pixels.
MOST_PIXELS = 36_000_000
CUT_OUT = "fal-ai/birefnet/v2"
ENLARGED_BY = {"fal-ai/clarity-upscaler": "upscale_factor", "fal-ai/esrgan": "scale"}

_ANY_FILE = "asset:ast_0"  # for what a call costs, whatever its picture shows

ENDPOINT = r"^[A-Za-z0-9][A-Za-z0-9_.\-]*(/[A-Za-z0-9_.\-]+){1,7}$"
NO_NAME = re.compile(r"[^a-z0-9]+")

Size = tuple[int, int]
Name = Literal["upscale", "remove_background", "watermark"]


Upscaler = Literal["fal-ai/clarity-upscaler", "fal-ai/esrgan"]
UPSCALER = field(
    "Upscale: model",
    "Clarity invents detail, by the megapixel. ESRGAN stays true, and is cheap.",
    "fal-ai/clarity-upscaler",
)
FACTOR = field("Upscale: factor", "How many times as wide and as high, 1 to 4.", 2.0, ge=1, le=4)

Line = Annotated[str, Field(min_length=1, max_length=200)] | None
Logo = Annotated[str, Field(pattern=r"^ast_[0-9a-z-]{1,40}$")] | None
Share = Annotated[float, Field(gt=0, le=1)] | None


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid")

    step: str

    def call(self, picture: Asset) -> tuple[str, dict[str, Any]] | None:
        """Return what the step asks of a provider: the endpoint and the arguments; None for what we do ourselves."""
        return None

    @property
    def name(self) -> str:
        """Return what its files are called after."""
        return self.step

    def check(self, field: str) -> None:
        """Raise BadInput, by a path that begins with `field`, for what only the model's card can tell."""

    def files(self) -> list[tuple[str, str]]:
        """Return the user's files that it takes beside the picture: where it names them, and their ids."""
        return []

    def result_size(self, size: Size) -> Size:
        return size

    def quote(self, size: Size) -> tuple[str, Estimate] | None:
        """Return what is paid for a picture of that size: the endpoint, and how much; None for what is ours."""
        return None


class Upscale(_Step):
    """Made larger."""

    model_config = ConfigDict(title="Upscale")

    step: Literal["upscale"] = field("Step", "Makes the picture larger.")
    model: Upscaler = UPSCALER
    factor: float = FACTOR

    def call(self, picture: Asset) -> tuple[str, dict[str, Any]]:
        arguments: dict[str, Any] = {"image_url": picture, ENLARGED_BY[self.model]: self.factor}
        if self.model == "fal-ai/esrgan":
            arguments["output_format"] = "jpeg" if picture.content_type == "image/jpeg" else "png"
        return self.model, arguments

    def result_size(self, size: Size) -> Size:
        return round(size[0] * self.factor), round(size[1] * self.factor)

    def quote(self, size: Size) -> tuple[str, Estimate]:
        arguments = {"image_url": _ANY_FILE, ENLARGED_BY[self.model]: self.factor}
        # By the size of what comes: Clarity is paid for the megapixels that it makes.
        return self.model, find_picture_model(self.model).quote(arguments, size=self.result_size(size))


class RemoveBackground(_Step):
    """Cut out of its background, which becomes transparent."""

    model_config = ConfigDict(title="Remove background")

    step: Literal["remove_background"] = field("Step", "Makes the background transparent.")

    def call(self, picture: Asset) -> tuple[str, dict[str, Any]]:
        return CUT_OUT, {"image_url": picture}

    def quote(self, size: Size) -> tuple[str, Estimate]:
        return CUT_OUT, find_picture_model(CUT_OUT).quote({"image_url": _ANY_FILE}, size=size)


class ByModel(_Step):
    """Given to a model that takes a picture and makes one."""

    model_config = ConfigDict(title="Any model")

    step: str = field("Step", "The endpoint of a model, e.g. fal-ai/bria/eraser.", pattern=ENDPOINT, max_length=200)
    input: dict[str, Any] = field("Input", "The model's own, beside the picture.", {})

    @property
    def name(self) -> str:
        return NO_NAME.sub("-", self.step.lower()).strip("-")[-40:].strip("-")

    def call(self, picture: Asset) -> tuple[str, dict[str, Any]]:
        return self.step, self._with(picture)

    def check(self, field: str) -> None:
        try:
            find_picture_model(self.step)
            build_request(self.step, self._with(_ANY_FILE), step=self.name)
        except WrongInput as error:
            raise error.within(f"{field}.input") from None
        except BadInput as error:
            error.field = f"{field}.step" if error.field in ("", "model") else f"{field}.input.{error.field}"
            raise

    def files(self) -> list[tuple[str, str]]:
        given = self._with(_ANY_FILE)
        found = []
        for path in places_of_files(find_model(self.step), given) or ():
            value: Any = given
            for part in path:
                value = value[part]
            if value != _ANY_FILE and value.startswith(ASSET):
                found.append((".".join(map(str, path)), value.removeprefix(ASSET)))
        return found

    def quote(self, size: Size) -> tuple[str, Estimate]:
        return self.step, quote(find_picture_model(self.step), self._with(_ANY_FILE), size=size)

    def _with(self, picture: Any) -> dict[str, Any]:
        """Return the input with the picture in its place. Raise BadInput for a model that takes none."""
        found = picture_field(find_picture_model(self.step).input_schema)
        if found is None:
            raise BadInput(f"{self.step} takes no picture; choose a model that makes one of another", field="model")
        name, is_list = found
        return {**self.input, name: [picture, *self.input.get(name, [])] if is_list else picture}


class Watermark(_Step):
    """Words or a logo on it. Ours, and free."""

    model_config = ConfigDict(title="Watermark")

    step: Literal["watermark"] = field("Step", "Puts words or a logo on the picture.")
    text: Line = field("Words", f'Empty: "{TEXT}".', None)
    logo: Logo = field("Logo", "Instead of words: id of a picture of yours (ast_…).", None)
    position: Position = field("Position", "One of nine places.", Position.BOTTOM_RIGHT)
    opacity: float = field("Opacity", "0: not to be seen, 1: covers what is under it.", OPACITY, ge=0, le=1)
    height: Share = field("Height", "Of letters or logo, as a share of the shorter side. It shrinks to fit.", None)
    margin: float = field("Margin", "To the edges, as a share of the shorter side.", MARGIN, ge=0, le=0.4)

    @field_validator("text")
    @classmethod
    def _can_be_written(cls, text: str | None) -> str | None:
        if text is not None and (not text.isprintable() or not text.strip()):
            raise PydanticCustomError("text", "must be one line that is not blank")
        if text is not None and undrawable(text):
            raise PydanticCustomError(
                "text", "has characters that our font lacks: write it in Latin, Greek or Cyrillic, or give a logo"
            )
        return text

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if self.text is not None and self.logo is not None:
            raise PydanticCustomError("mark", "has words and a logo; give one of them")
        return self


def _step(value: Any) -> Any:
    """Read a step. Take a name alone as the step as it usually is."""
    if isinstance(value, _Step):
        return value
    if isinstance(value, FormStep):
        return value.chosen()
    given = value if isinstance(value, Mapping) else {"step": value}
    name = given.get("step")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None and isinstance(name, str) and "/" in name:
        kind = ByModel
    if kind is None:
        names = ", ".join(_KINDS)
        raise PydanticCustomError("step", "must name a step ({names}) or a model's endpoint", {"names": names})
    # By one kind, not by the union: what is wrong is told of that one alone.
    return kind.model_validate(given)


_KINDS: Mapping[str, type[Upscale | RemoveBackground | Watermark | ByModel]] = {
    "upscale": Upscale,
    "remove_background": RemoveBackground,
    "watermark": Watermark,
}
AnyStep = Upscale | RemoveBackground | Watermark | ByModel
ModelName = Annotated[str, Field(pattern=ENDPOINT, max_length=200)]
Step = Annotated[AnyStep, BeforeValidator(_step, json_schema_input_type=Name | ModelName | AnyStep)]


class FormStep(BaseModel):
    """A step as Prefect's form asks for it: its lists can show one kind of thing. What is not its own is unused."""

    model_config = ConfigDict(extra="forbid", title="Step", json_schema_extra=in_order)

    step: Name = field("Step", "What is done to the picture.")
    model: Upscaler = UPSCALER
    factor: float = FACTOR
    text: str = field("Watermark: words", "One line.", TEXT)
    logo: str = field("Watermark: logo", "Instead of words: id of a picture of the user's (ast_…).", "")
    position: Position = field("Watermark: position", "One of nine places.", Position.BOTTOM_RIGHT)
    opacity: float = field("Watermark: opacity", "0: not to be seen, 1: covers what is under it.", OPACITY)

    def chosen(self) -> AnyStep:
        """Return the chosen step. Raise BadInput for what that step does not accept."""
        # The form sends both, as it has a field for each.
        unused = {"text"} if self.logo else {"logo"}
        given = self.model_dump(include=set(_KINDS[self.step].model_fields) - unused)
        try:
            return _KINDS[self.step].model_validate(given)
        except ValidationError as error:
            # Not `from error`: pydantic's text quotes what was given.
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            field = ".".join(["post", *map(str, first["loc"])])
            raise BadInput(f"{field}: {first['msg']}", field=field) from None


Steps = Annotated[
    list[Step], Field(max_length=MOST_STEPS), InForm(type=Annotated[list[FormStep], Field(max_length=MOST_STEPS)])
]


def first_call(steps: Sequence[_Step], picture: Asset) -> RequestSpec | None:
    """Return what has to be paid before anything else can be done; None where that is ours to do."""
    call = steps[0].call(picture) if steps else None
    return build_request(*call, step=step_name(steps[0], 1), reuse=True) if call else None


def estimate(steps: Sequence[_Step], size: Size) -> Decimal:
    """Estimate what the whole chain should cost for a picture of that size, in USD."""
    return sum((part.usd for part in parts(steps, size)), Decimal(0))


def parts(steps: Sequence[_Step], size: Size, *, pictures: int = 1) -> list[EstimatePart]:
    """Estimate what each paid step should cost, for so many pictures of that size."""
    found = []
    for n, step in enumerate(steps, 1):
        if (paid := step.quote(size)) is not None:
            each = as_part(paid[1], step_name(step, n), paid[0])
            units = None if each.units is None else each.units * pictures
            found.append(replace(each, usd=each.usd * pictures, units=units))
        size = step.result_size(size)
    return found


def require_steps(steps: Sequence[_Step], size: Size) -> None:
    """Raise BadInput for what can be told of the steps before anything is paid."""
    for n, step in enumerate(steps):
        step.check(f"post.{n}")
        if (paid := step.quote(size)) is not None:
            # That it may be ordered here: the order was asked for its own model alone.
            find_ordered(paid[0])
    require_capacity(steps, size)


def require_capacity(steps: Sequence[_Step], size: Size) -> None:
    """Raise BadInput for a chain whose picture would become too large to keep, before any of it is paid."""
    for n, step in enumerate(steps, 1):
        size = step.result_size(size)
        if size[0] * size[1] > MOST_PIXELS:
            field = f"post.{n - 1}.factor"
            problem = f"{field}: the picture would have {size[0]} × {size[1]} pixels, more than {MOST_PIXELS:,}"
            raise BadInput(f"{problem}; use a smaller factor", field=field).of(step=step_name(step, n))


def require_logos(steps: Sequence[_Step], find: Callable[[str], Asset | None], *, user_id: str) -> None:
    """Raise BadInput for a logo, or another file that a step takes, that is no picture of the user."""
    for n, step in enumerate(steps):
        for place, asset_id in step.files():
            require_picture(find(asset_id), user_id=user_id, field=f"post.{n}.input.{place}")
        if isinstance(step, Watermark) and step.logo is not None:
            require_picture(find(step.logo), user_id=user_id, field=f"post.{n}.logo")


def require_picture(asset: Asset | None, *, user_id: str, field: str) -> Asset:
    """Return the picture. Raise BadInput unless it is a picture of the user."""
    # In one sentence for all of them: nobody learns what others have.
    if asset is None or asset.user_id != user_id or asset.hidden or not asset.content_type.startswith("image/"):
        raise BadInput(
            f"{field}: you have no picture of this id; bring it with POST /v1/uploads, or take one of a job's assets",
            field=field,
            code="no_such_asset",
        )
    return asset


def step_name(step: _Step, n: int, number: int | None = None) -> str:
    """Return e.g. `1-upscale`; of the second of several pictures `1-upscale-of-2`."""
    return f"{n}-{step.name}" if number is None else f"{n}-{step.name}-of-{number}"
