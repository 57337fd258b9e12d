"""Which addresses may be fetched from: a table."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from darkroom.errors import BadInput
from darkroom.providers.web import Reach
from darkroom.providers.web.addresses import is_public

PUBLIC = [
    "8.8.8.8",
    "93.184.215.14",
    "100.63.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "2606:4700::6810:84e5",
    "2a00:1450::1",
]
NOT_PUBLIC = {
    "this host": ["0.0.0.0", "0.1.2.3", "::"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1"],
    "link-local, and metadata": ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%2", "fd00:ec2::254"],
    "metadata elsewhere": ["100.100.100.200", "192.0.0.192", "168.63.129.16"],
    "behind a carrier's NAT": ["100.64.0.1", "100.127.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "100::1", "4000::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "an IPv4 address inside": [
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::8.8.8.8",
        "64:ff9b::10.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::a00:1",
        "2002:a00:1::1",
        "2002:808:808::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "192.88.99.1",
    ],
    "site-local": ["fec0::1"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_may_be_asked(address: str) -> None:
    """Also just beside the private ranges, and only at the web's ports."""
    assert is_public(ip_address(address))
    assert [port for port in (22, 80, 443, 8080) if Reach().has(ip_address(address), port)] == [80, 443]


@pytest.mark.parametrize("address", [each for addresses in NOT_PUBLIC.values() for each in addresses])
def test_nothing_else_may(address: str) -> None:
    """Whatever it is for, and however it is written."""
    assert not is_public(ip_address(address))
    assert not Reach().has(ip_address(address), 443)


@pytest.mark.parametrize(
    ("setting", "inside", "outside"),
    [
        ("127.0.0.1:8999", [("127.0.0.1", 8999)], [("127.0.0.1", 80), ("127.0.0.2", 8999), ("8.8.8.8", 8999)]),
        ("127.0.0.1", [("127.0.0.1", 80), ("127.0.0.1", 443)], [("127.0.0.1", 8999)]),
        ("10.1.0.0/16, 10.9.9.9:81", [("10.1.2.3", 443), ("10.9.9.9", 81)], [("10.2.0.1", 443), ("10.9.9.9", 80)]),
        ("fd00::7", [("fd00::7", 443)], [("fd00::8", 443)]),
        ("[fd00::/8]:8080", [("fd00::7", 8080)], [("fd00::7", 443)]),
        ("", [], [("127.0.0.1", 80)]),
    ],
)
def test_the_operator_may_allow_private_addresses(
    setting: str, inside: list[tuple[str, int]], outside: list[tuple[str, int]]
) -> None:
    """Addresses and networks, with a port or at the web's own; the public internet stays as it is."""
    reach = Reach.parse(setting)
    assert all(reach.has(ip_address(address), port) for address, port in inside)
    assert not any(reach.has(ip_address(address), port) for address, port in outside)
    assert reach.has(ip_address("8.8.8.8"), 443)


@pytest.mark.parametrize("setting", ["shop.example", "10.0.0.0/33", "127.0.0.1:http", "10.1.2.3/16", "[::1"])
def test_a_setting_that_is_no_address_is_refused(setting: str) -> None:
    """It names the setting and shows what to write."""
    with pytest.raises(BadInput, match="give addresses or networks") as caught:
        Reach.parse(setting)
    assert caught.value.field == "DARKROOM_WEB_ALLOW"
