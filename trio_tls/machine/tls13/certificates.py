"""Certificates in a handshake: presented by one side, judged by the other (RFC 9846 section 4.5).

How this works. Both roles present and accept alike, so that is here. What a certificate is worth is decided by the
config's verifier, or by a function of the application; this module asks, and turns the answer into the proof that
`established.PeerIdentity` is made of.
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from cryptography import x509

from ...alerts import Alert
from ...errors import CertificateVerificationError
from ..interface import NeedCredential, NeedSignature, NeedVerification
from .exchange import Exchange, Steps, ask, nobody
from .extensions import Extensions
from .messages import Certificate, CertificateEntry, CertificateVerify
from .misbehaviour import unsupported_extension
from .signatures import certificate_verify_content
from .value import value

if TYPE_CHECKING:
    from ...credentials import Credential
    from ...trust import VerifiedPeer, Verifier
    from .parameters import ChooseCredential, Verify

__all__ = [
    "AcceptedChain",
    "accept_peer",
    "chain_of",
    "choose_scheme",
    "credential_of",
    "is_credential",
    "leaf_of",
    "present",
    "sign_transcript",
]


#: Peers come back. So many of their certificates, if each has no more bytes than this, are not parsed again. They are
#: only parsed here: each handshake proves anew whose they are.
MOST_KNOWN = 4096

UTC = datetime.timezone.utc

_known = lru_cache(maxsize=64)(x509.load_der_x509_certificate)


@value
class AcceptedChain:
    """What the verifier accepted.

    Attributes:
      chain: leaf to trust anchor, DER; empty where the application decided by itself.
      not_after: when the narrowest certificate expires, seconds since 1970; None if unknown.
    """

    chain: tuple[bytes, ...]
    not_after: float | None


def leaf_of(message: Certificate, *, who: str) -> x509.Certificate | None:
    """The end-entity certificate of a Certificate message; None if the message has no certificates.

    Args:
      message: what the peer sent.
      who: ``"server"`` or ``"client"``, for the texts.

    Raises:
      CertificateVerificationError: it cannot be parsed.
      PeerMisbehaved: an entry has an extension, and none was offered.
    """
    for entry in message.entries:
        if len(entry.extensions):
            # "Extensions in the Certificate message from the server MUST correspond to ones from the ClientHello
            # message", and from the client to the CertificateRequest (section 4.5.1). We offer none there.
            raise unsupported_extension(f"the {who}'s certificate has an extension that was not offered", "4.5.1")
    if not message.entries:
        return None
    try:
        der = message.entries[0].data
        return (_known if len(der) <= MOST_KNOWN else x509.load_der_x509_certificate)(der)
    except Exception as error:
        # ValueError as a rule; but also InvalidVersion, and what a warning about an odd certificate becomes under
        # -W error.
        raise CertificateVerificationError(
            f"the {who}'s certificate cannot be parsed: {error}",
            hint="It has to be issued anew, by a tool that follows RFC 5280",
            alert=Alert.bad_certificate,
            presented_chain=chain_of(message),
            verify_message=str(error),
        ) from error


def chain_of(message: Certificate) -> tuple[bytes, ...]:
    """The certificates of a Certificate message, DER, leaf first."""
    return tuple(entry.data for entry in message.entries)


def accept_peer(
    verifier: Verifier | Verify,
    chain: tuple[bytes, ...],
    *,
    server: bool,
    server_name: str | None,
    now: float,
) -> Steps[AcceptedChain]:
    """Ask whether this is the peer that is wanted.

    Args:
      verifier: a `trio_tls.Verifier`, or the application's function.
      chain: what the peer presented, DER, leaf first.
      server: whether the peer is the server.
      server_name: the name that it has to be valid for; None on a server, or where nobody in particular is asked for.
      now: the time, seconds since 1970.

    Raises:
      CertificateVerificationError: it is not.
    """
    accepted: VerifiedPeer | None
    if not hasattr(verifier, "verify_server"):  # a function; a Verifier stays one even if it can be called
        need = NeedVerification(nobody, chain, server_name, None)
        accepted = yield from ask(
            need, cast("Any", verifier), _is_verdict, "None or a VerifiedPeer (to refuse the peer, raise)"
        )
    else:
        at = datetime.datetime.fromtimestamp(now, UTC)
        judge = cast("Verifier", verifier)
        accepted = judge.verify_server(chain, server_name or "", at) if server else judge.verify_client(chain, at)
    if accepted is None:
        return AcceptedChain((), _end_of(chain[0]))
    return AcceptedChain(accepted.der_chain, accepted.not_after.timestamp())


def _is_verdict(answer: object) -> bool:
    return answer is None or (hasattr(answer, "der_chain") and hasattr(answer, "not_after"))


def _end_of(leaf: bytes) -> float | None:
    """When a certificate expires: its session must not outlive it, whoever accepted it."""
    try:
        return x509.load_der_x509_certificate(leaf).not_valid_after_utc.timestamp()
    except ValueError:
        return None


def is_credential(answer: object) -> bool:
    """Whether the application has answered a need for a credential with one, or with none."""
    return answer is None or hasattr(answer, "der_chain")


def credential_of(
    source: Credential | ChooseCredential | None, server_name: str | None, schemes: tuple[int, ...]
) -> Steps[Credential | None]:
    """What to present: a config's one credential, or what its function answers; None if there is none.

    Args:
      source: the config's.
      server_name: the name that the client asks for; None on a client.
      schemes: what the peer can verify.
    """
    if is_credential(source):
        return cast("Credential | None", source)
    need = NeedCredential(nobody, server_name, schemes)
    choose = cast("ChooseCredential", source)
    answer: Credential | None = yield from ask(need, choose, is_credential, "a Credential or None")
    return answer


def choose_scheme(credential: Credential | None, peer: Sequence[int], ours: Sequence[int]) -> int | None:
    """The scheme to sign with: the key's favourite among those that the peer accepts and the config allows."""
    if credential is None:
        return None
    return next((scheme for scheme in credential.schemes if scheme in peer and scheme in ours), None)


def present(exchange: Exchange, credential: Credential, context: bytes) -> None:
    """Emit the Certificate message with a credential's chain."""
    exchange.emit_encoded(Certificate, _encoded(credential.der_chain, context))


@lru_cache(maxsize=64)
def _encoded(chain: tuple[bytes, ...], context: bytes) -> bytes:
    return Certificate(context, tuple(CertificateEntry(der, Extensions()) for der in chain)).encode()


def _is_signature(answer: object) -> bool:
    return isinstance(answer, bytes) and 0 < len(answer) < 2**16


def sign_transcript(exchange: Exchange, credential: Credential, scheme: int, *, server: bool) -> Steps[None]:
    """Emit the CertificateVerify for the Certificate that was emitted just now."""
    content = certificate_verify_content(server=server, transcript_hash=exchange.transcript.digest())
    if credential.is_remote:

        def sign(need: NeedSignature) -> bytes | Awaitable[bytes]:
            return credential.sign(need.scheme, need.message)

        signature: bytes = yield from ask(NeedSignature(nobody, scheme, content), sign, _is_signature, "the signature")
    else:
        answer = credential.sign(scheme, content)
        assert isinstance(answer, bytes)  # only remote signers are awaited
        signature = answer
    exchange.emit(CertificateVerify(scheme, signature))
