"""Verifier: from the chain that a peer presented to the proof that it is the right peer.

How this works. First the limits, which need no cryptography: how many certificates, whether they parse, how large
their RSA keys are. Then `cryptography.x509.verification` searches a path to a trust anchor and checks each
certificate on it. Then what it cannot check: RSA sizes and pins of the path that it found. Whatever fails is a
`CertificateVerificationError` that carries its alert.

Verified chains are remembered, since a client that comes back presents the same bytes again: the same chain for the
same name and role is not verified twice while every certificate of its path is valid. Failures are not remembered.
They are recognised by a digest, and bounded in number and in bytes: a peer may add what it likes to a good chain.
A verifier may be used from several threads.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import PolicyBuilder, VerificationError, VerifiedClient

from ..alerts import Alert
from ..names import names_of, normalised, server_subject, subject_of
from .anchors import TrustAnchors
from .failures import Presented, Reason
from .policies import Policy, WebPolicy

__all__ = ["VerifiedPeer", "Verifier"]

#: So many verified chains are remembered.
REMEMBERED_CHAINS = 256

#: Bytes of DER in all of them: what so many chains have that are as long as most are.
REMEMBERED_BYTES = 2**20


#: What was presented, DER, and the name that it was verified for; None for a client.
Key: TypeAlias = "tuple[tuple[bytes, ...], str | None]"


@dataclass(frozen=True)
class VerifiedPeer:
    """The proof that a peer is who it should be. Only a `Verifier` makes one.

    Attributes:
      chain: the verified path: the peer's own certificate first, a trust anchor last. They may be the same.
      presented: what the peer presented.
      server_name: the name that the certificate is valid for; None if the peer is a client.
      not_before: since when all of ``chain`` is valid, UTC.
      not_after: until when all of ``chain`` is valid, UTC: nothing that rests on this proof may last longer.
    """

    chain: tuple[x509.Certificate, ...]
    presented: tuple[x509.Certificate, ...]
    server_name: str | None
    not_before: datetime
    not_after: datetime

    @cached_property
    def der_chain(self) -> tuple[bytes, ...]:
        """``chain``, DER."""
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in self.chain)


class _VerifiedChains:
    """The proofs of the chains that were verified last, by all that was presented, and the name that was asked for."""

    def __init__(self) -> None:
        self._peers: OrderedDict[Key, tuple[VerifiedPeer, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Key, at: datetime) -> VerifiedPeer | None:
        with self._lock:
            peer, _size = self._peers.get(key, (None, 0))
            if peer is None or not peer.not_before <= at <= peer.not_after:
                return None
            self._peers.move_to_end(key)
            return peer

    def put(self, key: Key, peer: VerifiedPeer, size: int) -> None:
        with self._lock:
            _peer, replaced = self._peers.pop(key, (None, 0))
            self._peers[key] = (peer, size)
            self._bytes += size - replaced
            while len(self._peers) > REMEMBERED_CHAINS or self._bytes > REMEMBERED_BYTES:
                _key, (_peer, dropped) = self._peers.popitem(last=False)
                self._bytes -= dropped


@dataclass(frozen=True)
class Verifier:
    """Decides which peers to believe. Immutable, and made to be shared by all connections.

    Args:
      anchors: the certificates to trust.
      policy: what certificates have to look like. `WebPolicy` for servers of the public web; `PrivatePolicy` for
        those of one's own CA.
      pins: SHA-256 digests of subjectPublicKeyInfo (DER), 32 bytes each. If there are any, one certificate of the
        verified path at least, leaf and anchor included, has to have such a key.
      least_rsa_bits: no RSA key on the path may be smaller; not below 2048.
      greatest_rsa_bits: no RSA key that a peer presents may be larger: checking signatures with it takes its time.
        Its own key never has more than 8192 bits, whatever this allows for the CAs above it.
      most_certificates: a peer may present no more; from 1 to 100.

    Raises:
      ValueError: if a limit or a pin is out of range.
    """

    anchors: TrustAnchors
    policy: Policy = field(default_factory=WebPolicy)
    _: KW_ONLY
    pins: Collection[bytes] = ()
    least_rsa_bits: int = 2048
    greatest_rsa_bits: int = 8192
    most_certificates: int = 10
    _verified: _VerifiedChains = field(default_factory=_VerifiedChains, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pins", frozenset(self.pins))
        if any(len(pin) != hashlib.sha256().digest_size for pin in self.pins):
            raise ValueError("a pin is the SHA-256 digest of a subjectPublicKeyInfo: 32 bytes")
        if not 2048 <= self.least_rsa_bits <= self.greatest_rsa_bits:
            raise ValueError("RSA keys have to be allowed from some size, 2048 bits or more, up to some other")
        if not 1 <= self.most_certificates <= 100:
            raise ValueError("most_certificates has to be from 1 to 100")

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that tell this verifier from any that decides differently; a session is bound to them."""
        digest = hashlib.sha256(self.anchors.fingerprint)
        judges = (type(self), type(self.policy))  # a subclass may decide by anything
        for judge in judges:
            digest.update(f"{judge.__module__}.{judge.__qualname__}\n".encode())
        for fact in (self.policy.identity, self.least_rsa_bits, self.greatest_rsa_bits, self.most_certificates):
            digest.update(f"{fact}\n".encode())
        for pin in sorted(self.pins):
            digest.update(pin)
        return digest.digest()

    def verify_server(self, chain: Sequence[bytes], server_name: str, at: datetime) -> VerifiedPeer:
        """Verify that this is the server that we asked for.

        Args:
          chain: what it presented, DER, its own certificate first.
          server_name: the DNS name (A-labels) or the IP address that its certificate has to have.
          at: the time to verify for; aware.

        Raises:
          CertificateVerificationError: if it is not, whatever the bytes.
          ValueError: if ``server_name`` is no host name (`trio_tls.names.server_subject` tells in advance), or if
            ``at`` is naive.
        """
        subject = server_subject(server_name)
        return self._verify(Presented(tuple(map(bytes, chain)), normalised(server_name)), subject, at)

    def verify_client(self, chain: Sequence[bytes], at: datetime) -> VerifiedPeer:
        """Verify that this is a client that one of the trust anchors vouches for; which one, its certificate tells.

        Arguments and errors are those of `verify_server`.
        """
        return self._verify(Presented(tuple(map(bytes, chain)), None), None, at)

    def _verify(
        self, presented: Presented, subject: x509.DNSName | x509.IPAddress | None, at: datetime
    ) -> VerifiedPeer:
        if at.tzinfo is None:
            raise ValueError("the time to verify for has to be aware: datetime.now(timezone.utc)")
        at = at.astimezone(timezone.utc).replace(microsecond=0)  # certificates are valid by whole seconds
        key = (presented.der, presented.server_name)
        verified = self._verified.get(key, at)
        if verified is None:
            presented = self._parsed(presented)
            path = self._path(presented, subject, at)
            self._judge(presented, path)
            verified = VerifiedPeer(
                path,
                presented.certificates,
                presented.server_name,
                max(each.not_valid_before_utc for each in path),
                min(each.not_valid_after_utc for each in path),
            )
            self._verified.put(key, verified, sum(map(len, presented.der)))
        return verified

    def _parsed(self, presented: Presented) -> Presented:
        """The certificates behind the bytes, within the limits."""
        if not presented.der:
            # "If the server supplies an empty Certificate message, the client MUST abort the handshake with a
            # "decode_error" alert"; of clients, certificate_required (RFC 9846 section 4.5.1.3).
            alert = Alert.certificate_required if presented.server_name is None else Alert.decode_error
            raise presented.rejected(Reason.ABSENT, "it presented none", alert=alert)
        if len(presented.der) > self.most_certificates:
            raise presented.rejected(
                Reason.LIMIT, f"{len(presented.der)} certificates were presented, {self.most_certificates} are allowed"
            )
        certificates = []
        for number, der in enumerate(presented.der, 1):
            try:
                certificates.append(_readable(der))
            except Exception as exc:
                # ValueError as a rule; but also what a warning about an odd certificate becomes under -W error.
                what = f"certificate {number} of {len(presented.der)} cannot be parsed"
                raise presented.rejected(Reason.MALFORMED, what, words=str(exc)) from exc
        presented = Presented(presented.der, presented.server_name, tuple(certificates))
        try:
            certificates[0].public_key()
        except (ValueError, UnsupportedAlgorithm) as exc:
            what = "its public key is of an unknown kind, or cannot be read"
            hint = "Issue it with an ECDSA, Ed25519, RSA or ML-DSA key"
            raise presented.rejected(Reason.KEY_TYPE, what, hint=hint, words=str(exc)) from exc
        for certificate in certificates:
            bits = _rsa_bits(certificate)
            if bits > self.greatest_rsa_bits:
                what = f"{subject_of(certificate)} has an RSA key of {bits} bits, more than {self.greatest_rsa_bits}"
                raise presented.rejected(Reason.WEAK_KEY, what, hint="Issue it with a smaller key: 2048 to 4096 bits")
        return presented

    def _path(
        self, presented: Presented, subject: x509.DNSName | x509.IPAddress | None, at: datetime
    ) -> tuple[x509.Certificate, ...]:
        """The path from the peer's certificate to a trust anchor that `cryptography` finds and verifies."""
        leaf, *others = dict.fromkeys(presented.certificates)
        builder = (
            PolicyBuilder()
            .store(self.anchors.store)
            .time(at)
            .max_chain_depth(self.most_certificates - 1)
            .extension_policies(
                ca_policy=self.policy.for_issuers(), ee_policy=self.policy.for_peers(server=subject is not None)
            )
        )
        verifier = builder.build_client_verifier() if subject is None else builder.build_server_verifier(subject)
        try:
            found = verifier.verify(leaf, others)
            return tuple(found.chain if isinstance(found, VerifiedClient) else found)
        except VerificationError as exc:
            raise presented.refused_by_verifier(str(exc), at=at, anchors=self.anchors, policy=self.policy) from exc
        except Exception as exc:
            # What it reads only now, and has no type for: a client's subjectAltName with an x400Address, say.
            what = "something in it cannot be read"
            raise presented.rejected(Reason.MALFORMED, what, words=str(exc)) from exc

    def _judge(self, presented: Presented, path: Sequence[x509.Certificate]) -> None:
        """What `cryptography` has no setting for."""
        name = presented.server_name
        if name is not None and name.count(".") == 1 and name not in names_of(path[0]):
            # Nobody owns all names under a top-level label; neither do OpenSSL and browsers take such a wildcard.
            raise presented.rejected(Reason.NAME, f"a wildcard directly under a top-level label does not cover {name}")
        for certificate in path:
            bits = _rsa_bits(certificate)
            if 0 < bits < self.least_rsa_bits:
                what = f"{subject_of(certificate)} has an RSA key of {bits} bits, less than {self.least_rsa_bits}"
                raise presented.rejected(Reason.WEAK_KEY, what)
        if self.pins and not any(_pin(certificate) in self.pins for certificate in path):
            what = "it is verified, but none of the pinned keys is in " + " < ".join(map(subject_of, path))
            raise presented.rejected(Reason.PIN, what)


def _readable(der: bytes) -> x509.Certificate:
    """The certificate, with everything read that `cryptography` parses late and this package relies on."""
    certificate = x509.load_der_x509_certificate(der)
    facts = (certificate.subject, certificate.issuer, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    del facts
    return certificate


def _rsa_bits(certificate: x509.Certificate) -> int:
    """The size of an RSA key; 0 for another key, or one that cannot be read, and so verifies no signature."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return 0
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else 0


def _pin(certificate: x509.Certificate) -> bytes:
    public_key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public_key).digest()
