"""Brings an installation to what this version needs: `darkroom provision`.

The ledger's tables, the operator's key, and in Prefect the work pool, queues, blocks, deployments and the automations.
Every step looks first and may be repeated at any time. Blocks and pool that exist rule over the environment, as they
can be edited in Prefect's UI; `overwrite` replaces them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from blocks.errors import DarkroomError, NeedsHuman, Retry
from blocks.ledger import OPERATOR, Ledger, migrate
from blocks.orchestrator import RECONCILE, Orchestrator
from blocks.prefect_api import PrefectApi
from blocks.settings import Settings, load_settings
from blocks.timing import Timing
from deployments.automations import RESUME_ON_CALLBACK, ensure_automation, reconcile_on_bad_end
from deployments.home import Home, write_private
from deployments.prefect_yaml import deploy_all
from deployments.simulator.environment import SECRETS as SIMULATOR_SECRETS
from deployments.work_pool import ensure_work_pool

if TYPE_CHECKING:
    from blocks.credentials import Configured
    from blocks.fal import FalAccount

PREFECT_DEADLINE_SECONDS = 90.0
POLL_SECONDS = 0.2
LONGEST_STANDSTILL = timedelta(days=1)  # after which Prefect may not have heard yet of runs that had ended


def provision(settings: Settings, *, overwrite: bool = False, say: Callable[[str], None] = print) -> None:
    if not settings.ledger_url:
        raise NeedsHuman("DARKROOM_LEDGER_URL is not set: point it at a Postgres database")
    migrate(settings.ledger_url)
    say("ledger: tables are up to date")
    with (
        closing(Ledger(settings.ledger_url, timing=settings.timing)) as ledger,
        closing(PrefectApi.from_environment()) as api,
    ):
        ensure_operator_key(ledger, settings, say=say)
        _wait_for_prefect(api)
        ensure_work_pool(api, overwrite=overwrite)
        orchestrator = Orchestrator(api)
        orchestrator.ensure_queue(OPERATOR, limit=ledger.users.plan_of(OPERATOR).in_flight)
        say("work pool and queues: ready")
        ensure_account(settings, overwrite=overwrite, say=say)
        for kind in _configured():
            ensure_block(kind, settings, overwrite=overwrite, say=say)
        ensure_store(api, settings, overwrite=overwrite, say=say)
        deployments = list(deploy_all(timing=settings.timing))
        for name in deployments:
            say(f"deployment {name}: up to date")
        bad_end = _reconcile_on_bad_end(orchestrator, deployments, settings.timing)
        for automation in (RESUME_ON_CALLBACK, bad_end):
            ensure_automation(api, automation)
            say(f"automation {automation['name']!r}: ready")
        if ledger.runs.not_closed() or ledger.runs.closed_since(ledger.clock() - LONGEST_STANDSTILL):
            orchestrator.run_now(RECONCILE, closed_within_minutes=int(LONGEST_STANDSTILL.total_seconds() // 60))
            say("reconcile: looks at once at the runs that were under way")


def _reconcile_on_bad_end(orchestrator: Orchestrator, deployments: Iterable[str], timing: Timing) -> dict[str, Any]:
    ids = [str(orchestrator.deployment_id(name)) for name in deployments if name != RECONCILE]
    reconcile = str(orchestrator.deployment_id(RECONCILE))
    return reconcile_on_bad_end(reconcile=reconcile, deployments=ids, timing=timing)


def ensure_operator_key(ledger: Ledger, settings: Settings, *, say: Callable[[str], None]) -> None:
    """The key with which `darkroom generate` and its like speak for the operator, where there is a home to keep it."""
    if not settings.home.is_dir():
        say("operator: no key kept, as there is no DARKROOM_HOME; get one with `darkroom user rotate operator`")
        return
    file = Home(settings.home).operator_key
    if file.exists() and ledger.users.authenticate(file.read_text().strip()):
        return
    write_private(file, ledger.users.rotate(OPERATOR).key + "\n")
    say(f"operator: new key in {file}")


def ensure_account(settings: Settings, *, overwrite: bool, say: Callable[[str], None]) -> None:
    from blocks.fal import FalAccount

    key = settings.fal_key.get_secret_value() if settings.fal_key else ""
    existing = _account()
    if existing is None and not key:
        raise NeedsHuman("no fal account: set FAL_KEY, or create the block fal-account/default in the Prefect UI")
    if key and (existing is None or overwrite or _changes_provider(existing, key)):
        FalAccount(key=SecretStr(key), user_id=settings.fal_user_id).save("default", overwrite=True)
        say("block fal-account/default: written from FAL_KEY")
    elif existing and key not in ("", existing.key.get_secret_value()):
        say("block fal-account/default: kept, though FAL_KEY differs (--overwrite replaces it)")


def ensure_block(kind: type[Configured], settings: Settings, *, overwrite: bool, say: Callable[[str], None]) -> None:
    """Without its variables it mostly is not made: only jobs that need it miss it, and they say so."""
    given, existing = kind.given(settings), _existing(kind)
    variables = " and ".join(kind.variables)
    if given is None and existing is None and (usual := kind.where_nothing_is_given()) is not None:
        usual.save("default", overwrite=True)
        say(f"block {kind.slug()}: written as it is without {variables}")
        return
    if given and (existing is None or overwrite or _is_simulated(existing) != _is_simulated(given)):
        given.save("default", overwrite=True)
        say(f"block {kind.slug()}: written from {variables}")
        return
    # As saving does: the form in Prefect's UI is up to date with the fields of this version.
    kind.register_type_and_schema()
    if given and existing and not existing.same_as(given):
        say(f"block {kind.slug()}: kept, though it differs from {variables} (--overwrite replaces it)")


def ensure_store(api: PrefectApi, settings: Settings, *, overwrite: bool, say: Callable[[str], None]) -> None:
    from blocks.media_store import make_store_block, store_block_slug

    slug = store_block_slug(settings.media_store)
    exists = _block_exists(api, slug)
    if settings.media_store.startswith("block:"):
        if not exists:
            raise NeedsHuman(
                f"DARKROOM_STORE names the block {slug}, which does not exist: create it in the Prefect UI"
            )
    elif overwrite or not exists:
        make_store_block(settings.media_store).save(slug.partition("/")[2], overwrite=True)
        say(f"block {slug}: written for {settings.media_store}")


def _account() -> FalAccount | None:
    from blocks.fal import FalAccount

    # Also brings the form in Prefect's UI up to date with the fields of this version.
    FalAccount.register_type_and_schema()
    try:
        account = FalAccount.load("default")
    except ValueError:
        return None
    assert isinstance(account, FalAccount)
    return account


def _configured() -> tuple[type[Configured], ...]:
    from blocks.accounts import CONFIGURED

    return CONFIGURED


def _existing(kind: type[Configured]) -> Configured | None:
    try:
        return kind.load_default()
    except NeedsHuman:
        return None


def _changes_provider(account: FalAccount, key: str) -> bool:
    """The one case in which an existing key is replaced unasked: between the simulator's and a real one."""
    return (account.key.get_secret_value() in SIMULATOR_SECRETS) != (key in SIMULATOR_SECRETS)


def _is_simulated(account: Configured) -> bool:
    return any(secret in SIMULATOR_SECRETS for secret in account.secrets())


def _block_exists(api: PrefectApi, slug: str) -> bool:
    kind, _, name = slug.partition("/")
    return api.call("GET", f"/block_types/slug/{kind}/block_documents/name/{name}", absent=True) is not None


def _wait_for_prefect(api: PrefectApi) -> None:
    """A server that was started beside us still migrates its database."""
    deadline = time.monotonic() + PREFECT_DEADLINE_SECONDS
    while True:
        try:
            api.call("GET", "/health")
            return
        except Retry:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deployments.provision", description=__doc__)
    parser.add_argument("--overwrite", action="store_true", help="replace blocks and pool settings that exist")
    try:
        provision(load_settings(), overwrite=parser.parse_args().overwrite)
    except DarkroomError as error:
        sys.exit(f"darkroom: {error}")


if __name__ == "__main__":
    main()
