"""Extensions: all extensions of one message, and the table of which may appear where.

How this works. `Extensions.decode` first cuts the block into types and bodies, and judges what concerns the block as
a whole: duplicates, the place of pre_shared_key. Then each body is read by the class that the table names for its
type in this message. A type that the table does not have at all is kept as `UnknownExtension`; a type that it has, but
not for this message, ends the connection (RFC 9846 section 4.3). Whether an extension was asked for is not known here.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import starmap
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from ..misbehaviour import decode_error, illegal_parameter, missing_extension
from ..registry import ExtensionType, name_of
from ..wire import Reader, vector
from .application import ApplicationProtocols, Padding, RecordSizeLimit, ServerName
from .authentication import (
    CertificateAuthorities,
    PostHandshakeAuth,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
)
from .body import Extension, KnownExtension, UnknownExtension
from .key_share import KeyShares, RetryGroup, SelectedKeyShare, SupportedGroups
from .pre_shared_key import EarlyData, EarlyDataLimit, PreSharedKeys, PskKeyExchangeModes, SelectedPsk
from .supported_versions import Cookie, SelectedVersion, SupportedVersions

__all__ = ["ALLOWED", "Extensions", "MessageContext", "encode_extension", "encoded"]

Known = TypeVar("Known", bound=KnownExtension)
Decoder: TypeAlias = Callable[[Reader], Extension]

#: What stands before the body of each extension.
TYPE_AND_LENGTH = struct.Struct(">HH")


class MessageContext(enum.Enum):
    """The messages, and the part of one, that hold extensions."""

    CLIENT_HELLO = "ClientHello"
    SERVER_HELLO = "ServerHello"
    HELLO_RETRY_REQUEST = "HelloRetryRequest"
    ENCRYPTED_EXTENSIONS = "EncryptedExtensions"
    CERTIFICATE_REQUEST = "CertificateRequest"
    CERTIFICATE = "Certificate"
    NEW_SESSION_TICKET = "NewSessionTicket"

    if not TYPE_CHECKING:
        #: A member is looked up for every block that is read, and the hash of an Enum is a function in Python.
        __hash__ = object.__hash__


CH = MessageContext.CLIENT_HELLO
SH = MessageContext.SERVER_HELLO
HRR = MessageContext.HELLO_RETRY_REQUEST
EE = MessageContext.ENCRYPTED_EXTENSIONS
CR = MessageContext.CERTIFICATE_REQUEST
CT = MessageContext.CERTIFICATE
NST = MessageContext.NEW_SESSION_TICKET


def _unread(extension_type: ExtensionType, *contexts: MessageContext) -> dict[MessageContext, Decoder]:
    """For an extension that is not implemented: its body stays bytes, but its place is judged."""

    def decode(reader: Reader) -> UnknownExtension:
        return UnknownExtension(extension_type, reader.rest())

    return dict.fromkeys(contexts, decode)


_T = ExtensionType

#: The table of RFC 9846 section 4.3, with what reads the body in each place.
ALLOWED: Mapping[ExtensionType, Mapping[MessageContext, Decoder]] = {
    _T.server_name: {CH: ServerName.decode, EE: ServerName.decode_acknowledgement, CR: ServerName.decode},
    _T.status_request: _unread(_T.status_request, CH, CR, CT),
    _T.supported_groups: {CH: SupportedGroups.decode, EE: SupportedGroups.decode},
    _T.signature_algorithms: {CH: SignatureAlgorithms.decode, CR: SignatureAlgorithms.decode},
    _T.use_srtp: _unread(_T.use_srtp, CH, EE),
    _T.heartbeat: _unread(_T.heartbeat, CH, EE),
    _T.application_layer_protocol_negotiation: {CH: ApplicationProtocols.decode, EE: ApplicationProtocols.decode},
    _T.signed_certificate_timestamp: _unread(_T.signed_certificate_timestamp, CH, CR, CT),
    _T.client_certificate_type: _unread(_T.client_certificate_type, CH, EE),
    _T.server_certificate_type: _unread(_T.server_certificate_type, CH, EE),
    _T.padding: {CH: Padding.decode},
    _T.compress_certificate: _unread(_T.compress_certificate, CH, CR),
    _T.record_size_limit: {CH: RecordSizeLimit.decode, EE: RecordSizeLimit.decode},
    _T.delegated_credential: _unread(_T.delegated_credential, CH, CR, CT),
    _T.supported_ekt_ciphers: _unread(_T.supported_ekt_ciphers, CH, EE),
    _T.pre_shared_key: {CH: PreSharedKeys.decode, SH: SelectedPsk.decode},
    _T.early_data: {CH: EarlyData.decode, EE: EarlyData.decode, NST: EarlyDataLimit.decode},
    _T.supported_versions: {CH: SupportedVersions.decode, SH: SelectedVersion.decode, HRR: SelectedVersion.decode},
    _T.cookie: {CH: Cookie.decode, HRR: Cookie.decode},
    _T.psk_key_exchange_modes: {CH: PskKeyExchangeModes.decode},
    _T.certificate_authorities: {CH: CertificateAuthorities.decode, CR: CertificateAuthorities.decode},
    _T.oid_filters: _unread(_T.oid_filters, CR),
    _T.post_handshake_auth: {CH: PostHandshakeAuth.decode},
    _T.signature_algorithms_cert: {CH: SignatureAlgorithmsCert.decode, CR: SignatureAlgorithmsCert.decode},
    _T.key_share: {CH: KeyShares.decode, SH: SelectedKeyShare.decode, HRR: RetryGroup.decode},
    _T.transparency_info: _unread(_T.transparency_info, CH, CR, CT),
    _T.external_id_hash: _unread(_T.external_id_hash, CH, EE),
    _T.external_session_id: _unread(_T.external_session_id, CH, EE),
    _T.quic_transport_parameters: _unread(_T.quic_transport_parameters, CH, EE),
    _T.ticket_request: _unread(_T.ticket_request, CH, EE),
    _T.ech_outer_extensions: _unread(_T.ech_outer_extensions, CH),
    _T.encrypted_client_hello: _unread(_T.encrypted_client_hello, CH, HRR, EE),
}

#: The same, from the other side: what is allowed in a message, and what a text calls it.
_DECODERS: dict[MessageContext, dict[int, tuple[Decoder, str]]] = {
    context: {
        extension_type: (places[context], f"{extension_type.name} in {context.value}")
        for extension_type, places in ALLOWED.items()
        if context in places
    }
    for context in MessageContext
}

#: Client after client, and server after server, says the same in these, and nothing about itself. So what was read
#: lately is kept, up to this many bytes of one extension, and not read again. `encoded` does the same for our own.
REPEATED = frozenset(
    {
        _T.supported_groups,
        _T.signature_algorithms,
        _T.signature_algorithms_cert,
        _T.application_layer_protocol_negotiation,
        _T.supported_versions,
        _T.psk_key_exchange_modes,
        _T.record_size_limit,
    }
)
MOST_REPEATED = 100


def _read(decoder: tuple[Decoder, str], content: bytes) -> Extension:
    """One extension that has a place in this message."""
    decode, what = decoder
    reader = Reader(content, what)
    extension = decode(reader)
    reader.finish()
    return extension


_read_before = lru_cache(maxsize=128)(_read)


@lru_cache(maxsize=512)
def encoded(extension: Callable[..., Extension], *fields: object) -> bytes:
    """An extension of ours with its type and length, for one that says the same again and again.

    Args:
      extension: its class.
      fields: what an object of the class is made of.
    """
    return encode_extension(extension(*fields))


def encode_extension(extension: Extension) -> bytes:
    """An extension with its type and length."""
    body = extension.encode()
    return TYPE_AND_LENGTH.pack(extension.type, len(body)) + body


class Extensions:
    """The extensions of one message, in their order. Immutable.

    Args:
      items: the extensions. Nothing is checked, duplicates included.
    """

    __slots__ = ("_by_class", "_items")

    def __init__(self, items: Iterable[Extension] = ()) -> None:
        self._items = tuple(items)
        self._by_class: dict[type, Any] | None = None

    def __iter__(self) -> Iterator[Extension]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == other._items if isinstance(other, Extensions) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Extensions({list(self._items)!r})"

    @property
    def types(self) -> tuple[int, ...]:
        """The ExtensionType of each, in order; unknown ones included."""
        return tuple([item.type for item in self._items])

    def get(self, cls: type[Known]) -> Known | None:
        """The extension that is a ``cls``, if there is one."""
        if self._by_class is None:
            self._by_class = {type(item): item for item in reversed(self._items)}  # the first one counts
        found: Known | None = self._by_class.get(cls)
        return found

    def require(self, cls: type[Known]) -> Known:
        """The extension that is a ``cls``; that there is none is the peer's fault: missing_extension."""
        found = self.get(cls)
        if found is None:
            raise missing_extension(f"the extension {cls.type.name} is missing", "9.2")
        return found

    def encode(self) -> bytes:
        """``Extension extensions<..2^16-1>``, its length field included."""
        return vector(2, b"".join([encode_extension(item) for item in self._items]))

    @classmethod
    def decode(cls, reader: Reader, context: MessageContext) -> Extensions:
        """Read the extensions of the message ``context``, with the length field before them.

        ::

            struct {
                ExtensionType extension_type;
                opaque extension_data<0..2^16-1>;
            } Extension;

        An empty block is read even where the standard has a lower bound, which is in the two messages that come
        before the version is known: an older peer may send one, and the lack of supported_versions tells it apart.
        """
        data = reader.vector(2)
        if not data:
            return NONE
        found: dict[int, bytes] = {}
        unpack = TYPE_AND_LENGTH.unpack_from
        start, end = 0, len(data)
        count = 0
        while start < end:
            body = start + 4
            extension_type, length = unpack(data, start) if body <= end else (0, 0)
            start = body + length
            if start > end:
                raise decode_error(f"an extension does not end within {context.value}", "6.2")
            found[extension_type] = data[body:start]
            count += 1
        if len(found) != count:
            # "There MUST NOT be more than one extension of the same type in a given extension block."
            raise illegal_parameter(f"{context.value} has an extension twice", "4.3")
        if context is SH and ExtensionType.supported_versions not in found:
            # It is of TLS 1.2 or older, where other extensions are allowed: "clients MUST check for this extension
            # prior to processing the rest of the ServerHello" (section 4.3.1), so nothing of it is judged here.
            return cls(starmap(UnknownExtension, found.items()))
        if context is CH and _T.pre_shared_key in found and next(reversed(found)) != _T.pre_shared_key:
            # "Servers MUST check that it is the last extension"
            raise illegal_parameter("pre_shared_key is not the last extension of ClientHello", "4.3.11")
        decoders = _DECODERS[context]
        items: list[Extension] = []
        for extension_type, content in found.items():
            decoder = decoders.get(extension_type)
            if decoder is not None:
                known = extension_type in REPEATED and len(content) <= MOST_REPEATED
                items.append((_read_before if known else _read)(decoder, content))
            elif extension_type in ALLOWED:
                # "an extension which it recognizes and which is not specified for the message in which it appears"
                name = name_of(ExtensionType, extension_type)
                raise illegal_parameter(f"{name} has no place in {context.value}", "4.3")
            else:
                items.append(UnknownExtension(extension_type, content))
        return cls(items)


#: Most blocks of EncryptedExtensions and of certificates.
NONE = Extensions()
