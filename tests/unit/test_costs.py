"""What a call has come to, whichever way its end reaches us."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from provider_rows import row_for

from darkroom.providers.outcomes import succeeded

KLING, CLARITY = "fal-ai/kling-video/v2.5-turbo/pro/image-to-video", "fal-ai/clarity-upscaler"
GPT, ESRGAN, VIDEO = "openai/gpt-image-2", "fal-ai/esrgan", "fal-ai/topaz/upscale/video"
ASSET = "asset:ast_019aa1f0d8b4"
IMAGES = {"images": [{"url": "https://v3b.fal.media/files/b/x/fox.png"}]}


@pytest.mark.parametrize(
    ("endpoint", "arguments", "units", "usd"),
    [
        (GPT, {"prompt": "a fox"}, "0.219", "0.219"),
        (ESRGAN, {"image_url": ASSET}, "2.5", "0.002775"),
        (VIDEO, {"video_url": ASSET}, "20", "0.2"),
        (KLING, {"prompt": "it turns", "image_url": ASSET}, "5.04", "0.3528"),
        (CLARITY, {"image_url": ASSET}, "3.5", "0.105"),
    ],
)
def test_a_result_that_only_its_provider_can_count_is_asked_for(
    endpoint: str, arguments: dict[str, Any], units: str, usd: str
) -> None:
    """A webhook does not tell the count, so its cost is open until the result is fetched; a poll has it at once."""
    row = row_for(endpoint, **arguments)
    delivered = succeeded(row, IMAGES)
    assert (delivered.output, delivered.cost_usd) == (None, None)
    polled = succeeded(row, IMAGES, billable_units=Decimal(units))
    assert (polled.output, polled.cost_usd) == (IMAGES, Decimal(usd))


@pytest.mark.parametrize("endpoint", ["fal-ai/flux/dev", "fal-ai/nano-banana"])
def test_a_result_that_its_input_counts_is_not_asked_for_again(endpoint: str) -> None:
    """In a burst of pictures nobody makes a call more than it takes."""
    delivered = succeeded(row_for(endpoint, prompt="a fox"), IMAGES)
    assert delivered.output == IMAGES
    assert delivered.cost_usd
