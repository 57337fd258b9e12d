"""The report of a day, as Markdown: what a person reads at nine, and the same as text in a mail.

What may want something done comes first: what failed, and the command that lists it. Money is told in USD.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from zoneinfo import ZoneInfo

from darkroom.ledger import JobStatus, PeriodUsage
from darkroom.ledger.usage import Spent

BAR = 40  # characters of the longest
COMPLETED, FAILED = "█", "░"
SEVERAL_DAYS = timedelta(hours=26)  # the longest day has 25
HOURS_TOGETHER = 4  # of several days, lest the chart is longer than what it shows
NO_MARKUP = str.maketrans(dict.fromkeys("|`<>[]\\\n\r", "_"))
MOST_LINES = 25  # of one table; the rest is counted
TENTH_OF_A_CENT = Decimal("0.001")  # single calls cost less than a cent


def span(day: date | None, *, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the bounds of the day in that time zone.

    Without a day, they are of what is over since the last weekday: on a Monday from Friday on.
    """
    if day is not None:
        # By the calendar: a day on which clocks change has 23 or 25 hours.
        return _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
    today = now.astimezone(zone).date()
    first = today - timedelta(days=1)
    # Saturday and Sunday have no report of their own.
    while first.weekday() > 4:
        first -= timedelta(days=1)
    return _midnight(first, zone), _midnight(today, zone)


def title(figures: PeriodUsage, zone: ZoneInfo) -> str:
    # The end is the first moment that is not of it any more.
    first, last = figures.begin.astimezone(zone).date(), (figures.end - timedelta(seconds=1)).astimezone(zone).date()
    days = f"{first:%A, %Y-%m-%d}" if first == last else f"{first:%A, %Y-%m-%d} to {last:%A, %Y-%m-%d}"
    return f"Darkroom, {days}"


def headline(figures: PeriodUsage, zone: ZoneInfo) -> str:
    """Say it in one line, which stands in a list of reports, and above a mail."""
    completed, failed = figures.ended(JobStatus.COMPLETED), figures.ended(JobStatus.FAILED)
    return f"{title(figures, zone)}: {completed:,} completed, {failed:,} failed, {_usd(figures.spent_usd)} USD"


def markdown(figures: PeriodUsage, zone: ZoneInfo) -> str:
    sections = {
        "Failures": _failures(figures),
        f"When jobs ended ({zone.key})": _chart(figures, zone),
        "Jobs": _jobs(figures),
        "Spend by user and model": _table(("user", "model", "paid calls", "USD"), _spend(figures), numbers=2),
        "Provider latency, from submit to outcome": _table(
            ("model", "calls", "median", "p95"),
            (
                (each.endpoint, each.calls, _seconds(each.median_seconds), _seconds(each.p95_seconds))
                for each in figures.latency
            ),
            numbers=3,
        ),
        "Slots": _table(
            ("account", "slots", "most at once", "used on average"),
            ((each.account, each.slots, each.most, _share(each.share)) for each in figures.slots),
            numbers=3,
        ),
    }
    told = [f"## {heading}\n\n{text}" for heading, text in sections.items()]
    return "\n\n".join([f"# {title(figures, zone)}", _summary(figures), *told]) + "\n"


def _summary(figures: PeriodUsage) -> str:
    cancelled, again = figures.ended(JobStatus.CANCELLED), figures.duplicates
    lines = [
        f"- **{_count(figures.ordered, 'job')}** ordered. **{figures.ended(JobStatus.COMPLETED):,}** completed, "
        f"**{figures.ended(JobStatus.FAILED):,}** failed, {cancelled:,} cancelled.",
        f"- **{_usd(figures.spent_usd)} USD** spent.{_price(figures)}",
        f"- {_count(again, 'result')} paid twice: {_usd(figures.duplicates_usd)} USD, in the sum above."
        if again
        else f"- No result {'is known to be' if figures.perhaps_paid else 'was'} paid twice.",
        *_perhaps(figures),
        f"- {_count(figures.reused, 'call')} answered by results that were paid before: "
        f"{_usd(figures.saved_usd)} USD saved."
        if figures.reused
        else "- No call was answered by a result that was paid before.",
    ]
    return "\n".join(lines)


def _perhaps(figures: PeriodUsage) -> list[str]:
    """Tell of calls that were given up, say: each was sent again, so what it led to may be paid twice."""
    if not figures.perhaps_paid:
        return []
    calls, usd = _count(figures.perhaps_paid, "call"), _usd(figures.perhaps_paid_usd)
    return [f"- {calls} perhaps paid, which nobody knows yet: about {usd} USD, not in the sum above."]


def _price(figures: PeriodUsage) -> str:
    """Say what it is sold on for, where that is told apart from the costs."""
    return "" if figures.price_usd is None else f" With mark-ups it is sold for {_usd(figures.price_usd)} USD."


def _failures(figures: PeriodUsage) -> str:
    if not figures.failures:
        return "None."
    rows = ((each.kind, each.code, each.latest, each.jobs, each.discarded) for each in figures.failures)
    listed = f"darkroom dead list --failed-since {figures.begin.isoformat()} --failed-before {figures.end.isoformat()}"
    table = _table(("class", "code", "the latest", "jobs", "discarded"), rows, numbers=2)
    return f"{table}\n\nAll of them: `{listed}`"


def _chart(figures: PeriodUsage, zone: ZoneInfo) -> str:
    """Draw a bar for each hour, of several days for each four."""
    if not any(completed + failed for _, completed, failed in figures.hours):
        return "None."
    several = figures.end - figures.begin > SEVERAL_DAYS
    form = "%a %H:%M" if several else "%H:%M"
    together = HOURS_TOGETHER if several else 1
    groups = [figures.hours[first : first + together] for first in range(0, len(figures.hours), together)]
    bars = [
        (f"{group[0][0].astimezone(zone):{form}}", sum(hour[1] for hour in group), sum(hour[2] for hour in group))
        for group in groups
    ]
    most = max(completed + failed for _, completed, failed in bars)
    head = f"{'':{len(bars[0][0])}}  completed {COMPLETED}  failed {FAILED}"
    lines = [
        # Numbers before the bar: not every font has its characters as wide as others.
        f"{at}  {_number(completed):>11}  {_number(failed):>8}  {_bar(completed, failed, most=most)}".rstrip()
        for at, completed, failed in bars
    ]
    return "\n".join(["```", head, *lines, "```"])


def _number(n: int) -> str:
    return f"{n:,}" if n else ""


def _bar(completed: int, failed: int, *, most: int) -> str:
    """Draw a bar."""
    # Rounded up, so that one job among thousands is seen too.
    return COMPLETED * math.ceil(completed / most * BAR) + FAILED * math.ceil(failed / most * BAR)


def _jobs(figures: PeriodUsage) -> str:
    kinds = sorted({kind for kind, _ in figures.jobs})
    ended = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
    return _table(
        ("kind", *ended),
        ((kind, *(figures.jobs.get((kind, status), 0) for status in ended)) for kind in kinds),
        numbers=3,
    )


def _spend(figures: PeriodUsage) -> Iterator[Sequence[object]]:
    """List who spent how much, the most first. A sum stands above what it is of, where that is more than one line."""
    by_user = sorted(figures.spent, key=lambda each: each.user)
    users = [list(rows) for _, rows in groupby(by_user, lambda each: each.user)]
    if len(users) > 1:
        yield "all", "all", sum(each.calls for each in by_user), _usd(_sum(by_user))
    for rows in sorted(users, key=_sum, reverse=True):
        if len(rows) > 1:
            yield rows[0].user, "all", sum(each.calls for each in rows), _usd(_sum(rows))
        for each in sorted(rows, key=lambda each: each.cost_usd, reverse=True):
            yield each.user, each.endpoint, each.calls, _usd(each.cost_usd)


def _sum(rows: Iterable[Spent]) -> Decimal:
    return sum((each.cost_usd for each in rows), Decimal(0))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: int) -> str:
    """Draw a table. So many of its last columns are numbers, and stand at the right."""
    cells = [[_cell(each) for each in row] for row in rows]
    if not cells:
        return "None."
    more = [f"… and {len(cells) - MOST_LINES} more"] if len(cells) > MOST_LINES else []
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    lines = [head, rule, *cells[:MOST_LINES], *([more] if more else [])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    """Write a value as a cell of a table."""
    # Names are users' own: what would end the cell, or be read as Markdown, is taken out.
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.translate(NO_MARKUP)


def _count(n: int, noun: str) -> str:
    """Count with the verb: 1 call was, 2 calls were."""
    return f"{n:,} {noun} was" if n == 1 else f"{n:,} {noun}s were"


def _usd(amount: Decimal) -> str:
    """Write it as the smallest call's price is told; what is less still, as it is."""
    if 0 < amount < TENTH_OF_A_CENT:
        return f"{amount.normalize():f}"
    return f"{amount.quantize(TENTH_OF_A_CENT, ROUND_HALF_UP):,}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s"


def _share(share: float) -> str:
    return "under 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, tzinfo=zone)
