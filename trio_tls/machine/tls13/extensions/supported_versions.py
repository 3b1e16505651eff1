"""Extensions that settle the version, and the cookie that goes with a HelloRetryRequest."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..registry import ExtensionType
from ..value import value
from ..wire import Reader, uint16, uint16_vector, vector

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Cookie", "SelectedVersion", "SupportedVersions"]


@value
class SupportedVersions:
    """supported_versions of a ClientHello (RFC 9846 section 4.3.1).

    ::

        struct {
            select (Handshake.msg_type) {
                case client_hello:
                     ProtocolVersion versions<2..254>;
                case server_hello: /* and HelloRetryRequest */
                     ProtocolVersion selected_version;
            };
        } SupportedVersions;
    """

    type: ClassVar[ExtensionType] = ExtensionType.supported_versions

    versions: tuple[int, ...]
    """The most preferred first."""

    def encode(self) -> bytes:
        """The body."""
        return uint16_vector(1, self.versions)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(reader.uint16_vector(1, low=2, high=254))


@value
class SelectedVersion:
    """supported_versions of a ServerHello or HelloRetryRequest; the structure is with `SupportedVersions`."""

    type: ClassVar[ExtensionType] = ExtensionType.supported_versions

    version: int

    def encode(self) -> bytes:
        """The body."""
        return uint16(self.version)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(reader.uint16())


@value
class Cookie:
    """cookie: what a server gives with a HelloRetryRequest and gets back with the next ClientHello (section 4.3.2).

    ::

        struct {
            opaque cookie<1..2^16-1>;
        } Cookie;
    """

    type: ClassVar[ExtensionType] = ExtensionType.cookie

    cookie: bytes

    def encode(self) -> bytes:
        """The body."""
        return vector(2, self.cookie)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(reader.vector(2, low=1))
