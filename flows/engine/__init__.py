"""The runner, and the vocabulary job functions are written in.

A flow hands its parameters and a *job function* to `drive`. The function is plain Python that is called from its top
whenever something it waits for has happened; what it already has, it gets from the ledger.
"""

from blocks.specifying import specify
from flows.engine.backoff import RetryPolicy
from flows.engine.calls import JobFunction
from flows.engine.durable import ForEvent, Happened, Invoked, Sleep
from flows.engine.job import Call, Inference, Job
from flows.engine.runner import drive
from flows.engine.waits import Waiting

__all__ = [
    "Call",
    "ForEvent",
    "Happened",
    "Inference",
    "Invoked",
    "Job",
    "JobFunction",
    "RetryPolicy",
    "Sleep",
    "Waiting",
    "drive",
    "specify",
]
