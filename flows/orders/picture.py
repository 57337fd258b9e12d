"""A picture as it is ordered (`flows/generate_image.py`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from darkroom.engine.request_spec import build_request, part_of, priced_at_most
from darkroom.errors import BadInput
from darkroom.flows.orders.bounds import FLAGGED, MAX_USD, Flagged, MaxUsd, require_within
from darkroom.flows.parts.picture_steps import Size as Pixels
from darkroom.flows.parts.picture_steps import Steps, estimate, parts, require_logos, require_steps
from darkroom.flows.parts.trained_style import PAINTER, TRIAL, Style, find_style
from darkroom.ledger import Ledger, RequestSpec
from darkroom.models import WrongInput
from darkroom.order import Address, EstimatePart, InForm, Order, Prepared, field
from darkroom.providers.models import find_picture_model

STEP = "generate"


class Size(BaseModel):
    """A size of your own, in pixels."""

    model_config = ConfigDict(extra="forbid", title="Width and height")

    # The longest side of GPT Image 2. What another model takes its own card says.
    width: int = Field(title="Width", ge=64, le=3840, description="Pixels.")
    height: int = Field(title="Height", ge=64, le=3840, description="Pixels.")


Prompt = Annotated[str, Field(min_length=1, max_length=4000)]
Suggested = Literal["fal-ai/flux/dev", "fal-ai/flux/schnell", "fal-ai/flux-lora", "openai/gpt-image-2"]
# Prefect's form offers a choice; any other model that makes pictures is taken as well, there by `run-model`.
ModelName = Annotated[str, Field(min_length=3, max_length=200), InForm(type=Suggested)]
Preset = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9", "auto"]
ImageSize = Annotated[Preset, Field(title="Named size")] | Size | None
# Up to the largest integer that every JSON reader keeps exact.
Seed = Annotated[int, Field(title="Number", ge=0, le=2**53 - 1)] | None
Count = Annotated[int, Field(ge=1, le=4)]
LoraName = Annotated[str, Field(title="Name", min_length=1, max_length=100)] | None
Scale = Annotated[float, Field(ge=0, le=4)]

EXAMPLES = {
    "simple": {"summary": "A prompt", "value": {"prompt": "a fox in the snow, woodcut"}},
    "chosen": {
        "summary": "Model, size and its own arguments",
        "value": {
            "prompt": "a poster that says OPEN",
            "model": "openai/gpt-image-2",
            "image_size": {"width": 1024, "height": 1536},
            "arguments": {"quality": "low", "output_format": "webp"},
        },
    },
    "finished": {
        "summary": "… and what is done to it: larger, marked",
        "value": {
            "prompt": "a fox in the snow, woodcut",
            "seed": 7,
            "post": [
                {"step": "upscale", "model": "fal-ai/esrgan", "factor": 4},
                {"step": "watermark", "text": "© Fox & Co", "position": "bottom_left"},
            ],
        },
    },
    "trained": {
        "summary": "In a style, or of somebody, that was trained: `POST /v1/loras`",
        "value": {"prompt": "mochi_cat on a skateboard", "lora": "mochi_cat", "lora_scale": 0.9},
    },
    "again": {
        "summary": "The same picture again: a seed",
        "value": {"prompt": "a fox in the snow", "image_size": "square_hd", "seed": 7, "num_images": 2},
    },
}

ANSWERS = """The pictures are made as soon as a slot is free, and then are in the job's `assets`.

`lora` is one of yours by its trigger word (then the newest that is ready) or by its id (then that version). The
picture is made with `fal-ai/flux-lora`; the trigger word is put in front of a prompt that lacks it.

`post` are steps afterwards, by name or with their options: `upscale`, `remove_background`, `watermark`, in any
order. The pictures of all steps are in `assets`, the last ones in `result.pictures`. A call that you have paid
before, with the same options on the same picture, is not paid again; with a `seed` the generation is neither.

Sent again with the same `Idempotency-Key` it gives the same job, also from several senders at once. Refused is an
order beyond what may wait on your plan, and one that costs more than the plan's budget for a day.
"""


class Picture(Order):
    """What the pictures show, and how they are made."""

    over_http = Address(
        path="/v1/images",
        name="order_images",
        kind="generate-image",
        tag="Images",
        summary="Order pictures",
        answers=ANSWERS,
        examples=EXAMPLES,
    )

    prompt: Prompt = field("Prompt", "What the picture shows.")
    model: ModelName = field(
        "Model", "FLUX dev: good and cheap. schnell: drafts. GPT Image 2: text in pictures.", "fal-ai/flux/dev"
    )
    image_size: ImageSize = field(
        "Size", "A named size, or width and height. Empty: the model's own (landscape 4:3).", None
    )
    seed: Seed = field("Seed", "Same seed and prompt: same picture. Empty: a new one. GPT Image 2 has none.", None)
    num_images: Count = field("Number of pictures", "1 to 4; each is paid.", 1)
    arguments: dict[str, Any] = field(
        "More arguments", 'The model\'s own, e.g. {"output_format": "png", "guidance_scale": 5}.', {}
    )
    lora: LoraName = field(
        "LoRA", "A trained style, face or thing: its trigger word, or the id of one version. On FLUX dev.", None
    )
    lora_scale: Scale = field("Its strength", "0 to 4; at 1 as it was trained.", 1.0)
    post: Steps = field(
        "Afterwards", "Up to 8 steps, in this order: make it larger, remove the background, mark it.", []
    )
    flagged: Flagged = FLAGGED
    max_usd: MaxUsd = MAX_USD

    def check(self) -> None:
        # Which LoRA it is only the ledger can tell, and this asks nobody.
        self.spec(TRIAL if self.lora else None)

    def prepare(self, ledger: Ledger, *, user_id: str) -> Prepared:
        first = self.spec(find_style(ledger, user_id, self.lora) if self.lora else None)
        require_logos(self.post, ledger.assets.get, user_id=user_id)
        whole = self.estimate(first)
        require_within(whole, self.max_usd)
        return Prepared(first=first, estimate_usd=whole, tell_estimate=bool(self.post), parts=self.parts(first))

    @property
    def endpoint(self) -> str:
        """Return the endpoint. Raises BadInput."""
        if self.lora is None:
            return self.model
        # LoRAs are trained on FLUX dev, which has an endpoint of its own for them.
        if self.model not in ("fal-ai/flux/dev", PAINTER):
            raise BadInput("A LoRA goes with FLUX dev alone. Leave the model out.", field="model")
        return PAINTER

    @property
    def known_again(self) -> bool:
        """Say whether a picture that the user has had serves again."""
        # Without a seed another picture is meant, and without steps the picture itself is what was ordered.
        return bool(self.post) and self.seed is not None

    def spec(self, style: Style | None) -> RequestSpec:
        """Build the first paid call. Raise BadInput for what the model does not accept, or the steps afterwards."""
        try:
            with priced_at_most(self.max_usd):
                spec = build_request(self.endpoint, self.input(style), step=STEP, reuse=self.known_again)
        except WrongInput as error:
            raise error.within("arguments", names=set(self.arguments)) from None
        except BadInput as error:
            # The model knows its fields as one flat input; here some of them are given inside `arguments`.
            if error.field.partition(".")[0] in self.arguments:
                error.field = f"arguments.{error.field}"
            raise
        require_steps(self.post, self._size(spec))
        return spec

    def estimate(self, spec: RequestSpec) -> Decimal:
        """Estimate what the order should cost with all that comes after, in USD."""
        # Each picture goes through the steps by itself.
        return spec.estimate_usd + self.num_images * estimate(self.post, self._size(spec))

    def parts(self, spec: RequestSpec) -> list[EstimatePart]:
        """Tell that estimate by paid calls, and how each is known."""
        with priced_at_most(self.max_usd):
            return [part_of(spec), *parts(self.post, self._size(spec), pictures=self.num_images)]

    def _size(self, spec: RequestSpec) -> Pixels:
        return find_picture_model(spec.endpoint).size(spec.input)

    def input(self, style: Style | None) -> dict[str, Any]:
        """Build the model's input of the named fields that were given, and the arguments beside them.

        `style`: of its LoRA. Raise BadInput for what is given twice.
        """
        fields = {"prompt", "image_size", "seed", "num_images"}
        # Without what was left out: the model has its own default for that, or no such field.
        named = self.model_dump(mode="json", include=fields, exclude_none=True, exclude_defaults=True)
        if twice := sorted(set(self.arguments) & fields):
            raise BadInput(f"Give {', '.join(twice)} beside `arguments`, not inside.", field=f"arguments.{twice[0]}")
        if style is None:
            return named | self.arguments
        if "loras" in self.arguments:
            raise BadInput("Give either lora or arguments.loras.", field="arguments.loras")
        return style.applied(named | self.arguments, scale=self.lora_scale)
