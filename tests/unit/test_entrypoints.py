"""The code of a kind of job is found as a worker finds it, and called no further than to where it drives its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darkroom.engine.dry_run.find_function import find_flow, job_function
from darkroom.errors import BadInput, NeedsHuman
from darkroom.flows.generate_image import generate
from darkroom.flows.import_images import bring_in
from darkroom.flows.onboard_user import onboard


@pytest.mark.parametrize(
    ("kind", "parameters", "function"),
    [
        ("generate-image", {"prompt": "a fox", "post": [{"step": "watermark"}], "user": "usr_1"}, generate),
        ("import-images", {"urls": ["https://shop.example/fox.png"]}, bring_in),
        ("onboard-user", {"account": "a-1", "email": "ann@example.org"}, onboard),
    ],
)
def test_a_kind_has_the_function_that_its_flow_drives(kind: str, parameters: dict[str, Any], function: object) -> None:
    """No run of Prefect's is needed for that, and none is begun."""
    assert job_function(kind, "on-demand", parameters) is function


def test_a_row_of_a_batch_is_called_by_its_batchs_function() -> None:
    """Whose manifest is on record, and not read again."""
    function = job_function("render-batch", "on-demand", {"manifest_sha256": "0" * 64, "user": "usr_1"})
    assert callable(function)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"prompt": ["a secret fox"]}, "parameters_refused"),  # by Prefect's check
        ({"prompt": "a secret fox", "colour": "red"}, "parameters_refused"),
        ({"prompt": "a secret fox", "model": "fal-ai/flux/schnell", "lora": "mochi"}, "bad_input"),  # by the flow's own
    ],
)
def test_parameters_that_the_flow_refuses_are_a_failure_without_their_values(
    parameters: dict[str, Any], code: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Prefect would log them."""
    with pytest.raises(BadInput) as refusal:
        job_function("generate-image", "on-demand", parameters)
    assert refusal.value.code == code
    said = "".join([refusal.value.message, *capfd.readouterr(), caplog.text])
    assert "secret" not in said


def test_a_kind_that_no_deployment_has_is_told() -> None:
    """With the name that prefect.yaml lacks."""
    with pytest.raises(NeedsHuman, match="no deployment paint/on-demand"):
        job_function("paint", "on-demand", {})


def test_a_flow_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    """With the mistake: it is the code that is tried."""
    file = tmp_path / "prefect.yaml"
    file.write_text("deployments: [{name: on-demand, entrypoint: 'own/paint.py:paint'}]\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "paint.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(NeedsHuman, match=r"own/paint.py:paint cannot be imported"):
        find_flow("paint", "on-demand", file=file)


def test_a_flow_outside_the_package_is_found_where_the_file_says(tmp_path: Path) -> None:
    """Beside the file, as for a worker."""
    file = tmp_path / "prefect.yaml"
    file.write_text("deployments: [{name: nightly, entrypoint: 'own/paint.py:paint_walls'}]\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "paint.py").write_text("from prefect import flow\n\n@flow\ndef paint_walls():\n    pass\n")
    assert find_flow("paint-walls", "nightly", file=file).name == "paint-walls"
