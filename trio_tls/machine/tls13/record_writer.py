"""RecordWriter: messages and application data become records in the outgoing BIO (RFC 9846 section 5).

How this works. Application data is encrypted a whole write at a time. What fits into one record becomes `bytes` in few
steps. The records of a longer write go into one new bytearray, which the BIO adopts without a copy, so that they leave
in one send; a piece of data is staged with its type byte behind it (the AEAD wants both in one buffer), and encrypted
from there to where it belongs: the only copy there is. Everything else (handshake messages, alerts) is rare, and takes
`_seal_all`, one record at a time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

from .record import HEADER_LENGTH, MOST_INNER, MOST_PLAINTEXT, NONCE_LENGTH, OVERHEAD, TAG_LENGTH, RecordKey
from .registry import ContentType, HandshakeType

if TYPE_CHECKING:
    from ..bio import MemoryBIO

__all__ = ["RecordWriter"]

#: The type and version of every protected record.
PROTECTED = b"\x17\x03\x03"

#: The type of application data, behind its content.
APPLICATION_DATA = b"\x17"


class RecordWriter:
    """The sending side of the record layer.

    Args:
      outgoing: where the records go; its limit bounds application data.

    Attributes:
      padding: how many zeros shall pad a protected record, given the length of its content; what does not fit into
        the record is cut off. None: no padding. What it raises leaves the write that asked; of that nothing was queued.
    """

    __slots__ = ("_key", "_most", "_outgoing", "_over", "_started", "padding")

    def __init__(self, outgoing: MemoryBIO) -> None:
        self.padding: Callable[[int], int] | None = None
        self._outgoing = outgoing
        self._key: RecordKey | None = None
        self._most = MOST_PLAINTEXT
        self._started = False
        self._over = False

    @property
    def record_size_limit(self) -> int:
        """The most that the peer takes in one protected record: content, type and padding (RFC 8449 section 4)."""
        return self._most + 1

    @record_size_limit.setter
    def record_size_limit(self, limit: int) -> None:
        # "An endpoint MUST NOT send a value higher than the protocol-defined maximum", but one that does is let off.
        self._most = min(limit, MOST_INNER) - 1

    @property
    def records_left(self) -> int:
        """How many records the key may still protect, 0 without one. A KeyUpdate is due before it gets to 0."""
        key = self._key
        return 0 if key is None else max(0, key.record_limit - key.sequence)

    def set_key(self, key: RecordKey) -> None:
        """Protect all further records with ``key``, which is this writer's from now on."""
        self._key = key

    def rest(self) -> None:
        """Take less memory until the next record."""
        if self._key is not None:
            self._key.rest()

    def forget_key(self) -> None:
        """Let go of the key: nothing is written any more, and nothing may leave unprotected instead."""
        self._key, self._over = None, True

    def write(self, content_type: int, data: bytes) -> None:
        """Queue handshake messages, an alert or a change_cipher_spec, whatever room there is.

        Handshake messages end where ``data`` ends: nothing is coalesced with what comes later, so a message before a
        change of keys is aligned with its record, as section 5.1 demands. They are split where they are too long.

        Args:
          content_type: the ContentType; change_cipher_spec is never protected.
          data: at least one byte.

        Raises:
          RuntimeError: the key has numbered all the records that it can, or was let go.
        """
        if self._over:
            raise RuntimeError("nothing is written after the key was let go")
        if not data:
            # "Implementations MUST NOT send zero-length fragments of Handshake types"
            raise ValueError("a record needs content")
        first, self._started = not self._started, True
        if self._key is not None and content_type != ContentType.change_cipher_spec:
            self._seal_all(self._key, content_type, memoryview(data))
            return
        # "a record containing an initial ClientHello SHOULD have version 0x0301", and any other MUST have 0x0303.
        hello = first and content_type == ContentType.handshake and data[0] == HandshakeType.client_hello
        version = b"\x03\x01" if hello else b"\x03\x03"
        for start in range(0, len(data), MOST_PLAINTEXT):
            fragment = data[start : start + MOST_PLAINTEXT]
            self._outgoing.write(b"%c%b%b%b" % (content_type, version, len(fragment).to_bytes(2, "big"), fragment))

    def write_application(self, data: memoryview) -> int:
        """Queue as much of ``data`` as `MemoryBIO.room` allows; how many bytes that was.

        Room is counted in bytes of ``data``: what protection adds comes on top, so that a write as large as the limit
        goes in at once, and not all but its last bytes.

        Raises:
          RuntimeError: there is no key yet, or it may not protect any further record: a KeyUpdate is due.
        """
        key = self._key
        if key is None:
            # "Application Data records MUST NOT be written to the wire unprotected"
            raise RuntimeError("application data needs a key")
        size = len(data)
        room = self._outgoing.room
        if size > room:
            size = room
        if not size:
            return 0
        most = self._most
        sequence = key.sequence
        left = key.record_limit - sequence
        if left <= 0:
            raise RuntimeError("this key has protected all the records that it may; send a KeyUpdate first")
        if size > left * most:
            size = left * most
        if self.padding is not None:
            self._seal_all(key, ContentType.application_data, data[:size])
            return size
        if size <= most:
            header = PROTECTED + (size + 1 + TAG_LENGTH).to_bytes(2, "big")
            nonce = (key.iv ^ sequence).to_bytes(NONCE_LENGTH, "big")
            encrypt = key.aead.encrypt
            key.sequence = sequence + 1
            staged = b"".join((data if size == len(data) else data[:size], APPLICATION_DATA))
            self._outgoing.write(header + encrypt(nonce, staged, header))
            return size
        self._outgoing.adopt(self._encrypt_all(key, data, size))
        return size

    def _encrypt_all(self, key: RecordKey, data: memoryview, size: int) -> bytearray:
        """The records of ``data[:size]``, all full but the last."""
        most = self._most
        whole, rest = divmod(size, most)
        step = most + OVERHEAD
        wire = bytearray(whole * step + (rest + OVERHEAD if rest else 0))
        view = memoryview(wire)
        staged = memoryview(bytearray(most + 1))
        staged[most] = ContentType.application_data
        content = staged[:most]
        header = PROTECTED + (most + 1 + TAG_LENGTH).to_bytes(2, "big")
        encrypt_into, iv, sequence = key.aead.encrypt_into, key.iv, key.sequence
        # Numbers are taken before they are used: if anything fails on the way, none can be used twice.
        key.sequence = sequence + whole + (rest > 0)
        position = start = 0
        for _ in range(whole):
            content[:] = data[start : start + most]
            body = position + HEADER_LENGTH
            view[position:body] = header
            position += step
            encrypt_into((iv ^ sequence).to_bytes(NONCE_LENGTH, "big"), staged, header, view[body:position])
            sequence += 1
            start += most
        if rest:
            header = PROTECTED + (rest + 1 + TAG_LENGTH).to_bytes(2, "big")
            body = position + HEADER_LENGTH
            view[position:body] = header
            inner = b"".join((data[start:size], APPLICATION_DATA))
            encrypt_into((iv ^ sequence).to_bytes(NONCE_LENGTH, "big"), inner, header, view[body:])
        return wire

    def _seal_all(self, key: RecordKey, content_type: int, data: memoryview) -> None:
        """Queue the records of ``data``, each padded as the policy has it."""
        most = self._most
        if len(data) <= most and self.padding is None:
            self._seal(key, content_type, data, 0)
            return
        fragments = [data[start : start + most] for start in range(0, len(data), most)]
        # The policy is the application's, and may fail: it is asked before there is a record that a caller, who would
        # take nothing for written, could send again.
        pads = [self._padding_of(len(fragment)) for fragment in fragments]
        for fragment, pad in zip(fragments, pads, strict=True):
            self._seal(key, content_type, fragment, pad)

    def _padding_of(self, size: int) -> int:
        """How many zeros pad a content of this size."""
        return 0 if self.padding is None else min(max(0, operator.index(self.padding(size))), self._most - size)

    def _seal(self, key: RecordKey, content_type: int, content: memoryview, pad: int) -> None:
        """Queue one protected record."""
        inner = b"".join((content, bytes((content_type,)), bytes(pad)))
        header = PROTECTED + (len(inner) + TAG_LENGTH).to_bytes(2, "big")
        encrypt = key.aead.encrypt
        self._outgoing.write(header + encrypt(key.next_nonce(), inner, header))
