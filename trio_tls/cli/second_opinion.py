"""What OpenSSL says of a certificate: a handshake with itself, in memory.

How this works. The interpreter's OpenSSL plays both ends. It has no other way to be asked about a chain: `ssl` has
no function that verifies. The key is needed for that, and is in a file, for its owner alone, while it is loaded.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from .certificates import Issued
from .pem_files import FoundCertificate
from .printable import printable

__all__ = ["openssl_says"]

#: A handshake has three flights; whatever goes on for longer has gone wrong.
MOST_ROUNDS = 10


def openssl_says(
    chain: Sequence[FoundCertificate], key: PrivateKeyTypes, name: str | None, ca_files: Sequence[str]
) -> tuple[str, str | None]:
    """Which OpenSSL it is, and why it refuses the certificate; None if it accepts it.

    Args:
      chain: what is presented, the certificate that the key fits first.
      key: the private key.
      name: the server's name to check; None if a client presents it.
      ca_files: the CAs to trust; empty: those of this system.
    """
    version = " ".join(ssl.OPENSSL_VERSION.split()[:2])
    pem = b"".join(each.certificate.public_bytes(Encoding.PEM) for each in chain)
    issued = Issued(pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    try:
        judge, shown = _contexts(issued, name, ca_files)
        _handshake(judge, shown, name)
    except ssl.SSLCertVerificationError as error:
        return version, printable(error.verify_message.rstrip("."))
    except ssl.SSLError as error:
        return version, printable((error.reason or "it cannot be loaded").replace("_", " ").lower())
    return version, None


def _contexts(issued: Issued, name: str | None, ca_files: Sequence[str]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the end that judges, and for the one that shows the certificate."""
    purpose = ssl.Purpose.CLIENT_AUTH if name is None else ssl.Purpose.SERVER_AUTH
    judge = ssl.create_default_context(purpose, cafile=ca_files[0] if ca_files else None)
    for path in ca_files[1:]:
        judge.load_verify_locations(cafile=path)
    if name is not None:
        shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.load_into(shown)
        return judge, shown
    # Of a client: the server that judges it needs some certificate of its own, at which this client does not look.
    issued.load_into(judge)
    if not ca_files:
        judge.load_default_certs(purpose)
    judge.verify_mode = ssl.CERT_REQUIRED
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    shown.check_hostname = False
    shown.verify_mode = ssl.CERT_NONE
    issued.load_into(shown)
    return judge, shown


def _handshake(judge: ssl.SSLContext, shown: ssl.SSLContext, name: str | None) -> None:
    """Raise what the judge raises."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    judging = judge.wrap_bio(there, back, server_side=name is None, server_hostname=name)
    showing = shown.wrap_bio(back, there, server_side=name is not None)
    for _ in range(MOST_ROUNDS):
        with suppress(ssl.SSLWantReadError):
            showing.do_handshake()
        with suppress(ssl.SSLWantReadError):
            judging.do_handshake()
            return
