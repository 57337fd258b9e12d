"""What the warm worker does in place of Prefect's own, beside Prefect's own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any, cast

import pytest
from prefect import Flow, flows
from prefect.exceptions import ParameterTypeError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.workers.base import BaseJobConfiguration, BaseWorker

from darkroom.deployments.worker.configuration import WarmJobConfiguration
from darkroom.deployments.worker.internals import installed_integrations, validate_by_one_model


def test_a_worker_says_which_integrations_are_installed_without_importing_them() -> None:
    """The same that Prefect's worker says, which imports boto3 for it."""
    assert installed_integrations() == asyncio.run(BaseWorker._worker_metadata(cast(Any, None)))
    program = (
        "import sys; from darkroom.deployments.worker.internals import installed_integrations as say; "
        "print([each.name for each in say().integrations], 'prefect_aws' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert told == "['prefect-aws'] False\n"


def test_a_run_has_the_workers_settings_which_are_named_once_for_as_long_as_they_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same that Prefect's workers give their runs."""
    named, name = list[dict[str, str]](), BaseJobConfiguration._base_environment

    def count(_: object) -> dict[str, str]:
        named.append(name())
        return named[-1]

    monkeypatch.setattr(WarmJobConfiguration, "_named_settings", None)
    monkeypatch.setattr(BaseJobConfiguration, "_base_environment", classmethod(count))
    for retries in (7, 8):
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: retries}):
            given = [WarmJobConfiguration._base_environment() for _ in range(3)]
            assert given == [name()] * 3
            assert given[0]["PREFECT_CLIENT_MAX_RETRIES"] == str(retries)
            given[0].clear()
            assert WarmJobConfiguration._base_environment()
    assert len(named) == 2


def test_parameters_are_checked_by_a_model_that_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Prefect checks them, by the flow's own types."""
    made, make = list[object](), flows.ValidatedFunction  # type: ignore[attr-defined]

    def count(*what: Any) -> Any:
        made.append(what[0])
        return make(*what)

    def draw(count: int) -> None: ...

    flow, other = Flow(draw), Flow(lambda count: None, name="other")
    monkeypatch.setattr(flows, "ValidatedFunction", count)
    monkeypatch.setitem(globals(), "FLOW", flow)
    validate_by_one_model()
    assert made.count(draw) == 1
    for number in ("1", 2):
        assert flow.validate_parameters({"count": number}) == {"count": int(number)}
        assert other.validate_parameters({"count": number}) == {"count": number}
        with pytest.raises(ParameterTypeError):
            flow.validate_parameters({"count": "many"})
    assert (made.count(draw), made.count(other.fn)) == (1, 1)
