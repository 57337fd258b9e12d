"""The gateway's small decisions: whose webhook it is, when to grant again, what to log, what differs."""

from __future__ import annotations

import inspect
import platform
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.filesystems import LocalFileSystem
from pydantic import SecretStr

from darkroom.batches.pictures import _kinds_of
from darkroom.deployments.gateway.log_throttle import INTERVAL_SECONDS, LogThrottle
from darkroom.deployments.gateway.loops.admitter import seconds_until, soon_free
from darkroom.deployments.gateway.loops.block_cache import account_differences, difference, differences
from darkroom.deployments.gateway.memory import give_memory_back
from darkroom.deployments.gateway.recurrence import MOST_IN_WINDOW, MOST_KEPT, Recurrence
from darkroom.deployments.gateway.webhook_ingest import Match, match
from darkroom.ledger import Request
from darkroom.media.store import BLOCK_NAME, MediaStore
from darkroom.providers.fal import FalAccount
from darkroom.providers.gemini import GeminiAccount
from darkroom.providers.mux import MuxAccount
from darkroom.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
OURS = Request(ref="req_1", token="a" * 32)

MATCHES = {
    "known by its id, with its token": ("a" * 32, OURS, None, Match.HELD),
    "known by its id, without a token": (None, OURS, None, Match.HELD),
    "known by its id, with another's token": ("b" * 32, OURS, None, Match.FOREIGN_TOKEN),
    "known by its id, with nonsense for a token": ("é", OURS, None, Match.FOREIGN_TOKEN),
    "known by its id, with an empty token": ("", OURS, None, Match.FOREIGN_TOKEN),
    "known by its token alone": ("a" * 32, None, OURS, Match.CONFIRM),
    "known by nothing": ("b" * 32, None, None, Match.UNKNOWN),
}


@pytest.mark.parametrize(("token", "by_id", "by_token", "found"), MATCHES.values(), ids=MATCHES)
def test_a_webhook_is_matched_by_id_first_and_by_token_with_care(
    token: str | None, by_id: Request | None, by_token: Request | None, found: Match
) -> None:
    """fal's signature covers the id and not the token: a token alone has to be confirmed."""
    assert match(token, by_id=by_id, by_token=by_token) is found


@pytest.mark.parametrize(
    ("due", "seconds"),
    [
        (None, 2.0),
        (NOW + timedelta(seconds=1), 1),
        (NOW + timedelta(hours=1), 2.0),
        (NOW - timedelta(seconds=1), 0),
    ],
)
def test_the_granter_comes_when_a_row_is_due(due: datetime | None, seconds: float) -> None:
    """And in any case every few seconds, for what other processes queued."""
    assert seconds_until(due, now=NOW, most=2.0) == seconds


@pytest.mark.parametrize(
    ("freed", "within", "soon"),
    [
        ([], 1, 0),
        ([99.0], 1, 1),
        ([94.0], 1, 0),
        ([95.5, 96, 97, 98, 99], 1, 1),
        ([99.0] * 6, 1, 2),
        ([99.9] * 100, 1, 20),
        ([99.9] * 100, 0, 0),
    ],
)
def test_as_many_runs_are_made_ahead_as_slots_will_soon_come_free(freed: list[float], within: float, soon: int) -> None:
    """By the pace of the last seconds; where none came free lately, the wait would be longer than a run's patience."""
    assert soon_free(freed, now=100.0, within=within) == soon


def test_strangers_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """One line per reason and minute, which tells how many there were; each reason on its own."""
    time = [0.0]
    sampler = LogThrottle("webhooks refused", clock=lambda: time[0])

    for _ in range(100):
        sampler.count("bad_signature")
    sampler.count("stale")
    time[0] = INTERVAL_SECONDS
    sampler.count("bad_signature")

    assert [record.getMessage() for record in caplog.records] == [
        "webhooks refused: 1 × bad_signature",
        "webhooks refused: 1 × stale",
        "webhooks refused: 100 × bad_signature",
    ]
    assert sampler.counts == {"bad_signature": 101, "stale": 1}


def test_a_difference_between_environment_and_block_is_told_without_showing_it(tmp_path: Path) -> None:
    """Blocks rule; whoever changed the environment instead finds out why nothing happened."""
    settings = Settings(fal_key=SecretStr("new:key"), store=str(tmp_path / "new"))
    account = FalAccount(key=SecretStr("old:key"))
    store = MediaStore(LocalFileSystem(basepath=str(tmp_path / "old")))

    found = account_differences(settings, lambda _: account) + differences(settings, store=store)

    assert [text.split(",")[0] for text in found] == [
        "The block fal-account/default",
        f"DARKROOM_STORE is not the place of the block local-file-system/{BLOCK_NAME}",
    ]
    assert "key" not in " ".join(found)


def test_equal_settings_and_blocks_do_not_differ(tmp_path: Path) -> None:
    """A line end pasted with the key is no difference, and what could not be read yet is none either."""
    settings = Settings(fal_key=SecretStr("a:key\n"), store=str(tmp_path))
    account = FalAccount(key=SecretStr("a:key"))
    store = MediaStore(LocalFileSystem(basepath=str(tmp_path)))

    assert account_differences(settings, lambda _: account) + differences(settings, store=store) == []
    assert account_differences(settings, lambda _: None) + differences(settings, store=None) == []


@pytest.mark.parametrize(
    ("existing", "words"),
    [
        (None, "There is no block gemini-account/default for GEMINI_API_KEY: run `darkroom provision`"),
        (GeminiAccount(key=SecretStr("old")), "The block gemini-account/default, which is used, differs from"),
        (GeminiAccount(key=SecretStr("new")), None),
    ],
)
def test_an_account_beside_fals_is_told_where_it_is_missing_or_another(
    existing: GeminiAccount | None, words: str | None
) -> None:
    """Without showing a key. Only some jobs need it, so the installation is ready all the same."""
    said = difference(GeminiAccount(key=SecretStr("new")), existing)
    assert (said or "").startswith(words or "")
    assert (said is None) == (words is None)


def test_half_of_what_an_account_needs_is_no_account() -> None:
    """Mux has an id and a secret; an empty variable is none."""
    assert MuxAccount.given(Settings(mux_token_id="id")) is None
    assert MuxAccount.given(Settings(mux_token_id="id", mux_token_secret=SecretStr(""))) is None
    assert MuxAccount.given(Settings(mux_token_id="id", mux_token_secret=SecretStr("secret"))) is not None


def test_the_same_webhook_is_taken_so_often_within_a_minute_and_not_oftener() -> None:
    """Each request has a minute of its own."""
    now = [0.0]
    recurrence = Recurrence(clock=lambda: now[0])

    assert [recurrence.too_often("a") for _ in range(500)] == [False] * MOST_IN_WINDOW + [True] * (500 - MOST_IN_WINDOW)
    assert not recurrence.too_often("b")
    now[0] = 60.0
    assert not recurrence.too_often("a")


def test_what_a_gateway_remembers_of_strangers_is_bounded() -> None:
    """Of requests whose webhooks come, and of models that manifests name: entries, however many are sent."""
    recurrence = Recurrence()
    for n in range(MOST_KEPT + 500):
        recurrence.too_often(n)
        _kinds_of(f"no/such-model-{n}", 0)

    assert len(recurrence) == MOST_KEPT
    assert _kinds_of.cache_info().currsize <= 256


def test_no_cache_of_the_library_grows_without_end() -> None:
    """One with arguments has a bound: they may be what somebody sends."""
    unbounded = [
        f"{module.__name__}.{name}"
        for module in list(sys.modules.values())
        if module.__name__.startswith("darkroom.")
        for name, each in vars(module).items()
        if hasattr(each, "cache_parameters") and each.cache_parameters()["maxsize"] is None
        if inspect.signature(each).parameters and name not in {"query", "block_class"}
    ]
    assert unbounded == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_the_allocator_is_told_to_give_back_what_is_freed() -> None:
    """A heap for each of some forty threads kept a gigabyte of which Python used 20 MB."""
    assert give_memory_back()
