"""The PROXY protocol's headers, byte by byte, as its specification writes them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from trio_tls.cli.proxy_header import Agreed, header

V4 = (("192.0.2.1", 50000), ("198.51.100.7", 443))
V6 = (("2001:db8::1", 50000), ("2001:db8::2", 443))

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def agreed(**changes: Any) -> Agreed:
    facts: dict[str, Any] = {
        "version": "TLSv1.3",
        "cipher_suite": "TLS_AES_128_GCM_SHA256",
        "alpn": None,
        "server_name": None,
        "common_name": None,
        "certificate": False,
        "resumed": False,
    }
    return Agreed(**facts | changes)


def values(data: bytes) -> dict[int, bytes]:
    """The type-length-values, by their types."""
    found = {}
    while data:
        kind, length = struct.unpack("!BH", data[:3])
        found[kind] = data[3 : 3 + length]
        assert len(found[kind]) == length
        data = data[3 + length :]
    return found


def test_version_1_is_a_line() -> None:
    assert header("v1", *V4, None) == b"PROXY TCP4 192.0.2.1 198.51.100.7 50000 443\r\n"
    assert header("v1", *V6, agreed()) == b"PROXY TCP6 2001:db8::1 2001:db8::2 50000 443\r\n"
    assert header("v1", None, None, None) == b"PROXY UNKNOWN\r\n"


def test_ipv4_on_an_ipv6_socket_is_ipv4() -> None:
    mapped = (("::ffff:192.0.2.1", 1), ("::ffff:198.51.100.7", 2))
    assert header("v1", *mapped, None) == b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n"


def test_a_zone_does_not_leave_this_machine() -> None:
    local = (("fe80::1%eth0", 1), ("fe80::2%eth0", 2))
    assert header("v1", *local, None) == b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"


def test_version_2_is_binary() -> None:
    expected = SIGNATURE + bytes.fromhex("21 11 000c c0000201 c6336407 c350 01bb")
    assert header("v2", *V4, None) == expected
    v6 = header("v2", *V6, None)
    assert v6[:16] == SIGNATURE + bytes.fromhex("21 21 0024")
    assert len(v6) == 16 + 36
    assert header("v2", None, None, None) == SIGNATURE + bytes.fromhex("21 00 0000")


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, 0x01),
        ({"certificate": True, "common_name": "a client"}, 0x07),
        ({"certificate": True, "common_name": "a client", "resumed": True}, 0x05),
    ],
)
def test_version_2_tells_what_tls_has_agreed_on(changes: dict[str, Any], flags: int) -> None:
    told = header("v2", *V4, agreed(alpn="http/1.1", server_name="example.org", **changes))
    assert struct.unpack("!H", told[14:16])[0] == len(told) - 16
    outer = values(told[28:])
    assert outer[0x01] == b"http/1.1"
    assert outer[0x02] == b"example.org"
    # "The <verify> field will be zero if the client presented a certificate and it was successfully verified"
    assert outer[0x20][:5] == bytes((flags, 0, 0, 0, 0 if changes else 1))
    inner = values(outer[0x20][5:])
    assert inner[0x21] == b"TLSv1.3"
    assert inner[0x23] == b"TLS_AES_128_GCM_SHA256"
    assert inner.get(0x22) == (b"a client" if changes else None)


def test_a_long_name_cannot_overflow_the_header() -> None:
    told = header("v2", *V4, agreed(server_name="x" * 100_000))
    assert values(told[28:])[0x02] == b"x" * 1024
