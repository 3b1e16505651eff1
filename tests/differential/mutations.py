"""Mutations: one field of one message changed, by name; the same ones in each run.

How this works. `mutations_of` walks the fields of what a sound peer sends in a handshake, and yields what can be done
to each: a list emptied, an entry dropped or doubled, a length that lies, a byte more, a byte changed. Each `Mutation`
has a name that tells the field and the change, such as ``client_hello.extensions.key_share.body: emptied``; the table
of explained differences goes by these names. A mutation is an edit of the bytes in the peer's hands, so what the peer
signs and hashes fits what it sends.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .fields import EXTENSIONS, Node, parse

__all__ = ["Mutation", "combined", "mutations_of"]

#: A type of extension, of suite, of group that nobody knows (RFC 8701).
GREASE = b"\x0a\x0a"

#: Changes of whole fields, where the standard gives the values their meaning.
VALUES = {
    "legacy_version": (b"\x03\x00", b"\x03\x01", b"\x03\x04", b"\x00\x00", b"\xff\xff"),
    "legacy_session_id": (b"", b"\x01", b"\x22" * 32, b"\x22" * 33),
    "legacy_session_id_echo": (b"", b"\x22" * 32, b"\x22" * 33),
    "legacy_compression_method": (b"\x01",),
    "cipher_suite": (b"\x13\x02", b"\x13\x03", b"\x13\x04", b"\xc0\x2f", GREASE),
    "algorithm": (b"\x04\x01", b"\x02\x01", b"\x05\x03", b"\x08\x04", b"\x08\x07", GREASE),
    "group": (b"\x00\x17", b"\x00\x18", GREASE),
}

#: Bodies for an extension that does not belong into a message, or is there already in another form.
STRANGE_BODIES = {
    "server_name": b"",
    "max_fragment_length": b"\x01",
    "status_request": b"\x01\0\0\0\0",
    "supported_groups": b"\0\x02\0\x1d",
    "ec_point_formats": b"\x01\0",
    "signature_algorithms": b"\0\x02\x08\x04",
    "heartbeat": b"\x01",
    "alpn": b"\0\x03\x02h2",
    "padding": bytes(10),
    "compress_certificate": b"\x02\0\x01",
    "record_size_limit": b"\x40\x01",
    "supported_versions": b"\x03\x04",
    "cookie": b"\0\x01c",
    "psk_key_exchange_modes": b"\x01\x01",
    "certificate_authorities": b"\0\x04\0\x02\x30\0",
    "key_share": b"\0\x1d",
    "renegotiation_info": b"\0",
}


@dataclass(frozen=True)
class Mutation:
    """A change of one message.

    Attributes:
      name: the field and the change.
      message: the message that it is in.
      edit: is given the message, and returns what is sent instead.
    """

    name: str
    message: str
    edit: Callable[[bytes], Sequence[bytes]]


def mutations_of(sent: Mapping[str, bytes], stride: int) -> Iterator[Mutation]:
    """Every mutation of a handshake.

    Args:
      sent: the messages of the peer, by name.
      stride: of the bytes that have no other meaning, change every so manieth.
    """
    for name, raw in sent.items():
        yield from _of_messages(name, raw, sent)
        count = 0
        for path, node in parse(name, raw).walk():
            for change, body in _of_node(node):
                yield _replacing(name, path, change, body)
            if node.is_list and node.name == "extensions":
                for change, body in _strange_extensions(node):
                    yield _replacing(name, path, change, body)
            if node.children is None:
                for position in range(len(node.data)):
                    count += 1
                    if len(node.data) <= 2 or count % stride == 0:
                        for mask in (0x01, 0x80):
                            yield _replacing(name, path, f"byte {position} ^ {mask:02x}", _flip(position, mask))


def combined(mutations: Sequence[Mutation], seed: int) -> tuple[Mutation, ...]:
    """Two or three mutations at once, chosen by the seed."""
    return tuple(random.Random(seed).sample(mutations, 2 + seed % 2))


Change = Callable[[Node], bytes]


def _replacing(message: str, path: str, change: str, encoded: Change) -> Mutation:
    """The field at ``path`` is sent as ``encoded`` makes it, and the lengths around it fit."""

    def edit(raw: bytes) -> Sequence[bytes]:
        # Signatures differ from run to run, and so do lengths: the tree is made of what is sent now.
        root = parse(message, raw)
        for found, node in root.walk():
            if found == path:
                replaced = encoded(node)
                node.head, node.width, node.children, node.data = b"", 0, None, replaced
                break
        return [root.encode()]

    return Mutation(f"{path}: {change}", message, edit)


def _of_messages(name: str, raw: bytes, sent: Mapping[str, bytes]) -> Iterator[Mutation]:
    yield Mutation(f"{name}: dropped", name, lambda raw: [])
    yield Mutation(f"{name}: twice", name, lambda raw: [raw, raw])
    yield Mutation(f"{name}: of type 99", name, lambda raw: [b"\x63" + raw[1:]])
    for other, found in sent.items():
        if other != name:
            yield Mutation(f"{name}: preceded by {other}", name, lambda raw, found=found: [found, raw])  # type: ignore[misc]
    for kind, message in (
        ("key_update", b"\x18\0\0\x01\0"),
        ("new_session_ticket", b"\x04\0\0\x0d\0\0\0\x01\0\0\0\0\0\0\x01t\0\0"),
        ("hello_request", b"\0\0\0\0"),
        ("end_of_early_data", b"\x05\0\0\0"),
    ):
        yield Mutation(f"{name}: preceded by {kind}", name, lambda raw, message=message: [message, raw])  # type: ignore[misc]


def _of_node(node: Node) -> Iterator[tuple[str, Change]]:
    for value in VALUES.get(node.name, ()):
        if value != node.data:
            yield f"= {value.hex() or 'nothing'}", lambda node, value=value: node.around(value)  # type: ignore[misc]
    if node.width:
        yield "emptied", lambda node: node.around(b"")
        yield "one byte more", lambda node: node.around(node.body + b"\0")
        yield "one byte less", lambda node: node.around(node.body[:-1])
        yield "length ff", lambda node: node.head + b"\xff" * node.width + node.body
        yield "length 0", lambda node: node.head + bytes(node.width) + node.body
    if node.is_list and node.children:
        entries = node.children
        if len(entries) > 1:
            yield (
                "reversed",
                lambda node: node.around(b"".join(each.encode() for each in reversed(node.children or []))),
            )
        for index, entry in enumerate(entries):
            name = entry.name if entry.head else str(index)
            yield f"without {name}", lambda node, index=index: _with(node, index, b"")  # type: ignore[misc]
            yield f"{name} twice", lambda node, index=index: _with(node, index, None)  # type: ignore[misc]
        if all(each.children is None and not each.width and len(each.data) == 2 for each in entries):
            yield "GREASE first", lambda node: node.around(GREASE + node.body)
            yield "GREASE alone", lambda node: node.around(GREASE)


def _strange_extensions(node: Node) -> Iterator[tuple[str, Change]]:
    there = {each.name for each in node.children or ()}
    for number, name in EXTENSIONS.items():
        body = STRANGE_BODIES.get(name, b"")
        encoded = number.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body
        if name not in there:
            yield f"with {name}", lambda node, encoded=encoded: node.around(encoded + node.body)  # type: ignore[misc]
    yield "with GREASE", lambda node: node.around(GREASE + b"\0\0" + node.body)
    yield "GREASE last", lambda node: node.around(node.body + GREASE + b"\0\x01\0")


def _with(node: Node, index: int, instead: bytes | None) -> bytes:
    """The list with one entry replaced, or doubled if ``instead`` is None."""
    encoded = [each.encode() for each in node.children or ()]
    encoded[index] = encoded[index] * 2 if instead is None else instead
    return node.around(b"".join(encoded))


def _flip(position: int, mask: int) -> Change:
    def change(node: Node) -> bytes:
        at = min(position, len(node.data) - 1)
        return node.around(node.data[:at] + bytes((node.data[at] ^ mask,)) + node.data[at + 1 :])

    return change
