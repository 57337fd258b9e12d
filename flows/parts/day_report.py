"""The report of a day, as Markdown: what a person reads at nine, and the same as text in a mail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from blocks.ledger import Figures, JobStatus

BAR = 40  # characters of the longest
EIGHTHS = " ▏▎▍▌▋▊▉█"
NO_MARKUP = str.maketrans(dict.fromkeys("|`<>[]\\\n\r", "_"))
MOST_LINES = 25  # of one table; the rest is summed up


def span(day: date | None, *, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The day in that time zone; without one, what is over since the last weekday: on a Monday from Friday on."""
    if day is not None:
        return _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
    today = now.astimezone(zone).date()
    first = today - timedelta(days=1)
    while first.weekday() > 4:
        first -= timedelta(days=1)
    return _midnight(first, zone), _midnight(today, zone)


def title(figures: Figures, zone: ZoneInfo) -> str:
    first, last = figures.begin.astimezone(zone).date(), (figures.end - timedelta(seconds=1)).astimezone(zone).date()
    days = f"{first:%A, %Y-%m-%d}" if first == last else f"{first:%A, %Y-%m-%d} to {last:%A, %Y-%m-%d}"
    return f"Darkroom, {days}"


def markdown(figures: Figures, zone: ZoneInfo) -> str:
    parts = [
        f"# {title(figures, zone)}",
        _summary(figures),
        "## Jobs ended in each hour\n\n" + _chart(figures, zone),
        "## Jobs\n\n" + _jobs(figures),
        "## Failures\n\n"
        + _table(("class", "code", "jobs"), ((each.kind, each.code, each.jobs) for each in figures.failures)),
        "## Spend by user and model\n\n"
        + _table(
            ("user", "model", "calls", "USD"),
            ((each.user, each.endpoint, each.calls, _usd(each.cost_usd)) for each in figures.spent),
        ),
        "## Provider latency, from submit to outcome\n\n"
        + _table(
            ("model", "calls", "median", "p95"),
            (
                (each.endpoint, each.calls, f"{each.median_seconds:.1f} s", f"{each.p95_seconds:.1f} s")
                for each in figures.latency
            ),
        ),
        "## Slots\n\n"
        + _table(
            ("account", "slots", "used"), ((each.account, each.slots, f"{each.share:.1%}") for each in figures.slots)
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(figures: Figures) -> str:
    lines = [
        f"- **{figures.ordered:,}** jobs were ordered; **{figures.ended(JobStatus.COMPLETED):,}** completed, "
        f"**{figures.ended(JobStatus.FAILED):,}** failed, {figures.ended(JobStatus.CANCELLED):,} were cancelled.",
        f"- **{_usd(figures.spent_usd)} USD** were spent.",
        f"- {figures.duplicates:,} results were paid twice ({_usd(figures.duplicates_usd)} USD).",
        f"- {figures.reused:,} calls were answered by results that were paid before: "
        f"{_usd(figures.saved_usd)} USD saved.",
    ]
    return "\n".join(lines)


def _chart(figures: Figures, zone: ZoneInfo) -> str:
    most = max((completed + failed for _, completed, failed in figures.hours), default=0)
    if most == 0:
        return "None."
    several = figures.end - figures.begin > timedelta(hours=26)
    form = "%a %H:%M" if several else "%H:%M"
    lines = [
        f"{hour.astimezone(zone):{form}} {_bar((completed + failed) / most)} {_counts(completed, failed)}"
        for hour, completed, failed in figures.hours
    ]
    return "```\n" + "\n".join(line.rstrip() for line in lines) + "\n```"


def _bar(share: float) -> str:
    eighths = round(share * BAR * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()).ljust(BAR)


def _counts(completed: int, failed: int) -> str:
    if completed + failed == 0:
        return ""
    return f"{completed}" + (f", {failed} failed" if failed else "")


def _jobs(figures: Figures) -> str:
    kinds = sorted({kind for kind, _ in figures.jobs})
    ended = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
    return _table(
        ("kind", *ended), ((kind, *(figures.jobs.get((kind, status), 0) for status in ended)) for kind in kinds)
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [" | ".join(_cell(each) for each in row) for row in rows]
    if not lines:
        return "None."
    more = [f"… and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    body = [*lines[:MOST_LINES], *more]
    return "\n".join(f"| {line} |" for line in [" | ".join(head), " | ".join("---" for _ in head), *body])


def _cell(value: object) -> str:
    """Names are users' own: what would end the cell, or be read as Markdown, is taken out."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.translate(NO_MARKUP)


def _usd(amount: Decimal) -> str:
    return f"{amount:,.2f}" if amount == 0 or amount >= Decimal("0.01") else f"{amount.normalize():f}"


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, tzinfo=zone)
