"""Why a chain was not accepted: from the verifier's words to a `CertificateVerificationError`.

How this works. `cryptography.x509.verification` has one exception, and what went wrong stands in its text alone.
`REASONS` is the one table that reads it; tests walk it with real chains, so that a release of `cryptography` with
other words is noticed. What a text starts with decides, never what it contains: some texts quote the certificate, and
a peer must not choose its own reason. The sentences for people are written from the certificates themselves.

The alerts are those of RFC 9846 section 6.2. Where it leaves the choice, they are those that OpenSSL sends.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from ..alerts import Alert
from ..errors import CertificateVerificationError
from ..names import listed, names_of, quoted, subject_of
from .policies import NO_CERTIFICATE_SIGNING, NO_SIGNING, OTHER_PURPOSE, Policy, WebPolicy

__all__ = ["REASONS", "Presented", "Reason", "reason_of"]


class Reason(enum.Enum):
    """Why, as far as it matters to the peer and to a person: the alert, and what to do."""

    NAME = (Alert.bad_certificate, "Connect by a name that the certificate has, or pass that name as server_hostname")
    NO_NAMES = (
        Alert.bad_certificate,
        "Issue a certificate with the names as subjectAltName; the common name is not looked at",
    )
    VALIDITY = (Alert.certificate_expired, "Renew the certificate, or check this machine's clock")
    NO_PATH = (Alert.unknown_ca, "")  # `Presented` sees what is missing, and writes the hint
    SIGNATURE = (
        Alert.bad_certificate,
        "The chain was altered, or its CA has the name of a trusted one but another key: "
        "if that CA was made anew, trust the new one",
    )
    PURPOSE = (
        Alert.unsupported_certificate,
        "The certificate is not meant for this use; issue one with the right key usage and extended key usage",
    )
    NOT_AN_ISSUER = (
        Alert.unknown_ca,
        "Have the certificate issued by a CA that may issue it: see basicConstraints and keyUsage of its issuers",
    )
    NAME_CONSTRAINTS = (Alert.certificate_unknown, "Have the certificate issued by a CA that may issue for its names")
    WEAK_KEY = (Alert.bad_certificate, "Issue the certificates with RSA keys of 2048 bits or more, or with ECDSA keys")
    KEY_TYPE = (Alert.unsupported_certificate, "Issue the certificates with a CA key that is ECDSA, RSA or ML-DSA")
    SIGNATURE_ALGORITHM = (Alert.bad_certificate, "Issue the certificates anew, signed with SHA-256 or better")
    MALFORMED = (Alert.bad_certificate, "The peer has to replace its certificate")
    PROFILE = (Alert.certificate_unknown, "The certificate's extensions do not suit; issue another one")
    LIMIT = (Alert.certificate_unknown, "The peer should send its certificate and the intermediates above it, no more")
    PIN = (Alert.bad_certificate, "If the peer changed its key or its CA on purpose, add the new pin")
    ABSENT = (Alert.certificate_required, "The peer has to present a certificate")
    OTHER = (Alert.certificate_unknown, "error.presented_chain holds what the peer presented")

    def __init__(self, alert: Alert, hint: str) -> None:
        self.alert = alert
        self.hint = hint


#: What the words of `cryptography` start with, and the reason; the first row that fits decides.
REASONS: tuple[tuple[str, Reason], ...] = (
    ("leaf certificate has no matching subjectAltName", Reason.NAME),
    ("missing required extension: leaf server certificate has no subjectAltName", Reason.NO_NAMES),
    ("cert is not valid at validation time", Reason.VALIDITY),
    ("all candidates exhausted with no interior errors", Reason.NO_PATH),
    # The depth allows every certificate that may be presented, so the search went in circles: nearly always around a
    # self-signed root that was presented and is no trust anchor.
    ("chain construction exceeds max depth", Reason.NO_PATH),
    ("signature does not match", Reason.SIGNATURE),
    ("required EKU not found", Reason.PURPOSE),
    ("Neither EKU nor anyEKU could be found", Reason.PURPOSE),
    (OTHER_PURPOSE, Reason.PURPOSE),
    (NO_SIGNING, Reason.PURPOSE),
    ("basicConstraints.cA must be asserted in a CA certificate", Reason.NOT_AN_ISSUER),
    ("missing required extension: CA certificate has no basicConstraints", Reason.NOT_AN_ISSUER),
    ("keyUsage.keyCertSign must be asserted in a CA certificate", Reason.NOT_AN_ISSUER),
    (NO_CERTIFICATE_SIGNING, Reason.NOT_AN_ISSUER),
    ("path length constraint violated", Reason.NOT_AN_ISSUER),
    ("Exceeded maximum", Reason.LIMIT),
    ("no permitted name constraints matched SAN", Reason.NAME_CONSTRAINTS),
    ("excluded name constraint matched SAN", Reason.NAME_CONSTRAINTS),
    ("RSA key is too weak", Reason.WEAK_KEY),
    ("Forbidden public key algorithm", Reason.KEY_TYPE),
    ("Forbidden signature algorithm", Reason.SIGNATURE_ALGORITHM),
    ("ASN.1 parsing error", Reason.MALFORMED),
    ("duplicate extension", Reason.MALFORMED),
    ("mismatch between signatureAlgorithm", Reason.MALFORMED),
    ("issuer has malformed public key", Reason.MALFORMED),
    ("certificate must be an X509v3 certificate", Reason.PROFILE),
    ("certificate contains unaccounted-for critical extensions", Reason.PROFILE),
    ("Certificate is missing required extension", Reason.PROFILE),
    ("Certificate contains prohibited extension", Reason.PROFILE),
    ("Certificate extension has incorrect criticality", Reason.PROFILE),
    ("EE subjectAltName MUST", Reason.PROFILE),
    ("EE keyUsage must not", Reason.PROFILE),
    ("basicConstraints.cA must not be asserted in an EE certificate", Reason.PROFILE),
    ("authorityKeyIdentifier must", Reason.PROFILE),
)

#: What stands before the reason: how far the search went, and which extension or validator said it.
_BEFORE = re.compile(
    r"^(validation failed: )?(candidates exhausted: )*(fatal error: )?"
    r"(invalid extension: [\d.]+: )?(Python extension validator failed: \w+: )?"
)

#: What `cryptography` adds behind the reason: a certificate, in the peer's bytes.
_BEHIND = " (encountered processing <Certificate("

_SELF_SIGNED_HINT = (
    "If it is the right one, trust it: put it into the verifier's TrustAnchors, "
    "for example by TrustAnchors.from_files()"
)


def reason_of(words: str) -> Reason:
    """The reason in the words of a `cryptography.x509.verification.VerificationError`."""
    said = essence(words)
    return next((reason for start, reason in REASONS if said.startswith(start)), Reason.OTHER)


def essence(words: str) -> str:
    """The words without what stands around the reason."""
    return _BEFORE.sub("", words, count=1).split(_BEHIND)[0]


@dataclass(frozen=True)
class Presented:
    """One presented chain and what is asked of it: all that an error has to tell.

    Attributes:
      der: the certificates, as they came.
      server_name: the name that a server's certificate has to have; None for a client's.
      certificates: those that could be parsed; the first is the peer's own.
    """

    der: tuple[bytes, ...]
    server_name: str | None
    certificates: tuple[x509.Certificate, ...] = ()

    @property
    def whose(self) -> str:
        """How to call the peer."""
        return "client" if self.server_name is None else "server"

    def rejected(
        self, reason: Reason, what: str, *, hint: str | None = None, alert: Alert | None = None, words: str = ""
    ) -> CertificateVerificationError:
        """The error. ``what`` goes on after "the server's certificate was not accepted: "."""
        whom = f" {subject_of(self.certificates[0])}" if self.certificates else ""
        return CertificateVerificationError(
            f"the {self.whose}'s certificate{whom} was not accepted: {what}",
            hint=reason.hint if hint is None else hint,
            alert=alert or reason.alert,
            presented_chain=self.der,
            verify_message=_printable(words or what),
        )

    def refused_by_verifier(
        self, words: str, *, at: datetime, anchors: Iterable[x509.Certificate], policy: Policy
    ) -> CertificateVerificationError:
        """The error for what `cryptography` said."""
        reason = reason_of(words)
        try:
            what, hint = self._told(reason, words, at, anchors, policy)
        except Exception:
            # The sentences quote the peer's certificates, and it is refused whatever can be read of them.
            what, hint = quoted(essence(words)), reason.hint or Reason.OTHER.hint
        return self.rejected(reason, what, hint=hint, words=words)

    def _told(
        self, reason: Reason, words: str, at: datetime, anchors: Iterable[x509.Certificate], policy: Policy
    ) -> tuple[str, str]:
        """What went wrong and what to do, for people."""
        leaf, hint = self.certificates[0], reason.hint
        if reason is Reason.NAME:
            names = listed(names_of(leaf))
            what = (
                f"it is not valid for {quoted(self.server_name or '')}, but for {names or 'no name that can be read'}"
            )
        elif reason is Reason.NO_NAMES:
            what = "it has no names: the extension subjectAltName is missing"
        elif reason is Reason.VALIDITY:
            what, hint = self._out_of_time(at, self._path(anchors))
        elif reason is Reason.NO_PATH:
            what, hint = self._no_path(self._path(()))
        else:
            issuer = "itself" if _self_issued(leaf) else _issuer(leaf)
            what = f"{quoted(essence(words))} (it was issued by {issuer})"
            if reason is Reason.PROFILE and isinstance(policy, WebPolicy):
                hint = (
                    "If the peer's CA is your own, verify with policy=PrivatePolicy(); else "
                    + hint[0].lower()
                    + hint[1:]
                )
        return what, hint

    def _path(self, anchors: Iterable[x509.Certificate]) -> list[x509.Certificate]:
        """The certificate and those above it, by the names of their issuers alone, as far as there are any."""
        left = [*self.certificates[1:], *anchors]
        path = [self.certificates[0]]
        for certificate in path:  # which grows
            above = [each for each in left if each.subject.public_bytes() == certificate.issuer.public_bytes()]
            left = [each for each in left if each not in above]
            path.extend(above)
        return path

    def _out_of_time(self, at: datetime, path: Sequence[x509.Certificate]) -> tuple[str, str]:
        leaf = self.certificates[0]
        for certificate in path:
            which = "it" if certificate == leaf else f"{subject_of(certificate)} above it"
            if at > certificate.not_valid_after_utc:
                return f"{which} expired at {_when(certificate.not_valid_after_utc)}", Reason.VALIDITY.hint
            if at < certificate.not_valid_before_utc:
                return (
                    f"{which} is not valid before {_when(certificate.not_valid_before_utc)}",
                    f"Check this machine's clock: it shows {_when(at)}",
                )
        return f"it, or a certificate above it, is not valid at {_when(at)}", Reason.VALIDITY.hint

    def _no_path(self, path: Sequence[x509.Certificate]) -> tuple[str, str]:
        leaf, last = self.certificates[0], path[-1]
        if _self_issued(leaf):
            return "it is self-signed, and no trust anchor", _SELF_SIGNED_HINT
        if _self_issued(last):
            return f"its chain ends at the self-signed {subject_of(last)}, which is no trust anchor", _SELF_SIGNED_HINT
        missing = _issuer(last)
        what = f"nobody vouches for it: its issuer {missing} was neither presented nor is it a trust anchor"
        if last != leaf:
            what = (
                f"nobody vouches for its chain: {missing}, the issuer of {subject_of(last)}, "
                "was neither presented nor is it a trust anchor"
            )
        return what, (
            f"If {missing} is a CA to trust, add it to the verifier's TrustAnchors; "
            "if it is an intermediate, the peer has to send it with its certificate"
        )


def _self_issued(certificate: x509.Certificate) -> bool:
    return certificate.subject.public_bytes() == certificate.issuer.public_bytes()


def _issuer(certificate: x509.Certificate) -> str:
    return quoted(certificate.issuer.rfc4514_string()) or "nobody"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _printable(words: str) -> str:
    """The verifier's words, without what could disturb a log."""
    return ascii(words[:500])[1:-1]
