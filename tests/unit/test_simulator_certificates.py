"""The simulator's certificates: good for fal's hosts to whoever trusts its authority, and for nothing else."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from darkroom.deployments.simulator.certificates import TlsContexts, ensure_authority


def handshake(home: Path, host: str) -> None:
    """A client that trusts this home's authority, as strictly as newer Pythons do, meets the server for this host."""
    context = ssl.create_default_context(cafile=str(home / "ca.pem"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_context = TlsContexts(ensure_authority(home)).for_host(host)
    client = context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("host", ["fal.run", "queue.fal.run", "rest.alpha.fal.ai", "v3b.fal.media"])
def test_a_client_that_trusts_the_authority_believes_it_is_fal(tmp_path: Path, host: str) -> None:
    """Under strict X.509 rules too."""
    ensure_authority(tmp_path)
    handshake(tmp_path, host)


def test_the_authority_cannot_speak_for_other_hosts(tmp_path: Path) -> None:
    """Who steals its key gains nothing but fal's hosts: it is constrained to their domains."""
    ensure_authority(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(tmp_path, "api.example.com")


def test_whoever_comes_first_makes_the_authority_for_all(tmp_path: Path) -> None:
    """Several at once, or one after the other: there is one, and it stays."""
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(ensure_authority, [tmp_path] * 8))
    certificates = {authority.certificate.fingerprint(SHA256()) for authority in [*made, ensure_authority(tmp_path)]}
    assert len(certificates) == 1
