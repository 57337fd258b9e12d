"""How a flow ends whose input is refused before any job is: Failed, with the sentence that says what is wrong.

An exception would end it too, but as Prefect tells of exceptions: with a traceback through its engine and ours, in red,
of something that is nobody's fault but the input's.
"""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Failed

from darkroom.errors import BadInput
from darkroom.orchestrator.state_names import REFUSED


def refused(error: BadInput) -> State[Any]:
    """Return the final state of the run. Raise the error where there is no run: somebody has called the function."""
    if FlowRunContext.get() is None:
        raise error
    return Failed(message=REFUSED + error.message)
