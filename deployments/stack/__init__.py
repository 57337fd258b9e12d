"""The local stack: every part of Darkroom as a process of this machine, for work, demo and tests."""

from __future__ import annotations

from deployments.home import Home
from deployments.stack.options import Provider, StackOptions
from deployments.stack.supervisor import Stack, StartFailed

__all__ = ["Home", "Provider", "Stack", "StackOptions", "StartFailed"]
