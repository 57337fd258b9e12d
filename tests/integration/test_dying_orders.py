"""Orders of several nodes that die at every point of their way, and fail at each of their nodes.

What a process that is really killed leaves, and that it is missed and brought back, is held in `tests/acceptance/`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dying import REFUSED, Answer, House, open_house
from media_files import film, sound
from PIL import Image, ImageDraw

from darkroom.deployments.simulator.script_writer import write
from darkroom.deployments.simulator.weights import palette_by_chance, weights
from darkroom.flows.orders.debate import FILMS, SPEAKS, STREAMS, WRITES
from darkroom.flows.orders.training import TRAINER
from darkroom.ledger import Ledger, Request, StoredFile, new_id


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """An order of several nodes.

    `paid`: its calls. `kept`: steps with files. `needs`: of calls, those of which any would keep them from being made.
    """

    kind: str
    parameters: Callable[[House, str], dict[str, Any]]
    paid: tuple[str, ...]
    kept: frozenset[str]
    points: int  # at least so many
    needs: Mapping[str, frozenset[str]]


@cache
def picture(number: int = 0, *, size: tuple[int, int] = (320, 320)) -> bytes:
    """Each with a disc at a place of its own: none is like another."""
    image = Image.effect_noise(size, 20).convert("RGB")
    left = 20 + 50 * number
    ImageDraw.Draw(image).ellipse((left, 30, left + 110, 260), fill=(220, 90 + 20 * number, 30))
    out = BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@cache
def moving() -> bytes:
    return film(seconds=2, size=(320, 180))


@cache
def spoken() -> bytes:
    return sound(seconds=4)


def answer(row: Request, house: House) -> dict[str, Any]:
    """Give what the model of a call would."""
    assert row.input is not None
    match row.endpoint:
        case endpoint if endpoint == TRAINER:
            trained = weights(seed="a fox", palette=palette_by_chance("a fox"))
            return {
                "diffusers_lora_file": house.publish("weights.safetensors", trained),
                "config_file": house.publish("config.json", json.dumps({"steps": 500}).encode()),
            }
        case endpoint if endpoint == WRITES:
            return {"json": write(row.input["schema"], row.input["prompt"]), "usage": {"output_tokens": 9}}
        case endpoint if endpoint == SPEAKS:
            url = "data:audio/mpeg;base64," + base64.b64encode(spoken()).decode()
            return {"audio": {"url": url}}
        case endpoint if endpoint == FILMS:
            return {"video": house.publish("film.mp4", moving())}
        case endpoint if endpoint == STREAMS:
            return {"playback_id": "plays", "stream_url": "https://stream.mux.com/plays.m3u8", "seconds": 1.0}
        case _:
            one = house.publish(f"{row.step}.png", picture(size=(256, 192)))
            return {"images": [one], "image": one}


def an_edit(house: House, user_id: str) -> dict[str, Any]:
    post = ["upscale", "remove_background", "watermark", {"step": "upscale", "model": "fal-ai/esrgan"}]
    return {"prompt": "a fox", "image_size": {"width": 256, "height": 192}, "post": post}


def a_training(house: House, user_id: str) -> dict[str, Any]:
    return {"trigger_word": "mochi", "steps": 500, "images": [brought(house, user_id, n) for n in range(4)]}


def a_debate(house: House, user_id: str) -> dict[str, Any]:
    return {"topic": "tea", "brands": ["Fox", "Hen"], "duration": 5}


def brought(house: House, user_id: str, number: int) -> str:
    content, asset_id = picture(number), new_id("ast_")
    key = f"uploads/{user_id}/{asset_id}.png"
    house.resources.store.write(key, content)
    digest = hashlib.sha256(content).hexdigest()
    file = StoredFile(key=key, sha256=digest, content_type="image/png", bytes=len(content), width=320, height=320)
    return house.ledger.assets.add_upload(user_id, asset_id=asset_id, file=file).id


CHAIN = ("generate", "1-upscale", "2-remove_background", "4-upscale")
TESTED = ("test-1", "test-2", "test-3", "test-4")
ORDERS = {
    "edit": Ordered(
        kind="generate-image",
        parameters=an_edit,
        paid=CHAIN,
        kept=frozenset({"generate", "1-upscale", "2-remove_background", "3-watermark", "4-upscale"}),
        points=18,
        needs={step: frozenset(CHAIN[:n]) for n, step in enumerate(CHAIN)},
    ),
    "training": Ordered(
        kind="train-lora",
        parameters=a_training,
        paid=("train", *TESTED),
        kept=frozenset({"check", "train", *TESTED, "grid"}),
        points=27,
        needs=dict.fromkeys(TESTED, frozenset({"train"})),
    ),
    "debate": Ordered(
        kind="make-debate",
        parameters=a_debate,
        paid=("script", "mascot-1", "mascot-2", "voice", "film", "upload"),
        kept=frozenset({"mascot-1", "mascot-2", "voice", "stage", "film", "composite"}),
        points=18,
        needs={
            **dict.fromkeys(("mascot-1", "mascot-2", "voice"), frozenset({"script"})),
            "film": frozenset({"script", "mascot-1", "mascot-2"}),
            "upload": frozenset({"script", "mascot-1", "mascot-2", "voice", "film"}),
        },
    ),
}
# One test picture for all of them: they are each on their own.
NODES = [(name, step) for name, order in ORDERS.items() for step in order.paid if step not in (*TESTED[:2], TESTED[3])]


@pytest.fixture
def house(ledger: Ledger, tmp_path: Path) -> Iterator[House]:
    with open_house(ledger, tmp_path, answer) as house:
        yield house


@pytest.fixture
def ann(ledger: Ledger) -> str:
    return ledger.users.add("ann", plan="studio").user_id


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_that_dies_at_every_point_goes_on_and_pays_nothing_twice(house: House, ann: str, name: str) -> None:
    """One call for each node, by the providers' own count, and each file once, as it is on record."""
    ordered = ORDERS[name]
    job_id = house.post(ordered.kind, ordered.parameters(house, ann), user_id=ann)
    house.dies = True
    house.carry(job_id)
    assert house.sent == dict.fromkeys(ordered.paid, 1)
    assert house.kept(job_id) >= ordered.kept
    assert len(house.died_at) >= ordered.points


@pytest.mark.parametrize(("name", "step"), NODES)
def test_a_node_that_fails_for_good_is_named_keeps_the_others_and_is_all_that_a_replay_pays(
    house: House, ann: str, name: str, step: str
) -> None:
    """With the provider's reason. Nothing that needs it is paid before it is there."""
    ordered = ORDERS[name]
    job_id = house.post(ordered.kind, ordered.parameters(house, ann), user_id=ann)
    house.refused = {step}
    error = house.fails(job_id)
    assert (error.step, error.code) == (step, REFUSED)
    paid, kept = dict(house.sent), house.kept(job_id)
    assert paid[step] == 1 and step not in kept
    assert not {call for call, needed in ordered.needs.items() if step in needed} & set(paid)
    house.refused = set()
    house.ledger.jobs.replay(job_id)
    house.carry(job_id)
    assert house.sent == {**dict.fromkeys(ordered.paid, 1), step: 2}
    assert house.kept(job_id) >= ordered.kept | kept


def no_weights(row: Request, house: House) -> dict[str, Any]:
    """Give a page in the place of what was trained."""
    given = answer(row, house)
    if row.step == "train":
        given["diffusers_lora_file"] = house.publish("weights.safetensors", b"<html>gone</html>")
    return given


def no_logo(row: Request, house: House) -> dict[str, Any]:
    """Its file is lost while the picture is at the provider."""
    if row.step == "2-remove_background":
        (logo,) = (house.folder / "uploads").rglob("*.png")
        logo.unlink(missing_ok=True)
    return answer(row, house)


def no_voice(row: Request, house: House) -> dict[str, Any]:
    """A file of the store is not what was put there."""
    if row.step == "film":
        (voice,) = (house.folder / "audio").rglob("voice-0.*")
        voice.write_bytes(b"not a sound any more")
    return answer(row, house)


@pytest.mark.parametrize(
    ("name", "answers", "step", "code", "kept"),
    [
        ("training", no_weights, "train", "wrong_type", {"check"}),
        ("edit", no_logo, "3-watermark", "media_missing", {"generate", "1-upscale", "2-remove_background"}),
        ("debate", no_voice, "composite", "wrong_type", {"mascot-1", "mascot-2", "voice", "stage", "film"}),
    ],
)
def test_what_cannot_be_stored_or_made_fails_its_node_and_keeps_what_was_made_before(
    house: House, ann: str, name: str, answers: Answer, step: str, code: str, kept: set[str]
) -> None:
    """It names the node; nothing after it is paid, and nothing is tried twice."""
    ordered = ORDERS[name]
    given = ordered.parameters(house, ann)
    if answers is no_logo:
        given["post"][2] = {"step": "watermark", "logo": brought(house, ann, 0)}
    job_id = house.post(ordered.kind, given, user_id=ann)
    house.answer = answers
    error = house.fails(job_id)
    assert (error.step, error.code) == (step, code)
    assert {str(asset.step) for asset in house.ledger.assets.of_job(job_id)} == kept
    assert set(house.sent.values()) == {1} and not {"4-upscale", "upload", *TESTED} & set(house.sent)
