"""Extensions for the key exchange: supported_groups and key_share in its three forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..registry import ExtensionType
from ..value import value
from ..wire import Reader, uint16, uint16_vector, vector

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["KeyShareEntry", "KeyShares", "RetryGroup", "SelectedKeyShare", "SupportedGroups"]


@value
class SupportedGroups:
    """supported_groups: the groups that its sender can exchange keys in (RFC 9846 section 4.3.7).

    ::

        struct {
            NamedGroup named_group_list<2..2^16-1>;
        } NamedGroupList;
    """

    type: ClassVar[ExtensionType] = ExtensionType.supported_groups

    groups: tuple[int, ...]
    """From most preferred to least preferred."""

    def encode(self) -> bytes:
        """The body."""
        return uint16_vector(2, self.groups)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body. Duplicates, which a recipient MAY refuse, are let pass."""
        return cls(reader.uint16_vector(2, low=2))


@value
class KeyShareEntry:
    """One public value for one group (RFC 9846 section 4.3.8); not an extension, but what they are made of.

    ::

        struct {
            NamedGroup group;
            opaque key_exchange<1..2^16-1>;
        } KeyShareEntry;
    """

    group: int
    key_exchange: bytes

    def encode(self) -> bytes:
        """The structure."""
        return uint16(self.group) + vector(2, self.key_exchange)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the structure."""
        return cls(reader.uint16(), reader.vector(2, low=1))


@value
class KeyShares:
    """key_share of a ClientHello: the public values that the client offers (RFC 9846 section 4.3.8).

    ::

        struct {
            KeyShareEntry client_shares<0..2^16-1>;
        } KeyShareClientHello;
    """

    type: ClassVar[ExtensionType] = ExtensionType.key_share

    entries: tuple[KeyShareEntry, ...]
    """In descending order of preference. None at all ask for a HelloRetryRequest."""

    def encode(self) -> bytes:
        """The body."""
        return vector(2, b"".join([entry.encode() for entry in self.entries]))

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body. Groups that are there twice, or not in supported_groups, are the server's to judge."""
        shares = reader.sub(2)
        entries = []
        while shares.remaining:
            entries.append(KeyShareEntry.decode(shares))
        return cls(tuple(entries))


@value
class SelectedKeyShare:
    """key_share of a ServerHello: the server's public value (RFC 9846 section 4.3.8).

    ::

        struct {
            KeyShareEntry server_share;
        } KeyShareServerHello;
    """

    type: ClassVar[ExtensionType] = ExtensionType.key_share

    entry: KeyShareEntry

    def encode(self) -> bytes:
        """The body."""
        return self.entry.encode()

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(KeyShareEntry.decode(reader))


@value
class RetryGroup:
    """key_share of a HelloRetryRequest: the group that the server wants a value for (RFC 9846 section 4.3.8).

    ::

        struct {
            NamedGroup selected_group;
        } KeyShareHelloRetryRequest;
    """

    type: ClassVar[ExtensionType] = ExtensionType.key_share

    group: int

    def encode(self) -> bytes:
        """The body."""
        return uint16(self.group)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(reader.uint16())
