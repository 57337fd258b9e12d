"""The training of a LoRA as it is ordered (`flows/train_lora.py`), and what each of its calls is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from darkroom.engine.request_spec import as_part, quote
from darkroom.errors import BadInput
from darkroom.flows.orders.bounds import MAX_USD, MaxUsd, require_within
from darkroom.flows.parts.trained_style import PAINTER
from darkroom.ledger import Asset, Ledger
from darkroom.media.captions import LONGEST_CAPTION
from darkroom.media.training_images import FEWEST_IMAGES, MOST_IMAGES, SHORTEST_SIDE, called
from darkroom.models import InputProblem, WrongInput
from darkroom.order import Address, EstimatePart, Order, Prepared, field
from darkroom.providers.models import find_model, find_ordered
from darkroom.providers.web.model import LONGEST_URL

ZIPPED = "archive"
TRAINER = "fal-ai/flux-lora-fast-training"
CHECK, NOTES, TRAIN, TEST, GRID = "check", "notes", "train", "test", "grid"
# What a trigger word is asked to show where nobody says. The seeds are always the same: versions can be compared.
OF_A_SUBJECT = (
    "a portrait of {word}, soft studio light",
    "{word} outdoors on a sunny day, full view",
    "{word} in a quiet street at night, rain, reflections",
    "{word}, watercolour on white paper",
)
OF_A_STYLE = (
    "a fox in the snow, in the style of {word}",
    "a harbour town at dawn, in the style of {word}",
    "a still life with pears, in the style of {word}",
    "a portrait of an old sailor, in the style of {word}",
)

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{1,39}$")]
Source = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_URL)]
Archive = Annotated[Source, Field(title="Id or address")] | None
Sources = Annotated[list[Source], Field(max_length=MOST_IMAGES)]
Caption = Annotated[str, StringConstraints(max_length=LONGEST_CAPTION)]
Captions = Annotated[dict[str, Caption], Field(max_length=MOST_IMAGES)]
Steps = Annotated[int, Field(ge=100, le=4000)]
TestPrompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
TestPrompts = Annotated[list[TestPrompt], Field(max_length=4)]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What was ordered. `sources`: ids of files and addresses on the web, by the field they were given in."""

    sources: Mapping[str, str]
    captions: Mapping[str, str]

    @property
    def zipped(self) -> bool:
        return ZIPPED in self.sources


def is_asset(source: str) -> bool:
    return source.startswith("ast_")


EXAMPLES = {
    "uploads": {
        "summary": "Somebody or something, from uploads",
        "value": {
            "trigger_word": "mochi_cat",
            "images": ["ast_019aa1f0c101", "ast_019aa1f0c102", "ast_019aa1f0c103", "ast_019aa1f0c104"],
            "captions": {"0": "mochi_cat asleep on a sofa"},
        },
    },
    "style": {
        "summary": "A style, from a zip of pictures and captions",
        "value": {
            "trigger_word": "ukiyo-9",
            "archive": "https://files.example/prints.zip",
            "style": True,
            "steps": 1500,
            "test_prompts": ["a bicycle, in the style of ukiyo-9"],
        },
    },
}

ANSWERS = """From 4 to 50 pictures of at least 256 pixels a side, uploaded (`POST /v1/uploads`) or on the web.

They are brought and checked before anything is paid: if one is no good, the job fails and its error names all that
are. The training takes 15 to 30 minutes, and the job's `progress` tells how far it has come. Then the weights and
four test pictures are in the job's `assets`, and `result` has the `lora_id`, the `trigger_word` and its `version`:
name either in `POST /v1/images` as `lora`.

What was noticed of the pictures refuses nothing, and is in the job's file `notes` from then on, and in `result.notes`:
which look alike (`allow_similar` leaves that out), what in the archive was passed over, which caption has no picture,
what a picture was before it was made a JPEG or PNG. The same picture twice, by bytes or by pixels, is no good.

Captions in the archive, or in `captions`, say what each picture shows beside what is to be learned; the trigger
word is put in front of those that lack it. With none at all the trainer writes its own.

`estimate_usd` is the most it should cost.
"""


def _unfit_picture(asset: Asset, same: str | None) -> str | None:
    """Return why that is no picture to train with. `same`: where it was given before."""
    if not asset.content_type.startswith("image/"):
        return f"It is a file of another kind: {asset.content_type}"
    if asset.width and asset.height and min(asset.width, asset.height) < SHORTEST_SIDE:
        return f"It has {asset.width} × {asset.height} pixels, and each side needs {SHORTEST_SIDE}"
    return f"It is the same picture as {same}" if same else None


class Training(Order):
    """What a LoRA is trained with."""

    over_http = Address(
        path="/v1/loras",
        name="order_lora",
        kind="train-lora",
        tag="LoRAs",
        summary="Train a LoRA",
        answers=ANSWERS,
        examples=EXAMPLES,
    )

    trigger_word: Word = field(
        "Trigger word",
        "What calls it up in a prompt: a word of no meaning, e.g. `mochi_cat`. Letters, digits, _ and -, 2 to 40.",
    )
    images: Sources = field(
        "Pictures", "4 to 50: ids of uploads (ast_…), or addresses on the web. Or give an archive instead.", []
    )
    archive: Archive = field(
        "Archive", "A zip of 4 to 50 pictures, captions as .txt of the same name: an id or an address.", None
    )
    captions: Captions = field(
        "Captions",
        "What a picture shows, by its name in the archive or its place among the pictures from 0. Empty: the "
        "trainer's.",
        {},
    )
    steps: Steps = field("Steps", "100 to 4000. More: closer to the pictures, and less free.", 1000)
    style: bool = field("A style", "The pictures have a style in common, not somebody or something.", False)
    test_prompts: TestPrompts = field("Test prompts", "Up to 4 pictures to judge it by. Empty: four of ours.", [])
    allow_similar: bool = field("Similar pictures", "Do not tell which pictures look alike.", False)

    max_usd: MaxUsd = MAX_USD

    def check(self) -> None:
        """Check what can be known without looking at the pictures. Raise BadInput."""
        # An order's `lora` is either: a word like an id could stand for two of them.
        if self.trigger_word.startswith("lora_"):
            raise BadInput("It reads like the id of a LoRA. Choose another word.", field="trigger_word")
        if bool(self.images) == bool(self.archive):
            raise BadInput("Give either images or an archive.", field="images")
        if self.images and len(self.images) < FEWEST_IMAGES:
            raise BadInput(f"Give {FEWEST_IMAGES} to {MOST_IMAGES} pictures.", field="images")
        for place, source in self.given().sources.items():
            if not is_asset(source) and not source.startswith(("https://", "http://")):
                raise BadInput("Give the id of an upload (ast_…), or an address on the web.", field=place)

        for endpoint in (TRAINER, PAINTER):
            find_ordered(endpoint)  # it is allowed here
        # Those for an archive are held against its files, once these are read.
        for place in self.captions if self.images else ():
            if place not in {str(n) for n in range(len(self.images))}:
                raise BadInput("Name a picture's place among the images, from 0.", field=f"captions.{place[:80]}")

    def prepare(self, ledger: Ledger, *, user_id: str) -> Prepared:
        # The run would find it out as well; but here it costs nobody a minute.
        if problems := list(self._unfit(ledger, user_id)):
            more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
            raise WrongInput(f"{problems[0].field}: {problems[0].problem}{more}.", problems=problems)
        whole = self.estimate()
        require_within(whole, self.max_usd)
        return Prepared(estimate_usd=whole, parts=self.parts())

    def _unfit(self, ledger: Ledger, user_id: str) -> Iterator[InputProblem]:
        """Find what is wrong with own files by what is on record of them: it does not take a look at one."""
        seen = dict[str, str]()
        for place, source in self.given().sources.items():
            if not is_asset(source):
                continue
            asset = ledger.assets.get(source)
            if asset is None or asset.user_id != user_id or asset.hidden:
                yield InputProblem(
                    field=place, problem="You have no file of this id", remedy="Bring it with POST /v1/uploads."
                )
            elif place != ZIPPED and (problem := _unfit_picture(asset, seen.get(asset.sha256))):
                yield InputProblem(field=place, problem=problem, remedy="Replace it, or leave it out.")
            # By content: one picture may have been uploaded twice, under two ids.
            elif asset is not None:
                seen.setdefault(asset.sha256, place)

    def given(self) -> Given:
        """Return the pictures, each by the field in which it was given: so errors name them."""
        sources = {f"images.{n}": source for n, source in enumerate(self.images)}
        return Given(sources={ZIPPED: self.archive} if self.archive else sources, captions=self.captions)

    def prompts(self) -> list[str]:
        """Return the prompts of the test pictures, each with the trigger word."""
        ours = OF_A_STYLE if self.style else OF_A_SUBJECT
        given = self.test_prompts or [prompt.format(word=self.trigger_word) for prompt in ours]
        return [called(prompt, self.trigger_word) for prompt in given]

    def training(self, archive: object) -> dict[str, Any]:
        """Build the trainer's input."""
        given = {"trigger_word": self.trigger_word, "steps": self.steps, "is_style": self.style}
        return {"images_data_url": archive, **given}

    def pictures(self, weights: object) -> list[dict[str, Any]]:
        """Build the inputs of the test pictures."""
        return [
            {"prompt": prompt, "image_size": "square_hd", "seed": n, "loras": [{"path": weights, "scale": 1.0}]}
            for n, prompt in enumerate(self.prompts(), start=1)
        ]

    def parts(self) -> list[EstimatePart]:
        """Tell what the training and its test pictures should cost at most, and how that is known."""
        trainer, painter = find_model(TRAINER), find_model(PAINTER)
        training = quote(trainer, trainer.validate(self.training("asset:ast_0")))
        tests = [quote(painter, painter.validate(each)) for each in self.pictures("asset:ast_0")]
        return [
            as_part(training, TRAIN, TRAINER),
            reduce(EstimatePart.plus, (as_part(each, TEST, PAINTER) for each in tests)),
        ]

    def estimate(self) -> Decimal:
        return sum((part.usd for part in self.parts()), Decimal(0))
