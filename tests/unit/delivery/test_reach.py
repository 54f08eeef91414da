"""Which addresses delivery may connect to."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.core import reach

NEVER = [
    "127.0.0.1", "127.255.255.254", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.127.255.255", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "::ffff:127.0.0.1", "::127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1",
    "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1",
    "2002:7f00:1::", "2002:a00:1::1", "2001::1", "100::1", "192.88.99.1", "fec0::1", "localhost", "", "8.8.8.8.8",
    "8.8", "3fff::1", "5f00::1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.255.255", "100.128.0.1", "2606:4700::1111",
          "2a00:1450:4001::1a", "::ffff:8.8.8.8"]  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
def test_never(address: str) -> None:
    """Addresses that are not on the public Internet are refused with a reason."""
    assert reach.refusal(address, ()) != ""


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    """Public addresses may be reached."""
    assert reach.refusal(address, ()) == ""


def test_allowed_networks_open_only_themselves() -> None:
    """A setting opens a private network, also in its mapped form, and nothing beside it."""
    allowed = reach.networks(["127.0.0.0/8", "fd00::/8"])
    assert reach.refusal("127.0.0.9", allowed) == ""
    assert reach.refusal("::ffff:127.0.0.9", allowed) == ""
    assert reach.refusal("fd00::9", allowed) == ""
    assert reach.refusal("10.0.0.1", allowed) != ""
    assert reach.refusal("::1", allowed) != ""


def test_a_translator_leads_past_nothing() -> None:
    """Where a local translator finds the IPv4 address is its own affair: what looks allowed opens nothing."""
    allowed = reach.networks(["10.0.0.0/8", "192.168.0.0/16"])
    assert reach.refusal("64:ff9b:1:7f00:0:100:a00:1", allowed) != ""
    assert reach.refusal("64:ff9b:1::a00:1", allowed) != ""
    assert reach.refusal("64:ff9b:1::a00:1", reach.networks(["64:ff9b:1::/48"])) == ""
    assert reach.refusal("64:ff9b::a00:1", allowed) == ""
    assert reach.refusal("64:ff9b::7f00:1", allowed) != ""


def test_behind_a_translator_of_ours_lies_what_is_public() -> None:
    """Where IPv4 is only reached through a translator, its network is opened: and nothing internal behind it."""
    opened = reach.networks(["64:ff9b::/96"])
    assert reach.refusal("64:ff9b::808:808", opened) == ""
    for inside in ("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::", "64:ff9b::e000:1"):
        assert reach.refusal(inside, opened) != ""
    assert reach.refusal("64:ff9b::808:808", opened, reach.networks(["8.8.8.8"])) != ""


def test_our_own_is_stronger_than_allowed() -> None:
    """An address of ours is refused even inside an allowed network, and in its mapped form."""
    allowed, ours = reach.networks(["127.0.0.0/8"]), reach.networks(["127.0.0.9", "8.8.8.8"])
    assert reach.refusal("127.0.0.9", allowed, ours) != ""
    assert reach.refusal("8.8.8.8", (), ours) != ""
    assert reach.refusal("::ffff:8.8.8.8", (), ours) != ""
    assert reach.refusal("127.0.0.8", allowed, ours) == ""


@given(st.ip_addresses(v=4))
def test_embedding_changes_nothing(address: ipaddress.IPv4Address) -> None:
    """Whatever is refused as IPv4 is refused in every IPv6 dress of it."""
    if reach.refusal(str(address), ()):
        number = int(address)
        dresses = (
            f"::ffff:{address}",
            str(ipaddress.IPv6Address((0x64FF9B << 96) | number)),
            str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1)),
        )
        assert all(reach.refusal(dress, ()) for dress in dresses)


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    """No text from a DNS answer raises."""
    assert isinstance(reach.refusal(text, ()), str)
