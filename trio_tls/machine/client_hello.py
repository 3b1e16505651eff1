"""What a ClientHello says, and how to find it in the first bytes of a connection.

How this works. `ClientHelloReader` is fed the bytes as they come and keeps all of them. Two bytes tell TLS from
anything else: a handshake record begins with 22, then the major version, which is 3 for ever. From there on it joins
the fragments of the records, however many, until it has the message; each header is judged as soon as it is there, so
that nobody waits for what cannot become a ClientHello. It looks at each byte once.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import PeerMisbehaved, TLSError, UnexpectedEOF
from .tls13.extensions import (
    ApplicationProtocols,
    ServerName,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
)
from .tls13.messages import ClientHello, decode_message
from .tls13.misbehaviour import record_overflow, unexpected_message
from .tls13.registry import ContentType, HandshakeType, name_of

__all__ = ["ClientHelloInfo", "ClientHelloReader"]

#: "The length (in bytes) of the following TLSPlaintext.fragment. The length MUST NOT exceed 2^14 bytes"
FRAGMENT_LIMIT = 2**14

#: Type, version, length (RFC 9846 section 5.1); and the type and length of a handshake message (section 4).
RECORD_HEADER, MESSAGE_HEADER = 5, 4


@dataclass(frozen=True, slots=True)
class ClientHelloInfo:
    """What a client says of itself, and what it offers (RFC 9846 section 4.2.2), in its order.

    The numbers are those of the TLS registries. Unknown ones are here too, and so are those that some clients mix in
    to keep servers tolerant (GREASE, RFC 8701). Nothing of this is authenticated before the handshake is done.

    Attributes:
      server_name: the name that the client wants to talk to (SNI), as it came; None if it names none.
      alpn_protocols: the application protocols, such as ``b"h2"``.
      versions: the TLS versions: 0x0304 is TLS 1.3, and equal to ``ssl.TLSVersion.TLSv1_3``. A client that does not
        list them is older than TLS 1.3; then it is the one version that it names.
      cipher_suites: the cipher suites.
      groups: the key exchange groups.
      signature_schemes: the signature schemes.
      extension_types: the types of all extensions.
      has_session_id: whether there is a session id: to resume a session of TLS 1.2, or for the looks of it.
    """

    server_name: str | None
    alpn_protocols: tuple[bytes, ...]
    versions: tuple[int, ...]
    cipher_suites: tuple[int, ...]
    groups: tuple[int, ...]
    signature_schemes: tuple[int, ...]
    extension_types: tuple[int, ...]
    has_session_id: bool

    @classmethod
    def from_message(cls, message: bytes) -> ClientHelloInfo:
        """The facts in a ClientHello message as it came, with its header of four bytes.

        Raises:
          PeerMisbehaved: it is malformed.
          ValueError: it is another message.
        """
        if message[:1] != bytes((HandshakeType.client_hello,)):
            raise ValueError("this is no ClientHello message")
        hello = decode_message(HandshakeType.client_hello, message[MESSAGE_HEADER:])
        assert isinstance(hello, ClientHello)  # that is what the type says
        return cls.of(hello)

    @classmethod
    def of(cls, hello: ClientHello) -> ClientHelloInfo:
        """The facts in a message."""
        extensions = hello.extensions
        name = extensions.get(ServerName)
        protocols = extensions.get(ApplicationProtocols)
        versions = extensions.get(SupportedVersions)
        groups = extensions.get(SupportedGroups)
        schemes = extensions.get(SignatureAlgorithms)
        return cls(
            server_name=name.host_name if name is not None else None,
            alpn_protocols=protocols.protocols if protocols is not None else (),
            versions=versions.versions if versions is not None else (hello.legacy_version,),
            cipher_suites=hello.cipher_suites,
            groups=groups.groups if groups is not None else (),
            signature_schemes=schemes.schemes if schemes is not None else (),
            extension_types=tuple(int(kind) for kind in extensions.types),
            has_session_id=bool(hello.session_id),
        )


class ClientHelloReader:
    """Finds the ClientHello in the first bytes of a connection, or that there is none.

    Args:
      max_bytes: how many bytes the ClientHello may take, the headers of its records included.

    Attributes:
      data: all bytes so far.
      decided: whether more bytes would change nothing: there is a ClientHello, or there can be none.
    """

    def __init__(self, max_bytes: int) -> None:
        self.data: bytearray = bytearray()
        self.decided: bool = False
        self._max_bytes = max_bytes
        self._seen = 0  # what has been taken from data
        self._left = 0  # what is missing of the record that this is in
        self._message = bytearray()
        self._client_hello: ClientHelloInfo | None = None
        self._failure: TLSError | None = None

    def feed(self, data: bytes | bytearray) -> None:
        """Take the next bytes; none are the end of the connection."""
        self.data += data
        if not self.decided:
            try:
                self.decided = self._look(eof=not data)
            except TLSError as failure:
                self._failure, self.decided = failure, True

    @property
    def message(self) -> bytes:
        """The ClientHello message with its header, once there is one."""
        end = MESSAGE_HEADER + int.from_bytes(self._message[1:MESSAGE_HEADER], "big")
        return bytes(self._message[:end])

    @property
    def failure(self) -> TLSError | None:
        """What `outcome` raises, with the alert that tells it the client."""
        return self._failure

    def outcome(self) -> ClientHelloInfo | None:
        """What the ClientHello says; None if the bytes are no TLS, or not decided.

        Raises:
          PeerMisbehaved: this begins as TLS does, but not with a ClientHello that can be read.
          UnexpectedEOF: the connection ends in the middle of its ClientHello.
        """
        if self._failure is not None:
            failure = self._failure.again()
            failure.alert = None  # reading sends none
            raise failure
        return self._client_hello

    def _look(self, *, eof: bool) -> bool:
        """Whether it is decided now."""
        begin = bytes(self.data[:2])
        if begin != b"\x16\x03"[: len(begin)]:
            return True  # no TLS
        end = min(len(self.data), self._max_bytes)  # however many come at once
        while self._seen < end:
            if not self._left and not self._begin_record(end):
                break
            fragment = self.data[self._seen : min(self._seen + self._left, end)]
            self._message += fragment
            self._seen += len(fragment)
            self._left -= len(fragment)
            if self._look_at_message():
                return True
        if eof and self.data:
            raise UnexpectedEOF(
                f"the connection ended in the middle of its ClientHello, after {len(self.data)} bytes",
                hint="The client gave up, or is no TLS client",
            )
        if len(self.data) >= self._max_bytes:
            raise self._too_long()
        return eof

    def _begin_record(self, end: int) -> bool:
        """Take the header of a record; whether it is all there, before ``end``."""
        header = self.data[self._seen : min(self._seen + RECORD_HEADER, end)]
        if header[0] != ContentType.handshake:
            # "Handshake messages MUST NOT be interleaved with other record types."
            kind = name_of(ContentType, header[0])
            raise unexpected_message(f"a record of the type {kind} in the middle of a ClientHello", "5.1")
        if len(header) < RECORD_HEADER:
            return False
        self._left = int.from_bytes(header[3:], "big")
        if self._left > FRAGMENT_LIMIT:
            raise record_overflow(f"a record of {self._left} bytes", "5.1")
        if not self._left:
            # "Implementations MUST NOT send zero-length fragments of Handshake types"
            raise unexpected_message("a handshake record without content", "5.1")
        self._seen += RECORD_HEADER
        return True

    def _look_at_message(self) -> bool:
        """Whether the message is whole."""
        message = self._message
        if not message:
            return False
        if message[0] != HandshakeType.client_hello:
            kind = name_of(HandshakeType, message[0])
            raise unexpected_message(f"the first handshake message is not a ClientHello, but of the type {kind}", "4")
        if len(message) < MESSAGE_HEADER:
            return False
        end = MESSAGE_HEADER + int.from_bytes(message[1:MESSAGE_HEADER], "big")
        if RECORD_HEADER + end > self._max_bytes:
            raise self._too_long()
        if len(message) < end:
            return False
        hello = decode_message(message[0], bytes(message[MESSAGE_HEADER:end]))
        assert isinstance(hello, ClientHello)  # that is what this type of message is
        self._client_hello = ClientHelloInfo.of(hello)
        return True

    def _too_long(self) -> PeerMisbehaved:
        return PeerMisbehaved(
            f"the ClientHello is longer than {self._max_bytes} bytes",
            hint="No ordinary client needs as many; if this one does, raise max_bytes",
        )
