"""Extensions for resumption: pre_shared_key in its two forms, psk_key_exchange_modes, and early_data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..misbehaviour import illegal_parameter
from ..registry import ExtensionType
from ..value import value
from ..wire import Reader, uint8_vector, uint16, uint32, vector

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EarlyData", "EarlyDataLimit", "PreSharedKeys", "PskIdentity", "PskKeyExchangeModes", "SelectedPsk"]


@value
class PskKeyExchangeModes:
    """psk_key_exchange_modes: how the client would use a PSK (RFC 9846 section 4.3.9).

    ::

        struct {
            PskKeyExchangeMode ke_modes<1..255>;
        } PskKeyExchangeModes;
    """

    type: ClassVar[ExtensionType] = ExtensionType.psk_key_exchange_modes

    modes: tuple[int, ...]

    def encode(self) -> bytes:
        """The body."""
        return uint8_vector(1, self.modes)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(reader.uint8_vector(1, low=1))


@value
class PskIdentity:
    """The label of one pre-shared key (RFC 9846 section 4.3.11).

    ::

        struct {
            opaque identity<1..2^16-1>;
            uint32 obfuscated_ticket_age;
        } PskIdentity;
    """

    identity: bytes
    obfuscated_ticket_age: int
    """Milliseconds since the ticket came, plus its ticket_age_add, modulo 2^32; 0 for an external PSK."""

    def encode(self) -> bytes:
        """The structure."""
        return vector(2, self.identity) + uint32(self.obfuscated_ticket_age)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the structure."""
        return cls(reader.vector(2, low=1), reader.uint32())


@value
class PreSharedKeys:
    """pre_shared_key of a ClientHello: the PSKs that the client offers (RFC 9846 section 4.3.11).

    ::

        opaque PskBinderEntry<32..255>;
        struct {
            PskIdentity identities<7..2^16-1>;
            PskBinderEntry binders<33..2^16-1>;
        } OfferedPsks;
    """

    type: ClassVar[ExtensionType] = ExtensionType.pre_shared_key

    identities: tuple[PskIdentity, ...]
    binders: tuple[bytes, ...]
    """One for each identity, in the same order."""

    @property
    def binders_length(self) -> int:
        """How many bytes the list of binders takes at the end of the body, its length field included."""
        return 2 + sum(1 + len(binder) for binder in self.binders)

    def encode(self) -> bytes:
        """The body."""
        return vector(2, b"".join([identity.encode() for identity in self.identities])) + self.encode_binders()

    def encode_binders(self) -> bytes:
        """The end of the body: the list of binders, its length field included."""
        return vector(2, b"".join([vector(1, binder) for binder in self.binders]))

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body; an identity without its binder, or a binder without identity, is an illegal_parameter."""
        listed = reader.sub(2, low=7)
        identities = []
        while listed.remaining:
            identities.append(PskIdentity.decode(listed))
        listed = reader.sub(2, low=33)
        binders = []
        while listed.remaining:
            binders.append(listed.vector(1, low=32))
        if len(binders) != len(identities):
            # "A series of HMAC values, one for each value in the identities list and in the same order"
            raise illegal_parameter(f"{len(binders)} binders for {len(identities)} PSK identities", "4.3.11")
        return cls(tuple(identities), tuple(binders))


@value
class SelectedPsk:
    """pre_shared_key of a ServerHello: which identity the server took (RFC 9846 section 4.3.11).

    ::

        uint16 selected_identity;
    """

    type: ClassVar[ExtensionType] = ExtensionType.pre_shared_key

    index: int
    """Into the identities that the client offered, from 0."""

    def encode(self) -> bytes:
        """The body."""
        return uint16(self.index)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(reader.uint16())


@value
class EarlyData:
    """early_data of ClientHello and EncryptedExtensions: it is sent, it is accepted (RFC 9846 section 4.3.10).

    ::

        struct {
            select (Handshake.msg_type) {
                case new_session_ticket:   uint32 max_early_data_size;
                case client_hello:         Empty;
                case encrypted_extensions: Empty;
            };
        } EarlyDataIndication;
    """

    type: ClassVar[ExtensionType] = ExtensionType.early_data

    def encode(self) -> bytes:
        """The body, which is empty."""
        return b""

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read nothing; the caller finds what is too much."""
        del reader
        return cls()


@value
class EarlyDataLimit:
    """early_data of a NewSessionTicket; the structure is with `EarlyData`."""

    type: ClassVar[ExtensionType] = ExtensionType.early_data

    max_size: int
    """The most bytes of early data that may be sent with this ticket."""

    def encode(self) -> bytes:
        """The body."""
        return uint32(self.max_size)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(reader.uint32())
