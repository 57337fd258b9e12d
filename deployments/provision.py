"""Brings an installation to what this version needs: `darkroom provision`.

The ledger's tables, the operator's key, and in Prefect the work pool, queues, blocks, deployments and the automations.
Every step looks first and may be repeated at any time. Blocks and pool that exist rule over the environment, as they
can be edited in Prefect's UI; `overwrite` replaces them. Where nothing is missing and the code is the same as the last
time, nothing is deployed and Prefect is not imported: that is most of the time it takes (`deployments/deployed.py`).
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from darkroom.blocks.accounts import configured
from darkroom.deployments.automations import RESUME_ON_CALLBACK, ensure_automation, reconcile_on_bad_end
from darkroom.deployments.block_logos import leave_out_logos
from darkroom.deployments.deployed import deployed_as_this_code, ensure_deployed
from darkroom.deployments.home import Home, write_private
from darkroom.deployments.simulator.environment import SECRETS as SIMULATOR_SECRETS
from darkroom.deployments.work_pool import ensure_work_pool
from darkroom.errors import DarkroomError, NeedsHuman, Retry
from darkroom.ledger import OPERATOR, Ledger, Scope, migrate
from darkroom.ledger.keys import LONGEST_NAME
from darkroom.media.store import store_block_slug
from darkroom.orchestrator import RECONCILE, Orchestrator
from darkroom.orchestrator.api import PrefectApi
from darkroom.providers.account import Configured
from darkroom.providers.registry import accounts
from darkroom.settings import Settings, load_settings
from darkroom.timing import Timing

Kind = TypeVar("Kind", bound=Configured)
PREFECT_DEADLINE_SECONDS = 90.0
POLL_SECONDS = 0.1
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
        if ensure_operator_key(ledger, settings, say=say):
            prepare_to_deploy()  # all of it is new, and Prefect's server may be starting
        _wait_for_prefect(api)
        require_readable_blocks(api, settings)
        ensure_work_pool(api, overwrite=overwrite)
        orchestrator = Orchestrator(api)
        # Before a run names it: Prefect would make it then, and without a limit.
        orchestrator.ensure_queue(OPERATOR, limit=ledger.users.plan_of(OPERATOR).in_flight)
        say("work pool and queues: ready")
        same_code = not overwrite and deployed_as_this_code(api, timing=settings.timing)
        if not same_code:
            prepare_to_deploy()
        for account in accounts().values():
            ledger.accounts.ensure(account.account_id, slots=account.slots, user_slots=account.user_slots)
        for kind in configured():
            if not same_code or not _type_exists(api, kind):  # somebody may have deleted it in the UI
                register(kind)
            ensure_block(kind, settings, overwrite=overwrite, say=say)
        ensure_store(api, settings, overwrite=overwrite, say=say)
        deployments = ensure_deployed(api, timing=settings.timing, same_code=same_code)
        for name in deployments:
            say(f"deployment {name}: up to date")
        bad_end = _reconcile_on_bad_end(orchestrator, deployments, settings.timing)
        for automation in (RESUME_ON_CALLBACK, bad_end):
            ensure_automation(api, automation)
            say(f"automation {automation['name']!r}: ready")
        leave_out_logos(api)  # after the kinds of blocks: Prefect writes its addresses back as one is registered
        # Runs whose worker was killed are Running at Prefect still, and their users' next jobs wait behind them.
        if ledger.runs.not_closed() or ledger.runs.closed_since(ledger.clock() - LONGEST_STANDSTILL):
            orchestrator.run_now(RECONCILE, closed_within_minutes=int(LONGEST_STANDSTILL.total_seconds() // 60))
            say("reconcile: looks at once at the runs that were under way")


def _reconcile_on_bad_end(orchestrator: Orchestrator, deployments: Iterable[str], timing: Timing) -> dict[str, Any]:
    ids = [str(orchestrator.deployment_id(name)) for name in deployments if name != RECONCILE]
    reconcile = str(orchestrator.deployment_id(RECONCILE))
    return reconcile_on_bad_end(reconcile=reconcile, deployments=ids, timing=timing)


def prepare_to_deploy() -> None:
    """Import what takes seconds, and have Prefect make the TLS context once instead of for each of its clients."""
    from darkroom.deployments.worker.internals import share_tls_context

    share_tls_context()


def ensure_operator_key(ledger: Ledger, settings: Settings, *, say: Callable[[str], None]) -> bool:
    """Keep the key with which commands speak for the operator, where there is a home for it.

    Return whether there was none before.
    """
    if not settings.home.is_dir():
        say("operator: no key kept, as there is no DARKROOM_HOME; make that folder and provision again for one")
        return False
    file = Home(settings.home).operator_key
    known = file.exists()
    if known and ledger.users.authenticate(file.read_text().strip()):
        return False
    write_private(file, _key_of(settings.home, ledger) + "\n")
    say(f"operator: new key in {file}")
    return not known


def _key_of(home: Path, ledger: Ledger) -> str:
    """Make the home's own key of the operator's. It replaces that home's former one; those of other homes stay."""
    place = f"{socket.gethostname()}:{home.resolve()}"
    # Of a long one its end, which tells homes apart.
    name = "".join(each if each.isprintable() else "?" for each in place)[-LONGEST_NAME:]
    former = [each for each in ledger.users.keys([OPERATOR]).get(OPERATOR, []) if each.name == name]
    for key in former:
        ledger.keys.revoke(key.id)
    return ledger.keys.add(OPERATOR, name=name, scopes=list(Scope)).key


def require_readable_blocks(api: PrefectApi, settings: Settings) -> None:
    """Raise NeedsHuman where Prefect's server cannot decrypt one of our blocks: it has another key than wrote them."""
    for slug in (*(kind.slug() for kind in configured()), store_block_slug(settings.media_store)):
        try:
            _block_exists(api, slug)
        except Retry as error:
            # Of a block that it cannot decrypt Prefect says 500, as when it is out.
            api.call("GET", "/health")  # which raises where that was the reason
            raise NeedsHuman(_another_key(slug, settings)) from error


def _another_key(slug: str, settings: Settings) -> str:
    known = (
        f"Prefect's server cannot read the block {slug}: it was encrypted with another PREFECT_SERVER_ENCRYPTION_KEY"
    )
    secrets = Home(settings.home).secrets_file
    if secrets.exists():
        return (
            f"{known} than is in {secrets}: bring the former file back. Without it the accounts' keys in the blocks "
            "are lost: `darkroom up --new-secrets` writes the blocks anew, from FAL_KEY and its like"
        )
    return (
        f"{known} than the server has: start it with that one. Without it the accounts' keys in the blocks are lost: "
        "delete the rows of block_document in Prefect's database, and provision with FAL_KEY and its like set"
    )


def ensure_block(kind: type[Configured], settings: Settings, *, overwrite: bool, say: Callable[[str], None]) -> None:
    """Write the block from its variables, where it is missing or is to be overwritten."""
    # Without them it mostly is not made: only jobs that need it miss it, and they say so.
    given, existing = kind.given(settings), _existing(kind)
    variables = " and ".join(kind.variables)
    if given is None and existing is None and getattr(kind, "required", False):
        raise NeedsHuman(f"no account: set {variables}, or create the block {kind.slug()} in the Prefect UI")
    if given is None and existing is None and (usual := kind.where_nothing_is_given()) is not None:
        save(usual)
        say(f"block {kind.slug()}: written as it is without {variables}")
    elif given and (existing is None or overwrite or _is_simulated(existing) != _is_simulated(given)):
        save(given)
        say(f"block {kind.slug()}: written from {variables}")
    elif given and existing and not existing.same_as(given):
        say(f"block {kind.slug()}: kept, though it differs from {variables} (--overwrite replaces it)")


def register(kind: type[Configured]) -> None:
    """Bring the block's form in Prefect's UI up to date with the fields of this version."""
    # Here, as it imports Prefect, which is most of the time that a start takes, and mostly nothing is to be registered.
    from darkroom.providers import prefect_blocks

    prefect_blocks.register(kind)


def save(account: Configured) -> None:
    from darkroom.providers import prefect_blocks

    prefect_blocks.save(account)


def ensure_store(api: PrefectApi, settings: Settings, *, overwrite: bool, say: Callable[[str], None]) -> None:
    slug = store_block_slug(settings.media_store)
    exists = _block_exists(api, slug)
    if settings.media_store.startswith("block:"):
        if not exists:
            raise NeedsHuman(
                f"DARKROOM_STORE names the block {slug}, which does not exist: create it in the Prefect UI"
            )
    elif overwrite or not exists:
        from darkroom.media.store import make_store_block

        make_store_block(settings.media_store).save(slug.partition("/")[2], overwrite=True)
        say(f"block {slug}: written for {settings.media_store}")


def _existing(kind: type[Kind]) -> Kind | None:
    try:
        return kind.load_default()
    except NeedsHuman:
        return None


def _is_simulated(account: Configured) -> bool:
    """Return whether it is the simulator's. A change between that and a real one is the only one made unasked."""
    return any(secret in SIMULATOR_SECRETS for secret in account.secrets())


def _block_exists(api: PrefectApi, slug: str) -> bool:
    kind, _, name = slug.partition("/")
    return api.call("GET", f"/block_types/slug/{kind}/block_documents/name/{name}", absent=True) is not None


def _type_exists(api: PrefectApi, kind: type[Configured]) -> bool:
    return api.call("GET", f"/block_types/slug/{kind.slug().partition('/')[0]}", absent=True) is not None


def _wait_for_prefect(api: PrefectApi) -> None:
    """Wait until Prefect answers: a server that was started beside us still migrates its database."""
    deadline = time.monotonic() + PREFECT_DEADLINE_SECONDS
    while True:
        try:
            api.is_up()
            return
        except Retry:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m darkroom.deployments.provision", description=__doc__)
    parser.add_argument("--overwrite", action="store_true", help="replace blocks and pool settings that exist")
    try:
        provision(load_settings(), overwrite=parser.parse_args().overwrite)
    except DarkroomError as error:
        sys.exit(f"darkroom: {error}")


if __name__ == "__main__":
    main()
