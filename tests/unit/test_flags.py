"""What a model says of its own files: which of them are not safe for work."""

from __future__ import annotations

from typing import Any

import pytest

from darkroom.media.formats import RemoteFile
from darkroom.models import with_flags

A, B = "https://v3.fal.media/a.png", "https://v3.fal.media/b.png"


@pytest.mark.parametrize(
    ("output", "flags"),
    [
        pytest.param({"images": [{"url": A}, {"url": B}]}, [None, None], id="nothing is said"),
        pytest.param(
            {"images": [{"url": A}, {"url": B}], "has_nsfw_concepts": [False, True]}, [False, True], id="by place"
        ),
        pytest.param({"images": [{"url": A}, {"url": B}], "has_nsfw_concepts": [True]}, [True, True], id="one for all"),
        pytest.param({"images": [A, B], "nsfw_content_detected": True}, [True, True], id="of all"),
        pytest.param(
            {"takes": [{"image": {"url": A}, "nsfw": True}, {"image": {"url": B}}]}, [True, None], id="with the file"
        ),
        pytest.param(
            {"images": [{"url": A}], "has_nsfw_concepts": ["maybe"], "nsfw": 0.3}, [None], id="no truth value"
        ),
        pytest.param(
            {"images": [{"url": A}], "has_nsfw_concepts": [True], "shown": {"image": {"url": A}, "nsfw": False}},
            [True],
            id="once is enough",
        ),
    ],
)
def test_a_file_bears_what_its_model_says_of_it(output: dict[str, Any], flags: list[bool | None]) -> None:
    files = [RemoteFile(url=url) for url in (A, B)[: len(flags)]]
    assert [file.flagged for file in with_flags(files, output)] == flags
