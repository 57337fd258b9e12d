"""A provider as a package of its own: `examples/replicate`, found by its entry point, against a simulated Replicate."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from ledger_databases import Db
from pydantic import SecretStr
from reconciling import resources_of, turn
from running_gateway import GivenBlocks, RunningGateway, recording_prefect, running_gateway
from simulated_replicate import SECONDS, TOKEN, SimulatedReplicate, simulated_replicate

from darkroom.engine.request_spec import build_request
from darkroom.engine.resources import Resources
from darkroom.engine.submit import submit
from darkroom.errors import (
    BadInput,
    DarkroomError,
    NeedsHuman,
    Park,
    Permanent,
    RateLimited,
    Refused,
    Retry,
    SubmitUnknown,
)
from darkroom.ledger import Ledger, Request, RequestStatus
from darkroom.media.fetching import check_address
from darkroom.providers import models, registry
from darkroom.providers.account import ProviderAccount
from darkroom.providers.base import Provider
from darkroom.providers.models import find_model
from darkroom.providers.prefect_blocks import block_class
from darkroom.providers.registry import Providers, accounts
from darkroom.settings import Settings

PACKAGE = Path(__file__).parents[2] / "examples" / "replicate"
SCHNELL, SDXL = "replicate/black-forest-labs/flux-schnell", "replicate/stability-ai/sdxl"
PICTURE = Decimal("0.003")
IN_FLIGHT, UNKNOWN = RequestStatus.IN_FLIGHT, RequestStatus.UNKNOWN
SUCCEEDED, FAILED, CANCELLED = RequestStatus.SUCCEEDED, RequestStatus.FAILED, RequestStatus.CANCELLED


@pytest.fixture
def replicate(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedReplicate]:
    """This process's environment is that of an account there."""
    with simulated_replicate() as replicate:
        monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
        monkeypatch.setenv("REPLICATE_WEBHOOK_SECRET", replicate.secret)
        monkeypatch.setenv("REPLICATE_API_BASE", replicate.url)
        yield replicate


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package as pip leaves it: its folder on the path, and beside it what its `pyproject.toml` says of it."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    metadata = {"Metadata-Version": "2.1", "Name": project["name"], "Version": project["version"]}
    (info / "METADATA").write_text("".join(f"{name}: {value}\n" for name, value in metadata.items()))
    points = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points))
    for folder in (info.parent, PACKAGE):
        monkeypatch.syspath_prepend(str(folder))
    forget()
    yield
    forget()


def forget() -> None:
    registry.accounts.cache_clear()
    models.all_models.cache_clear()


@dataclass(frozen=True, kw_only=True)
class OneAccount(GivenBlocks):
    """The blocks of a gateway that knows Replicate's account, and needs no Prefect."""

    block: ProviderAccount
    opened: Provider

    def account(self, account_id: str) -> ProviderAccount | None:
        return self.block if account_id == self.block.account_id else None

    def provider(self, account_id: str) -> Provider:
        return self.opened if account_id == self.block.account_id else super().provider(account_id)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An installation with Replicate's account: its ledger, its gateway, and the resources of a run."""

    ledger: Ledger
    db: Db
    gateway: RunningGateway
    replicate: SimulatedReplicate
    provider: Provider
    resources: Resources
    user_id: str

    def granted(self, endpoint: str = SCHNELL, **arguments: Any) -> Request:
        """A call that may be sent now."""
        first = build_request(endpoint, {"prompt": "a fox"} | arguments, step="generate")
        job = self.ledger.jobs.post(user_id=self.user_id, kind="generate-image", parameters={}, first=first).job
        self.ledger.grants.grant()  # the gateway's own thread may have granted it first
        self.ledger.runs.assign(job.id)
        (row,) = self.ledger.requests.of_job(job.id)
        return row

    def submitted(self, endpoint: str = SCHNELL, **arguments: Any) -> Request:
        """A call that Replicate has: sent as a run sends it, with the address of the real gateway."""
        return submit(self.resources, self.granted(endpoint, **arguments))

    def row(self, ref: str) -> Request:
        return self.ledger.requests.get(ref)

    def reconcile(self, row: Request, *, after: timedelta = timedelta(0)) -> Request:
        """A turn of `reconcile` so long after the submit."""
        self.db.execute("UPDATE request SET submitted_at = submitted_at - %s WHERE ref = %s", [after, row.ref])
        turn(self.resources)
        return self.row(row.ref)


@pytest.fixture
def provider(replicate: SimulatedReplicate) -> Iterator[Provider]:
    with closing(account().provider()) as provider:
        yield provider


def account() -> ProviderAccount:
    given = accounts()["replicate"].given(Settings())
    assert given is not None
    return given


@pytest.fixture
def scene(
    ledger: Ledger,
    ledger_url: str,
    db: Db,
    replicate: SimulatedReplicate,
    provider: Provider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    kind = accounts()["replicate"]
    ledger.accounts.ensure(kind.account_id, slots=kind.slots, user_slots=kind.user_slots)
    settings = Settings(
        ledger_url=ledger_url,
        home=tmp_path,
        signing_key=SecretStr("a long random text"),
        submit_at_grant=False,  # the tests do it in a run's place
    )
    with recording_prefect() as prefect:
        monkeypatch.setenv("PREFECT_API_URL", prefect.url)
        blocks = OneAccount(block=account(), opened=provider)
        with running_gateway(settings, blocks=blocks) as gateway:
            resources = resources_of(ledger, providers=Providers({"replicate": lambda: provider}))
            yield Scene(
                ledger=ledger,
                db=db,
                gateway=gateway,
                replicate=replicate,
                provider=provider,
                resources=replace(resources, settings=Settings(public_url=gateway.url)),
                user_id=ledger.users.add("ann").user_id,
            )


def test_the_package_is_small() -> None:
    """Three files and three hundred lines are what a provider takes."""
    files = sorted((PACKAGE / "darkroom_replicate").glob("**/*.py"))
    assert len(files) <= 3
    assert sum(len(file.read_text().splitlines()) for file in files) <= 300


def test_the_provider_is_found_by_its_entry_point() -> None:
    """Its account, and what can be ordered of it, beside those that come with Darkroom."""
    assert accounts()["replicate"].__module__ == "darkroom_replicate"
    assert {"fal", "gemini", "elevenlabs", "mux"} < set(accounts())
    assert find_model(SCHNELL).account_id == find_model(SDXL).account_id == "replicate"


def test_the_account_is_made_from_the_environment(
    replicate: SimulatedReplicate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is an account, and a signing secret means webhooks; a block of Prefect's can be made of it."""
    kind = accounts()["replicate"]
    assert account().secrets() == [TOKEN, replicate.secret]
    assert kind.sends_webhooks(Settings())
    assert block_class(kind)(**account().values()).same_as(block_class(kind)(**account().values()))
    monkeypatch.delenv("REPLICATE_WEBHOOK_SECRET")
    assert account().secrets() == [TOKEN]
    assert not kind.sends_webhooks(Settings())
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    assert kind.given(Settings()) is None


def test_a_picture_is_told_by_webhook(scene: Scene) -> None:
    """Sent once, with the webhook of its row; settled with its files and its price."""
    row = scene.submitted(num_outputs=2)
    assert (row.status, row.request_id) == (IN_FLIGHT, scene.replicate.the_only_one())
    assert scene.replicate.end(row.request_id) == 200
    row = scene.row(row.ref)
    assert (row.status, row.delivered_via, row.cost_usd) == (SUCCEEDED, "webhook", 2 * PICTURE)
    assert row.output is not None
    files = find_model(SCHNELL).files(row.output)
    assert [file.url for file in files] == scene.replicate.book[row.request_id]["output"]
    ((path, order, headers),) = scene.replicate.posts
    assert path == "/v1/models/black-forest-labs/flux-schnell/predictions"
    assert order["webhook"] == f"{scene.gateway.url}/webhooks/replicate?token={row.token}"
    assert order["webhook_events_filter"] == ["completed"]
    assert order["input"] == row.input
    assert headers["Cancel-After"] == "600s"


def test_a_model_by_version_is_paid_by_the_second(scene: Scene) -> None:
    """What Replicate measured, at the price of its hardware; the version goes with the order."""
    row = scene.submitted(SDXL)
    scene.replicate.end(scene.replicate.the_only_one())
    ((path, order, _),) = scene.replicate.posts
    assert (path, order["version"][:8]) == ("/v1/predictions", "7762fd07")
    assert scene.row(row.ref).cost_usd == (Decimal(str(SECONDS)) * Decimal("0.000975")).quantize(Decimal("0.000001"))


def test_a_lost_webhook_is_found_by_asking(scene: Scene) -> None:
    """Reconcile asks for what has been silent for too long, and for nothing else."""
    row = scene.submitted()
    scene.replicate.end(scene.replicate.the_only_one(), webhook="lost")
    assert scene.reconcile(row).status is IN_FLIGHT
    row = scene.reconcile(row, after=timedelta(minutes=1))
    assert (row.status, row.delivered_via, row.cost_usd) == (SUCCEEDED, "poll", PICTURE)


def test_what_is_under_way_stays_so(scene: Scene) -> None:
    """Starting or processing is no end."""
    row = scene.submitted()
    assert scene.provider.poll(row) is None
    scene.replicate.book[scene.replicate.the_only_one()]["status"] = "processing"
    assert scene.provider.poll(row) is None
    assert scene.reconcile(row, after=timedelta(minutes=1)).status is IN_FLIGHT


@pytest.mark.parametrize(
    ("status", "said", "kind", "code"),
    [
        ("failed", "NSFW content detected. Try a different prompt.", "permanent", "prediction_failed"),
        ("failed", "Director: unexpected error handling prediction (E6716)", "retry", "prediction_failed"),
        ("canceled", None, "permanent", "prediction_canceled"),
        ("aborted", None, "retry", "prediction_aborted"),
    ],
)
def test_a_failure_is_told_in_replicates_words(
    scene: Scene, status: str, said: str | None, kind: str, code: str
) -> None:
    """What may pass is told from what will not; no picture came, so none is paid."""
    row = scene.submitted()
    assert scene.replicate.end(scene.replicate.the_only_one(), status, error=said) == 200
    row = scene.row(row.ref)
    assert (row.status, row.cost_usd) == (FAILED, None)
    assert row.error is not None
    assert (row.error["class"], row.error["code"]) == (kind, code)
    assert (said or status) in row.error["message"]


def test_a_cancelled_job_is_cancelled_at_replicate(scene: Scene) -> None:
    """Its end is on record with the seconds that it has cost."""
    row = scene.submitted(SDXL)
    scene.ledger.jobs.cancel(row.job_id)
    row = scene.reconcile(row)
    assert scene.replicate.book[scene.replicate.the_only_one()]["status"] == "canceled"
    assert row.status is CANCELLED
    assert row.cost_usd
    assert scene.replicate.answered == [200]


def test_a_cancel_that_comes_too_late_changes_nothing(scene: Scene) -> None:
    """What has ended there has ended, and its pictures are kept."""
    row = scene.submitted()
    scene.replicate.end(scene.replicate.the_only_one(), webhook="lost")
    scene.ledger.jobs.cancel(row.job_id)
    row = scene.reconcile(row)
    assert (row.status, row.cost_usd) == (SUCCEEDED, PICTURE)


def test_a_submit_whose_answer_was_lost_is_paid_once(scene: Scene) -> None:
    """The book has one prediction; the row adopts it by its token, once Replicate has confirmed it."""
    scene.replicate.loses_answers = True
    row = scene.submitted()
    assert (row.status, row.request_id) == (UNKNOWN, None)
    assert scene.reconcile(row).status is UNKNOWN
    assert scene.replicate.end(scene.replicate.the_only_one()) == 200
    row = scene.row(row.ref)
    assert (row.status, row.request_id) == (SUCCEEDED, scene.replicate.the_only_one())
    assert row.cost_usd == PICTURE
    assert len(scene.replicate.posts) == 1


def test_another_prediction_is_not_adopted_by_a_token(scene: Scene) -> None:
    """Of another input, or of none that Replicate knows: genuine though its signature is."""
    scene.replicate.loses_answers = True
    row, other = scene.submitted(), scene.submitted(prompt="a badger")
    url = f"{scene.gateway.url}/webhooks/replicate?token={row.token}"
    documents = {each["input"]["prompt"]: each for each in scene.replicate.book.values()}
    assert scene.replicate.send(documents["a badger"] | {"status": "succeeded"}, to=url) == 404
    assert scene.replicate.send(documents["a fox"] | {"status": "succeeded", "id": "nobody"}, to=url) == 404
    assert {scene.row(each.ref).status for each in (row, other)} == {UNKNOWN}


@pytest.mark.parametrize("webhook", ["forged", "old"])
def test_what_is_not_signed_for_us_is_refused(scene: Scene, webhook: str) -> None:
    """By another secret, or six minutes ago: 401, and the row is as it was."""
    row = scene.submitted()
    assert scene.replicate.end(scene.replicate.the_only_one(), webhook=webhook) == 401
    assert scene.row(row.ref).status is IN_FLIGHT


def test_strangers_are_refused(scene: Scene) -> None:
    """Without a signature nothing is read."""
    assert scene.gateway.http.post("/webhooks/replicate", content=b"{}").status_code == 401


def test_one_good_signature_of_several_is_enough(scene: Scene) -> None:
    """While a secret is being changed there are two."""
    row = scene.submitted()
    assert scene.replicate.end(scene.replicate.the_only_one(), webhook="rotating") == 200
    assert scene.row(row.ref).status is SUCCEEDED


@pytest.mark.parametrize(
    ("status", "document", "headers", "kind", "code"),
    [
        (402, {"detail": "Insufficient credit"}, {}, NeedsHuman, "balance_exhausted"),
        (403, {"detail": "Not yours"}, {}, NeedsHuman, "unauthorized"),
        (404, {"detail": "The requested resource could not be found."}, {}, Permanent, "not_found"),
        (429, {"detail": "Request was throttled."}, {"Retry_After": "30"}, RateLimited, "rate_limited"),
        (500, {"detail": "Internal server error"}, {}, Park, "provider_down"),
        (503, "<html>", {}, Park, "provider_down"),
        (403, "<html>", {}, Retry, "unexpected_answer"),
        (201, "<html>", {}, SubmitUnknown, "submit_unknown"),
    ],
)
def test_a_submit_is_sent_once_whatever_is_answered(
    scene: Scene,
    status: int,
    document: dict[str, Any] | str,
    headers: Mapping[str, str],
    kind: type[DarkroomError],
    code: str,
) -> None:
    """A sure refusal by its reason; what may have been taken is unknown."""
    row = scene.granted()
    scene.replicate.refuse(status, document, **headers)
    error = failure(scene.provider, row)
    assert (type(error), error.code) == (kind, code)
    assert error.retry_after == (timedelta(seconds=30) if headers else None)
    assert len(scene.replicate.posts) == 1


def test_an_input_that_replicate_refuses_is_the_callers(scene: Scene) -> None:
    """By Replicate's own check, which names what is missing."""
    with pytest.raises(BadInput, match="prompt is required"):
        scene.provider.submit(scene.granted(), {}, webhook_url=None)
    assert scene.replicate.book == {}


def test_a_bad_token_is_for_a_person_to_see_to(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the block."""
    monkeypatch.setenv("REPLICATE_API_TOKEN", "wrong")
    with closing(account().provider()) as stranger:
        error = failure(stranger, scene.granted())
    assert (type(error), error.code) == (NeedsHuman, "unauthorized")
    assert "replicate-account/default" in error.message


def test_a_replicate_out_of_reach_surely_took_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection, no prediction: the call may be sent again."""
    monkeypatch.setenv("REPLICATE_API_BASE", "http://127.0.0.1:9/v1")
    with closing(account().provider()) as provider:
        error = failure(provider, scene.granted())
    assert (type(error), error.code) == (Park, "unreachable")


def test_no_answer_in_time_may_be_a_prediction(scene: Scene) -> None:
    """The book has it, and nobody has heard of it."""
    from darkroom_replicate.provider import Replicate

    scene.replicate.hangs = threading.Event()
    with closing(Replicate(TOKEN, base=scene.replicate.url, timeout=0.2)) as impatient:
        error = failure(impatient, scene.granted())
    scene.replicate.hangs.set()
    assert type(error) is SubmitUnknown
    assert scene.replicate.the_only_one()


def failure(provider: Provider, row: Request) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        provider.submit(row, row.input or {}, webhook_url=None)
    return caught.value


def test_files_are_fetched_from_replicate_alone() -> None:
    """An address elsewhere is refused, whatever the output says; an output without pictures is none."""
    model = find_model(SCHNELL)
    urls = ["https://replicate.delivery/a.webp", "https://tjzk.replicate.delivery/b.webp", "https://evil.example/c"]
    first, second, foreign = model.files({"pictures": urls})
    for file in (first, second):
        assert file.hosts is not None
        assert check_address(file.url, hosts=file.hosts) == httpx.URL(file.url)
    assert foreign.hosts is not None
    with pytest.raises(Refused):
        check_address(foreign.url, hosts=foreign.hosts)
    with pytest.raises(Permanent, match="no addresses"):
        model.files({"pictures": ["a text"]})


def test_an_input_is_checked_before_anything_is_on_record() -> None:
    """By name and range; what the estimate comes to is the price of all its pictures."""
    model = find_model(SCHNELL)
    with pytest.raises(BadInput) as caught:
        model.validate({"prompt": "a fox", "num_outputs": 5})
    assert caught.value.field == "num_outputs"
    assert model.estimate(model.validate({"prompt": "a fox", "num_outputs": 4})) == 4 * PICTURE
