"""Any model, as it is ordered (`flows/run_model.py`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from darkroom.engine.backoff import USUAL, RetryPolicy
from darkroom.engine.request_spec import build_request, part_of, priced_at_most
from darkroom.errors import BadInput
from darkroom.flows.orders.bounds import FLAGGED, MAX_USD, Flagged, MaxUsd, require_within
from darkroom.flows.parts.picture_steps import Steps, parts, require_logos, require_steps
from darkroom.flows.parts.trained_style import TRIAL, Style, find_style
from darkroom.ledger import Lane, Ledger, RequestSpec
from darkroom.models import Path, WrongInput
from darkroom.order import Address, EstimatePart, Order, Prepared, field
from darkroom.providers.base import ASSET, Model
from darkroom.providers.models import find_model, find_picture_model, model_of_version, places_of_files

STEP = "run"
LORAS = "loras"
MOST_LORA_SCALE = 4

LoraName = Annotated[str, Field(title="Name", min_length=1, max_length=100)] | None

EXAMPLES = {
    "film": {
        "summary": "A film from one of your pictures",
        "value": {
            "model": "fal-ai/kling-video/v2.5-turbo/pro/image-to-video",
            "input": {"prompt": "the fox turns its head", "image_url": "asset:ast_019aa1f0d8b4"},
            "max_usd": 0.5,
        },
    },
    "speech": {
        "summary": "Speech",
        "value": {"model": "fal-ai/elevenlabs/tts/eleven-v3", "input": {"text": "The fox is in the snow."}},
    },
    "finished": {
        "summary": "A picture, and what is done to it afterwards",
        "value": {
            "model": "fal-ai/nano-banana",
            "input": {"prompt": "a fox in the snow, woodcut", "aspect_ratio": "3:2"},
            "post": ["upscale"],
        },
    },
}

ANSWERS = """Any model of `GET /v1/models`, also one that is not there yet: it is fetched on its first use.

`input` is the model's own, as its card's schema says; it is checked against it before anything is paid, and everything
that is wrong is told at once. A field that takes a file's address takes one of your files as `asset:<id>`, too
(`POST /v1/uploads`), inside lists and objects as well. What is left out is left to the model's defaults.

Every file of the answer, of whichever kind, is in the job's `assets`; the rest of it is `result.output`, with the
files' ids in their places. `post` are steps for the pictures among them, as of `POST /v1/images`.

With `max_usd` an order that may cost more is refused. A model that nobody knows the price of needs it.
"""


class Generation(Order):
    """Which model is run, and what it is given."""

    over_http = Address(
        path="/v1/generations",
        name="order_generation",
        kind="run-model",
        tag="Models",
        summary="Run any model",
        answers=ANSWERS,
        examples=EXAMPLES,
    )

    model: str = field(
        "Model", "Its endpoint, e.g. fal-ai/veo3; `darkroom model list` shows them.", min_length=3, max_length=200
    )
    input: dict[str, Any] = field(
        "Input", 'The model\'s own, as its page says, e.g. {"prompt": "a fox"}. Files as "asset:ast_…".', {}
    )
    lora: LoraName = field("LoRA", "A trained style, for a model that takes LoRAs: its trigger word, or its id.", None)
    lora_scale: float = field("Its strength", "0 to 4; at 1 as it was trained.", 1.0, ge=0, le=MOST_LORA_SCALE)
    post: Steps = field("Afterwards", "Up to 8 steps for the pictures, in this order.", [])
    flagged: Flagged = FLAGGED
    max_usd: MaxUsd = MAX_USD

    def check(self) -> None:
        # Which LoRA it is only the ledger can tell, and this asks nobody.
        self.spec(TRIAL if self.lora else None)

    def prepare(self, ledger: Ledger, *, user_id: str) -> Prepared:
        first = self.spec(self.style(ledger, user_id=user_id))
        require_own_files(ledger, first, user_id=user_id, within="input")
        require_logos(self.post, ledger.assets.get, user_id=user_id)
        whole = self.estimate(first)
        require_within(whole, self.max_usd)
        return Prepared(first=first, estimate_usd=whole, parts=self.parts(first))

    def style(self, ledger: Ledger, *, user_id: str) -> Style | None:
        return find_style(ledger, user_id, self.lora) if self.lora else None

    @property
    def is_training(self) -> bool:
        return is_training(find_model(self.model))

    @property
    def lane(self) -> Lane:
        return Lane.TRAINING if self.is_training else Lane.INTERACTIVE

    @property
    def retry(self) -> RetryPolicy:
        """Return how it is tried again. A training that may have been paid is not, without a person."""
        return RetryPolicy(resubmit_expired=False) if self.is_training else USUAL

    def spec(self, style: Style | None) -> RequestSpec:
        """Build the paid call. Raise BadInput for what the model does not accept, or the steps afterwards."""
        try:
            with priced_at_most(self.max_usd):
                spec = build_request(self.model, self.arguments(style), step=STEP, lane=self.lane)
        except WrongInput as error:
            raise error.within("input") from None
        except BadInput as error:
            # What is none of the order's own fields is one of the model's input.
            if error.field and error.field not in type(self).model_fields:
                error.field = f"input.{error.field}"
            raise
        if self.post:
            require_steps(self.post, find_picture_model(self.model).size(spec.input))
        return spec

    def arguments(self, style: Style | None) -> dict[str, Any]:
        """Build the model's input. Raise BadInput for a LoRA where the model takes none."""
        if style is None:
            return dict(self.input)
        known = getattr(find_model(self.model), "input_schema", {}).get("properties", {})
        if LORAS not in known:
            raise BadInput(f"{self.model} takes no LoRA. Leave it out, or choose a model with `loras`.", field="lora")
        # The trigger word goes into the prompt, so there has to be one.
        if LORAS in self.input or not isinstance(self.input.get("prompt"), str):
            raise BadInput("Give either lora and a prompt, or input.loras.", field="lora")
        return style.applied(self.input, scale=self.lora_scale)

    def estimate(self, spec: RequestSpec) -> Decimal:
        """Estimate what the order should cost with all that comes after, in USD."""
        return spec.estimate_usd + sum((part.usd for part in self._parts_afterwards(spec)), Decimal(0))

    def parts(self, spec: RequestSpec) -> list[EstimatePart]:
        """Tell that estimate by paid calls, and how each is known."""
        with priced_at_most(self.max_usd):
            return [part_of(spec), *self._parts_afterwards(spec)]

    def _parts_afterwards(self, spec: RequestSpec) -> list[EstimatePart]:
        if not self.post:
            return []
        pictures = spec.input.get("num_images", 1)
        size = find_picture_model(self.model).size(spec.input)
        return parts(self.post, size, pictures=pictures if isinstance(pictures, int) else 1)


def is_training(model: Model) -> bool:
    card = getattr(model, "card", None)
    return card is not None and card.kind == "training"


def require_own_files(ledger: Ledger, spec: RequestSpec, *, user_id: str, within: str = "") -> None:
    """Raise BadInput, by its path, for a file in the call's input that the user does not have.

    `within`: the order's field that is the input.
    """
    # None where only the provider knows: then they are looked for as the call is sent.
    for path in places_of_files(model_of_version(spec.endpoint, spec.model_version), spec.input) or ():
        value = _at(spec.input, path)
        if not isinstance(value, str) or not value.startswith(ASSET):
            continue
        asset = ledger.assets.get(value.removeprefix(ASSET))
        # In one sentence for all of them: nobody learns what others have.
        if asset is None or asset.user_id != user_id or asset.hidden:
            field = ".".join([*([within] if within else []), *map(str, path)])
            raise BadInput(
                f"{field}: you have no file of this id; bring it with POST /v1/uploads",
                field=field,
                code="no_such_asset",
            )


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value
