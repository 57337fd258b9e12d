"""Any model over HTTP: found, looked at, ordered by its card, and refused with the path of what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from running_gateway import NO_PREFECT, Customer, GivenBlocks, RunningGateway, recording_prefect, running_gateway

from darkroom import Order, field
from darkroom.engine.registry import REGISTRY, Pipeline
from darkroom.engine.request_spec import build_request, part_of
from darkroom.ledger import Ledger, StoredFile, new_id
from darkroom.models import Card, packaged_cards
from darkroom.order import Prepared
from darkroom.providers.fal import FalAccount
from darkroom.providers.fal.platform import FalPlatform
from darkroom.settings import Settings

BANANA, KLING = "fal-ai/nano-banana", "fal-ai/kling-video/v2.5-turbo/pro/image-to-video"
FILM = "fal-ai/kling-video/v2.5-turbo/pro/text-to-video"
TRELLIS, QWEN, SPEECH = "fal-ai/trellis", "fal-ai/qwen-image", "fal-ai/elevenlabs/tts/eleven-v3"
ASSET = "asset:ast_019aa1f0d8b4"
# Over five models, and two that cannot be ordered.
WRONG: list[tuple[str, dict[str, Any], str]] = [
    (BANANA, {}, "input.prompt"),
    (BANANA, {"promt": "x"}, "input.promt"),
    (BANANA, {"prompt": "x", "num_images": 5}, "input.num_images"),
    (BANANA, {"prompt": "x", "aspect_ratio": "7:1"}, "input.aspect_ratio"),
    (BANANA, {"prompt": "x", "sync_mode": True}, "input.sync_mode"),
    (BANANA, {"prompt": " "}, "input.prompt"),
    (KLING, {"prompt": "x"}, "input.image_url"),
    (KLING, {"prompt": "x", "image_url": "fox.png"}, "input.image_url"),
    (KLING, {"prompt": "x", "image_url": ASSET, "duration": 5}, "input.duration"),
    (KLING, {"prompt": "", "image_url": ASSET}, "input.prompt"),
    (TRELLIS, {"image_url": "data:image/png;base64,AA"}, "input.image_url"),
    (TRELLIS, {"image_url": "https://example.com/x.png", "texture_size": 700}, "input.texture_size"),
    (TRELLIS, {"image_url": "https://example.com/x.png", "mesh_simplify": 0.5}, "input.mesh_simplify"),
    (TRELLIS, {"image_url": "https://example.com/x.png", "seed": "7"}, "input.seed"),
    (QWEN, {"prompt": "x", "loras": [{"path": "a", "scale": 9}]}, "input.loras.0.scale"),
    (QWEN, {"prompt": "x", "loras": [{"scale": 1}]}, "input.loras.0.path"),
    (QWEN, {"prompt": "x", "image_size": {"width": 0}}, "input.image_size.width"),
    (QWEN, {"prompt": "x", "image_size": "vast"}, "input.image_size"),
    (SPEECH, {"text": "x", "speed": 3}, "input.speed"),
    (SPEECH, {"text": "x", "voices": "Rachel"}, "input.voices"),
    ("fal-ai/nano-bananas", {"prompt": "x"}, "model"),
    ("google/not-here", {"prompt": "x"}, "model"),
]
NEW = Card(
    endpoint="fal-ai/brand-new/v9",
    account_id="fal",
    title="Brand new",
    category="text-to-video",
    input_schema={"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
    output_schema={"type": "object", "properties": {"video": {"type": "object"}}},
    unit="videos",
    unit_price=Decimal("0.25"),
)


class Platform:
    """Knows one model that neither the code nor the packaged cards have heard of."""

    def card(self, endpoint: str) -> Card | None:
        return NEW if endpoint == NEW.endpoint else None

    def usual_cost(self, endpoint: str) -> None:
        return None

    def pages(self) -> Iterator[list[Card]]:
        yield [NEW]


@pytest.fixture
def gateway(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningGateway]:
    @contextmanager
    def platform(cls: type[FalAccount]) -> Iterator[Platform]:
        yield Platform()

    monkeypatch.setattr(FalAccount, "platform", classmethod(platform))
    with recording_prefect() as prefect:
        monkeypatch.setenv("PREFECT_API_URL", prefect.url)
        settings = Settings(
            home=tmp_path,
            ledger_url=ledger_url,
            signing_key=SecretStr("k"),
            store=str(tmp_path),
            models="fal-ai/*, openai/*",
        )
        with running_gateway(settings, blocks=GivenBlocks()) as gateway:
            yield gateway


@pytest.fixture
def ann(gateway: RunningGateway, ledger: Ledger) -> Customer:
    return gateway.as_user(ledger.users.add("ann", plan="studio"))


def run(customer: Customer, model: str, input: dict[str, Any], **more: Any) -> httpx.Response:
    return customer.post("/v1/generations", json={"model": model, "input": input, **more})


def requests_of(ledger: Ledger, answer: httpx.Response) -> list[Any]:
    return ledger.requests.of_job(answer.json()["job_id"])


def test_a_model_that_nobody_has_heard_of_is_ordered_at_once(ann: Customer, ledger: Ledger) -> None:
    """It is fetched on its first use; the call has its card's version and price on record."""
    answer = run(ann, NEW.endpoint, {"prompt": "a fox"})
    assert answer.status_code == 202, answer.text
    (row,) = requests_of(ledger, answer)
    assert (row.endpoint, row.model_version, row.estimate_usd) == (NEW.endpoint, 1, Decimal("0.25"))
    assert row.input == {"prompt": "a fox"}
    assert ann.get(f"/v1/models/{NEW.endpoint}").json()["title"] == "Brand new"


@pytest.mark.parametrize(("model", "input", "path"), WRONG)
def test_a_wrong_input_is_refused_before_anything_is_queued(
    ann: Customer, model: str, input: dict[str, Any], path: str
) -> None:
    """With its path and the remedy."""
    answer = run(ann, model, input)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, path), answer.text
    assert problem["remedy"]
    assert ann.get("/v1/jobs").json()["items"] == []


def test_all_that_is_wrong_is_in_one_answer(ann: Customer) -> None:
    """Each field with its remedy."""
    problem = run(ann, BANANA, {"promt": "x", "num_images": 9, "output_format": "gif"}).json()
    found = {each["field"]: each["remedy"] for each in problem["errors"]}
    assert set(found) == {"input.promt", "input.prompt", "input.num_images", "input.output_format"}
    assert found["input.output_format"] == "Use jpeg, png, webp."


def test_models_are_found_and_paged(ann: Customer) -> None:
    """The packaged ones are there before any platform was asked."""
    first = ann.get("/v1/models?limit=2").json()
    second = ann.get(f"/v1/models?limit=2&cursor={first['next']}").json()
    endpoints = [each["endpoint"] for each in first["items"] + second["items"]]
    assert endpoints == sorted(set(endpoints))
    films = ann.get("/v1/models?category=text-to-video").json()["items"]
    assert {each["category"] for each in films} == {"text-to-video"}
    (banana, edit) = ann.get("/v1/models?q=Nano%20Banana").json()["items"]
    assert (banana["endpoint"], banana["unit_price_usd"], banana["packaged"]) == (BANANA, 0.039, True)
    assert edit["endpoint"] == f"{BANANA}/edit"
    assert ann.get("/v1/models?cursor=%00").status_code == 422


def test_a_model_is_looked_at_by_its_whole_name(ann: Customer) -> None:
    """Slashes and all; one that nobody has is not there."""
    card = ann.get(f"/v1/models/{KLING}").json()
    assert card["input_schema"]["required"] == ["prompt", "image_url"]
    assert ann.get("/v1/models/fal-ai/nothing").status_code == 404


def test_a_model_without_a_price_needs_a_bound(ann: Customer, ledger: Ledger) -> None:
    """The order's, and then it is what the call is reserved with; or the operator's."""
    refused = run(ann, "fal-ai/veo3", {"prompt": "a fox"}).json()
    assert (refused["type"], refused["field"]) == ("urn:darkroom:problem:no-price", "model")
    taken = run(ann, "fal-ai/veo3", {"prompt": "a fox"}, max_usd=3.5)
    assert requests_of(ledger, taken)[0].estimate_usd == Decimal("3.5")
    ledger.models.keep([{**packaged_cards()["fal-ai/veo3"].facts(), "endpoint": "fal-ai/priced-here"}])
    ledger.models.price("fal-ai/priced-here", Decimal("3.2"))
    (part,) = quote(ann, "run-model", {"model": "fal-ai/priced-here", "input": {"prompt": "x"}}).json()["parts"]
    assert (part["usd"], part["source"]) == (3.2, "operator")
    (row,) = requests_of(ledger, run(ann, "fal-ai/priced-here", {"prompt": "a fox"}))
    assert row.estimate_usd == Decimal("3.2")


def test_an_order_above_its_own_bound_is_refused_with_the_estimate(ann: Customer) -> None:
    """Films and pictures alike."""
    film = run(ann, FILM, {"prompt": "x", "duration": "10"}, max_usd=0.5)
    assert film.json()["type"] == "urn:darkroom:problem:above-max-usd"
    assert "$0.7" in film.json()["detail"]
    assert ann.order({"prompt": "a fox", "num_images": 4, "max_usd": 0.05}).json()["field"] == "max_usd"
    assert ann.order({"prompt": "a fox", "num_images": 2, "max_usd": 0.05}).status_code == 202


def test_pictures_are_ordered_of_any_model_that_makes_them(ann: Customer, ledger: Ledger) -> None:
    """Its own fields are arguments; a model that makes none is refused."""
    taken = ann.order({"prompt": "a fox", "model": BANANA, "arguments": {"aspect_ratio": "3:2"}})
    assert taken.status_code == 202, taken.text
    assert requests_of(ledger, taken)[0].input == {"prompt": "a fox", "aspect_ratio": "3:2"}
    wrong = ann.order({"prompt": "a fox", "model": BANANA, "arguments": {"aspect_ratio": "x"}})
    assert wrong.json()["field"] == "arguments.aspect_ratio"
    assert ann.order({"prompt": "a fox", "model": NEW.endpoint}).json()["field"] == "model"


def test_a_file_of_somebody_elses_is_refused_by_its_path(ann: Customer, ledger: Ledger) -> None:
    """One's own is taken; nobody learns what is there."""
    file = StoredFile(key="images/x.png", sha256="0" * 64, content_type="image/png", bytes=1, width=1, height=1)
    theirs = ledger.assets.add_upload(ledger.users.add("bob").user_id, asset_id=new_id("ast_"), file=file)
    file_id = f"asset:{theirs.id}"
    one = run(ann, KLING, {"prompt": "x", "image_url": file_id})
    assert (one.status_code, one.json()["field"]) == (422, "input.image_url")
    several = run(ann, f"{BANANA}/edit", {"prompt": "x", "image_urls": [file_id]})
    assert (several.status_code, several.json()["field"]) == (422, "input.image_urls.0")


def test_readiness_tells_how_old_the_cards_are(gateway: RunningGateway) -> None:
    """It makes nothing unready."""
    ready = gateway.http.get("/readyz").json()
    assert ready["models"]["cards"] == ready["models"]["packaged"] > 30
    assert ready["models"]["fetched_at"]


def test_without_a_network_at_the_first_start_the_packaged_cards_serve(
    ledger_url: str, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are listed, ordered and priced, and readiness tells their age, which is that of the package."""

    @contextmanager
    def platform(cls: type[FalAccount]) -> Iterator[FalPlatform]:
        with closing(FalPlatform("a key")) as platform:
            yield platform

    monkeypatch.setattr(FalAccount, "platform", classmethod(platform))
    for name in ("HTTPS_PROXY", "https_proxy"):  # a simulator of the session sets both
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("PREFECT_API_URL", NO_PREFECT)
    settings = Settings(home=tmp_path, ledger_url=ledger_url, signing_key=SecretStr("k"), store=str(tmp_path))
    with running_gateway(settings, blocks=GivenBlocks()) as gateway:
        ann = gateway.as_user(ledger.users.add("ann", plan="studio"))
        told = gateway.http.get("/readyz").json()["models"]
        taken_at = {card.fetched_at for card in packaged_cards().values()}
        assert told["cards"] == told["packaged"] == len(packaged_cards())
        assert datetime.fromisoformat(told["fetched_at"]) in taken_at
        assert told["age_hours"] > 0
        assert len(ann.get("/v1/models?limit=200").json()["items"]) == told["cards"]
        (row,) = requests_of(ledger, run(ann, BANANA, {"prompt": "a fox"}))
        assert (row.model_version, row.estimate_usd) == (1, Decimal("0.039"))
        assert run(ann, "fal-ai/veo3", {"prompt": "a fox"}).json()["type"] == "urn:darkroom:problem:no-price"
        assert run(ann, "fal-ai/not-in-the-package", {"prompt": "a fox"}).json()["field"] == "model"


def quote(customer: Customer, kind: str, order: dict[str, Any]) -> httpx.Response:
    return customer.post("/v1/quotes", json={"kind": kind, "order": order})


@pytest.mark.parametrize(
    ("kind", "order", "usd", "steps"),
    [
        ("run-model", {"model": BANANA, "input": {"prompt": "x", "num_images": 2}}, 0.078, ["run"]),
        ("run-model", {"model": BANANA, "input": {"prompt": "x"}, "max_usd": 0.01}, 0.039, ["run"]),
        ("run-model", {"model": "fal-ai/veo3", "input": {"prompt": "x"}, "max_usd": 3}, 3, ["run"]),
        ("generate-image", {"prompt": "x", "num_images": 2, "image_size": "square_hd"}, 0.05, ["generate"]),
        (
            "generate-image",
            {"prompt": "x", "image_size": "square_hd", "post": ["upscale", "watermark", "remove_background"]},
            0.025 + 0.12 + 0.00555,
            ["generate", "1-upscale", "3-remove_background"],
        ),
        ("train-lora", {"trigger_word": "mochi", "archive": "https://files.example/x.zip"}, 2.14, ["train", "test"]),
        ("render-batch", {"rows": [{"prompt": "a"}, {"prompt": "b"}]}, 0.056, ["draft", "final"]),
        (
            "render-batch",
            {"rows": [{"prompt": "a", "model": FILM}, {"text": "b", "model": SPEECH}]},
            0.3501,
            ["draft"] * 2,
        ),
        (
            "run-model",
            {"model": BANANA, "input": {"prompt": "x"}, "post": ["upscale", {"step": "watermark", "text": "x"}]},
            0.039 + 0.12,
            ["run", "1-upscale"],
        ),
        (
            "edit-image",
            {"image": "https://files.example/x.png", "post": ["upscale"]},
            0.12,
            ["1-upscale"],
        ),
        (
            "make-debate",
            {"topic": "tabs or spaces", "brands": ["Tab", "Space"]},
            0.774008,
            ["script", "portrait-1", "portrait-2", "voice", "film", "stream"],
        ),
        ("import-images", {"urls": ["https://files.example/x.png"]}, None, []),
    ],
)
def test_what_an_order_would_cost_is_told_in_parts(
    ann: Customer, kind: str, order: dict[str, Any], usd: float | None, steps: list[str]
) -> None:
    """Of every kind, batches and chains included; nothing is written."""
    answer = quote(ann, kind, order)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["estimate_usd"] == (None if usd is None else pytest.approx(usd))
    assert [part["step"] for part in told["parts"]] == steps
    assert sum(part["usd"] for part in told["parts"]) == pytest.approx(usd or 0)
    assert ann.get("/v1/jobs").json()["items"] == []


def test_a_pipeline_of_a_project_has_a_quote_too(ann: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts where it tells them, as a whole where it tells that alone, and of none where it says nothing."""

    class Postcard(Order):
        prompt: str = field("Prompt", "What it shows.")
        tells: str = field("Tells", "How much of its price.", "parts")

        def prepare(self, ledger: Ledger, *, user_id: str) -> Prepared:
            if self.tells == "nothing":
                return Prepared()
            first = build_request(BANANA, {"prompt": self.prompt}, step="paint")
            parts = [part_of(first)] if self.tells == "parts" else []
            return Prepared(first=first, estimate_usd=first.estimate_usd, parts=parts)

    made = Pipeline(kind="make-postcard", order=Postcard, function=lambda job, order: None)
    monkeypatch.setitem(REGISTRY, "make-postcard", made)
    for tells, expected in (
        ("parts", (0.039, [("paint", BANANA, "list_price")])),
        ("whole", (0.039, [("paint", None, "pipeline")])),
        ("nothing", (None, [])),
    ):
        told = quote(ann, "make-postcard", {"prompt": "a fox", "tells": tells}).json()
        parts = [(part["step"], part["endpoint"], part["source"]) for part in told["parts"]]
        assert (told["estimate_usd"], parts) == expected
    assert quote(ann, "make-postcard", {}).json()["field"] == "order.prompt"
    assert ann.get("/v1/jobs").json()["items"] == []


def test_a_quote_says_how_it_is_known(ann: Customer) -> None:
    """Units, the price of one, and the source."""
    (part,) = quote(ann, "run-model", {"model": SPEECH, "input": {"text": "x" * 500}}).json()["parts"]
    assert part == {
        "step": "run",
        "endpoint": SPEECH,
        "units": 0.5,
        "unit": "1000 characters",
        "unit_price_usd": 0.1,
        "usd": 0.05,
        "price_usd": 0.05,
        "source": "list_price",
    }


def test_a_batch_tells_how_its_rows_are_known(ann: Customer, ledger: Ledger) -> None:
    """Rows of one model that are known alike are one part of their pass; others, and steps afterwards, stand apart."""
    ledger.models.keep([{**packaged_cards()[BANANA].facts(), "endpoint": "fal-ai/own-price", "packaged": False}])
    ledger.models.price("fal-ai/own-price", Decimal("0.05"))
    rows = [
        *({"model": "fal-ai/own-price", "prompt": f"fox {n}"} for n in range(3)),
        *({"model": "fal-ai/flux/dev", "prompt": f"hare {n}", "image_size": "square_hd"} for n in range(2)),
        {"model": "openai/gpt-image-2", "prompt": "a sign", "post": ["upscale"]},
    ]
    parts = quote(ann, "render-batch", {"rows": rows}).json()["parts"]
    assert [(part["step"], part["endpoint"], part["source"], part["units"]) for part in parts] == [
        ("draft", "fal-ai/own-price", "operator", None),
        ("draft", "fal-ai/flux/schnell", "list_price", 2),
        ("draft", "openai/gpt-image-2", "guess", 0.02),
        ("final", "fal-ai/flux/dev", "list_price", 2),
        ("final", "openai/gpt-image-2", "guess", 0.19),
        ("final", "fal-ai/clarity-upscaler", "list_price", 3),
    ]
    assert parts[0]["usd"] == 0.15


def test_a_quote_has_the_price_by_the_plans_mark_up(ann: Customer, ledger: Ledger) -> None:
    """Of each part and of the whole; batches too."""
    plan = ledger.users.plan_of(ledger.users.find("ann").id).name
    ledger.users.set_plan(plan, in_flight=3, weight=Decimal(1), markup=Decimal("1.5"))
    chain = quote(ann, "generate-image", {"prompt": "x", "image_size": "square_hd", "post": ["upscale"]}).json()
    assert (chain["estimate_usd"], chain["price_usd"]) == (0.145, 0.2175)
    assert [part["price_usd"] for part in chain["parts"]] == [0.0375, 0.18]
    assert quote(ann, "render-batch", {"rows": [{"prompt": "a"}]}).json()["price_usd"] == 0.042
    assert quote(ann, "import-images", {"urls": ["https://files.example/x.png"]}).json()["price_usd"] is None


def test_a_wrong_order_has_no_quote(ann: Customer) -> None:
    """It is refused as the order would be; a kind that is none is not there."""
    assert quote(ann, "run-model", {"model": BANANA, "input": {}}).json()["field"] == "input.prompt"
    assert quote(ann, "run-model", {"input": {}}).json()["field"] == "order.model"
    assert quote(ann, "no-such-kind", {}).status_code == 404
