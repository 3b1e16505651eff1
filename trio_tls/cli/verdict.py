"""Why the peer's certificate was accepted, or was not: one sentence, and what to do.

How this works. A verifier's own words ("unable to get local issuer certificate") are about the verifier; a person
wants to know about the certificate. So the sentence is made from the certificates themselves; for reasons that
this module has no words for, the verifier's are given. OpenSSL tells the reason as a number, our own in its words.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import CertificateVerificationError
from ..trust import VerifiedPeer
from ..trust.failures import Reason, reason_of
from .facts import CertificateFacts, certificate_facts
from .problem import ExitStatus, Problem

__all__ = ["passed", "refusal", "rejected", "unchecked"]


def passed(chain: Sequence[CertificateFacts], server_name: str) -> str:
    """Why verification passed.

    Args:
      chain: the verified chain.
      server_name: the name that was checked.
    """
    valid = f"the certificate is valid for {server_name} and"
    if len(chain) == 1:
        return f"{valid} is itself trusted"
    return f'{valid} leads to "{chain[-1].common_name}", which is trusted' if chain else f"{valid} is trusted"


def unchecked(
    outcome: VerifiedPeer | CertificateVerificationError, presented: Sequence[CertificateFacts], server_name: str
) -> str:
    """What verification would have said, where nobody has asked it before the handshake."""
    if isinstance(outcome, CertificateVerificationError):
        return f"it would have failed: {_reason(outcome, presented, server_name)[0]}"
    chain = [certificate_facts(each.public_bytes(Encoding.DER)) for each in outcome.chain]
    return f"it would have passed: {passed(chain, server_name)}"


#: The reasons that this module has words for, by X509_V_ERR.
_REASONS = {
    2: Reason.NO_PATH,  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
    9: Reason.VALIDITY,  # X509_V_ERR_CERT_NOT_YET_VALID
    10: Reason.VALIDITY,  # X509_V_ERR_CERT_HAS_EXPIRED
    18: Reason.NO_PATH,  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
    19: Reason.NO_PATH,  # X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
    20: Reason.NO_PATH,  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: Reason.NO_PATH,  # X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
    62: Reason.NAME,  # X509_V_ERR_HOSTNAME_MISMATCH
    64: Reason.NAME,  # X509_V_ERR_IP_ADDRESS_MISMATCH
}


def rejected(
    error: CertificateVerificationError, presented: Sequence[CertificateFacts], server_name: str | None
) -> Problem:
    """The `Problem` with the peer's certificate; its sentence says why verification failed."""
    sentence, hint = _reason(error, presented, server_name)
    return Problem(ExitStatus.VERIFICATION, f"verification failed: {sentence}", hint, error=error)


def refusal(
    error: CertificateVerificationError, presented: Sequence[CertificateFacts], server_name: str | None
) -> tuple[str, str]:
    """Why a verifier refused these certificates, and what to do: a sentence and a hint, which may be ``""``."""
    return _reason(error, presented, server_name)


def _reason(
    error: CertificateVerificationError, presented: Sequence[CertificateFacts], server_name: str | None
) -> tuple[str, str]:
    ours = not error.verify_code  # our own verifier tells no number
    words = error.verify_message
    reason = reason_of(words) if ours else _REASONS.get(error.verify_code, Reason.OTHER)
    if not presented:
        return error.message, ""
    leaf = presented[0]
    if reason is Reason.NAME:
        names = ", ".join(name.partition(":")[2] for name in leaf.names if name.startswith(("DNS:", "IP:")))
        return (
            f"the certificate is for {names or 'no name at all'}, not for {server_name}",
            "Connect by a name that the certificate has, or give that name with --server-name",
        )
    if reason is Reason.VALIDITY:
        return _out_of_date(presented, words.rstrip("."))
    unsuitable_by_itself = ours and reason is Reason.PROFILE and leaf.subject == leaf.issuer
    if reason is Reason.NO_PATH or unsuitable_by_itself:
        return _no_path(presented)
    if ours and reason is Reason.PROFILE:
        return error.message, "If the CA is your own, give its certificate with --ca-file: the rules are others then"
    if ours:
        return error.message, error.hint if reason is not Reason.OTHER else ""
    return words.rstrip(".") or error.message, ""


def _no_path(presented: Sequence[CertificateFacts]) -> tuple[str, str]:
    leaf, last = presented[0], presented[-1]
    if leaf.subject == leaf.issuer:
        return (
            f'the certificate "{leaf.common_name}" is signed by itself, and this machine does not trust it',
            "If it is yours, give it with --ca-file",
        )
    if last.subject == last.issuer:
        return (
            f'the chain leads to the CA "{last.common_name}", which this machine does not trust',
            "If the CA is yours, give its certificate with --ca-file",
        )
    return (
        f'the chain ends at a certificate issued by "{last.issuer}", which this machine does not know',
        "If that CA is yours, give its certificate with --ca-file; if it is a public one, the server may not "
        "send its intermediate certificates",
    )


def _out_of_date(presented: Sequence[CertificateFacts], words: str) -> tuple[str, str]:
    now = datetime.datetime.now(datetime.timezone.utc)
    for each in presented:
        if each.not_after is not None and now > each.not_after:
            sentence = f'the certificate "{each.common_name}" expired on {each.not_after:%Y-%m-%d %H:%M} UTC'
            return sentence, "Renew it, or check this machine's clock"
        if each.not_before is not None and now < each.not_before:
            sentence = f'the certificate "{each.common_name}" is not valid before {each.not_before:%Y-%m-%d %H:%M} UTC'
            return sentence, "Check this machine's clock"
    return words, "A certificate above those presented is out of date"
