"""Prefect's server with its first UI alone: the factory that uvicorn is given.

Prefect serves a second UI below `/v2` whatever its settings say, which choose only where `/` leads; and it leads a
browser there that has been there once, on whatever server of the same host. Where the second one's files are not found
it is left out, and its addresses lead to the first.
"""

from __future__ import annotations

import os
from pathlib import Path

import prefect
from fastapi import FastAPI
from prefect.server.api import server


def create_app() -> FastAPI:
    prefect.__ui_v2_static_path__ = Path(os.devnull, "none")
    return server.create_app()
