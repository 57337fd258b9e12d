"""One TLS context for all clients, as long as the certificates to trust are the same."""

from __future__ import annotations

import certifi
import pytest

from darkroom.tls import tls_context


def test_all_clients_share_one_context_until_other_certificates_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another `SSL_CERT_FILE` is another context: a proxy's authority must be heard of."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    usual = tls_context()
    assert tls_context() is usual
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    assert tls_context() is not usual
