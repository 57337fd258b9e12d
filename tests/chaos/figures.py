"""What happened, in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from chaos.aftermath import Aftermath


def lines(aftermath: Aftermath) -> Iterator[str]:
    jobs, requests = aftermath.rows("job"), aftermath.rows("request")
    ended = [job for job in jobs if job["finished_at"]]
    took = sorted((job["finished_at"] - job["created_at"]).total_seconds() for job in ended)
    last = max((job["finished_at"] for job in ended), default=aftermath.began_at)
    yield f"jobs           {_counted(Counter(job['status'] for job in jobs))}"
    yield f"duration       {(last - aftermath.began_at).total_seconds():.0f} s to the end of the last job"
    if took:
        yield f"a job took     {took[len(took) // 2]:.0f} s (median), {took[-1]:.0f} s (longest)"
    rest = aftermath.settled_seconds
    yield f"at rest        {'never' if rest is None else f'{rest:.0f} s after the last job'}"
    yield f"killed         {_counted(Counter(str(kill.victim) for kill in aftermath.kills))}"
    yield f"provider out   {_counted(Counter(map(str, aftermath.scenario.outages())))}"
    yield f"went wrong     {_counted(aftermath.faults())}"
    yield f"orders         {sum(each.tries for each in aftermath.answered)} posts for {len(aftermath.answered)} orders"
    yield f"attempts       {_counted(Counter(row['status'] for row in requests))}"
    yield f"webhooks       {_counted(Counter(row['verdict'] for row in aftermath.rows('delivery')))}"
    yield f"delivered by   {_counted(Counter(str(row['delivered_via']) for row in requests))}"
    yield f"paid           {_paid(aftermath)}"
    yield f"at once        {aftermath.provider_stats['max_open_by_account']} at most at the provider"
    yield f"runs           {len(aftermath.rows('run'))}, brought back {aftermath.recoveries} times"


def _paid(aftermath: Aftermath) -> str:
    requests = [row["cost_usd"] or 0 for row in aftermath.rows("request")]
    beside = [row["cost_usd"] for row in aftermath.rows("delivery") if row["cost_usd"]]
    beyond = len(aftermath.requests_at_provider) - len({row["job_id"] for row in aftermath.rows("request")})
    return (
        f"{sum(requests) + sum(beside)} USD, {len(beside)} duplicates costed; {beyond} requests beyond one for each job"
    )


def _counted(found: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(found.items())) or "none"
