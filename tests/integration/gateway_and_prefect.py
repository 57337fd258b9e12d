"""A gateway whose calls to Prefect are written down, in place of one that no Prefect answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_gateway import RecordingPrefect, RunningGateway, gateway_alone

from darkroom.media.store import MediaStore


@pytest.fixture
def gateway(
    ledger_url: str, tmp_path: Path, store: MediaStore, prefect_calls: RecordingPrefect
) -> Iterator[RunningGateway]:
    with gateway_alone(ledger_url, tmp_path, media=store, prefect_url=prefect_calls.url) as gateway:
        yield gateway
