"""What the simulator logs of a training."""

from __future__ import annotations

import re
from typing import Any

import pytest

from darkroom.deployments.simulator.book import ACCOUNTS, Entry, Outcome
from darkroom.deployments.simulator.endpoints import ENDPOINTS
from darkroom.deployments.simulator.faults import Faults
from darkroom.deployments.simulator.logs import log_of

WAN, FLUX = "fal-ai/wan-trainer", "fal-ai/flux-lora-fast-training"


@pytest.mark.parametrize(
    ("endpoint", "given", "steps"),
    [
        (WAN, {}, 400),
        (WAN, {"number_of_steps": None}, 400),
        (WAN, {"number_of_steps": 300}, 300),
        (FLUX, {}, 1000),
        (FLUX, {"steps": 200}, 200),
        (FLUX, {"steps": "many"}, 1000),
    ],
)
def test_a_training_logs_the_steps_that_it_makes(endpoint: str, given: dict[str, Any], steps: int) -> None:
    """Where none are asked for, its own usual number; what is no number fails later, and not the log."""
    account = ACCOUNTS["sim:key"]
    entry = Entry(
        request_id="1", endpoint=endpoint, input=given, account=account, webhook_url=None, faults=Faults(), seconds=40
    )
    entry.start()
    entry.finish(Outcome(http_status=200, body={}))
    bars = [
        re.search(r"Training: .* (\d+)/(\d+) \[", line["message"])
        for line in log_of(entry, trainer=ENDPOINTS[endpoint].card)
    ]
    assert [(int(bar[1]), int(bar[2])) for bar in bars if bar][-1] == (steps, steps)
