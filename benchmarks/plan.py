"""How much is measured: the sizes of the workloads, in full and in a hurry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plan:
    burst_pictures: int = 200
    burst_rounds: int = 3
    alone_pictures: int = 20
    # The stock worker takes seconds where the others take tenths.
    stock_burst_pictures: int = 10
    stock_alone_pictures: int = 5
    stock_within_patience: bool = True
    limited_fast_pictures: int = 1000  # at 0.5 s
    limited_slow_pictures: int = 200  # at 2 s
    asleep_runs: int = 500
    asleep_seconds: int = 20
    floor_limited: bool = True
    webhooks: int = 3000
    webhook_rounds: int = 3
    beside_pictures: int = 6


FULL = Plan()
# Of the stock worker only what the first target is held against.
QUICK = Plan(
    burst_rounds=1,
    alone_pictures=3,
    stock_alone_pictures=1,
    stock_within_patience=False,
    limited_fast_pictures=100,
    limited_slow_pictures=20,
    asleep_runs=50,
    asleep_seconds=6,
    floor_limited=False,
    webhooks=1000,
    webhook_rounds=1,
    beside_pictures=2,
)
