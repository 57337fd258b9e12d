"""The simulator's certificate authority, and a certificate for each of the providers' hosts that a client asks for.

The authority lives in `HOME/authority-….pem` (key and certificate, mode 0600) and survives restarts, so that clients
keep trusting it; `HOME/ca.pem` is the certificate alone.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .hosts import DOMAINS

_CA_LIFETIME = timedelta(days=3650)
_LEAF_LIFETIME = timedelta(days=365)
_CLOCK_SKEW = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


class TlsContexts:
    """One server context per host, made at the first CONNECT to it."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._by_host: dict[str, ssl.SSLContext] = {}

    def for_host(self, host: str) -> ssl.SSLContext:
        if host not in self._by_host:
            self._by_host[host] = _server_context(self._authority, host)
        return self._by_host[host]


def ensure_authority(home: Path) -> Authority:
    """Load the authority of this home, or make it; safe when two processes do so at once."""
    path = home / _authority_name()
    if not path.exists():
        write_once(path, _to_pem(_new_authority()))
    # Read back: another process may have been first.
    authority = _from_pem(path.read_bytes())
    write_atomically(home / "ca.pem", authority.certificate.public_bytes(Encoding.PEM))
    return authority


def _authority_name() -> str:
    """Return the name of the file of the authority for these domains."""
    # By the domains: one that was made for others may not speak for these, and is left alone.
    return f"authority-{zlib.crc32(' '.join(DOMAINS).encode()):08x}.pem"


def write_atomically(path: Path, content: bytes) -> None:
    """Readers of a bundle or a certificate never see half of it."""
    _temporary_file(path, content).replace(path)


def write_once(path: Path, content: bytes) -> None:
    temporary = _temporary_file(path, content)
    # A link fails where somebody was first, which a rename does not; and it shows the file whole at once.
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # the other process was first: its authority is the one
    finally:
        temporary.unlink()


def _temporary_file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since neither link nor rename goes to another disk; and for its owner's eyes only.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    return Path(name)


def _to_pem(authority: Authority) -> bytes:
    return _key_pem(authority.key) + authority.certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _from_pem(pem: bytes) -> Authority:
    key = load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(key=key, certificate=x509.load_pem_x509_certificate(pem))


def _new_authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Darkroom fal simulator")
    builder = (
        _dated(x509.CertificateBuilder(), lifetime=_CA_LIFETIME)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        # Strict clients, as newer Pythons are, want this identifier here and in what is signed with it.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Whoever reads the key can speak for the providers to a process that trusts it, and for nobody else.
        .add_extension(x509.NameConstraints([x509.DNSName(domain) for domain in DOMAINS], None), critical=True)
    )
    return Authority(key=key, certificate=builder.sign(key, hashes.SHA256()))


def _server_context(authority: Authority, host: str) -> ssl.SSLContext:
    # Made in the event loop, at a host's first CONNECT: an RSA key would hold all requests up.
    key = ec.generate_private_key(ec.SECP256R1())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])  # uvicorn speaks no HTTP/2
    # The ssl module reads key and certificate from a file only.
    with tempfile.NamedTemporaryFile() as file:
        file.write(_key_pem(key) + _leaf(authority, host, key).public_bytes(Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _leaf(authority: Authority, host: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    issuer_key = authority.key.public_key()
    builder = (
        _dated(x509.CertificateBuilder(), lifetime=_LEAF_LIFETIME)
        .subject_name(_name(host))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
    return builder.sign(authority.key, hashes.SHA256())


def _dated(builder: x509.CertificateBuilder, *, lifetime: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
