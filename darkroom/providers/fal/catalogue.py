"""What cards cannot say of models of fal's that our pipelines use: bounds, outputs, times. Prices are their cards'."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from darkroom.media.formats import Kind
from darkroom.providers.fal.inputs import (
    BirefnetInput,
    ClarityInput,
    EsrganInput,
    FluxInput,
    FluxLoraInput,
    FluxSchnellInput,
    GptImageInput,
    KlingInput,
    LoraTrainingInput,
)
from darkroom.providers.fal.model import PICTURE, Model, Unit

_PICTURES = (
    Model(
        endpoint="fal-ai/flux/dev",
        title="FLUX.1 [dev]: good pictures at a fair price",
        input=FluxInput,
        unit=Unit.MEGAPIXEL,
        expected=timedelta(seconds=5),
        start_timeout=timedelta(minutes=10),
        deadline=timedelta(minutes=30),
    ),
    Model(
        endpoint="fal-ai/flux/schnell",
        title="FLUX.1 [schnell]: drafts in a second or two",
        input=FluxSchnellInput,
        unit=Unit.MEGAPIXEL,
        expected=timedelta(seconds=2),
        start_timeout=timedelta(minutes=10),
        deadline=timedelta(minutes=30),
    ),
    Model(
        endpoint="fal-ai/flux-lora",
        title="FLUX.1 [dev] with LoRAs: trained styles and faces",
        input=FluxLoraInput,
        unit=Unit.MEGAPIXEL,
        expected=timedelta(seconds=10),
        start_timeout=timedelta(minutes=10),
        deadline=timedelta(minutes=30),
    ),
    Model(
        endpoint="openai/gpt-image-2",
        title="GPT Image 2: text in pictures, complex scenes",
        input=GptImageInput,
        unit=Unit.IMAGE,
        # Billed by tokens, as dollars; these are what a picture comes to. `auto` may turn out high.
        picture_prices={"": Decimal("0.19"), "low": Decimal("0.02"), "medium": Decimal("0.07")},
        expected=timedelta(seconds=60),
        start_timeout=timedelta(minutes=15),
        deadline=timedelta(minutes=45),
    ),
)
_POST_PROCESSING = (
    Model(
        endpoint="fal-ai/clarity-upscaler",
        title="Clarity: a larger picture, with detail invented",
        input=ClarityInput,
        outputs=PICTURE,
        unit=Unit.MEGAPIXEL,
        expected=timedelta(seconds=30),
        start_timeout=timedelta(minutes=10),
        deadline=timedelta(minutes=30),
    ),
    Model(
        endpoint="fal-ai/esrgan",
        title="Real-ESRGAN: a larger picture, true to the small one",
        input=EsrganInput,
        outputs=PICTURE,
        unit=Unit.COMPUTE_SECOND,
        usual_seconds=10,
        expected=timedelta(seconds=10),
        start_timeout=timedelta(minutes=10),
        deadline=timedelta(minutes=30),
    ),
    Model(
        endpoint="fal-ai/birefnet/v2",
        title="BiRefNet: the background made transparent",
        input=BirefnetInput,
        outputs=PICTURE,
        unit=Unit.COMPUTE_SECOND,
        usual_seconds=5,
        expected=timedelta(seconds=5),
        start_timeout=timedelta(minutes=10),
        deadline=timedelta(minutes=30),
    ),
)
_TRAININGS_AND_FILMS = (
    Model(
        endpoint="fal-ai/flux-lora-fast-training",
        title="A LoRA for FLUX.1 [dev] from 4 to 50 pictures",
        input=LoraTrainingInput,
        outputs={"diffusers_lora_file": Kind.WEIGHTS, "config_file": Kind.CONFIG},
        makes_pictures=False,
        unit=Unit.RUN,
        expected=timedelta(minutes=20),
        start_timeout=timedelta(minutes=30),
        deadline=timedelta(hours=2),
    ),
    Model(
        endpoint="fal-ai/kling-video/v2.5-turbo/pro/image-to-video",
        title="Kling 2.5 Turbo Pro: a film of 5 or 10 seconds from a picture",
        input=KlingInput,
        outputs={"video": Kind.VIDEO},
        makes_pictures=False,
        unit=Unit.FILM_SECOND,
        expected=timedelta(minutes=2),
        start_timeout=timedelta(minutes=15),
        deadline=timedelta(hours=1),
    ),
)
CATALOGUE: Mapping[str, Model] = {
    model.endpoint: model for model in (*_PICTURES, *_POST_PROCESSING, *_TRAININGS_AND_FILMS)
}
