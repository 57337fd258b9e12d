"""One TLS context for every HTTP client of a process, and of the processes forked from it.

Building a context costs about 20 ms and a run makes several clients. A process that forks others calls `tls_context()`
before the fork: its children find it in the cache.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache

import httpx


def tls_context() -> ssl.SSLContext:
    return _tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _tls_context(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    # The arguments are the key: httpx reads both variables itself, and another value must give another context.
    return httpx.create_ssl_context()
