"""Extensions for the layer above: server_name, ALPN, record_size_limit, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..misbehaviour import excerpt, illegal_parameter
from ..registry import ExtensionType
from ..value import value
from ..wire import Reader, uint8, uint16, vector

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ApplicationProtocols", "Padding", "RecordSizeLimit", "ServerName"]

HOST_NAME = 0  # the only NameType there is
SMALLEST_RECORD_SIZE_LIMIT = 64


@value
class ServerName:
    """server_name: whom the client wants to speak to (RFC 6066 section 3).

    ::

        struct {
            NameType name_type;                      /* host_name(0) */
            opaque HostName<1..2^16-1>;
        } ServerName;
        struct {
            ServerName server_name_list<1..2^16-1>
        } ServerNameList;

    In EncryptedExtensions the body is empty: the server has used the name. That is ``ServerName(None)``.
    """

    type: ClassVar[ExtensionType] = ExtensionType.server_name

    host_name: str | None
    """ASCII, without control characters; whether it is a name that is served here is not judged."""

    def encode(self) -> bytes:
        """The body."""
        if self.host_name is None:
            return b""
        return vector(2, uint8(HOST_NAME) + vector(2, self.host_name.encode("ascii")))

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read what a client sends: exactly one host_name, or it is an illegal_parameter."""
        names = reader.sub(2, low=1)
        kind = names.uint8()
        name = names.vector(2, low=1)
        if kind != HOST_NAME or names.remaining:
            # "MUST NOT contain more than one name of the same name_type", and other types were never defined.
            raise illegal_parameter("server_name is not exactly one host_name", "RFC 6066 section 3")
        # "represented as a byte string using ASCII encoding without a trailing dot"
        if not name.isascii() or not (host_name := name.decode("ascii")).isprintable() or " " in host_name:
            raise illegal_parameter(f"server_name is not a host name: {excerpt(name)}", "RFC 6066 section 3")
        return cls(host_name)

    @classmethod
    def decode_acknowledgement(cls, reader: Reader) -> Self:
        """Read what a server answers, which is nothing; the caller finds what is too much."""
        del reader
        return cls(None)


@value
class ApplicationProtocols:
    """application_layer_protocol_negotiation: ALPN (RFC 7301 section 3.1).

    ::

        opaque ProtocolName<1..2^8-1>;
        struct {
            ProtocolName protocol_name_list<2..2^16-1>
        } ProtocolNameList;

    A server answers with exactly one; the client judges that.
    """

    type: ClassVar[ExtensionType] = ExtensionType.application_layer_protocol_negotiation

    protocols: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The body."""
        return vector(2, b"".join([vector(1, protocol) for protocol in self.protocols]))

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        names = reader.sub(2, low=2)
        protocols = []
        while names.remaining:
            protocols.append(names.vector(1, low=1))
        return cls(tuple(protocols))


@value
class RecordSizeLimit:
    """record_size_limit: the longest record its sender wants to get (RFC 8449 section 4).

    ::

        uint16 RecordSizeLimit;
    """

    type: ClassVar[ExtensionType] = ExtensionType.record_size_limit

    limit: int
    """In bytes of TLSInnerPlaintext: content, the byte of its type, and padding."""

    def encode(self) -> bytes:
        """The body."""
        return uint16(self.limit)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body; less than 64 is an illegal_parameter."""
        limit = reader.uint16()
        if limit < SMALLEST_RECORD_SIZE_LIMIT:
            # "MUST treat receipt of a smaller value as a fatal error and generate an "illegal_parameter" alert"
            raise illegal_parameter(f"record_size_limit is {limit}", "RFC 8449 section 4")
        return cls(limit)


@value
class Padding:
    """padding: bytes that only make the ClientHello longer (RFC 7685 section 3)."""

    type: ClassVar[ExtensionType] = ExtensionType.padding

    length: int

    def encode(self) -> bytes:
        """The body: zeros."""
        return bytes(self.length)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body; anything but zeros is an illegal_parameter."""
        data = reader.rest()
        if any(data):
            # "The client MUST fill the padding extension completely with zero bytes"
            raise illegal_parameter("padding has bytes that are not zero", "RFC 7685 section 3")
        return cls(len(data))
