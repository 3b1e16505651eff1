"""What the reading and the writing side of the record layer have in common (RFC 9846 section 5).

    struct {
        ContentType type;
        ProtocolVersion legacy_record_version;
        uint16 length;
        opaque fragment[TLSPlaintext.length];
    } TLSPlaintext;

    struct {
        ContentType opaque_type = application_data; /* 23 */
        ProtocolVersion legacy_record_version = 0x0303; /* TLS v1.2 */
        uint16 length;
        opaque encrypted_record[TLSCiphertext.length];
    } TLSCiphertext;

    struct {
        opaque content[TLSPlaintext.length];
        ContentType type;
        uint8 zeros[length_of_padding];
    } TLSInnerPlaintext;

How this works. Directions never move together: the `RecordReader` and the `RecordWriter` have a `RecordKey` each,
and each is given its next one by its own ``set_key``. The number of a record is part of its key, so a new key
cannot go on with an old number, nor an old key start again at 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...alerts import Alert
from .key_schedule import Secret, traffic_keys
from .value import value

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    from .suites import CipherSuite

__all__ = ["ReceivedAlert", "RecordKey"]

#: Bytes of a record's header and of an AEAD's tag and nonce.
HEADER_LENGTH = 5
TAG_LENGTH = 16
NONCE_LENGTH = 12

#: "The length MUST NOT exceed 2^14 bytes", of the plaintext.
MOST_PLAINTEXT = 2**14

#: "the full encoded TLSInnerPlaintext MUST NOT exceed 2^14 + 1 octets": the content and its type.
MOST_INNER = MOST_PLAINTEXT + 1

#: "The length MUST NOT exceed 2^14 + 256 bytes", of the ciphertext.
MOST_CIPHERTEXT = 2**14 + 256

#: What protection adds to a content: the header, the type and the tag.
OVERHEAD = HEADER_LENGTH + 1 + TAG_LENGTH

#: A record's number stays below this: numbers "should not wrap" (section 5.3), and none comes near.
SEQUENCE_END = 2**64 - 1


@value
class ReceivedAlert:
    """An alert from the peer. Its level means nothing any more (section 6).

    Attributes:
      level: 1 (warning) or 2 (fatal), or whatever was sent.
      description: which alert.
    """

    level: int
    description: Alert


class RecordKey:
    """One key of one direction, and the number of the next record under it.

    Attributes:
      iv: the write iv, as a number: XORed with a record's number it is the nonce.
      sequence: the number of the next record.
      record_limit: how many records this key may protect (section 5.5).
    """

    __slots__ = ("_aead", "_key", "_suite", "iv", "record_limit", "sequence")

    def __init__(self, suite: CipherSuite, secret: Secret) -> None:
        self._suite = suite
        self._key, iv = traffic_keys(suite, secret)
        self._aead: AESGCM | ChaCha20Poly1305 | None = suite.aead(self._key)
        self.iv: int = int.from_bytes(iv, "big")
        self.sequence: int = 0
        self.record_limit: int = suite.record_limit

    @property
    def aead(self) -> AESGCM | ChaCha20Poly1305:
        """Encrypts or decrypts with this key, as the `cryptography` library has it."""
        aead = self._aead
        if aead is None:
            aead = self._aead = self._suite.aead(self._key)
        return aead

    def rest(self) -> None:
        """Let go of what `aead` makes again within two microseconds, and that takes more memory than all else here."""
        self._aead = None

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a RecordKey is not pickled or copied")

    def next_nonce(self) -> bytes:
        """The nonce of the next record, whose number is taken by that.

        Raises:
          RuntimeError: there is no further number.
        """
        sequence = self.sequence
        if sequence >= SEQUENCE_END:
            raise RuntimeError("this key has numbered all the records that it can")
        self.sequence = sequence + 1
        return (self.iv ^ sequence).to_bytes(NONCE_LENGTH, "big")
