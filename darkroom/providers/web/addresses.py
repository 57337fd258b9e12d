"""Which addresses of the network may be fetched from: those of the public internet, and those that the operator allows.

The special-purpose ranges of IANA's registries are written out here. Python's `is_global` calls multicast global, and
its answers have changed between releases.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from darkroom.errors import BadInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

WEB_PORTS = frozenset({80, 443})
SETTING = "DARKROOM_WEB_ALLOW"

_NOT_PUBLIC_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT; clouds put services there, Alibaba its metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, reachable from its machines alone
        "169.254.0.0/16",  # link-local: the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation, like 198.51.100 and 203.0.113
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# The rest of IPv6 is not routed, or carries an IPv4 address inside (mapped, NAT64) that leads who knows where.
_ROUTED_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation, like 3fff
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)


def is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return address in _ROUTED_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """A network that may be fetched from though it is private: at one port, or at the web's own."""

    network: Network
    port: int | None = None

    def covers(self, address: Address, port: int) -> bool:
        return address in self.network and (port in WEB_PORTS if self.port is None else port == self.port)


@dataclass(frozen=True)
class Reach:
    """What may be fetched from: the public internet at the web's ports, and what the operator allows beside it."""

    allowances: tuple[Allowance, ...] = ()

    @classmethod
    def parse(cls, setting: str) -> Reach:
        """Read a setting such as `10.1.0.0/16, 127.0.0.1:8999, [fd00::7]:8080`. Raise BadInput."""
        return cls(tuple(_allowance(entry.strip()) for entry in setting.split(",") if entry.strip()))

    def has_port(self, port: int) -> bool:
        """Return whether there is any address at which this port may be asked."""
        return port in WEB_PORTS or any(allowance.port == port for allowance in self.allowances)

    def has(self, address: Address, port: int) -> bool:
        if any(allowance.covers(address, port) for allowance in self.allowances):
            return True
        return port in WEB_PORTS and is_public(address)


def _allowance(entry: str) -> Allowance:
    host, _, port = entry.rpartition(":")
    with_port = bool(host) and (host.endswith("]") or ":" not in host)
    try:
        network = ip_network(host.strip("[]") if with_port else entry)
        return Allowance(network=network, port=int(port) if with_port else None)
    except ValueError as error:
        remedy = "give addresses or networks, each with a port or without: 10.1.0.0/16, 127.0.0.1:8999, [fd00::7]:8080"
        raise BadInput(f"{SETTING}: {entry!r} is not an address; {remedy}", field=SETTING) from error
