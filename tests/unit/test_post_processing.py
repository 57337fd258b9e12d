"""The steps after a picture, one after the other: what is asked of whom, and what is made of its answer.

The job is one that keeps its files in memory, and its provider paints what it is given: black where it was transparent.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, cast

import pytest
from PIL import Image
from pydantic import TypeAdapter

from darkroom import Job, Waiting
from darkroom.errors import BadInput, Permanent
from darkroom.flows.parts.picture_steps import Steps
from darkroom.flows.parts.post_processing import post_process
from darkroom.ledger import Asset

STEPS: TypeAdapter[Any] = TypeAdapter(Steps)


class Painting:
    """A job with its files at hand. A call has come when it was asked for `patience` times."""

    id = "job_1"
    user_id = "u1"

    def __init__(self, *, patience: int = 0) -> None:
        self.files: dict[str, bytes] = {}
        self.stored: dict[str, Asset] = {}
        self.asked: list[tuple[str, str]] = []
        self.told: list[tuple[float, str]] = []
        self._patience = patience
        self._waited: dict[str, int] = {}

    @property
    def assets(self) -> list[Asset]:
        return list(self.stored.values())

    def keep(self, step: str, image: Image.Image, name: str = "PNG") -> Asset:
        out = BytesIO()
        image.save(out, name)
        return self._put(step, out.getvalue())

    def _put(self, step: str, content: bytes) -> Asset:
        with Image.open(BytesIO(content)) as image:
            kind, (width, height) = f"image/{(image.format or '').lower()}", image.size
        asset = Asset(
            id=f"ast_{len(self.files)}",
            user_id=self.user_id,
            step=step,
            key=step,
            sha256=step,
            content_type=kind,
            bytes=len(content),
            width=width,
            height=height,
        )
        self.files[asset.id] = content
        self.stored[step] = asset
        return asset

    def infer(self, endpoint: str, arguments: dict[str, Any], *, step: str, reuse: bool) -> tuple[str, Asset, float]:
        assert reuse, "what was paid before serves again"
        self._waited[step] = self._waited.get(step, -1) + 1
        if self._waited[step] == 0:
            self.asked.append((step, endpoint))
        if self._waited[step] < self._patience:
            raise Waiting([step])
        return step, arguments["image_url"], arguments.get("upscale_factor", arguments.get("scale", 1))

    def store(self, inference: tuple[str, Asset, float]) -> list[Asset]:
        step, picture, factor = inference
        if step not in self.stored:
            with Image.open(BytesIO(self.files[picture.id])) as image:
                larger = image.resize((round(image.width * factor), round(image.height * factor)))
            painted = Image.new("RGB", larger.size)
            painted.paste(larger, mask=larger.getchannel("A") if larger.mode == "RGBA" else None)
            cut_out = "remove_background" in step
            self.keep(step, _cut_out(painted) if cut_out else painted)
        return [self.stored[step]]

    def make(self, step: str, build: Callable[[], bytes]) -> Asset:
        return self.stored.get(step) or self._put(step, build())

    def read(self, asset: Asset) -> bytes:
        return self.files[asset.id]

    def progress(self, percent: float, text: str) -> None:
        self.told.append((percent, text))


def _cut_out(image: Image.Image) -> Image.Image:
    mask = Image.new("L", image.size)
    mask.paste(255, (image.width // 4, 0, image.width, image.height))
    image.putalpha(mask)
    return image


def process(job: Painting, *steps: Any, pictures: list[Asset] | None = None) -> list[Asset]:
    given = pictures or [job.keep("generate", Image.new("RGB", (40, 20), "orange"))]
    return post_process(cast(Job, job), given, STEPS.validate_python(list(steps)))


def look(job: Painting, asset: Asset) -> Image.Image:
    return Image.open(BytesIO(job.files[asset.id]))


def test_a_picture_without_steps_is_what_it_was() -> None:
    """Nothing is asked, made or told."""
    job = Painting()
    (done,) = process(job)
    assert (done.step, job.asked, job.told) == ("generate", [], [])


def test_each_step_works_on_what_the_one_before_has_made() -> None:
    """Twice enlarged is four times as large."""
    job = Painting()
    (done,) = process(job, "upscale", "watermark", {"step": "upscale", "model": "fal-ai/esrgan"})
    assert job.asked == [("1-upscale", "fal-ai/clarity-upscaler"), ("3-upscale", "fal-ai/esrgan")]
    assert (done.step, done.width, done.height) == ("3-upscale", 160, 80)


@pytest.mark.parametrize("model", ["fal-ai/clarity-upscaler", "fal-ai/esrgan"])
def test_what_was_transparent_stays_so_when_it_is_enlarged(model: str) -> None:
    """The model has painted it black; the mask of before is put on its picture."""
    job = Painting()
    (done,) = process(job, "remove_background", {"step": "upscale", "model": model, "factor": 3})
    image = look(job, done)
    assert (done.step, image.size, image.mode) == ("2-upscale-transparency", (120, 60), "RGBA")
    assert image.getpixel((5, 30))[3] == 0
    assert image.getpixel((80, 30)) == (255, 165, 0, 255)
    assert look(job, job.stored["2-upscale"]).mode == "RGB"


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_a_picture_that_was_not_transparent_is_not_made_anew(name: str) -> None:
    """What the model has made is the step's picture."""
    job = Painting()
    (done,) = process(job, "upscale", pictures=[job.keep("generate", Image.new("RGB", (40, 20)), name)])
    assert done.step == "1-upscale"


def test_several_pictures_are_on_their_way_at_once() -> None:
    """Asked for side by side; one that is done does not wait for the other, and all are waited for."""
    job = Painting(patience=1)
    pictures = [job.keep(f"generate {n}", Image.new("RGB", (40, 20))) for n in range(2)]
    with pytest.raises(Waiting) as waiting:
        process(job, "upscale", "watermark", pictures=pictures)
    assert waiting.value.refs == {"1-upscale-of-1", "1-upscale-of-2"}
    done = process(job, "upscale", "watermark", pictures=pictures)
    assert [asset.step for asset in done] == ["2-watermark-of-1", "2-watermark-of-2"]
    assert [percent for percent, _ in job.told] == [0, 100]


def test_how_far_it_has_come_is_told() -> None:
    """In steps of all pictures."""
    job = Painting(patience=1)
    pictures = [job.keep("generate", Image.new("RGB", (40, 20)))]
    for _ in range(2):
        with pytest.raises(Waiting):
            process(job, "watermark", "upscale", "watermark", "remove_background", pictures=pictures)
    process(job, "watermark", "upscale", "watermark", "remove_background", pictures=pictures)
    assert job.told == [
        (25, "1 of 4 steps after the picture"),
        (75, "3 of 4 steps after the picture"),
        (100, "4 of 4 steps after the picture"),
    ]


def test_a_picture_that_would_become_too_large_is_found_before_anything_is_asked() -> None:
    """By its real size: what was ordered by name may come larger."""
    job = Painting()
    with pytest.raises(BadInput) as caught:
        process(
            job,
            "watermark",
            "upscale",
            {"step": "upscale", "factor": 4},
            pictures=[job.keep("x", Image.new("L", (1000, 1000)))],
        )
    assert (caught.value.step, job.asked, set(job.stored)) == ("3-upscale", [], {"x"})


def test_a_step_that_fails_leaves_the_ones_before_it() -> None:
    """Nothing after it is asked for."""
    job = Painting()

    def store(inference: tuple[str, Asset, float]) -> list[Asset]:
        if inference[0] == "2-remove_background":
            raise Permanent("no subject found")
        return Painting.store(job, inference)

    job.store = store  # type: ignore[method-assign]
    with pytest.raises(Permanent):
        process(job, "upscale", "remove_background", "upscale")
    assert set(job.stored) == {"generate", "1-upscale"}
    assert [step for step, _ in job.asked] == ["1-upscale", "2-remove_background"]
