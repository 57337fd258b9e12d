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
from functools import partial
from typing import Any

from darkroom import Job, RetryPolicy, pipeline
from darkroom.engine.resources import current
from darkroom.extras import needs_extra
from darkroom.flows.orders.debate import FILMS, PAINTS, SPEAKS, STREAMS, WRITES, Debate
from darkroom.flows.parts.debate_script import Script
from darkroom.flows.parts.storyboard import tell
from darkroom.ledger import Asset, RequestStatus
from darkroom.media.formats import Kind
from darkroom.providers.models import find_model

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


@pipeline(Debate)
def make_debate(job: Job, order: Debate) -> dict[str, Any]:
    """Have the mascots of two brands argue about a topic, in a film."""
    # Asked before anything is paid. Once something is, the rest goes as far as it can.
    if not any(call.status is RequestStatus.SUCCEEDED for call in job.calls):
        _require_accounts()
    try:
        return _carry_out(job, order)
    finally:  # also where the rest has yet to come
        tell(job, order.brands)


def _carry_out(job: Job, order: Debate) -> dict[str, Any]:
    """Start each call as soon as what it needs is there, and waited for where it is needed."""
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
    # The length is for the estimate alone: Mux is not told.
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
    """Raise NeedsHuman where a provider's block is missing."""
    # All of them, also those that are needed last: half a debate is of no use to anybody.
    for endpoint in (WRITES, PAINTS, FILMS, SPEAKS, STREAMS):
        current().providers.of(find_model(endpoint).account_id)


def _side_by_side(job: Job, portraits: Sequence[Asset]) -> bytes:
    with needs_extra("film"):
        from darkroom.media.film.split_screen import side_by_side

    left, right = portraits
    return side_by_side(job.read(left), job.read(right))


def _composed(job: Job, film: Asset, sound: Asset, lines: Sequence[tuple[str, str]]) -> bytes:
    # Here, because the gateway, which knows our parameters, has no use for a film library.
    with needs_extra("film"):
        from darkroom.media.film import compose, spread

    assert sound.seconds is not None
    return compose(job.read(film), job.read(sound), spread(lines, sound.seconds))


if __name__ == "__main__":
    make_debate(sys.argv[1], sys.argv[2:4])
