"""The environments of the parts, as pure functions of the options, the secrets and the caller's environment.

Of the caller's only what is listed comes through (`deployments/inherited.py`).
A misspelt Prefect setting is ignored silently: a test holds every name against Prefect's own list.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from darkroom.deployments.home import EXPORTED_FROM, Home
from darkroom.deployments.inherited import let_through
from darkroom.deployments.simulator.environment import USER_ID, client_environment
from darkroom.deployments.stack.options import LOOPBACK, Provider, StackOptions, WorkerType
from darkroom.deployments.stack.postgres import Cluster
from darkroom.deployments.stack.template import is_migrated, is_there
from darkroom.orchestrator.project_file import users_project
from darkroom.timing import UNSCALED, Timing

SHORTEST_POLL_SECONDS = 2.0  # of a warm worker: each costs Prefect's server 10 ms


def callers_own(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what `darkroom env` put there."""
    # Those are the addresses of some earlier stack, not the caller's choice.
    exported_from = environment.get(EXPORTED_FROM)
    exported = Home(Path(exported_from)).environment() if exported_from else {}
    return {name: value for name, value in environment.items() if exported.get(name) != value}


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what comes through of the caller's, with the commands of this installation first on the path."""
    kept = let_through(environment)
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    # The parts do not start in the folder from which the project was found.
    project = users_project()
    named = {"DARKROOM_PROJECT": str(project)} if project else {}
    return {**kept, **named, "PATH": path, "PYTHONUNBUFFERED": "1"}


def server_environment(options: StackOptions, *, home: Home, cluster: Cluster) -> dict[str, str]:
    """Prefect's server: in Postgres, closed to everybody without the auth string, and keeping what it was told."""
    secrets = home.secrets()
    own_ui = ",".join(f"http://{host}:{options.prefect_port}" for host in (LOOPBACK, "localhost"))
    return {
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": cluster.url("prefect", scheme="postgresql+asyncpg"),
        "PREFECT_SERVER_DATABASE_TIMEOUT": "30",
        # By default five: on a busy machine the services fail their first turn, each with its traceback.
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "30",
        # Those of the pool are kept for good, each a process of Postgres' with 9 MB. Two or three are ever in use.
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE": "4",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW": "26",
        "PREFECT_SERVER_API_HOST": LOOPBACK,
        "PREFECT_SERVER_API_PORT": str(options.prefect_port),
        "PREFECT_SERVER_API_AUTH_STRING": secrets["PREFECT_API_AUTH_STRING"],
        "PREFECT_SERVER_ENCRYPTION_KEY": secrets["PREFECT_SERVER_ENCRYPTION_KEY"],
        # By default any web page an operator opens could read the API, and with it the keys in the blocks.
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": own_ui,
        "PREFECT_SERVER_UI_API_URL": f"{options.prefect_url}/api",
        # By default in the package's own folder, where another user than the one who installed it can neither write nor
        # read them, and where another server with another base path replaces them.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home.prefect / "ui"),
        # One UI: addresses of runs are this one's. The other asks a host of Amplitude's with each page, whatever the
        # settings say of analytics. This chooses it, `prefect_server` leaves the other out.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # In memory, slots held when the server restarts would be lost for good.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        **_what_is_done(cluster),
        # By default only events are ever deleted.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        # Halves the server's work for task runs. An interval below 1 becomes 0, and the server spins.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        # The event feed is what one looks at after a callback.
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
        # Else every five to twenty seconds, and nothing of ours hangs on them: to mark a run as late, to end one that
        # was suspended for longer than anybody waits, to plan a schedule that was just edited, and to clean up after
        # runs that were cancelled, which a warm worker does itself.
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "30",
        "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "15",
        "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "60",
        # A minutely schedule, planned an hour ahead by default: after an outage all of that would run at once.
        "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT2M",
        "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "2",
    }


def _what_is_done(cluster: Cluster) -> dict[str, str]:
    """Return the settings by which Prefect's server leaves out what is done."""
    if is_there(cluster.data) and not is_migrated(cluster.data):
        return {}
    return {
        # A second goes into finding out that this version has migrated the database.
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
        # With the memo it would import all blocks there are, also where it is not to register them.
        "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    }


def client_settings(options: StackOptions, *, home: Home, cluster: Cluster, base: Mapping[str, str]) -> dict[str, str]:
    """Return what gateway, worker, flows and commands need: the content of `stack.env`."""
    secrets = home.secrets()
    return {
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_API_URL": f"{options.prefect_url}/api",
        "PREFECT_API_AUTH_STRING": secrets["PREFECT_API_AUTH_STRING"],
        # Small JSON in its own folder: whoever can write there runs code in the workers.
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home.results),
        "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
        # Else Prefect tells of it among what a command prints.
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Two requests less for every run: this server is of the same version, and has no CSRF protection switched on.
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
        "DARKROOM_HOME": str(home.path),
        "DARKROOM_LEDGER_URL": cluster.url("darkroom"),
        "DARKROOM_GATEWAY_URL": options.gateway_url,
        "DARKROOM_SIGNING_KEY": secrets["DARKROOM_SIGNING_KEY"],
        **_chosen_by_caller(base),
        **_provider_settings(options, home=home, base=base),
    }


def worker_settings(options: StackOptions, *, home: Home, timing: Timing = UNSCALED) -> dict[str, str]:
    warm = options.worker_type is WorkerType.WARM
    seconds = max(timing.runs_polled.total_seconds(), SHORTEST_POLL_SECONDS)
    # Prefect's runner keeps its files in a folder of one fixed name, which belongs to the user who came first.
    # The warm worker has none, and a socket, for whose name a home may be too deep.
    folder = {} if warm else {"TMPDIR": str(home.temporary)}
    return {
        **folder,
        # The warm worker is told of what is ready and polls only for what it was not told of.
        "PREFECT_WORKER_QUERY_SECONDS": f"{seconds:g}" if warm else "1",
        # A run taken before it is due would hold a place of its user's queue while it waits.
        "PREFECT_WORKER_PREFETCH_SECONDS": "0",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
        # Lines go to Prefect every so often, and as a process ends: two requests for a lone picture, not four.
        "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "5",
    }


def _chosen_by_caller(base: Mapping[str, str]) -> dict[str, str]:
    """Return what the caller chose, so that a command in another shell has the same as the parts."""
    names = ("DARKROOM_TIME_SCALE", "DARKROOM_PATIENCE", "DARKROOM_FAL_USER_ID", "DARKROOM_WEB_ALLOW")
    chosen = {name: base[name] for name in names if name in base}
    if store := base.get("DARKROOM_STORE"):
        is_folder = "://" not in store and not store.startswith("block:")
        chosen["DARKROOM_STORE"] = str(Path(store).resolve()) if is_folder else store
    return chosen


def _provider_settings(options: StackOptions, *, home: Home, base: Mapping[str, str]) -> dict[str, str]:
    if options.provider is Provider.SIMULATED:
        # Set but empty means that nothing can reach us, so Darkroom polls.
        public_url = base.get("DARKROOM_PUBLIC_URL", options.gateway_url)
        reach = client_environment(port=options.simulator_port, home=home.simulator, base=let_through(base))
        return {**reach, "DARKROOM_PUBLIC_URL": public_url, "DARKROOM_FAL_USER_ID": USER_ID}
    return {"DARKROOM_PUBLIC_URL": base.get("DARKROOM_PUBLIC_URL", "")}
