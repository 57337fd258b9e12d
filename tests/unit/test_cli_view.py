"""What `darkroom status` shows in a terminal."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from darkroom.deployments.cli.view import print_job

WHEN = "2026-01-01T12:00:00+00:00"
LATER = "2026-01-01T12:00:02.500000+00:00"
ROW = {
    "step": "generate",
    "attempt": 1,
    "endpoint": "fal-ai/flux/dev",
    "status": "succeeded",
    "submitted_at": WHEN,
    "finished_at": LATER,
    "cost_usd": 0.025,
}
FILE = {"key": "images/u/job/generate-0.png", "url": "http://gateway/x", "content_type": "image/png", "bytes": 20480}
JOB: dict[str, Any] = {
    "kind": "generate-image",
    "id": "job_1",
    "status": "running",
    "cost_usd": 0.025,
    "waiting_for": None,
    "error": None,
    "progress": None,
    "result": None,
    "requests": [ROW],
    "assets": [FILE | {"width": 64, "height": 48, "seconds": None}],
}
ERROR = {"step": "upscale", "message": "too large [sic]", "code": "image_too_large"}


def shown(**changes: Any) -> str:
    out = StringIO()
    print_job(JOB | changes, Console(file=out, width=110))
    return out.getvalue()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ["generate-image", "job_1", "running", "$0.025", "2.5 s", "generate-0.png", "64×48", "20 KB"]),
        ({"waiting_for": "slot: 10 of 10 in use, place 37"}, ["waits for slot: 10 of 10 in use, place 37"]),
        ({"progress": {"percent": 40, "text": "step 400 of 1000"}}, ["40 %", "step 400 of 1000"]),
        ({"status": "failed", "error": ERROR}, ["failed at upscale: too large [sic] (image_too_large)"]),
        ({"requests": [ROW | {"attempt": 2, "cost_usd": None, "finished_at": None}]}, ["generate, attempt 2"]),
        ({"assets": [FILE | {"width": None, "height": None, "seconds": 5.0}]}, ["image/png 5.0 s"]),
        ({"result": {"playback_id": "abc"}}, ['"playback_id": "abc"']),
        ({"requests": [], "assets": []}, ["nothing yet"]),
    ],
)
def test_a_job_is_shown_with_what_there_is(changes: dict[str, Any], says: list[str]) -> None:
    """Brackets in a provider's words are not taken for colours."""
    text = shown(**changes)
    assert all(each in text for each in says), text
