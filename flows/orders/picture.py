"""A picture as it is ordered (`flows/generate_image.py`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from darkroom.engine.request_spec import specify
from darkroom.errors import BadInput
from darkroom.flows.parts.form import shown
from darkroom.flows.parts.picture_steps import Size as Pixels
from darkroom.flows.parts.picture_steps import Steps, estimate, require_room
from darkroom.flows.parts.trained_style import PAINTER, Style
from darkroom.ledger import OPERATOR, RequestSpec
from darkroom.providers.fal import CATALOGUE

KIND = "generate-image"
STEP = "generate"


class Size(BaseModel):
    """A size of your own, in pixels."""

    model_config = ConfigDict(extra="forbid", title="Width and height")

    width: int = Field(title="Width", ge=64, le=3840, description="Pixels.")
    height: int = Field(title="Height", ge=64, le=3840, description="Pixels.")


Prompt = Annotated[str, Field(min_length=1, max_length=4000)]
ModelName = Literal["fal-ai/flux/dev", "fal-ai/flux/schnell", "fal-ai/flux-lora", "openai/gpt-image-2"]
Preset = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9", "auto"]
ImageSize = Annotated[Preset, Field(title="Named size")] | Size | None
Seed = Annotated[int, Field(title="Number", ge=0, le=2**53 - 1)] | None
Count = Annotated[int, Field(ge=1, le=4)]
LoraName = Annotated[str, Field(title="Name", min_length=1, max_length=100)] | None
Scale = Annotated[float, Field(ge=0, le=4)]


PROMPT = shown("Prompt", "What the picture shows.")
MODEL = shown("Model", "FLUX dev: good and cheap. schnell: drafts. GPT Image 2: text in pictures.", "fal-ai/flux/dev")
IMAGE_SIZE = shown("Size", "A named size, or width and height. Empty: the model's own (landscape 4:3).", None)
SEED = shown("Seed", "Same seed and prompt: same picture. Empty: a new one. GPT Image 2 has none.", None)
NUM_IMAGES = shown("Number of pictures", "1 to 4; each is paid.", 1)
ARGUMENTS = shown("More arguments", 'The model\'s own, e.g. {"output_format": "png", "guidance_scale": 5}.', {})
LORA = shown("LoRA", "A trained style, face or thing: its trigger word, or the id of one version. On FLUX dev.", None)
LORA_SCALE = shown("Its strength", "0 to 4; at 1 as it was trained.", 1.0)
POST = shown("Afterwards", "Up to 8 steps, in this order: make it larger, remove the background, mark it.", [])
USER = shown("User", "Who it is for: a user's name or id.", OPERATOR)


class Picture(BaseModel):
    """What a picture is asked for with."""

    model_config = ConfigDict(extra="forbid")

    prompt: Prompt = PROMPT
    model: ModelName = MODEL
    image_size: ImageSize = IMAGE_SIZE
    seed: Seed = SEED
    num_images: Count = NUM_IMAGES
    arguments: dict[str, Any] = ARGUMENTS
    lora: LoraName = LORA
    lora_scale: Scale = LORA_SCALE
    post: Steps = POST

    @property
    def endpoint(self) -> str:
        """A LoRA is for FLUX dev, which has an endpoint of its own for it. Raises BadInput."""
        if self.lora is None:
            return self.model
        if self.model not in ("fal-ai/flux/dev", PAINTER):
            raise BadInput("A LoRA goes with FLUX dev alone. Leave the model out.", field="model")
        return PAINTER

    @property
    def known_again(self) -> bool:
        """A picture that the user has had serves again where its steps are what matters; else a new one is expected."""
        return bool(self.post) and self.seed is not None

    def spec(self, style: Style | None) -> RequestSpec:
        """The first paid call it takes. Raises BadInput for what the model does not accept, or the steps afterwards."""
        spec = specify(self.endpoint, self.input(style), step=STEP, reuse=self.known_again)
        require_room(self.post, self._size(spec))
        return spec

    def estimate(self, spec: RequestSpec) -> Decimal:
        """What it should cost with all that comes after, in USD."""
        return spec.estimate_usd + self.num_images * estimate(self.post, self._size(spec))

    def _size(self, spec: RequestSpec) -> Pixels:
        return CATALOGUE[spec.endpoint].size(spec.input)

    def input(self, style: Style | None) -> dict[str, Any]:
        """The model's input: the named fields that were given, and the arguments beside them. `style`: of its LoRA."""
        fields = {"prompt", "image_size", "seed", "num_images"}
        named = self.model_dump(mode="json", include=fields, exclude_none=True, exclude_defaults=True)
        if twice := sorted(set(self.arguments) & fields):
            raise BadInput(f"Give {', '.join(twice)} beside `arguments`, not inside.", field=f"arguments.{twice[0]}")
        if style is None:
            return named | self.arguments
        if "loras" in self.arguments:
            raise BadInput("Give either lora or arguments.loras.", field="arguments.loras")
        return style.applied(named | self.arguments, scale=self.lora_scale)
