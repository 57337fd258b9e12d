"""The benchmark's own arithmetic: what is read from the kernel, what is made of it, when a promise counts as kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.asleep import Look, quiet_cpu_ms, quiet_memory
from benchmarks.fairness import Beside, One
from benchmarks.figures import (
    Picture,
    Result,
    Round,
    Slice,
    Spread,
    largest,
    percentile,
    requests_per_picture,
    result,
    spread,
)
from benchmarks.meters import AccessLog, Process, cpu_seconds, parse_stat, requested, trees
from benchmarks.report import Report, cell, machine, number
from benchmarks.targets import DARKROOM, STOCK, verdicts
from benchmarks.webhooks import GATEWAY, POSTGRES, TokenBucket, Webhooks
from benchmarks.workloads import ALONE, BURST, SUSPENDED

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def _after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def _picture(*, finished: float, webhook: float = 1, next_line: float | None = 1.25, stored: float = 1.5) -> Picture:
    return Picture(
        began_at=BEGAN,
        webhook_at=_after(webhook),
        next_line_at=None if next_line is None else _after(next_line),
        stored_at=_after(stored),
        finished_at=_after(finished),
    )


def _round(*pictures: Picture, ideal: float | None = 1, in_line: bool = False, slices: int = 1) -> Round:
    used = Slice(
        pictures=len(pictures) // slices,
        cpu_seconds={"worker": 0.1, "flow processes": 0.3},
        prefect_requests=Counter({"GET /a": 3, "GET /b": 1}),
    )
    return Round(
        pictures=pictures,
        latency_seconds=1,
        ideal_seconds=ideal,
        in_line=in_line,
        slices=[used] * slices,
        memory_at_rest_bytes={"worker": 10},
        peak_memory_bytes={"worker": 2_000_000},
        provider_cpu_seconds=0.02,
        driver_cpu_seconds=0.02,
        other_cores=0.5,
    )


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([3, 1, 2], 50, 2), ([1, 2], 50, 1.5), ([7], 95, 7), (range(101), 95, 95), ([0, 10], 95, 9.5)],
)
def test_a_percentile_lies_between_its_nearest_ranks(values: list[float], percent: float, expected: float) -> None:
    """In whatever order the values come."""
    assert percentile(values, percent) == pytest.approx(expected)


def test_figures_are_medians_over_rounds_with_what_they_lie_between() -> None:
    """Two pictures in two seconds against an ideal of one, and a slower round."""
    quick = _round(_picture(finished=1.5), _picture(finished=2))
    slow = _round(_picture(finished=2), _picture(finished=4))
    figures = result("darkroom", BURST, [quick, slow, quick]).figures
    assert figures["pictures_per_second"] == Spread(median=1, low=0.5, high=1)
    assert figures["wall_to_ideal"] == Spread(median=2, low=2, high=4)
    assert figures["overhead_ms_p50"] == Spread(median=750, low=750, high=2000)
    assert figures["next_line_ms_p50"] == Spread(median=250, low=250, high=250)
    assert figures["stored_ms_p95"] == Spread(median=500, low=500, high=500)
    assert figures["peak_memory_mb"] == Spread(median=2, low=2, high=2)


def test_cpu_and_requests_are_per_picture_and_by_part() -> None:
    """A slice of two pictures."""
    made = result("darkroom", BURST, [_round(_picture(finished=2), _picture(finished=2))])
    assert made.figures["cpu_ms"] == spread([200])
    assert made.cpu_ms["flow processes"] == spread([150])
    assert made.figures["prefect_requests"] == spread([2])
    assert requests_per_picture(made) == {"GET /a": 1.5, "GET /b": 0.5}


def test_what_says_nothing_is_left_out() -> None:
    """The pace where the driver rested, the overhead of pictures that waited in line, a time that nobody recorded."""
    rested = result("darkroom", ALONE, [_round(_picture(finished=2, next_line=None), ideal=None)]).figures
    assert rested["pictures_per_second"] is rested["wall_to_ideal"] is rested["next_line_ms_p95"] is None
    assert result("darkroom", "W3", [_round(_picture(finished=2), in_line=True)]).figures["overhead_ms_p50"] is None


def test_a_process_is_read_whatever_it_calls_itself() -> None:
    """A name may hold brackets and blanks; times are in ticks of 10 ms."""
    line = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 100 50 30 20 20 0 1 0 99"
    assert parse_stat(line) == Process(parent=7, own_seconds=1.5, reaped_seconds=0.5)


TABLE = {
    1: Process(parent=0, own_seconds=100, reaped_seconds=100),
    10: Process(parent=1, own_seconds=1, reaped_seconds=2),  # the supervisor
    20: Process(parent=10, own_seconds=3, reaped_seconds=4),  # Postgres, and a backend
    21: Process(parent=20, own_seconds=5, reaped_seconds=0),
    30: Process(parent=10, own_seconds=7, reaped_seconds=11),  # the worker, its forkserver, and a run
    31: Process(parent=30, own_seconds=13, reaped_seconds=17),
    32: Process(parent=31, own_seconds=19, reaped_seconds=0),
}
ROOTS = {"supervisor": 10, "postgres": 20, "worker": 30}


def test_cpu_is_counted_once_and_where_it_belongs() -> None:
    """Everything below the worker, living or ended, is flow processes; the parts are not the supervisor's."""
    assert cpu_seconds(TABLE, ROOTS) == {
        "supervisor": 1,
        "postgres": 12,
        "worker": 7,
        "flow processes": 11 + 13 + 17 + 19,
    }
    assert trees(TABLE, ROOTS)["flow processes"] == [31, 32]


def test_a_part_that_has_gone_counts_for_nothing() -> None:
    """Its pid may be in a file still."""
    assert cpu_seconds({}, ROOTS) == {"supervisor": 0, "postgres": 0, "worker": 0, "flow processes": 0}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('uvicorn.access - 127.0.0.1:1 - "GET /api/health HTTP/1.1" 200', "GET /api/health"),
        (
            '- "POST /api/flow_runs/01a1fd68-4894-78fe-abea-cc337deeaaf5/set_state?x=1 HTTP/1.1" 201',
            "POST /api/flow_runs/…/set_state",
        ),
        ('- "GET /api/deployments/name/reconcile/every-minute HTTP/1.1" 200', "GET /api/deployments/name/…"),
        ('127.0.0.1:1 - "WebSocket /api/events/in" [accepted]', "WebSocket /api/events/in"),
        ("INFO | Uvicorn running on http://127.0.0.1", None),
    ],
)
def test_a_request_is_known_by_its_line_without_its_ids(line: str, expected: str | None) -> None:
    """So that requests of one kind are counted as one."""
    assert requested(line) == expected


def test_requests_are_counted_as_they_are_logged_each_once(tmp_path: Path) -> None:
    """A line that is half written is counted when it is whole."""
    file = tmp_path / "access.log"
    log = AccessLog(file)
    assert not log.look()
    file.write_text('- "GET /a HTTP/1.1" 200\n- "GET /b HT')
    assert log.look() == {"GET /a": 1}
    file.write_text('- "GET /a HTTP/1.1" 200\n- "GET /b HTTP/1.1" 200\n')
    assert log.look() == log.look() == {"GET /a": 1, "GET /b": 1}


def test_what_the_stack_uses_at_rest_is_measured_while_no_run_is_carried() -> None:
    """Cron starts one each minute, and how long a benchmark looks must not decide whether it is in the figure."""
    used = [(0.0, 1), (0.01, 1), (0.5, 2), (0.9, 2), (0.95, 1), (0.97, 1), (0.98, 1)]
    looks = [
        Look(cpu_seconds={"worker": seconds}, memory_bytes={"worker": 50 * number}, flow_processes=number)
        for seconds, number in used
    ]
    assert quiet_cpu_ms(looks) == {"worker": pytest.approx(10)}
    assert quiet_memory(looks) == {"worker": 50}


def test_the_largest_share_dominates() -> None:
    """Of nothing at all, nothing does."""
    assert largest({"prefect": 30, "gateway": 10}) == ("prefect", 0.75)
    assert largest({"prefect": 0}) == ("prefect", 0)


@pytest.mark.parametrize(("value", "shown"), [(123.4, "123"), (12.34, "12.3"), (9.999, "10.0"), (0.126, "0.13")])
def test_a_number_has_three_figures_as_far_as_there_are_any(value: float, shown: str) -> None:
    """A table is read, not calculated with."""
    assert number(value) == shown


def test_a_cell_shows_the_spread_where_there_is_one() -> None:
    """And a dash where nothing was measured."""
    shown = [cell(each) for each in (spread([1]), spread([1, 2, 4]), None)]
    assert shown == ["1.00", "2.00 (1.00–4.00)", "–"]


def _with(contestant: str, workload: str, cpu_ms: Mapping[str, float], **figures: float) -> Result:
    missing = {f"{name}_p{percent}": None for name in ("overhead_ms", "next_line_ms") for percent in (50, 95)}
    return Result(
        contestant=contestant,
        workload=workload,
        rounds=[],
        figures=missing | {name: spread([value]) for name, value in figures.items()},
        cpu_ms={part: spread([value]) for part, value in cpu_ms.items()},
    )


def test_a_report_is_a_table_and_the_same_in_json() -> None:
    """With each picture's times, from which other figures can be made later."""
    made = result(DARKROOM, BURST, [_round(_picture(finished=2), _picture(finished=2))])
    judged = verdicts([made], None)
    report = Report(
        at=BEGAN, machine=machine(), versions={}, results=[made], sleepers=None, verdicts=judged, seconds=60
    )
    assert f"| {BURST} | {DARKROOM} | 2 | 1.00 | 2.00 | 1000 / 1000 |" in report.markdown()
    assert f"- MISS {BURST}: pictures per second ≥ 30: 1" in report.markdown()
    assert "Other processes used up to 0.50 cores" in report.markdown()
    kept = json.loads(report.json())["results"][0]
    assert kept["rounds"][0]["pictures"][0]["began_at"] == str(BEGAN)
    assert kept["rounds"][0]["slices"][0]["prefect_requests"] == {"GET /a": 3, "GET /b": 1}


def _pace(per_second: float, *, gateway_ms: float) -> TokenBucket:
    cpu = {GATEWAY: gateway_ms, POSTGRES: 0.5}
    times = {"p50_ms": 9.5, "p95_ms": 15.0, "gateway_cores": 1.0, "driver_cores": 0.04, "other_cores": 0.0}
    return TokenBucket(requests=100, connections=8, per_second=per_second, cpu_ms=cpu, **times)


def test_a_webhook_is_told_beside_a_request_that_does_nothing() -> None:
    """By the round in the middle, whatever the best and the worst were."""
    rounds = [_pace(800, gateway_ms=1.2), _pace(700, gateway_ms=1.4), _pace(100, gateway_ms=9)]
    seen = Webhooks(taken=rounds, one_by_one=_pace(300, gateway_ms=2), health=_pace(4000, gateway_ms=0.2))
    assert seen.to_health == pytest.approx(7)
    shown = _report(webhooks=seen)
    assert "| webhooks | 8 | 700 | 9.50 / 15.0 | 1.40 | 0.50 | 1.00 | 0.04 | 0.00 |" in shown
    assert "7.00 times what `/healthz` does" in shown


def test_a_picture_beside_a_backlog_is_told_against_the_wait_for_one_slot() -> None:
    """1.5 s at the provider and ten slots: one comes free every 0.15 s."""
    alone = [One(seconds=2.0, to_grant_seconds=0.0, overtaken_by=0)]
    both = [One(seconds=seconds, to_grant_seconds=0.2, overtaken_by=1) for seconds in (2.2, 2.4, 4.0)]
    seen = Beside(latency_seconds=1.5, slots=10, alone=alone, beside=both, other_cores=0.1)
    assert (seen.ratio, seen.ideal_ratio) == (pytest.approx(1.2), pytest.approx(1.075))
    assert "| beside a backlog | 3 | 2.40 (2.20–4.00) | 0.20 | 1.00 |" in _report(beside=seen)


def _report(**parts: Any) -> str:
    common = {"at": BEGAN, "machine": machine(), "versions": {}, "results": [], "sleepers": None, "verdicts": []}
    return Report(**common, seconds=60, **parts).markdown()


@pytest.mark.parametrize(("flow_ms", "met"), [(90.0, True), (91.0, False)])
def test_the_suspension_may_cost_an_eighth_of_what_it_costs_on_the_stock_worker(flow_ms: float, met: bool) -> None:
    """Worker and flow processes together; the server is the same for both."""
    own = _with(DARKROOM, SUSPENDED, {"worker": 10, "flow processes": flow_ms, "prefect": 900})
    stock = _with(STOCK, SUSPENDED, {"worker": 200, "flow processes": 600, "prefect": 900})
    assert verdicts([own, stock], None)[0].met is met


def test_a_promise_that_was_not_measured_is_neither_kept_nor_broken() -> None:
    """The others are held against their bounds, from above or from below."""
    found = {each.target: each.met for each in verdicts([_with(DARKROOM, SUSPENDED, {}, overhead_ms_p50=999)], None)}
    assert found.pop(f"{SUSPENDED}: overhead p50, ms ≤ 1000") is True
    assert set(found.values()) == {None}
