"""A topic and two brands become a debate of their mascots: a film with voice and captions, ready to be streamed.

Triggered by `POST /v1/debates`, the Prefect UI, `prefect deployment run make-debate/on-demand -p topic="coffee or tea"
-p 'brands=["Foxbrew", "Kettle & Co"]'`, or `python flows/make_debate.py TOPIC BRAND BRAND` on a running stack. Needs
the media store and the blocks of four accounts: `fal-account`, `gemini-account`, `elevenlabs-account`, `mux-account`
(each `/default`); that one is missing is said before anything is paid.

    script ─┬─ mascot-1 ─┬─ stage ─ film ─┬─ composite ─ upload
            ├─ mascot-2 ─┘                │
            └─ voice ─────────────────────┘

Every node is stored as it ends, so a failure in one repeats none before it: with a replay the others are taken from the
record. Fails with the provider's words and the node's name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal, Self

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from blocks.catalogue import find_model
from blocks.ledger import OPERATOR, Asset, RequestSpec, RequestStatus
from blocks.media import Kind
from flows.engine import Job, RetryPolicy, drive, specify
from flows.engine.resources import current
from flows.parts.debate_script import (
    LETTERS_PER_SECOND,
    ROUNDS,
    SCHEMA,
    WRITER,
    Script,
    assignment,
    longest_spoken,
)
from flows.parts.form import shown
from flows.parts.storyboard import tell

KIND = "make-debate"
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

# A tenth of a cent, answered in seconds, and everything waits for it: often and soon. A model that disobeyed its schema
# mostly obeys when it is asked again.
SCRIPTS = RetryPolicy(attempts=4, first=timedelta(seconds=1), longest=timedelta(seconds=15))
# Some cents each.
PICTURES = RetryPolicy(attempts=3, first=timedelta(seconds=2), longest=timedelta(minutes=1))
# A cent, and nobody waits for it before the film is there.
VOICES = RetryPolicy(attempts=4, first=timedelta(seconds=2), longest=timedelta(minutes=1))
# By far the dearest: what surely failed is tried once more, what may have been paid is left to a person.
FILMING = RetryPolicy(attempts=2, first=timedelta(seconds=10), longest=timedelta(minutes=2), resubmit_expired=False)
# Costs nothing until the film has arrived, and everything before it is paid: patiently.
UPLOADS = RetryPolicy(attempts=6, first=timedelta(seconds=2), longest=timedelta(minutes=5))

Topic = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=300)]
Brand = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]
Brands = Annotated[list[Brand], Field(min_length=2, max_length=2)]
Voice = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,64}$")]
Duration = Literal["5", "10"]
Style = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=200)]

TOPIC = shown("Topic", "What they argue about.")
BRANDS = shown("Brands", "The two sides; the first one begins.")
VOICE = shown("Voice", "Id of one of your account's voices at ElevenLabs. Reads both sides.", RACHEL)
DURATION = shown("Film", "Seconds that are made, and paid: 5 or 10. They are shown again until all is said.", "10")
STYLE = shown("Style", "How the mascots are drawn.", LOOK_OF_A_FILM)
USER = shown("User", "Who it is for: a user's name or id.", OPERATOR)


class Debate(BaseModel):
    """What a debate is asked for with."""

    model_config = ConfigDict(extra="forbid")

    topic: Topic = TOPIC
    brands: Brands = BRANDS
    voice: Voice = VOICE
    duration: Duration = DURATION
    style: Style = STYLE

    @model_validator(mode="after")
    def _has_two_sides(self) -> Self:
        first, second = (brand.casefold() for brand in self.brands)
        if first == second:
            raise PydanticCustomError("sides", "brands must be two different ones")
        if not all(text.isprintable() for text in (self.topic, self.style, *self.brands)):
            raise PydanticCustomError("text", "topic, brands and style must each be one line")
        return self

    @property
    def rounds(self) -> int:
        return ROUNDS[self.duration]

    def script_call(self) -> RequestSpec:
        """The first paid call it takes."""
        return specify(WRITES, self.script_input(), step="script")

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
        return {"prompt": prompt, "image_url": stage, "duration": self.duration}

    def estimate(self) -> Decimal:
        """What the whole debate should cost at most, in USD, if nothing has to be tried again."""
        spoken = longest_spoken(self.rounds)
        calls: list[tuple[str, dict[str, Any]]] = [
            *[(PAINTS, self.portrait_input("a mascot"))] * 2,
            (SPEAKS, self.voice_input(spoken)),
            (FILMS, self.film_input("they talk", "asset:ast_0")),
            (STREAMS, {"video": "asset:ast_0", "seconds": max(len(spoken) / LETTERS_PER_SECOND, int(self.duration))}),
        ]
        rest = sum((specify(*call, step="estimate").estimate_usd for call in calls), Decimal(0))
        return self.script_call().estimate_usd + rest


def debate(job: Job) -> dict[str, Any]:
    order = Debate.model_validate(job.parameters)
    if not any(call.status is RequestStatus.SUCCEEDED for call in job.calls):
        _require_accounts()
    try:
        return _carry_out(job, order)
    finally:  # also where the rest has yet to come
        tell(job, order.brands)


def _carry_out(job: Job, order: Debate) -> dict[str, Any]:
    """Each call is started as soon as what it needs is there, and waited for where it is needed."""
    script = Script.model_validate(job.infer(WRITES, order.script_input(), step="script", retry=SCRIPTS).output["json"])
    looks = {"mascot-1": script.mascot_first, "mascot-2": script.mascot_second}
    for step, look in looks.items():
        job.start(PAINTS, order.portrait_input(look), step=step, retry=PICTURES)
    job.start(SPEAKS, order.voice_input(script.spoken()), step="voice", retry=VOICES)

    portraits = [job.store(job.wait_all(step)[0])[0] for step in looks]
    stage = job.make("stage", partial(_side_by_side, job, portraits))
    job.start(FILMS, order.film_input(script.scene, stage), step="film", retry=FILMING)

    (sound,) = job.store(job.wait_all("voice")[0])
    (film,) = job.store(job.wait_all("film")[0])
    lines = script.lines(order.brands)
    finished = job.make("composite", partial(_composed, job, film, sound, lines), kind=Kind.VIDEO)
    upload = {"video": finished, "title": script.title, "seconds": finished.seconds}
    streamed = job.infer(STREAMS, upload, step="upload", retry=UPLOADS).output
    return {
        "title": script.title,
        "summary": script.summary,
        "script": [{"speaker": speaker, "text": text} for speaker, text in lines],
        "seconds": finished.seconds,
        "video": finished.id,
        "playback_id": streamed["playback_id"],
        "playback_url": streamed["stream_url"],
    }


def _require_accounts() -> None:
    """Raises NeedsHuman where a provider's block is missing: half a debate is of no use to anybody."""
    for endpoint in (WRITES, PAINTS, FILMS, SPEAKS, STREAMS):
        current().providers.of(find_model(endpoint).account_id)


def _side_by_side(job: Job, portraits: Sequence[Asset]) -> bytes:
    from blocks.film.stage import side_by_side

    left, right = portraits
    return side_by_side(job.read(left), job.read(right))


def _composed(job: Job, film: Asset, sound: Asset, lines: Sequence[tuple[str, str]]) -> bytes:
    # Here, because the gateway, which knows our parameters, has no use for a film library.
    from blocks.film import compose, spread

    assert sound.seconds is not None
    return compose(job.read(film), job.read(sound), spread(lines, sound.seconds))


@flow(name=KIND, retries=0, log_prints=False)
def make_debate(
    topic: Topic = TOPIC,
    brands: Brands = BRANDS,
    voice: Voice = VOICE,
    duration: Duration = DURATION,
    style: Style = STYLE,
    user: str = USER,
) -> State[Any]:
    """The mascots of two brands argue about a topic, in a film."""
    order = Debate(topic=topic, brands=brands, voice=voice, duration=duration, style=style)
    order.script_call()  # wrong input ends here, before anything is on record
    return drive(debate, parameters=order.model_dump(mode="json", exclude_defaults=True), user=user)


if __name__ == "__main__":
    make_debate(sys.argv[1], sys.argv[2:4])
