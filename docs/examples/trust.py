"""Whom a client trusts."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from trio_tls import (
    Alert,
    CertificateVerificationError,
    ClientConfig,
    NeedVerification,
    PrivatePolicy,
    TrustAnchors,
    VerifiedPeer,
    Verifier,
)


def the_public_web() -> ClientConfig:
    return ClientConfig()  # what this system trusts


def our_own_ca(ca_file: str) -> ClientConfig:
    anchors = TrustAnchors.from_files(ca_file)
    return ClientConfig(verify=Verifier(anchors, PrivatePolicy()))


def one_key_of_our_ca(ca_file: str, pin: bytes) -> ClientConfig:
    anchors = TrustAnchors.from_files(ca_file)
    return ClientConfig(verify=Verifier(anchors, PrivatePolicy(), pins=[pin]))


def pin_of(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def whom_the_inventory_knows(
    verifier: Verifier, knows: Callable[[str], Awaitable[bool]]
) -> ClientConfig:
    async def verify(need: NeedVerification) -> VerifiedPeer:
        assert need.server_name is not None  # this is a client
        now = datetime.now(timezone.utc)
        peer = verifier.verify_server(need.chain, need.server_name, now)
        fingerprint = hashlib.sha256(need.chain[0]).hexdigest()
        if not await knows(fingerprint):
            raise CertificateVerificationError(
                f"the inventory does not know {fingerprint}",
                hint="Register the server first",
                alert=Alert.certificate_unknown,
                presented_chain=need.chain,
            )
        return peer

    return ClientConfig(verify=verify)
