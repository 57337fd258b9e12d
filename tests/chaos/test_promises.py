"""What holds after the storm. Each promise is a test of its own, on what one storm has left."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from io import BytesIO

from PIL import Image

from chaos.aftermath import Aftermath, AtProvider, Row
from chaos.scenario import BROKEN_FOR_GOOD, FILES, SUBMITS, WEBHOOKS
from chaos.storm import FINAL, OPEN_JOBS, OPEN_REQUESTS
from darkroom.providers.models import find_model

ENDS = ("job.completed", "job.failed", "job.cancelled")
LONGEST_RECONCILE = timedelta(minutes=2)  # two of its periods; it takes a second


def test_the_storm_was_as_bad_as_it_is_said_to_be(aftermath: Aftermath) -> None:
    """Each part was killed as often as promised, and every kind of fault was met."""
    killed = Counter(kill.victim for kill in aftermath.kills if kill.processes)
    assert all(killed[victim] >= n for victim, n in Counter(aftermath.scenario.victims()).items()), killed
    faults = aftermath.faults()
    wanted = {f"webhook {fault}" for fault in WEBHOOKS}
    if aftermath.scenario.thorough:
        wanted |= {f"submit {fault}" for fault in SUBMITS} | {"file truncated_once"}
        assert any(faults[f"file {fault}"] for fault in FILES)
    assert not {fault for fault in wanted if not faults[fault]}


def test_every_order_is_one_job(aftermath: Aftermath) -> None:
    """However often it was posted: an order whose answer was lost is repeated with its key."""
    ordered = {each.job_id: each.order.key for each in aftermath.answered}
    assert len(ordered) == len(aftermath.answered) == aftermath.scenario.jobs
    assert ordered == {job["id"]: job["idempotency_key"] for job in aftermath.rows("job")}


def test_every_job_has_ended(aftermath: Aftermath) -> None:
    """None is left pending or running."""
    assert not [_brief(aftermath, job) for job in aftermath.rows("job") if job["status"] in OPEN_JOBS]


def test_a_job_fails_only_for_a_file_that_stays_broken(aftermath: Aftermath) -> None:
    """Whatever may pass is tried again: the answers refused, cut or lost, the outage, and a file cut short once."""
    unexplained = [job for job in aftermath.rows("job") if not _explained(aftermath, job)]
    assert not [_brief(aftermath, job) for job in unexplained]


def test_every_completed_job_has_its_files(aftermath: Aftermath) -> None:
    """As many as were asked for, in the store under their hash, whole, and the very ones that the provider made."""
    for job in aftermath.jobs("completed"):
        assets = aftermath.of(job, "asset")
        assert len(assets) == job["parameters"].get("num_images", 1), _brief(aftermath, job)
        for asset in assets:
            _is_the_providers_own(aftermath, asset)


def test_a_row_is_never_sent_twice(aftermath: Aftermath) -> None:
    """Each request at the provider is of a row, and each row has made one at most."""
    tokens = {row["token"] for row in aftermath.rows("request")}
    made = Counter(each.token for each in aftermath.requests_at_provider)
    assert set(made) <= tokens
    assert not {token: n for token, n in made.items() if n > 1}


def test_a_step_is_asked_for_again_only_where_the_row_before_was_given_up(aftermath: Aftermath) -> None:
    """Its answer was lost and nothing more was heard of it, or the provider itself said that it failed."""
    attempts: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(aftermath.rows("request"), key=lambda row: row["attempt"]):
        attempts[row["job_id"], row["step"]].append(row)
    for rows in attempts.values():
        assert [row["attempt"] for row in rows] == list(range(1, len(rows) + 1))
        assert all(_was_given_up(row) for row in rows[:-1]), rows


def test_the_provider_never_has_more_in_hand_than_there_are_slots(aftermath: Aftermath) -> None:
    """By its own book: in its queue or in progress, at any moment."""
    assert max(aftermath.provider_stats["max_open_by_account"].values()) <= aftermath.scenario.slots


def test_nothing_is_open_at_the_provider(aftermath: Aftermath) -> None:
    """Nor waits there for anybody."""
    assert not [each for each in aftermath.requests_at_provider if each.status != "COMPLETED"]


def test_no_slot_is_held_and_no_row_is_open(aftermath: Aftermath) -> None:
    """Every request row is terminal."""
    assert not [row for row in aftermath.rows("request") if row["status"] in OPEN_REQUESTS]


def test_no_run_is_left_suspended_or_dead(aftermath: Aftermath) -> None:
    """Each is closed in the ledger, and at Prefect in a final state that is not Crashed."""
    assert not [run for run in aftermath.rows("run") if run["closed_at"] is None]
    assert not [
        (run["name"], run["state_name"], run["tags"])
        for run in aftermath.flow_runs
        if run["state_type"] not in FINAL or run["state_type"] == "CRASHED"
    ]


def test_reconcile_has_not_died_of_it_either(aftermath: Aftermath) -> None:
    """A run of it that was killed does not hold its place in the queue for ever: two of them would end reconcile."""
    under_way = [run for run in aftermath.reconciles if run["state_type"] in ("PENDING", "RUNNING", "CANCELLING")]
    since = [aftermath.looked_at - datetime.fromisoformat(run["state"]["timestamp"]) for run in under_way]
    assert not [age for age in since if age > LONGEST_RECONCILE]


def test_all_is_at_rest_after_the_last_job(aftermath: Aftermath) -> None:
    """No process carries jobs any more, no slot is held, no run is open. How soon is told with the storm's figures."""
    assert not aftermath.carriers
    assert aftermath.settled_seconds is not None


def test_every_webhook_that_was_answered_is_on_record(aftermath: Aftermath) -> None:
    """2xx is never said before the commit; one that was committed may not have been answered. One at most settles."""
    on_record = Counter(row["request_id"] for row in aftermath.rows("delivery"))
    for each in aftermath.requests_at_provider:
        assert each.webhooks_taken <= on_record.pop(each.request_id, 0) <= len(each.webhooks)
    assert not on_record
    settled = Counter(row["ref"] for row in aftermath.rows("delivery") if row["verdict"] == "settled")
    assert settled, "nothing came by webhook"  # through the proxy that speaks for the provider's hosts
    assert not {ref: n for ref, n in settled.items() if n > 1}


def test_every_end_of_a_job_is_told_once_and_has_its_place_in_the_stream(aftermath: Aftermath) -> None:
    """After all that was told of it before."""
    told = aftermath.rows("notification")
    places = [row["place"] for row in told]
    assert None not in places and len(set(places)) == len(places)
    last = {row["job_id"]: row["event"] for row in sorted(told, key=lambda row: row["place"])}
    assert last == {job["id"]: f"job.{job['status']}" for job in aftermath.rows("job")}
    ends = Counter(row["job_id"] for row in told if row["event"] in ENDS)
    assert set(ends.values()) == {1}


def test_what_is_on_record_as_paid_is_what_the_provider_billed(aftermath: Aftermath) -> None:
    """To the last picture, those included that were made for a row that had been given up."""
    recorded = {row["request_id"]: row["cost_usd"] for row in aftermath.rows("delivery") if row["cost_usd"]}
    recorded |= {row["request_id"]: row["cost_usd"] for row in aftermath.rows("request") if row["cost_usd"]}
    assert recorded == {each.request_id: _billed(each) for each in aftermath.requests_at_provider if _billed(each)}


def _explained(aftermath: Aftermath, job: Row) -> bool:
    """Completed though no file was broken for good, or failed by the code of the one that was."""
    files = [each.faults.get("file") for row in aftermath.of(job, "request") for each in aftermath.at_provider(row)]
    codes = {BROKEN_FOR_GOOD[file] for file in files if file in BROKEN_FOR_GOOD}
    if job["status"] == "failed":
        return job["error"]["code"] in codes
    return job["status"] == "completed" and (not codes or len(files) > 1)


def _is_the_providers_own(aftermath: Aftermath, asset: Row) -> None:
    content = (aftermath.folder / "home" / "media" / asset["key"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == asset["sha256"]
    assert len(content) == asset["bytes"]
    with Image.open(BytesIO(content)) as picture:
        picture.load()
        assert picture.size == (asset["width"], asset["height"])
    (row,) = [row for row in aftermath.rows("request") if row["ref"] == asset["ref"]]
    assert row["job_id"] == asset["job_id"]
    assert aftermath.files_at_provider[row["output"]["images"][asset["n"]]["url"]] == asset["sha256"]


def _was_given_up(row: Row) -> bool:
    return row["status"] == "expired" or (row["status"] == "failed" and row["error"]["retryable"])


def _billed(each: AtProvider) -> Decimal:
    if each.http_status != 200:
        return Decimal(0)
    return find_model(each.endpoint).cost(each.input, {}, Decimal(each.billable_units or 0))


def _brief(aftermath: Aftermath, job: Row) -> str:
    rows = [
        f"{row['step']}/{row['attempt']} {row['status']} {row['request_id']} {row['error'] or ''} "
        f"{[dict(each.faults) for each in aftermath.at_provider(row)]}"
        for row in aftermath.of(job, "request")
    ]
    return f"{job['id']} {job['status']} of {job['run_id']}: {job['error']} {rows}"
