"""A debate as it is ordered (`flows/make_debate.py`), and what each of its calls is given."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from darkroom.engine.request_spec import build_request, part_of
from darkroom.flows.orders.bounds import MAX_USD, MaxUsd, require_within
from darkroom.flows.parts.debate_script import LETTERS_PER_SECOND, ROUNDS, SCHEMA, WRITER, assignment, longest_spoken
from darkroom.ledger import Asset, Ledger, RequestSpec
from darkroom.order import Address, Order, Prepared, field

WRITES, PAINTS, FILMS, SPEAKS, STREAMS = (
    "google/gemini-2.5-flash",
    "fal-ai/flux/dev",
    "fal-ai/kling-video/v2.5-turbo/pro/image-to-video",
    "elevenlabs/eleven_turbo_v2_5",
    "mux/upload",
)
MOST_TOKENS = 2048  # of a script; it has about 500
LOOK_OF_A_FILM = "3D animated film"
RACHEL = "21m00Tcm4TlvDq8ikWAM"  # a voice that every account at ElevenLabs has


def _as_number(given: Any) -> Any:
    """Take a text, as orders had it before; a command line has a number (`-p duration=5`)."""
    return int(given) if given in ("5", "10") else given


Topic = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=300)]
Brand = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
Brands = Annotated[list[Brand], Field(min_length=2, max_length=2)]
Voice = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,64}$")]
Duration = Annotated[
    Literal[5, 10], BeforeValidator(_as_number, json_schema_input_type=Literal[5, 10] | Literal["5", "10"])
]
Style = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=200)]


EXAMPLES = {
    "simple": {
        "summary": "A topic and two brands",
        "value": {"topic": "Is coffee or tea the better start of a day?", "brands": ["Foxbrew", "Kettle & Co"]},
    },
    "chosen": {
        "summary": "A shorter film, another voice, another style",
        "value": {
            "topic": "city or countryside",
            "brands": ["Metro Map", "Old Barn"],
            "duration": 5,
            "voice": "pNInz6obpgDQGcFmaJgB",
            "style": "stop-motion figures of felt",
        },
    },
}

ANSWERS = """A script is written, both mascots are painted and filmed, a voice reads, and all of it is put together.

`estimate_usd` is what it should cost at most. Everything on the way is in the job's `assets`; `result` has `title`,
`summary`, `script`, `seconds`, `video` (the asset with voice and captions), `playback_id` and `playback_url`. A
debate that failed is put back with `POST /v1/jobs/{id}/replay`: what was made before is not made, or paid, again.
"""


class Debate(Order):
    """What they argue about, and how it looks and sounds."""

    over_http = Address(
        path="/v1/debates",
        name="order_debate",
        kind="make-debate",
        tag="Films",
        summary="Order a debate video",
        answers=ANSWERS,
        examples=EXAMPLES,
    )

    topic: Topic = field("Topic", "What they argue about.")
    brands: Brands = field("Brands", "The two sides; the first one begins.")
    voice: Voice = field("Voice", "Id of one of your account's voices at ElevenLabs. Reads both sides.", RACHEL)
    duration: Duration = field(
        "Film", "Seconds that are made, and paid: 5 or 10. They are shown again until all is said.", 10
    )
    style: Style = field("Style", "How the mascots are drawn.", LOOK_OF_A_FILM)

    max_usd: MaxUsd = MAX_USD

    @model_validator(mode="after")
    def _has_two_sides(self) -> Self:
        first, second = (brand.casefold() for brand in self.brands)
        if first == second:
            raise PydanticCustomError("sides", "brands must be two different ones")
        # Each stands on its own line of what the writer is asked.
        if not all(text.isprintable() for text in (self.topic, self.style, *self.brands)):
            raise PydanticCustomError("text", "topic, brands and style must each be one line")
        return self

    def check(self) -> None:
        self.script_call()

    def prepare(self, ledger: Ledger, *, user_id: str) -> Prepared:
        whole = self.estimate()
        require_within(whole, self.max_usd)
        return Prepared(first=self.script_call(), estimate_usd=whole, parts=[part_of(each) for each in self.calls()])

    @property
    def rounds(self) -> int:
        return ROUNDS[self.duration]

    def script_call(self) -> RequestSpec:
        """Build the first paid call that the debate takes."""
        return build_request(WRITES, self.script_input(), step="script")

    def script_input(self) -> dict[str, Any]:
        return {
            "prompt": assignment(self.topic, self.brands, rounds=self.rounds, style=self.style),
            "system": WRITER,
            "schema": SCHEMA,
            "max_output_tokens": MOST_TOKENS,
            "thinking_budget": 0,  # thinking would double the time, and cost more than the script
        }

    def portrait_input(self, look: str) -> dict[str, Any]:
        prompt = f"{look}. {self.style}, one figure, from head to waist, plain background, no text"
        return {"prompt": prompt, "image_size": "portrait_4_3"}

    def voice_input(self, spoken: str) -> dict[str, Any]:
        return {"text": spoken, "voice_id": self.voice}

    def film_input(self, scene: str, stage: Asset | str) -> dict[str, Any]:
        prompt = f"{scene}. Both mascots talk in turn, the camera stands still, {self.style}"
        # The model's schema has its lengths as text.
        return {"prompt": prompt, "image_url": stage, "duration": str(self.duration)}

    def estimate(self) -> Decimal:
        """Estimate what the whole debate should cost at most, in USD, if nothing has to be tried again."""
        return sum((call.estimate_usd for call in self.calls()), Decimal(0))

    def calls(self) -> list[RequestSpec]:
        """Build the paid calls that it takes, with what they are asked for at most."""
        spoken = longest_spoken(self.rounds)
        # What is not made yet is stood in for: the price hangs on lengths, and not on what is shown.
        calls: list[tuple[str, dict[str, Any]]] = [
            *[(PAINTS, self.portrait_input("a mascot"))] * 2,
            (SPEAKS, self.voice_input(spoken)),
            (FILMS, self.film_input("they talk", "asset:ast_0")),
            # The finished film is as long as its voice, and never shorter than what was filmed.
            (STREAMS, {"video": "asset:ast_0", "seconds": max(len(spoken) / LETTERS_PER_SECOND, self.duration)}),
        ]
        names = ("portrait-1", "portrait-2", "voice", "film", "stream")
        rest = [build_request(*call, step=name) for name, call in zip(names, calls, strict=True)]
        return [self.script_call(), *rest]
