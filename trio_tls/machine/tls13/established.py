"""Established: what a finished handshake has proven, and what the connection goes on with.

How this works. The object that ends a handshake can only be made of proofs: the identity comes from a verifier (or
from a session that one was accepted for), the signature from `signatures.verify`, the Finished from `verified`. Code
that forgot one of these steps has nothing to put in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.constant_time import bytes_eq

from .key_schedule import Secret
from .misbehaviour import decode_error, decrypt_error
from .signatures import VerifiedSignature
from .value import value

if TYPE_CHECKING:
    from .messages import Finished
    from .suites import CipherSuite

__all__ = ["Anonymous", "Established", "PeerIdentity", "VerifiedFinished", "verified"]


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """A peer whose certificate was accepted, in this handshake or in the one that its session comes from.

    Attributes:
      presented: what it presented, DER, leaf first.
      chain: the verified chain, DER, leaf to trust anchor; empty where the application decided by itself.
      not_after: when the narrowest certificate of the chain expires, seconds since 1970; None if unknown.
      signature: the proof that it holds the leaf's key; None in a resumed session, where the PSK is that proof.
    """

    presented: tuple[bytes, ...]
    chain: tuple[bytes, ...]
    not_after: float | None
    signature: VerifiedSignature | None


@dataclass(frozen=True, slots=True)
class Anonymous:
    """A client that was asked for no certificate, or that had none and needed none."""


@dataclass(frozen=True, slots=True)
class VerifiedFinished:
    """The proof that the peer saw the same handshake as we did."""

    transcript_hash: bytes


def verified(finished: Finished, expected: bytes, transcript_hash: bytes) -> VerifiedFinished:
    """Compare a Finished with what it has to be.

    Args:
      finished: what the peer sent.
      expected: the `finished_verify_data` of the peer.
      transcript_hash: of all messages before it.

    Raises:
      PeerMisbehaved: decode_error if its length is wrong, decrypt_error if its value is.
    """
    if len(finished.verify_data) != len(expected):
        raise decode_error(f"a Finished of {len(finished.verify_data)} bytes", "4.5.3")
    if not bytes_eq(finished.verify_data, expected):
        # "Recipients of Finished messages MUST verify that the contents are correct and if incorrect MUST terminate
        # the connection with a "decrypt_error" alert."
        raise decrypt_error("the peer's Finished does not fit this handshake: somebody changed it on the way", "4.5.3")
    return VerifiedFinished(transcript_hash)


@value
class Established:
    """The end of a handshake.

    Attributes:
      suite: the cipher suite.
      group: the NamedGroup number of the key exchange.
      peer: who the peer is.
      finished: that the peer saw the same handshake.
      exporter: the exporter secret.
      resumption: the secret that tickets are made of.
      alpn_protocol: the agreed protocol, or None.
      server_name: the name that the client asked for, or None.
      local_chain: what we presented, DER, leaf first.
      resumed: whether a session was resumed.
    """

    suite: CipherSuite
    group: int
    peer: PeerIdentity | Anonymous
    finished: VerifiedFinished
    exporter: Secret
    resumption: Secret
    alpn_protocol: bytes | None
    server_name: str | None
    local_chain: tuple[bytes, ...]
    resumed: bool
