"""Certificates of fixed keys: an input that a run has kept means the same in the next one.

How this works. Keys are made of numbers, signatures are deterministic, and time stands still. So a recorded flight is
answered by the same bytes whenever and wherever it is replayed.
"""

from __future__ import annotations

import datetime
import hashlib
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from trio_tls import Credential, PrivatePolicy, TrustAnchors, Verifier
from trio_tls.machine.tls13.groups import Group, KeyShare, _PointHalf, x25519_key_share
from trio_tls.machine.tls13.primitives import Primitives
from trio_tls.machine.tls13.registry import NamedGroup

from ..support import HOST

BEGIN, END = (datetime.datetime(year, 1, 1, tzinfo=datetime.timezone.utc) for year in (2020, 2040))

#: Seconds since 1970: when everything in these tests happens.
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc).timestamp()


@cache
def _authority_key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(9846, ec.SECP256R1())


@cache
def authority() -> x509.Certificate:
    return _issued(_authority_key().public_key(), "a CA for fuzzing", ca=True)


@cache
def credential() -> Credential:
    """Of a server, or of a client: an Ed25519 key, whose signatures are always the same."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return Credential(_issued(key.public_key(), HOST), key)


@cache
def verifier() -> Verifier:
    return Verifier(TrustAnchors.from_certificates(authority()), PrivatePolicy())


def primitives(seed: int) -> Primitives:
    """The same randomness in every connection, a time that stands still, and the one key share of this end."""
    name = bytes((seed,))
    return Primitives(
        random=lambda size: hashlib.shake_128(name).digest(size),
        now=lambda: NOW,
        generate=lambda group: _share(group, seed),
    )


def _share(group: Group, seed: int) -> KeyShare:
    if group.number == NamedGroup.x25519:
        return x25519_key_share(bytes((seed,)) * 32)
    return KeyShare(NamedGroup.secp256r1, _PointHalf(ec.derive_private_key(seed, ec.SECP256R1())))


def _issued(
    key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey, name: str, *, ca: bool = False
) -> x509.Certificate:
    issuer = _authority_key().public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA for fuzzing")]))
        .public_key(key)
        .serial_number(1 if ca else 2)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )
    if not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(_authority_key(), hashes.SHA256(), ecdsa_deterministic=True)
