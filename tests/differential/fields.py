"""Handshake messages as trees of fields, so that an edit can name the field that it changes.

How this works. `parse` cuts a message along the structures of RFC 9846 section 4 into `Node` objects: a node is a
leaf with bytes, or a list of nodes, and either may have a length in front of it. `Node.encode` puts it together again
and counts the lengths anew, so an edit of a leaf leaves a message that is well formed around it. This reads what a
sound peer sends; it is no decoder to judge others by, and has nothing of the library's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Node", "extension", "parse"]


@dataclass
class Node:
    """A field.

    Attributes:
      name: the standard's name for it; of an entry in a list, its number.
      width: bytes of the length in front of it, 0 if it has none.
      data: its bytes, if it is a leaf.
      children: its fields, if it is not.
      head: bytes before the length: the type of a message, or of an extension.
    """

    name: str
    width: int = 0
    data: bytes = b""
    children: list[Node] | None = None
    head: bytes = b""
    is_list: bool = field(default=False)

    @property
    def body(self) -> bytes:
        """Its bytes without head and length."""
        return self.data if self.children is None else b"".join(child.encode() for child in self.children)

    def encode(self) -> bytes:
        return self.around(self.body)

    def around(self, body: bytes) -> bytes:
        """Another body, with the head and the right length before it."""
        return self.head + (len(body).to_bytes(self.width, "big") if self.width else b"") + body

    def walk(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """Every node below and itself, with its path: ``"client_hello.extensions.key_share.0.group"``."""
        path = f"{path}.{self.name}" if path else self.name
        yield path, self
        for child in self.children or ():
            yield from child.walk(path)


Rest: TypeAlias = "tuple[Node, bytes]"
Reader: TypeAlias = Callable[[str, bytes], Rest]

#: The extensions that sound peers send here, and others that are put into their messages.
EXTENSIONS = {
    0: "server_name",
    1: "max_fragment_length",
    5: "status_request",
    10: "supported_groups",
    11: "ec_point_formats",
    13: "signature_algorithms",
    15: "heartbeat",
    16: "alpn",
    18: "signed_certificate_timestamp",
    21: "padding",
    22: "encrypt_then_mac",
    23: "extended_main_secret",
    27: "compress_certificate",
    28: "record_size_limit",
    35: "session_ticket",
    41: "pre_shared_key",
    42: "early_data",
    43: "supported_versions",
    44: "cookie",
    45: "psk_key_exchange_modes",
    47: "certificate_authorities",
    48: "oid_filters",
    49: "post_handshake_auth",
    50: "signature_algorithms_cert",
    51: "key_share",
    0xFF01: "renegotiation_info",
}


def fixed(size: int) -> Reader:
    """A leaf of so many bytes."""
    return lambda name, data: (Node(name, data=data[:size]), data[size:])


def opaque(width: int) -> Reader:
    """A leaf with its length before it."""

    def read(name: str, data: bytes) -> Rest:
        end = width + int.from_bytes(data[:width], "big")
        return Node(name, width, data[width:end]), data[end:]

    return read


def rest(name: str, data: bytes) -> Rest:
    """A leaf of all that is left."""
    return Node(name, data=data), b""


def struct(**fields: Reader) -> Reader:
    """Fields one after another."""

    def read(name: str, data: bytes) -> Rest:
        children: list[Node] = []
        for each, reader in fields.items():
            child, data = reader(each, data)
            children.append(child)
        return Node(name, children=children), data

    return read


def vector(width: int, entry: Reader) -> Reader:
    """A list with its length in bytes before it."""

    def read(name: str, data: bytes) -> Rest:
        end = width + int.from_bytes(data[:width], "big")
        inside = data[width:end]
        children: list[Node] = []
        while inside:
            child, inside = entry(str(len(children)), inside)
            children.append(child)
        return Node(name, width, children=children, is_list=True), data[end:]

    return read


def certificate(name: str, data: bytes) -> Rest:
    """A certificate, in DER, with its length before it: what is signed, and the signature (RFC 5280 section 4.1)."""
    found, left = opaque(3)(name, data)
    der = found.data
    tbs = _header(der, 0)
    algorithm = tbs + _header(der, tbs) + _length(der, tbs)
    signature = algorithm + _header(der, algorithm) + _length(der, algorithm)
    bits = signature + _header(der, signature)
    children = [
        Node("outer_header", data=der[:tbs]),
        Node("tbs_certificate", data=der[tbs:algorithm]),
        Node("signature_algorithm", data=der[algorithm:signature]),
        Node("signature_header", data=der[signature:bits]),
        Node("unused_bits", data=der[bits : bits + 1]),
        Node("signature_value", data=der[bits + 1 :]),
    ]
    return Node(name, 3, children=children), left


def _header(der: bytes, start: int) -> int:
    """Bytes of a tag and its length."""
    return 2 + (der[start + 1] & 0x7F if der[start + 1] & 0x80 else 0)


def _length(der: bytes, start: int) -> int:
    """Bytes behind that."""
    size = _header(der, start)
    return der[start + 1] if size == 2 else int.from_bytes(der[start + 2 : start + size], "big")


SHARE = struct(group=fixed(2), key_exchange=opaque(2))

#: Bodies of extensions, by the message that they are in and their name; where a name has one form, by that alone.
BODIES: dict[str, Reader] = {
    "server_name": vector(2, struct(name_type=fixed(1), host_name=opaque(2))),
    "supported_groups": vector(2, fixed(2)),
    "signature_algorithms": vector(2, fixed(2)),
    "alpn": vector(2, opaque(1)),
    "psk_key_exchange_modes": vector(1, fixed(1)),
    "cookie": opaque(2),
    "client_hello supported_versions": vector(1, fixed(2)),
    "client_hello key_share": vector(2, SHARE),
    "server_hello supported_versions": fixed(2),
    "server_hello key_share": SHARE,
    "hello_retry_request supported_versions": fixed(2),
    "hello_retry_request key_share": fixed(2),
}


def extension(message: str) -> Reader:
    """One extension of a message."""

    def read(name: str, data: bytes) -> Rest:
        number, length = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        known = EXTENSIONS.get(number, f"extension_{number}")
        reader = BODIES.get(f"{message} {known}") or BODIES.get(known) or rest
        body, left = reader("body", data[4 : 4 + length])
        assert not left, "a sound peer has sent it"
        return Node(known, 2, children=[body], head=data[:2]), data[4 + length :]

    return read


def _messages() -> dict[str, Reader]:
    def extensions(message: str) -> Reader:
        return vector(2, extension(message))

    client_hello = struct(
        legacy_version=fixed(2),
        random=fixed(32),
        legacy_session_id=opaque(1),
        cipher_suites=vector(2, fixed(2)),
        legacy_compression_methods=vector(1, fixed(1)),
        extensions=extensions("client_hello"),
    )

    def server_hello(name: str) -> Reader:
        return struct(
            legacy_version=fixed(2),
            random=fixed(32),
            legacy_session_id_echo=opaque(1),
            cipher_suite=fixed(2),
            legacy_compression_method=fixed(1),
            extensions=extensions(name),
        )

    entry = struct(cert_data=certificate, extensions=extensions("certificate"))
    return {
        "client_hello": client_hello,
        "second_client_hello": client_hello,
        "server_hello": server_hello("server_hello"),
        "hello_retry_request": server_hello("hello_retry_request"),
        "encrypted_extensions": struct(extensions=extensions("encrypted_extensions")),
        "certificate_request": struct(
            certificate_request_context=opaque(1), extensions=extensions("certificate_request")
        ),
        "certificate": struct(certificate_request_context=opaque(1), certificate_list=vector(3, entry)),
        "certificate_verify": struct(algorithm=fixed(2), signature=opaque(2)),
        "finished": struct(verify_data=rest),
    }


MESSAGES = _messages()


def parse(name: str, raw: bytes) -> Node:
    """A handshake message, with its header."""
    body, left = MESSAGES[name](name, raw[4:])
    assert not left, "a sound peer has sent it"
    return Node(name, 3, children=body.children, head=raw[:1])
