"""The PROXY protocol, by which a backend learns who the client is.

How this works. A header goes before everything else of a connection: one line of text (version 1), or binary (version
2, https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt), which also has room for what TLS has agreed on. The
backend has to expect it, and to expect it from nobody but the proxy: who can connect past it can claim any address.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Literal

__all__ = ["Agreed", "header"]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

#: Version 2 in the upper half, the command PROXY in the lower.
PROXY = 0x21

#: Address family and transport protocol.
TCP_4, TCP_6, UNSPECIFIED = 0x11, 0x21, 0x00

#: Types of what comes behind the addresses.
ALPN, AUTHORITY, SSL = 0x01, 0x02, 0x20
SSL_VERSION, SSL_CN, SSL_CIPHER = 0x21, 0x22, 0x23

#: The client speaks TLS; it has presented a certificate on this connection, or on that which its session began with.
CLIENT_SSL, CLIENT_CERT_CONN, CLIENT_CERT_SESS = 0x01, 0x02, 0x04


@dataclass(frozen=True, slots=True)
class Agreed:
    """What TLS with the client has agreed on.

    Attributes:
      version: ``"TLSv1.3"`` or ``"TLSv1.2"``.
      cipher_suite: its name.
      alpn: the application protocol, or None.
      server_name: the name that the client asked for, or None.
      common_name: of the client's certificate, which was verified; None: it has none, or presented no certificate.
      certificate: whether it has presented one.
      resumed: whether the session is an earlier one.
    """

    version: str
    cipher_suite: str
    alpn: str | None
    server_name: str | None
    common_name: str | None
    certificate: bool
    resumed: bool


def header(
    version: Literal["v1", "v2"],
    client: tuple[str, int] | None,
    server: tuple[str, int] | None,
    agreed: Agreed | None,
) -> bytes:
    """The header of one connection.

    Args:
      version: of the protocol.
      client: the client's IP address and port; None where there is none (a Unix domain socket).
      server: the address and port that the client has connected to.
      agreed: what TLS has agreed on, for version 2; None: the client speaks none.
    """
    addresses = None if client is None or server is None else _one_family(client, server)
    return _text(addresses) if version == "v1" else _binary(addresses, agreed)


#: Of the client and of the server, both of one family, and their ports.
_Addresses = tuple[
    "ipaddress.IPv4Address | ipaddress.IPv6Address", "ipaddress.IPv4Address | ipaddress.IPv6Address", int, int
]


def _one_family(client: tuple[str, int], server: tuple[str, int]) -> _Addresses:
    ends = [ipaddress.ip_address(host.partition("%")[0]) for host, _ in (client, server)]
    # An IPv6 socket shows the clients of IPv4 as ::ffff:192.0.2.1.
    mapped = [each.ipv4_mapped if isinstance(each, ipaddress.IPv6Address) else None for each in ends]
    if mapped[0] is not None and mapped[1] is not None:
        return mapped[0], mapped[1], client[1], server[1]
    return ends[0], ends[1], client[1], server[1]


def _text(addresses: _Addresses | None) -> bytes:
    if addresses is None:
        return b"PROXY UNKNOWN\r\n"
    source, destination, source_port, destination_port = addresses
    return f"PROXY TCP{source.version} {source} {destination} {source_port} {destination_port}\r\n".encode()


def _binary(addresses: _Addresses | None, agreed: Agreed | None) -> bytes:
    family, body = UNSPECIFIED, b""
    if addresses is not None:
        source, destination, source_port, destination_port = addresses
        family = TCP_4 if source.version == 4 else TCP_6
        body = source.packed + destination.packed + struct.pack("!HH", source_port, destination_port)
    if agreed is not None:
        body += _told(agreed)
    return SIGNATURE + struct.pack("!BBH", PROXY, family, len(body)) + body


def _told(agreed: Agreed) -> bytes:
    flags = CLIENT_SSL
    if agreed.certificate:
        flags |= CLIENT_CERT_SESS | (0 if agreed.resumed else CLIENT_CERT_CONN)
    # 0: a certificate was presented, and verified; whoever presents a bad one does not come as far as this.
    ssl = struct.pack("!BI", flags, 0 if agreed.certificate else 1)
    ssl += _value(SSL_VERSION, agreed.version) + _value(SSL_CIPHER, agreed.cipher_suite)
    if agreed.common_name is not None:
        ssl += _value(SSL_CN, agreed.common_name)
    told = b""
    if agreed.alpn is not None:
        told += _value(ALPN, agreed.alpn)
    if agreed.server_name is not None:
        told += _value(AUTHORITY, agreed.server_name)
    return told + struct.pack("!BH", SSL, len(ssl)) + ssl


def _value(kind: int, text: str) -> bytes:
    encoded = text.encode(errors="replace")[:1024]
    return struct.pack("!BH", kind, len(encoded)) + encoded
