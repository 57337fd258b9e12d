"""A durable production pipeline for AI-generated media, on Prefect: what pipelines are written with.

A name is imported when it is first asked for: the gateway and the commands start without Prefect, which takes a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from darkroom.former_names import keep_former_names

if TYPE_CHECKING:
    from darkroom.engine.backoff import RetryPolicy
    from darkroom.engine.calls import JobFunction
    from darkroom.engine.durable import ForEvent, Happened, Invoked, Sleep
    from darkroom.engine.job import Call, Job
    from darkroom.engine.job_files import Inference
    from darkroom.engine.request_spec import build_request
    from darkroom.engine.side_effects import StepRetry
    from darkroom.engine.signals import Waiting
    from darkroom.events.types import EventData, event
    from darkroom.order import Order, field
    from darkroom.pipeline import pipeline

__all__ = [
    "Call",
    "EventData",
    "ForEvent",
    "Happened",
    "Inference",
    "Invoked",
    "Job",
    "JobFunction",
    "Order",
    "RetryPolicy",
    "Sleep",
    "StepRetry",
    "Waiting",
    "build_request",
    "event",
    "field",
    "pipeline",
]

_PLACES = {
    "darkroom.engine.backoff": ("RetryPolicy",),
    "darkroom.engine.calls": ("JobFunction",),
    "darkroom.engine.durable": ("ForEvent", "Happened", "Invoked", "Sleep"),
    "darkroom.engine.job": ("Call", "Job"),
    "darkroom.engine.job_files": ("Inference",),
    "darkroom.engine.request_spec": ("build_request",),
    "darkroom.engine.side_effects": ("StepRetry",),
    "darkroom.engine.signals": ("Waiting",),
    "darkroom.events.types": ("EventData", "event"),
    "darkroom.order": ("Order", "field"),
    "darkroom.pipeline": ("pipeline",),
}

keep_former_names()


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(module), name)
            return found
    raise AttributeError(f"module 'darkroom' has no attribute '{name}'")
