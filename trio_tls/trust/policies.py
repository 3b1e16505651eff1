"""Policies: what a certificate has to look like, beside being signed, valid and for the right name.

How this works. A policy is a pair of `cryptography` extension policies, one for the peer's own certificate and one
for each certificate above it. Signatures, validity, names, basicConstraints and name constraints are checked by
`cryptography` whatever the policy says. The validators here are called by it, and what they raise becomes part of
the words of its VerificationError; `trio_tls.trust.failures` knows those sentences.

Not here: RSA sizes, pins and the number of certificates, which are the `Verifier`'s.
"""

from __future__ import annotations

import abc

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy
from cryptography.x509.verification import Policy as Rules

__all__ = ["Policy", "PrivatePolicy", "WebPolicy"]

#: The sentences that the validators raise; `failures` classifies by them.
NO_SIGNING = "keyUsage does not assert digitalSignature"
NO_CERTIFICATE_SIGNING = "keyUsage does not assert keyCertSign"
OTHER_PURPOSE = "extendedKeyUsage does not have the required purpose"


class Policy(abc.ABC):
    """What certificates have to look like. Policies of the same class are equal: they have no settings."""

    #: Names the policy in fingerprints; it changes whenever the policy accepts other certificates than before.
    identity: str

    @abc.abstractmethod
    def for_issuers(self) -> ExtensionPolicy:
        """The extensions of a certificate that signs others, trust anchors included."""

    @abc.abstractmethod
    def for_peers(self, *, server: bool) -> ExtensionPolicy:
        """The extensions of the peer's own certificate.

        Args:
          server: whether the peer is a server. `cryptography` demands the subjectAltName of servers.
        """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class WebPolicy(Policy):
    """The rules of the public web: `cryptography`'s profile of the CA/Browser Forum's Baseline Requirements.

    They are strict where private CAs are often careless: every issuer needs keyUsage, every leaf an
    authorityKeyIdentifier, and clients a subjectAltName as well. A certificate for a CA is never a server's.
    """

    identity = "web 1"

    def for_issuers(self) -> ExtensionPolicy:
        """The web's defaults."""
        return ExtensionPolicy.webpki_defaults_ca()

    def for_peers(self, *, server: bool) -> ExtensionPolicy:
        """The web's defaults, and a key that may sign handshakes."""
        del server
        return ExtensionPolicy.webpki_defaults_ee().may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_only)


class PrivatePolicy(Policy):
    """What certificates of one's own CA need: names for servers, and nothing that says they are for something else.

    Accepts what trustme, ``openssl req -x509`` and most private CAs make: extensions of any criticality, issuers
    without keyUsage, clients without subjectAltName. A self-signed certificate is accepted if it is itself a trust
    anchor. As strict as `WebPolicy` in: names, validity, signatures, basicConstraints and name constraints of
    issuers, keyUsage and extendedKeyUsage wherever they are present.
    """

    identity = "private 1"

    def for_issuers(self) -> ExtensionPolicy:
        """A CA by its basicConstraints, whose usages, where it states them, allow to sign for the peer."""
        return (
            ExtensionPolicy.permit_all()
            .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
            .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_certificates)
            .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _serves_the_purpose)
        )

    def for_peers(self, *, server: bool) -> ExtensionPolicy:
        """A key that may sign handshakes, for the peer's role; a server has names."""
        policy = (
            ExtensionPolicy.permit_all()
            .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs)
            .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _serves_the_purpose)
        )
        if server:
            policy = policy.require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        return policy


def _signs(rules: Rules, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    # "the digitalSignature bit MUST be set if the Key Usage extension is present" (RFC 9846 section 4.5.1.2)
    del rules, certificate
    if usage is not None and not usage.digital_signature:
        raise ValueError(NO_SIGNING)


def _signs_only(rules: Rules, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    _signs(rules, certificate, usage)
    # This validator replaces the one of the web's defaults, which is about this bit.
    if usage is not None and usage.key_cert_sign:
        raise ValueError("EE keyUsage must not assert keyCertSign")


def _signs_certificates(rules: Rules, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    del rules, certificate
    # "If a key usage extension is present, verify that the keyCertSign bit is set" (RFC 5280 section 6.1.4)
    if usage is not None and not usage.key_cert_sign:
        raise ValueError(NO_CERTIFICATE_SIGNING)


def _serves_the_purpose(rules: Rules, certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    del certificate
    if usage is None:
        return
    if rules.extended_key_usage not in usage and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usage:
        raise ValueError(OTHER_PURPOSE)
