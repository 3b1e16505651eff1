"""The handshake messages (RFC 9846 section 4 and appendix B.3), between bytes and dataclasses.

How this works. ``encode`` makes a whole message, header included; ``decode`` reads a body, header excluded, as the
record layer has already used the header to find where the message ends. `decode_message` is the door for what the
peer sends: it finds the class and ends with a message or a `TLSError`. Decoding says only whether bytes have the
form that the standard prints above each class. What a field may hold, given what was sent before or configured, is
judged by the client and the server: so ``legacy_version`` and compression are facts here, like all others.

The transcript hash is over the bytes as they came. Nobody decodes a message to encode it again.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from .extensions import Extensions, MessageContext, PreSharedKeys
from .misbehaviour import decode_error, illegal_parameter, unexpected_message
from .registry import TLS_1_2, HandshakeType, name_of
from .value import value
from .wire import Reader, uint8, uint16, uint16_vector, uint32, vector

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "HELLO_RETRY_REQUEST_RANDOM",
    "Certificate",
    "CertificateEntry",
    "CertificateRequest",
    "CertificateVerify",
    "ClientHello",
    "EncryptedExtensions",
    "EndOfEarlyData",
    "Finished",
    "HelloRetryRequest",
    "KeyUpdate",
    "Message",
    "NewSessionTicket",
    "ServerHello",
    "decode_message",
    "encode_client_hello",
    "encode_encrypted_extensions",
    "encode_server_hello",
]

#: "Random set to the special value of the SHA-256 of "HelloRetryRequest"" (RFC 9846 section 4.2.3).
HELLO_RETRY_REQUEST_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def _message(kind: HandshakeType, body: bytes) -> bytes:
    return b"%c%b%b" % (kind, len(body).to_bytes(3, "big"), body)


def _hello(
    kind: HandshakeType, version: int, random: bytes, session_id: bytes, chosen: bytes, extensions: bytes
) -> bytes:
    """Both hellos have the same form; ``chosen`` are the cipher suites and the compression."""
    return _message(kind, uint16(version) + random + vector(1, session_id) + chosen + extensions)


@value
class ClientHello:
    """What a client opens the handshake with (RFC 9846 section 4.2.2).

    ::

        struct {
            ProtocolVersion legacy_version = 0x0303;    /* TLS v1.2 */
            Random random;
            opaque legacy_session_id<0..32>;
            CipherSuite cipher_suites<2..2^16-2>;
            opaque legacy_compression_methods<1..2^8-1>;
            Extension extensions<7..2^16-1>;
        } ClientHello;
    """

    type: ClassVar[HandshakeType] = HandshakeType.client_hello

    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    """In descending order of preference."""
    extensions: Extensions
    legacy_version: int = TLS_1_2
    compression_methods: bytes = b"\0"

    def encode(self) -> bytes:
        """The message."""
        chosen = uint16_vector(2, self.cipher_suites) + vector(1, self.compression_methods)
        return _hello(self.type, self.legacy_version, self.random, self.session_id, chosen, self.extensions.encode())

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body. One of an older TLS may end before the extensions, and has none then."""
        reader = Reader(body, "ClientHello")
        legacy_version = reader.uint16()
        random = reader.take(32)
        session_id = reader.vector(1, high=32)
        cipher_suites = reader.uint16_vector(2, low=2, high=0xFFFE)
        compression_methods = reader.vector(1, low=1)
        # "The presence of extensions can be detected by determining whether there are bytes following the
        # compression_methods field at the end of the ClientHello."
        extensions = Extensions.decode(reader, MessageContext.CLIENT_HELLO) if reader.remaining else Extensions()
        reader.finish()
        return cls(random, session_id, cipher_suites, extensions, legacy_version, compression_methods)

    def truncated(self, encoded: bytes) -> bytes:
        """What PSK binders are made over: this message up to the list of binders (RFC 9846 section 4.3.11.2).

        "up to and including the PreSharedKeyExtension.identities field": the list comes last, as pre_shared_key does
        in the message, so what is cut off is counted from the end. The lengths before it stay as if it were there.

        Args:
          encoded: this message as it was received or is to be sent, with the header. The binders that are in it,
            or stand in for those to come, must be as long as those of this object.

        Raises:
          ValueError: the message offers no PSK.
        """
        offered = self.extensions.get(PreSharedKeys)
        if offered is None:
            raise ValueError("this ClientHello has no pre_shared_key")
        return encoded[: -offered.binders_length]


def encode_client_hello(random: bytes, session_id: bytes, cipher_suites: tuple[int, ...], extensions: bytes) -> bytes:
    """A ClientHello of ours, whose extensions are encoded already, their length included."""
    chosen = uint16_vector(2, cipher_suites) + vector(1, b"\0")
    return _hello(HandshakeType.client_hello, TLS_1_2, random, session_id, chosen, extensions)


@value
class ServerHello:
    """The parameters that the server chose (RFC 9846 section 4.2.3).

    ::

        struct {
            ProtocolVersion legacy_version = 0x0303;    /* TLS v1.2 */
            Random random;
            opaque legacy_session_id_echo<0..32>;
            CipherSuite cipher_suite;
            uint8 legacy_compression_method = 0;
            Extension extensions<6..2^16-1>;
        } ServerHello;

    Without supported_versions it is one of TLS 1.2 or older, and none of its extensions has been read.
    """

    type: ClassVar[HandshakeType] = HandshakeType.server_hello

    random: bytes
    session_id: bytes
    """legacy_session_id_echo."""
    cipher_suite: int
    extensions: Extensions
    legacy_version: int = TLS_1_2
    compression_method: int = 0

    def encode(self) -> bytes:
        """The message."""
        return _encode_server_hello(self)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body; it is the caller who tells the two server_hello messages apart by their random."""
        reader = Reader(body, "ServerHello")
        legacy_version = reader.uint16()
        random = reader.take(32)
        session_id = reader.vector(1, high=32)
        cipher_suite = reader.uint16()
        compression_method = reader.uint8()
        extensions = Extensions.decode(reader, MessageContext.SERVER_HELLO) if reader.remaining else Extensions()
        reader.finish()
        return cls(random, session_id, cipher_suite, extensions, legacy_version, compression_method)


@value
class HelloRetryRequest:
    """The server's wish for another ClientHello: a ServerHello with a random of its own (RFC 9846 section 4.2.4)."""

    type: ClassVar[HandshakeType] = HandshakeType.server_hello
    random: ClassVar[bytes] = HELLO_RETRY_REQUEST_RANDOM

    session_id: bytes
    """legacy_session_id_echo."""
    cipher_suite: int
    extensions: Extensions
    legacy_version: int = TLS_1_2
    compression_method: int = 0

    def encode(self) -> bytes:
        """The message."""
        return _encode_server_hello(self)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body, whose random the caller has looked at."""
        reader = Reader(body, "HelloRetryRequest")
        legacy_version = reader.uint16()
        reader.take(32)
        session_id = reader.vector(1, high=32)
        cipher_suite = reader.uint16()
        compression_method = reader.uint8()
        extensions = Extensions.decode(reader, MessageContext.HELLO_RETRY_REQUEST)
        reader.finish()
        return cls(session_id, cipher_suite, extensions, legacy_version, compression_method)


def _encode_server_hello(hello: ServerHello | HelloRetryRequest) -> bytes:
    chosen = uint16(hello.cipher_suite) + uint8(hello.compression_method)
    extensions = hello.extensions.encode()
    return _hello(hello.type, hello.legacy_version, hello.random, hello.session_id, chosen, extensions)


def encode_server_hello(random: bytes, session_id: bytes, cipher_suite: int, extensions: bytes) -> bytes:
    """A ServerHello of ours, whose extensions are encoded already, their length included."""
    chosen = uint16(cipher_suite) + uint8(0)
    return _hello(HandshakeType.server_hello, TLS_1_2, random, session_id, chosen, extensions)


@value
class EncryptedExtensions:
    """The server's answers that need no keys to understand (RFC 9846 section 4.4.1).

    ::

        struct {
            Extension extensions<0..2^16-1>;
        } EncryptedExtensions;
    """

    type: ClassVar[HandshakeType] = HandshakeType.encrypted_extensions

    extensions: Extensions

    def encode(self) -> bytes:
        """The message."""
        return encode_encrypted_extensions(self.extensions.encode())

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body."""
        reader = Reader(body, "EncryptedExtensions")
        extensions = Extensions.decode(reader, MessageContext.ENCRYPTED_EXTENSIONS)
        reader.finish()
        return cls(extensions)


def encode_encrypted_extensions(extensions: bytes) -> bytes:
    """The message of `EncryptedExtensions` that are encoded already, their length included."""
    return _message(HandshakeType.encrypted_extensions, extensions)


@value
class CertificateRequest:
    """The server's request for a certificate of the client (RFC 9846 section 4.4.2).

    ::

        struct {
            opaque certificate_request_context<0..2^8-1>;
            Extension extensions<0..2^16-1>;
        } CertificateRequest;
    """

    type: ClassVar[HandshakeType] = HandshakeType.certificate_request

    context: bytes
    """certificate_request_context, which the client's Certificate repeats."""
    extensions: Extensions

    def encode(self) -> bytes:
        """The message."""
        return _message(self.type, vector(1, self.context) + self.extensions.encode())

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body."""
        reader = Reader(body, "CertificateRequest")
        context = reader.vector(1)
        extensions = Extensions.decode(reader, MessageContext.CERTIFICATE_REQUEST)
        reader.finish()
        return cls(context, extensions)


@value
class CertificateEntry:
    """One certificate of a `Certificate` message (RFC 9846 section 4.5.1).

    ::

        struct {
            select (certificate_type) {
                case RawPublicKey:
                  opaque ASN1_subjectPublicKeyInfo<1..2^24-1>;
                case X509:
                  opaque cert_data<1..2^24-1>;
            };
            Extension extensions<0..2^16-1>;
        } CertificateEntry;
    """

    data: bytes
    """The certificate, DER, which is not looked into here."""
    extensions: Extensions

    def encode(self) -> bytes:
        """The structure."""
        return vector(3, self.data) + self.extensions.encode()

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the structure."""
        return cls(reader.vector(3, low=1), Extensions.decode(reader, MessageContext.CERTIFICATE))


@value
class Certificate:
    """The certificate chain of either side (RFC 9846 section 4.5.1).

    ::

        struct {
            opaque certificate_request_context<0..2^8-1>;
            CertificateEntry certificate_list<0..2^24-1>;
        } Certificate;
    """

    type: ClassVar[HandshakeType] = HandshakeType.certificate

    context: bytes
    entries: tuple[CertificateEntry, ...]
    """The end-entity certificate first. A client that has none sends none; a server must have one."""

    def encode(self) -> bytes:
        """The message."""
        entries = b"".join([entry.encode() for entry in self.entries])
        return _message(self.type, vector(1, self.context) + vector(3, entries))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body."""
        reader = Reader(body, "Certificate")
        context = reader.vector(1)
        listed = reader.sub(3)
        reader.finish()
        entries = []
        while listed.remaining:
            entries.append(CertificateEntry.decode(listed))
        return cls(context, tuple(entries))


@value
class CertificateVerify:
    """The proof that a side has the key of its certificate (RFC 9846 section 4.5.2).

    ::

        struct {
            SignatureScheme algorithm;
            opaque signature<0..2^16-1>;
        } CertificateVerify;
    """

    type: ClassVar[HandshakeType] = HandshakeType.certificate_verify

    scheme: int
    signature: bytes

    def encode(self) -> bytes:
        """The message."""
        return _message(self.type, uint16(self.scheme) + vector(2, self.signature))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body."""
        reader = Reader(body, "CertificateVerify")
        scheme = reader.uint16()
        signature = reader.vector(2)
        reader.finish()
        return cls(scheme, signature)


@value
class Finished:
    """The proof that both sides saw the same handshake (RFC 9846 section 4.5.3).

    ::

        struct {
            opaque verify_data[Hash.length];
        } Finished;
    """

    type: ClassVar[HandshakeType] = HandshakeType.finished

    verify_data: bytes
    """Of any length: the hash is not known here."""

    def encode(self) -> bytes:
        """The message."""
        return _message(self.type, self.verify_data)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body, all of which is verify_data."""
        return cls(body)


@value
class NewSessionTicket:
    """A ticket to resume the session with (RFC 9846 section 4.7.1).

    ::

        struct {
            uint32 ticket_lifetime;
            uint32 ticket_age_add;
            opaque ticket_nonce<0..255>;
            opaque ticket<1..2^16-1>;
            Extension extensions<0..2^16-1>;
        } NewSessionTicket;
    """

    type: ClassVar[HandshakeType] = HandshakeType.new_session_ticket

    lifetime: int
    """Seconds."""
    age_add: int
    """What the client adds to the ticket's age, so that nobody can read it."""
    nonce: bytes
    ticket: bytes
    extensions: Extensions

    def encode(self) -> bytes:
        """The message."""
        return _message(
            self.type,
            uint32(self.lifetime)
            + uint32(self.age_add)
            + vector(1, self.nonce)
            + vector(2, self.ticket)
            + self.extensions.encode(),
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body."""
        reader = Reader(body, "NewSessionTicket")
        lifetime = reader.uint32()
        age_add = reader.uint32()
        nonce = reader.vector(1)
        ticket = reader.vector(2, low=1)
        extensions = Extensions.decode(reader, MessageContext.NEW_SESSION_TICKET)
        reader.finish()
        return cls(lifetime, age_add, nonce, ticket, extensions)


@value
class KeyUpdate:
    """The sender's new traffic keys begin behind this message (RFC 9846 section 4.7.3).

    ::

        enum {
            update_not_requested(0), update_requested(1), (255)
        } KeyUpdateRequest;

        struct {
            KeyUpdateRequest request_update;
        } KeyUpdate;
    """

    type: ClassVar[HandshakeType] = HandshakeType.key_update

    request_update: bool
    """Whether the receiver is to update its own keys too."""

    def encode(self) -> bytes:
        """The message."""
        return _message(self.type, uint8(self.request_update))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body; a value other than 0 and 1 is an illegal_parameter."""
        reader = Reader(body, "KeyUpdate")
        request_update = reader.uint8()
        reader.finish()
        if request_update > 1:
            # "If an implementation receives any other value, it MUST terminate the connection"
            raise illegal_parameter(f"KeyUpdate asks for {request_update}", "4.7.3")
        return cls(bool(request_update))


@value
class EndOfEarlyData:
    """The client's early data ends here (RFC 9846 section 4.6).

    ::

        struct {} EndOfEarlyData;
    """

    type: ClassVar[HandshakeType] = HandshakeType.end_of_early_data

    def encode(self) -> bytes:
        """The message."""
        return _message(self.type, b"")

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body, which is empty."""
        Reader(body, "EndOfEarlyData").finish()
        return cls()


Message: TypeAlias = (
    ClientHello
    | ServerHello
    | HelloRetryRequest
    | EncryptedExtensions
    | CertificateRequest
    | Certificate
    | CertificateVerify
    | Finished
    | NewSessionTicket
    | KeyUpdate
    | EndOfEarlyData
)

_CLASSES: dict[int, type[Message]] = {
    cls.type: cls
    for cls in (
        ClientHello,
        ServerHello,
        EncryptedExtensions,
        CertificateRequest,
        Certificate,
        CertificateVerify,
        Finished,
        NewSessionTicket,
        KeyUpdate,
        EndOfEarlyData,
    )
}


#: What a peer that comes back sends again, byte by byte. It is kept, up to so many bytes of one message, and not read
#: again; what it is worth is judged in each handshake.
REPEATED: frozenset[int] = frozenset((HandshakeType.encrypted_extensions, HandshakeType.certificate))
MOST_REPEATED = 4096


@lru_cache(maxsize=64)
def _decoded_before(kind: int, body: bytes) -> Message:
    return _CLASSES[kind].decode(body)


def decode_message(kind: int, body: bytes) -> Message:
    """Read a message that the peer sent.

    Args:
      kind: its HandshakeType.
      body: the message without its header of four bytes.

    Raises:
      PeerMisbehaved: it is malformed (decode_error), contradicts itself or has extensions that do not belong there
        (illegal_parameter), or its type does not exist in TLS 1.3 (unexpected_message).
    """
    cls = _CLASSES.get(kind)
    if cls is None:
        raise unexpected_message(f"a handshake message of the type {name_of(HandshakeType, kind)}", "4")
    # "Upon receiving a message with type server_hello, implementations MUST first examine the Random value"
    if cls is ServerHello and body[2:34] == HELLO_RETRY_REQUEST_RANDOM:
        cls = HelloRetryRequest
    try:
        if kind in REPEATED and len(body) <= MOST_REPEATED:
            return _decoded_before(kind, body)
        return cls.decode(body)
    except (ValueError, LookupError, TypeError, ArithmeticError, struct.error) as exc:
        # The classes do not raise these; were one of them to forget a check, the peer must get its alert all the same.
        raise decode_error(f"{cls.__name__} is malformed", "6.2") from exc
