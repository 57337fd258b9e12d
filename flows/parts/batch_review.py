"""Between the passes of a batch: its drafts on numbered pages, and a person who chooses from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO

from prefect.input import RunInput
from pydantic import Field

from darkroom import Job
from darkroom.batches.winners import parse_winners
from darkroom.errors import DarkroomError, Permanent
from darkroom.flows.parts.batch_order import BatchOptions
from darkroom.ledger import Asset, BatchPass, JobStatus, RowPicture
from darkroom.media.contact_pages import Entry, draw_page, page_ranges
from darkroom.media.thumbnails import Form, of_film

STEP = "contact-sheet"
SHOWN, WIDTH = 3, 900  # pages that are seen at once, the others are links; pixels
PICTURES = frozenset({"image/jpeg", "image/png", "image/webp"})
FILM = "video/mp4"
FRAME_WIDTH = 640  # pixels
MOST_FILM_BYTES = 64 << 20  # of one that is read for its first picture
KINDS = {"audio": "sound", "video": "film", "model": "3D", "text": "text", "image": "picture"}


class Winners(RunInput):
    """What Prefect's form asks. Without a default, so that who only resumes the run has chosen nothing."""

    winners: str = Field(
        title="Winners",
        description='Numbers on the contact sheet, from 1, e.g. "3, 7, 12-20"; "all", "all but 8", or "none".',
        json_schema_extra={"position": 0},
    )


def contact_pages(job: Job) -> list[Asset]:
    """Draw the drafts as they are now. Raise Permanent where none came."""
    drafts = job.rows.pictures(BatchPass.DRAFT)
    came = sum(draft.status is JobStatus.COMPLETED for draft in drafts)
    if came == 0:
        raise Permanent("No row could be rendered. The audit of its rows says why.", code="nothing_rendered")
    ranges = page_ranges(len(drafts))
    return [
        # Under a name of their own after a replay: a step that is on record is not made again.
        job.make(f"{STEP}-{came}", partial(_draw, job, drafts, page, n, len(ranges)), n=n)
        for n, page in enumerate(ranges)
    ]


def ask_for_winners(job: Job, order: BatchOptions, pages: Sequence[Asset]) -> list[int]:
    """Return the chosen rows. Wait for a person for as long as the order says; then do what it says."""
    drafts = job.rows.pictures(BatchPass.DRAFT)
    failed = [draft.n for draft in drafts if draft.status is not JobStatus.COMPLETED]
    batch = job.rows.batch
    assert batch is not None

    def read(text: str) -> list[int]:
        return list(parse_winners(text, rows=batch.rows, failed=failed))

    def form(refused: str | None) -> type[RunInput]:
        text = _question(job, pages, drafts, refused)
        job.show(STEP, f"{text}\n\n{_sheets(job, pages)}", description="Choose the winners")
        return Winners.with_initial_data(description=text)

    winners = job.rows.await_selection(patience=order.patience, read=read, form=form)
    if winners is not None:
        return winners
    by_policy = [draft.n for draft in drafts if draft.status is JobStatus.COMPLETED]
    chosen = by_policy if order.if_nobody_answers == "all" else []
    job.rows.choose(chosen, via="policy")
    return chosen


def _question(job: Job, pages: Sequence[Asset], drafts: Sequence[RowPicture], refused: str | None) -> str:
    came = sum(draft.status is JobStatus.COMPLETED for draft in drafts)
    links = " · ".join(f"[page {n}]({job.link(page)})" for n, page in enumerate(pages, 1))
    words = [f"**Your last answer was not taken:** {refused}"] if refused else []
    words.append(f"{came} of {len(drafts)} drafts came. Look at them: {links}.")
    words.append(
        'Then resume this run with the numbers of the winners as they stand on the pages, from 1, e.g. "3, 7, 12-20", '
        '"all", "all but 8", or "none". The API takes the same text as `numbers`.'
    )
    return "\n\n".join(words)


def _sheets(job: Job, pages: Sequence[Asset]) -> str:
    """Show the first sheets."""
    # As HTML: Prefect's UI shows that as wide as it is told.
    return "\n\n".join(f'<img src="{job.link(page)}" width="{WIDTH}">' for page in pages[:SHOWN])


def _draw(job: Job, drafts: Sequence[RowPicture], page: range, n: int, of: int) -> bytes:
    title = f"Drafts of {job.id}" + (f", page {n + 1} of {of}" if of > 1 else "")
    return draw_page(_entries(job, [drafts[place] for place in page]), count=len(page), title=title)


def _entries(job: Job, drafts: Sequence[RowPicture]) -> Iterator[Entry]:
    """Yield the drafts as a page shows them."""
    # One after the other: a page does not hold its pictures in memory.
    for draft in drafts:
        number, label = draft.n + 1, draft.name
        if draft.key is None:
            # Its answer is text, or its files are hidden.
            made = draft.status is JobStatus.COMPLETED
            reason = "nothing to show" if made else draft.error_code or draft.status.value
            yield Entry(number=number, label=label, reason=reason)
            continue
        try:
            yield Entry(number=number, label=label, content=_seen(job, draft), kind=_kind(draft))
        # A file that is gone or broken is told of in its place; one that cannot be read now is, by another try.
        except DarkroomError as error:
            if error.kind != "permanent":
                raise
            yield Entry(number=number, label=label, reason=error.code)


def _seen(job: Job, draft: RowPicture) -> bytes | None:
    """Return what a person sees of the row: its picture, the first one of a film, nothing of what cannot be seen."""
    if draft.key is None or draft.content_type is None:
        return None
    if draft.content_type in PICTURES:
        return job.read_key(draft.key)
    if draft.content_type != FILM or (draft.bytes or 0) > MOST_FILM_BYTES:
        return None
    film = BytesIO(job.read_key(draft.key))
    try:
        return of_film(film, width=FRAME_WIDTH, form=Form.JPEG)
    except DarkroomError:  # nothing here reads films, or not such ones
        return None


def _kind(draft: RowPicture) -> str:
    """Return the word for what came: text where it is no file."""
    whole, _, part = (draft.content_type or "text").partition("/")
    return KINDS.get(whole) or part.rpartition("-")[2].rpartition(".")[2] or whole
