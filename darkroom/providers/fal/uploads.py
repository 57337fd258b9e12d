"""Files at fal's CDN: fal_client's upload, with one connection for all of them, and names that lead back to our files.

fal_client asks for a token, sends one POST or parts of 10 MiB, and repeats each by itself, for minutes on a bad line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any

import fal_client
import fal_client.client as fal_client_module
import httpx

from darkroom.tls import tls_context

TIMEOUT_SECONDS = 30.0  # of one try; fal_client's own is 120
# What fal makes of a file name: `https://v3b.fal.media/files/b/0a1b2c3d/x7Yw_ast_019aa1f0d8b4.png`, or without `x7Yw_`.
UPLOADED = re.compile(r"https://(?:[a-z0-9-]+\.)*fal\.media/\S*?(ast_[0-9a-z-]+)\.[0-9a-z]+")


class Uploads:
    def __init__(self, key: str) -> None:
        self._client = _Client(key=key, default_timeout=TIMEOUT_SECONDS)

    def put(self, content: bytes, *, content_type: str, file_name: str, lifetime: timedelta) -> str:
        """Upload a file and return its address, which is public until its lifetime is over."""
        kept = fal_client.StorageSettings(expires_in=int(lifetime.total_seconds()))
        # Its older way, which fal refuses by now, would turn what passes into that refusal, and so a lasting failure.
        return self._client.upload(content, content_type, file_name, lifecycle=kept, fallback_repository=[])

    def close(self) -> None:
        self._client.close()


def file_name(asset_id: str, extension: str) -> str:
    return f"{asset_id}.{extension}"


def as_recorded(value: Any) -> Any:
    """Return an input as we have it on record.

    The addresses of files that we put there become references to our assets.
    """
    if isinstance(value, Mapping):
        return {name: as_recorded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [as_recorded(each) for each in value]
    ours = UPLOADED.fullmatch(value) if isinstance(value, str) else None
    return f"asset:{ours[1]}" if ours else value


class _Client(fal_client.SyncClient):
    # fal_client opens a connection for each file and closes none: here is one for all.
    @cached_property
    def _cdn(self) -> httpx.Client:
        headers = {"User-Agent": fal_client_module.USER_AGENT}
        return httpx.Client(headers=headers, timeout=self.default_timeout, verify=tls_context())

    def _get_cdn_client(self) -> httpx.Client:
        token = self._token_manager.get_token()
        # Each time: a token ends, and fal_client brings the next one then.
        self._cdn.headers["Authorization"] = f"{token.token_type} {token.token}"
        return self._cdn

    def close(self) -> None:
        for name in ("_cdn", "_client"):  # those that were needed
            if name in vars(self):
                getattr(self, name).close()
