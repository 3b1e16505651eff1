"""Extensions about certificates: signature_algorithms and its kin, certificate_authorities, post_handshake_auth."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..registry import ExtensionType
from ..value import value
from ..wire import Reader, uint16_vector, vector

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CertificateAuthorities", "PostHandshakeAuth", "SignatureAlgorithms", "SignatureAlgorithmsCert"]


@value
class SignatureAlgorithms:
    """signature_algorithms: what its sender can verify in a CertificateVerify (RFC 9846 section 4.3.3).

    ::

        struct {
            SignatureScheme supported_signature_algorithms<2..2^16-2>;
        } SignatureSchemeList;
    """

    type: ClassVar[ExtensionType] = ExtensionType.signature_algorithms

    schemes: tuple[int, ...]
    """In descending order of preference."""

    def encode(self) -> bytes:
        """The body."""
        return uint16_vector(2, self.schemes)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(reader.uint16_vector(2, low=2, high=0xFFFE))


@value
class SignatureAlgorithmsCert:
    """signature_algorithms_cert: what its sender can verify in certificates (RFC 9846 section 4.3.3).

    ::

        struct {
            SignatureScheme supported_signature_algorithms<2..2^16-2>;
        } SignatureSchemeList;
    """

    type: ClassVar[ExtensionType] = ExtensionType.signature_algorithms_cert

    schemes: tuple[int, ...]
    """In descending order of preference."""

    def encode(self) -> bytes:
        """The body."""
        return uint16_vector(2, self.schemes)

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        return cls(reader.uint16_vector(2, low=2, high=0xFFFE))


@value
class CertificateAuthorities:
    """certificate_authorities: whose certificates its sender would accept (RFC 9846 section 4.3.4).

    ::

        opaque DistinguishedName<1..2^16-1>;
        struct {
            DistinguishedName authorities<3..2^16-1>;
        } CertificateAuthoritiesExtension;
    """

    type: ClassVar[ExtensionType] = ExtensionType.certificate_authorities

    names: tuple[bytes, ...]
    """Distinguished names, each in DER, which is not looked into here."""

    def encode(self) -> bytes:
        """The body."""
        return vector(2, b"".join([vector(2, name) for name in self.names]))

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read the body."""
        authorities = reader.sub(2, low=3)
        names = []
        while authorities.remaining:
            names.append(authorities.vector(2, low=1))
        return cls(tuple(names))


@value
class PostHandshakeAuth:
    """post_handshake_auth: the client can be asked for a certificate later on (RFC 9846 section 4.3.6).

    ::

        struct {} PostHandshakeAuth;
    """

    type: ClassVar[ExtensionType] = ExtensionType.post_handshake_auth

    def encode(self) -> bytes:
        """The body, which is empty."""
        return b""

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        """Read nothing; the caller finds what is too much."""
        del reader
        return cls()
