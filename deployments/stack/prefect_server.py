"""Prefect's server with its first UI alone, and less to do: the factory that uvicorn is given.

Prefect serves a second UI below `/v2` whatever its settings say, which choose only where `/` leads; and it leads a
browser there that has been there once, on whatever server of the same host. Where the second one's files are not found
it is left out, and its addresses lead to the first. What else it is spared, and which fault of its is mended, is in
`server_internals`.
"""

from __future__ import annotations

import os
from pathlib import Path

import prefect
from fastapi import FastAPI
from prefect.server.api import server

from darkroom.deployments.stack import server_internals


def create_app() -> FastAPI:
    prefect.__ui_v2_static_path__ = Path(os.devnull, "none")
    server_internals.bind_plain_timestamps()
    server_internals.ping_when_idle()
    server_internals.validate_job_variables_once()
    server_internals.keep_no_events_of_task_runs()
    server_internals.load_automations_until_they_are_loaded()
    server_internals.mark_ready_every_now_and_then()
    server_internals.read_deployments_at_once()
    server_internals.do_background_work_patiently()
    return server.create_app()
