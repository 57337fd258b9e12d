"""What a process needs in its environment to reach the simulator under the providers' production addresses.

httpx, and so fal's own client, honours these variables: a proxy for https, the certificates to trust, and the hosts
that are reached directly. Nothing is patched, and the code under test runs as it does in production.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import certifi

from .certificates import ensure_authority, write_atomically
from .keys import ELEVENLABS_KEY, GEMINI_KEY, MUX_TOKEN_ID, MUX_TOKEN_SECRET
from .signing import mux_webhook_secret

API_KEY = "sim:key"
ADMIN_KEY = "sim:admin"  # of the same account; reads the bills, and deletes
BILLING_KEY = "sim:billing"  # of the same account; reads the bills, and cannot submit
USER_ID = "sim-user"  # whose key that is
# How a real account is told from the simulator's.
SECRETS = frozenset({API_KEY, ADMIN_KEY, BILLING_KEY, GEMINI_KEY, ELEVENLABS_KEY, MUX_TOKEN_SECRET})
# Object stores are reached directly: the simulator is no proxy to the world and refuses other hosts.
_DIRECT_HOSTS = ("127.0.0.1", "localhost", "::1", ".amazonaws.com")


def client_environment(*, port: int, home: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to add to `base`.

    It may be called before the simulator runs: its authority is made if missing.
    """
    return {
        "FAL_KEY": API_KEY,
        "FAL_BILLING_KEY": BILLING_KEY,
        "GEMINI_API_KEY": GEMINI_KEY,
        "ELEVENLABS_API_KEY": ELEVENLABS_KEY,
        "MUX_TOKEN_ID": MUX_TOKEN_ID,
        "MUX_TOKEN_SECRET": MUX_TOKEN_SECRET,
        "MUX_WEBHOOK_SECRET": mux_webhook_secret(home),
        "SSL_CERT_FILE": str(_trust_bundle(home, base)),
        **_both_spellings("HTTPS_PROXY", f"http://127.0.0.1:{port}"),
        **_both_spellings("NO_PROXY", ",".join(_direct_hosts(base))),
    }


def _trust_bundle(home: Path, base: Mapping[str, str]) -> Path:
    """Write the public authorities of `base` and the simulator's into one file."""
    ensure_authority(home)
    bundle = home / "bundle.pem"  # SSL_CERT_FILE names just one file
    public = Path(base.get("SSL_CERT_FILE") or certifi.where())
    # A process that has this environment may start another: the bundle is not added to itself.
    if public.resolve() != bundle.resolve():
        write_atomically(bundle, public.read_bytes() + b"\n" + (home / "ca.pem").read_bytes())
    return bundle


def _direct_hosts(base: Mapping[str, str]) -> list[str]:
    existing = f"{base.get('NO_PROXY', '')},{base.get('no_proxy', '')}".split(",")
    return list(dict.fromkeys([*_DIRECT_HOSTS, *(host.strip() for host in existing if host.strip())]))


def _both_spellings(name: str, value: str) -> dict[str, str]:
    """Return the variable in upper and in lower case."""
    # Where both are set the lower-case one wins, so setting only one could change nothing.
    return {name: value, name.lower(): value}
