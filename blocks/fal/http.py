"""What every HTTP client of this block shares: one TLS context.

Building a TLS context costs about 20 ms, and a short run would build three or four of them.
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
