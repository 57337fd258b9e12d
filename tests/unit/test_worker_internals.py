"""What the warm worker does in place of Prefect's own, beside Prefect's own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any, cast

from prefect.workers.base import BaseWorker

from darkroom.deployments.worker.internals import installed_integrations


def test_a_worker_says_which_integrations_are_installed_without_importing_them() -> None:
    """The same that Prefect's worker says, which imports boto3 for it."""
    assert installed_integrations() == asyncio.run(BaseWorker._worker_metadata(cast(Any, None)))
    program = (
        "import sys; from darkroom.deployments.worker.internals import installed_integrations as say; "
        "print([each.name for each in say().integrations], 'prefect_aws' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert told == "['prefect-aws'] False\n"
