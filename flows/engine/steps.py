"""The two steps with effects: the one POST of a granted request, and a file's way into the media store.

What they do is on record before they return, whoever calls them: a Prefect task in a run of one job, the job's call
itself in a run that carries many.
"""

from __future__ import annotations

from datetime import datetime

from blocks.catalogue import find_model
from blocks.clock import utc_now
from blocks.errors import DarkroomError, Park, RateLimited, Retry, SubmitUnknown
from blocks.fal import fetch_file
from blocks.ledger import NOTHING, Asset, Happening, Implied, Job, Outcome, Request, StoredFile
from blocks.media import RemoteFile
from blocks.outcomes import error_document
from flows.engine.backoff import next_try
from flows.engine.resources import Resources

MOST_REFUSALS = 8  # by errors of the provider's own, about five minutes; 429s and outages are waited for
STORE_AGAIN_AFTER_SECONDS = (1, 4, 15)  # a file that could not be had; up to twice as long, drawn by chance
# … because its host or the media store is out: it is paid for, so it is waited for, an hour and a half.
OUT_AGAIN_AFTER_SECONDS = (1, 4, 15, *[30] * 120)


def submit(resources: Resources, ref: str, *, endpoint: str) -> Request:
    """Sends the one POST of a granted request and returns the row as it is then: its answer may have been lost.

    A refusal is raised once it is on record. Never repeated here: it puts the row back into the ledger's queue.
    """
    requests = resources.ledger.requests
    model = find_model(endpoint)
    row = requests.begin_submit(ref, deadline=model.deadline)
    if row is None:
        raise Retry("The request is not granted any more: it was cancelled, or another process has it.")
    try:
        submitted = resources.fal.submit(
            row.endpoint, row.input, webhook_url=_webhook_url(resources, row), start_timeout=model.start_timeout
        )
    except SubmitUnknown:
        resources.dispatcher.carry_out(requests.answer_lost(ref))
        return requests.get(ref)
    except DarkroomError as error:
        resources.dispatcher.carry_out(_refused(resources, row, error))
        raise
    accepted = requests.accepted(ref, request_id=submitted.request_id)
    resources.dispatcher.carry_out(_answered(resources, row))
    return accepted


def store(
    resources: Resources, job: Job, file: RemoteFile, *, ref: str, step: str, n: int, collected_at: datetime
) -> Asset:
    """Fetches the file, verifies it, writes it to the media store and puts it on record."""
    image = fetch_file(file.url, client=resources.files)
    place = f"images/{job.user_id}/{job.id}/{step}-{n}.{image.extension}"
    resources.store.write(place, image.content)
    stored = StoredFile(
        key=place,
        sha256=image.sha256,
        content_type=image.content_type,
        bytes=len(image.content),
        width=image.width,
        height=image.height,
    )
    return resources.ledger.jobs.add_asset(job, ref=ref, step=step, n=n, file=stored, collected_at=collected_at)


def _refused(resources: Resources, row: Request, error: DarkroomError) -> Implied:
    """A sure refusal: for good, or back to the queue until it may pass."""
    document = error_document(error.of(step=row.step, ref=row.ref))
    if isinstance(error, Park):
        # Told to the account first: the row waits for the breaker then, not for a time of its own.
        resources.ledger.accounts.out(row.account_id, probe=row.probe)
        return resources.ledger.requests.refused(row.ref, error=document, not_before=None)
    implied = _answered(resources, row)
    before = row.error or {}
    refusals, errors = before.get("refusals", 0) + 1, before.get("errors", 0)
    if isinstance(error, RateLimited):
        resources.ledger.accounts.slow_down(row.account_id)
    else:
        errors += 1
    if not isinstance(error, Retry) or errors > MOST_REFUSALS:
        outcome = Outcome(happening=Happening.FAIL, error=document)
        return implied + resources.ledger.requests.settle(row.ref, outcome, via=None)[1]
    document |= {"refusals": refusals, "errors": errors}
    due = next_try(error, tries=refusals, now=utc_now())
    return implied + resources.ledger.requests.refused(row.ref, error=document, not_before=due)


def _answered(resources: Resources, row: Request) -> Implied:
    """Whatever it says: the provider is there again, if that was the question."""
    return resources.ledger.accounts.back(row.account_id) if row.probe else NOTHING


def _webhook_url(resources: Resources, row: Request) -> str | None:
    base = resources.settings.webhook_url
    return f"{base}?token={row.token}" if base else None
