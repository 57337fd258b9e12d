"""Events from users' applications: how they come in, conditions on them, and what they start.

`EventIngest(ledger).take(sender, events)` puts them on record with what they start and wake; `matches` is the condition
of a wait (`ledger.waits.for_event(test=…)`).
"""

from darkroom.events.cancels import CancelEntry
from darkroom.events.conditions import Expression, compiled, matches
from darkroom.events.flow_control import FlowControlEntry
from darkroom.events.hooks import Hook, HookFailed, read_hooks, watch_hooks
from darkroom.events.ingest import MOST_EVENTS, Envelope, EventIngest, IngestResult, Problem, Sender
from darkroom.events.job_ends import ingest_ends
from darkroom.events.triggers import Trigger, TriggerEntry, TriggerFile, read_triggers

__all__ = [
    "MOST_EVENTS",
    "CancelEntry",
    "Envelope",
    "EventIngest",
    "Expression",
    "FlowControlEntry",
    "Hook",
    "HookFailed",
    "IngestResult",
    "Problem",
    "Sender",
    "Trigger",
    "TriggerEntry",
    "TriggerFile",
    "compiled",
    "ingest_ends",
    "matches",
    "read_hooks",
    "read_triggers",
    "watch_hooks",
]
