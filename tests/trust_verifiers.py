"""Verifiers for the chains of `tests.trust_chains`, and how a test asks them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from trio_tls.errors import CertificateVerificationError
from trio_tls.trust import Policy, PrivatePolicy, TrustAnchors, Verifier, WebPolicy

from .trust_chains import (
    HOST,
    NOW,
    Issued,
    intermediate,
    root,
    server,
)

ANCHORS = TrustAnchors.from_certificates(root().certificate)
WEB = Verifier(ANCHORS)
PRIVATE = Verifier(ANCHORS, PrivatePolicy())
POLICIES = pytest.mark.parametrize("policy", [WebPolicy(), PrivatePolicy()], ids=repr)

CLIENTS_ONLY = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
ANY_USE = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)
UNKNOWN_CRITICAL = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)


def chain(*issued: Issued) -> tuple[bytes, ...]:
    return tuple(each.der for each in issued)


def good() -> tuple[bytes, ...]:
    return chain(server(), intermediate())


def trusting(*anchors: Issued, policy: Policy | None = None) -> Verifier:
    return Verifier(TrustAnchors(each.certificate for each in anchors), policy or PrivatePolicy())


def refusal(
    verifier: Verifier, presented: Sequence[bytes], name: str | None = HOST, at: datetime.datetime = NOW
) -> CertificateVerificationError:
    with pytest.raises(CertificateVerificationError) as caught:
        verifier.verify_client(presented, at) if name is None else verifier.verify_server(presented, name, at)
    error = caught.value
    assert error.presented_chain == tuple(presented)
    assert not error.sent_by_peer
    assert error.hint
    assert str(error).isprintable()
    return error
