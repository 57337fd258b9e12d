"""How long a simulated request is in progress."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from darkroom.deployments.simulator.__main__ import _latency_of
from darkroom.deployments.simulator.book import ACCOUNTS, Entry
from darkroom.deployments.simulator.endpoints import Latencies
from darkroom.deployments.simulator.faults import Faults

DEV, TRAINING = "fal-ai/flux/dev", "fal-ai/flux-lora-fast-training"


def an_entry(endpoint: str, **faults: Any) -> Entry:
    account = ACCOUNTS["sim:key"]
    return Entry(
        request_id="1", endpoint=endpoint, input={}, account=account, webhook_url=None, faults=Faults(**faults)
    )


@pytest.mark.parametrize(
    ("entry", "by_endpoint", "seconds", "seconds_when_rejected"),
    [
        (an_entry(DEV), {}, 2, 2),
        (an_entry(TRAINING), {}, 40, 2),
        (an_entry(TRAINING), {TRAINING: 600.0}, 600, 2),
        (an_entry(TRAINING), {TRAINING: 0.5}, 0.5, 0.5),
        (an_entry(TRAINING, latency=7), {TRAINING: 600.0}, 7, 7),
    ],
)
def test_the_nearest_word_on_latency_counts(
    entry: Entry, by_endpoint: dict[str, float], seconds: float, seconds_when_rejected: float
) -> None:
    """The request's rule, then its endpoint's own, then a multiple of a picture's; bad input is told sooner."""
    latencies = Latencies(seconds=2, by_endpoint=by_endpoint)
    assert (latencies.of(entry), latencies.of_rejection(entry)) == (seconds, seconds_when_rejected)


@pytest.mark.parametrize("text", ["fal-ai/flux/dave=1", "fal-ai/flux/dev", "fal-ai/flux/dev=soon"])
def test_a_latency_for_nothing_is_an_error(text: str) -> None:
    """Not an option that never does anything."""
    with pytest.raises(argparse.ArgumentTypeError):
        _latency_of(text)
