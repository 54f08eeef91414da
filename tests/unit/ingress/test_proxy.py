"""The PROXY header: both versions, incomplete and invalid ones, never more octets than it has."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.access import peer_address
from services.ingress.core.proxy import V2_SIGNATURE, Proxied, read_header

IPV4 = V2_SIGNATURE + b"\x21\x11\x00\x0c" + socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + b"\0\1\0\2"
IPV6 = (
    V2_SIGNATURE + b"\x21\x21\x00\x28" + socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + b"\0\1\0\2" + b"\4\0\1x"
)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 25\r\n", "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1000 25\r\n", "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN whatever it says\r\n", None),
        (IPV4, "192.0.2.1"),
        (IPV6, "2001:db8::1"),
        (V2_SIGNATURE + b"\x20\x00\x00\x00", None),
        (V2_SIGNATURE + b"\x21\x00\x00\x02xy", None),
    ],
)
def test_valid_headers(header: bytes, address: str | None) -> None:
    """A header is recognised at its last octet, not before, and what follows it is left alone."""
    expected = Proxied(len(header), None if address is None else peer_address(address))
    assert read_header(header) == expected
    assert read_header(header + b"EHLO x\r\n") == expected
    for cut in range(len(header)):
        assert read_header(header[:cut]) == "incomplete", cut


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO x\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 25\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 65536\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1000 25\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1000 25\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1000 25\r\n",
        b"PROXY TCP4 192.0.2.1 2001:db8::2 1000 25\r\n",
        b"PROXY TCP6 2001:db8::1 192.0.2.2 1000 25\r\n",
        b"PROXY  TCP4 192.0.2.1 192.0.2.2 1000 25\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1000 25\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        V2_SIGNATURE + b"\x11\x11\x00\x0c" + b"\0" * 12,
        V2_SIGNATURE + b"\x21\x11\xff\xff",
        V2_SIGNATURE + b"\x21\x11\x00\x04" + b"\0" * 4,
        V2_SIGNATURE + b"\x21\x31\x00\x00",
    ],
)
def test_invalid_headers(header: bytes) -> None:
    """What is not exactly a header is invalid."""
    assert read_header(header) == "invalid"


@given(st.binary(max_size=80), st.sampled_from([b"", b"PROXY ", V2_SIGNATURE]))
def test_any_octets_are_read(octets: bytes, start: bytes) -> None:
    """No octets make the parser fail or claim more than there is."""
    found = read_header(start + octets)
    assert found in ("incomplete", "invalid") or (isinstance(found, Proxied) and found.length <= len(start + octets))
