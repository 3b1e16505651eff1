"""Channel bindings: values that name this very connection, for an authentication inside it (RFC 5056).

How this works. Both ends compute the same value from the handshake; who stands in between has two connections, and
two values. Of the three types that TLS knows, two exist in TLS 1.3:

- ``"tls-exporter"`` (RFC 9266): 32 bytes of keying material, with a label of its own.
- ``"tls-server-end-point"`` (RFC 5929 section 4): a hash of the server's certificate. It names the server, and not
  the connection.
- ``"tls-unique"`` (RFC 5929 section 3) is made of the Finished messages of older versions. For TLS 1.3 it is not
  defined, and "tls-exporter" takes its place (RFC 9266 section 3). `ssl` gives a value nevertheless, which no standard
  knows; here there is none, so that code which asks for it goes without rather than sends one type under the name
  of another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from .transcript import hash_of

__all__ = ["channel_binding", "server_end_point"]

#: RFC 9266 section 2: this label, a context that is there and empty, and 32 bytes.
EXPORTER_LABEL, EXPORTER_CONTEXT, EXPORTER_LENGTH = b"EXPORTER-Channel-Binding", b"", 32


def channel_binding(
    kind: str, *, server_end_point: bytes | None, export: Callable[[bytes, bytes, int], bytes]
) -> bytes | None:
    """The channel binding of this type; None if this connection has none of it.

    Args:
      kind: ``"tls-exporter"``, ``"tls-server-end-point"`` or ``"tls-unique"``.
      server_end_point: what `server_end_point` has made of the server's certificate, in this handshake or in the
        one that the session comes from.
      export: the exporter: label, context, length (RFC 9846 section 7.5).

    Raises:
      ValueError: there is no such type.
    """
    match kind:
        case "tls-exporter":
            return export(EXPORTER_LABEL, EXPORTER_CONTEXT, EXPORTER_LENGTH)
        case "tls-server-end-point":
            return server_end_point
        case "tls-unique":
            return None
    raise ValueError(
        f"there is no channel binding type {kind!r}: use 'tls-exporter' or 'tls-server-end-point' with TLS 1.3"
    )


@lru_cache(maxsize=64)
def server_end_point(certificate: bytes) -> bytes | None:
    """The hash of a server's certificate that is its tls-server-end-point.

    Args:
      certificate: DER.

    Returns:
      The hash; None where the certificate's signature has not one hash of its own (Ed25519, Ed448, ML-DSA): the
      binding is undefined then (RFC 5929 section 4.1).
    """
    try:
        algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    if algorithm is None:
        return None
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()  # "if the ... hash function ... is either MD5 or SHA-1, then use SHA-256"
    return hash_of(algorithm, certificate)
