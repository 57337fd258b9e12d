"""What a call has come to, whichever way its end reaches us."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import pytest
from provider_rows import row_for

from darkroom.providers.fal import Fal
from darkroom.providers.fal.outcomes import poll
from darkroom.providers.outcomes import announced, succeeded

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
    delivered = announced(row, IMAGES)
    assert (delivered.output, delivered.cost_usd) == (None, None)
    polled = succeeded(row, IMAGES, billable_units=Decimal(units))
    assert (polled.output, polled.cost_usd) == (IMAGES, Decimal(usd))


@pytest.mark.parametrize("endpoint", ["fal-ai/flux/dev", "fal-ai/nano-banana"])
def test_a_result_that_its_input_counts_is_not_asked_for_again(endpoint: str) -> None:
    """In a burst of pictures nobody makes a call more than it takes."""
    delivered = announced(row_for(endpoint, prompt="a fox"), IMAGES)
    assert delivered.output == IMAGES
    assert delivered.cost_usd


@pytest.mark.parametrize(
    ("endpoint", "arguments", "usd"),
    [
        (KLING, {"prompt": "it turns", "image_url": ASSET, "duration": "10"}, "0.7"),
        (VIDEO, {"video_url": ASSET}, "0.3"),
    ],
)
def test_a_result_that_comes_without_a_count_is_kept_all_the_same(
    endpoint: str, arguments: dict[str, Any], usd: str
) -> None:
    """It is paid, and no better answer will come: by what was asked for, else what was expected, until the bill."""
    row = row_for(endpoint, **arguments)
    row.request_id, row.estimate_usd = "fal-1", Decimal("0.3")

    def queue(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"status": "COMPLETED"} if request.url.path.endswith("/status") else IMAGES)

    with Fal("id:secret", transport=httpx.MockTransport(queue)) as fal:
        polled = poll(fal, row)
    assert polled is not None
    assert (polled.output, polled.cost_usd) == (IMAGES, Decimal(usd))


def test_a_count_that_no_call_comes_to_is_not_believed() -> None:
    """What was made is paid all the same: as much as was expected."""
    row = row_for(ESRGAN, image_url=ASSET)
    row.estimate_usd = Decimal("0.01")
    polled = succeeded(row, IMAGES, billable_units=Decimal("1e30"))
    assert (polled.output, polled.cost_usd) == (IMAGES, Decimal("0.01"))
