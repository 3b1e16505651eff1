"""Targets for what is loaded: tickets, sessions, certificates of a peer, credentials and trust anchors.

How this works. A ticket and a chain come from the peer, so whatever their bytes are, the answer is no session, or a
`CertificateVerificationError`. Files come from the user: a `ValueError` says what is wrong with them, and nothing else
is raised.
"""

from __future__ import annotations

import datetime
import warnings
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from trio_tls import CertificateVerificationError, Credential, TLSError, TrustAnchors
from trio_tls.machine.tls13.certificate_dict import certificate_dict
from trio_tls.machine.tls13.certificates import leaf_of
from trio_tls.machine.tls13.channel_binding import server_end_point
from trio_tls.machine.tls13.extensions import Extensions
from trio_tls.machine.tls13.messages import Certificate, CertificateEntry
from trio_tls.machine.tls13.sessions import ServerSession, Session
from trio_tls.machine.tls13.tickets import TicketKeys
from trio_tls.names import names_of, subject_of

from ..support import HOST
from .flows import a_session
from .identities import NOW, authority, credential, primitives, verifier
from .target import Defect, Source, foreseen

Encoding = serialization.Encoding


@cache
def _ticket_keys() -> TicketKeys:
    return TicketKeys.from_secret(bytes(range(32)), primitives(3).random)


def a_ticket(data: bytes) -> None:
    """A ticket as it comes; what is in one; and a stored session. The first byte says which."""
    keys = _ticket_keys()
    which, rest = (data[0] % 3, data[1:]) if data else (0, b"")
    if which == 0:
        state = keys.open(rest, NOW)
        if state is not None and keys.open(rest, NOW + 30 * 24 * 3600) is not None:
            raise Defect("a ticket outlives its key")
        return
    if which == 1:
        ticket = keys.seal(rest, NOW)
        if ticket is None:
            return
        if keys.open(ticket, NOW) != rest:
            raise Defect("a ticket does not open to what was sealed")
        if keys.open(ticket[:-1] + bytes((ticket[-1] ^ 1,)), NOW) is not None:
            raise Defect("an altered ticket was opened")
    kind: type[Session] | type[ServerSession] = ServerSession if which == 1 else Session
    try:
        session = kind.from_bytes(rest)
    except ValueError:
        return
    if session.to_bytes() != rest:
        raise Defect("a session is written in another way than it was read")
    session.expired(NOW)
    repr(session)
    if isinstance(session, Session):
        session.obfuscated_age(NOW)


def ticket_seeds() -> list[bytes]:
    session = a_session()
    keys = _ticket_keys()
    state = ServerSession(
        cipher_suite=session.cipher_suite,
        psk=session.psk,
        server_name=HOST,
        alpn_protocol=b"h2",
        fingerprint=bytes(32),
        client_chain=session.peer_chain,
        issued_at=NOW,
        authenticated_at=NOW,
        lifetime=3600,
        age_add=7,
        not_after=None,
        server_end_point=None,
    ).to_bytes()
    sealed = keys.seal(state, NOW)
    assert sealed is not None
    return [b"\0" + sealed, b"\1" + state, b"\2" + session.to_bytes()]


def a_chain(data: bytes) -> None:
    """The certificates of a peer: each has its length before it. The first byte says of whom."""
    source = Source(data)
    server = source.number() % 2 == 0
    chain = []
    while source:
        chain.append(source.piece(source.number(2)))
    message = Certificate(b"", tuple(CertificateEntry(der, Extensions()) for der in chain))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd certificates; it is the application's choice to see them
        try:
            leaf = leaf_of(message, who="server" if server else "client")
            if leaf is None:
                return
            _look_at(leaf, chain[0])
            at = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
            if server:
                verifier().verify_server(chain, HOST, at)
            else:
                verifier().verify_client(chain, at)
        except CertificateVerificationError as error:
            foreseen(error)
        except TLSError as error:
            raise Defect("a chain is good or it is not") from error


def _look_at(leaf: x509.Certificate, der: bytes) -> None:
    """What the application may ask of a certificate that it has accepted by itself."""
    names_of(leaf)
    subject_of(leaf)
    server_end_point(der)
    certificate_dict(der)


def chain_seeds() -> list[bytes]:
    def chain(*certificates: bytes) -> bytes:
        return b"".join(len(der).to_bytes(2, "big") + der for der in certificates)

    root = authority().public_bytes(Encoding.DER)
    ours = chain(*credential().der_chain)
    return [b"\0" + ours, b"\1" + ours + chain(root), b"\0" + chain(root), b"\0" + ours + ours]


def a_credential(data: bytes) -> None:
    """A chain and its key as a user gives them. The first byte: PEM, with a password or without, or DER."""
    how, rest = (data[0] % 3, data[1:]) if data else (0, b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if how == 2:
                size = int.from_bytes(rest[:2], "big")
                Credential.from_der([rest[2 : 2 + size]], rest[2 + size :])
            else:
                Credential.from_pem(rest, password=b"password" if how else None)
        except ValueError:
            return


@cache
def credential_seeds() -> list[bytes]:
    leaf = credential().chain[0]
    keys = (credential()._key, ec.derive_private_key(7, ec.SECP256R1()), rsa.generate_private_key(65537, 1024))
    pem, der = leaf.public_bytes(Encoding.PEM), credential().der_chain[0]
    seeds = []
    for key in keys:
        plain = key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        bare = key.private_bytes(Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        seeds += [b"\0" + pem + plain, b"\2" + len(der).to_bytes(2, "big") + der + bare]
    scrypt = keys[1].private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"password")
    )
    return [*seeds, b"\1" + pem + scrypt, b"\0" + pem + scrypt]


def trust_anchors(data: bytes) -> None:
    """A file of CA certificates as a user gives it: PEM; or DER, if the first byte is odd."""
    rest = data[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            anchors = TrustAnchors.from_der(rest) if data and data[0] % 2 else TrustAnchors.from_pem(rest)
        except ValueError:
            return
        repr(anchors)
        if not anchors.fingerprint:
            raise Defect("anchors without a fingerprint")


def anchor_seeds() -> list[bytes]:
    pem = authority().public_bytes(Encoding.PEM)
    return [
        b"\0" + pem,
        b"\0" + pem + credential().chain[0].public_bytes(Encoding.PEM),
        b"\1" + credential().der_chain[0],
    ]
