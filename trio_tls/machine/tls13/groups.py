"""The groups of the key exchange: X25519MLKEM768, x25519, secp256r1, secp384r1.

How this works. A client makes a `KeyShare`, sends its public half, and gives it the server's answer. In a server,
`Group.respond` turns the client's share into an answer and the shared secret. For Diffie-Hellman both are the same
computation, for ML-KEM they are not, so each side has a method of its own.

"Clients and Servers MUST NOT reuse a key share for multiple connections" (RFC 9846 section 4.3.8): nothing here
keeps one, and a share that was used once refuses the next exchange. The peer may reuse its own.

Whatever the peer sends that is no valid share is an illegal_parameter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ...errors import PeerMisbehaved
from .misbehaviour import illegal_parameter
from .registry import NamedGroup

__all__ = ["GROUPS", "Group", "KeyShare", "x25519_key_share"]

#: Bytes of an ML-KEM-768 encapsulation key, of a ciphertext, and of an X25519 public key.
ENCAPSULATION_KEY_LENGTH = 1184
CIPHERTEXT_LENGTH = 1088
X25519_LENGTH = 32

#: The first byte of the one point format there is (section 4.3.8.2). The library would take others as well.
UNCOMPRESSED = 4


class _PrivateHalf(Protocol):
    """The secret half of a key share."""

    @property
    def public(self) -> bytes:
        """What the peer gets."""
        ...

    def exchange(self, peer: bytes) -> bytes:
        """The shared secret; a ValueError if ``peer`` is no valid answer."""
        ...


class KeyShare:
    """One ephemeral key, for one exchange of one connection.

    Attributes:
      group: its NamedGroup number.
      public: the ``key_exchange`` to send.
    """

    __slots__ = ("_private", "group", "public")

    def __init__(self, group: NamedGroup, private: _PrivateHalf) -> None:
        self.group: NamedGroup = group
        self.public: bytes = private.public
        self._private: _PrivateHalf | None = private

    def exchange(self, peer: bytes) -> bytes:
        """The shared secret with ``peer``, the ``key_exchange`` that the other side sent.

        Raises:
          PeerMisbehaved: illegal_parameter: ``peer`` is no valid share of this group.
          RuntimeError: this share was used before.
        """
        private, self._private = self._private, None
        if private is None:
            raise RuntimeError(f"this {self.group.name} key share was used already; make one per exchange")
        try:
            return private.exchange(peer)
        except ValueError:
            raise _no_share(self.group, peer) from None

    def __repr__(self) -> str:
        return f"<KeyShare {self.group.name}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a KeyShare holds a private key, and is not pickled or copied")


@dataclass(frozen=True, slots=True)
class Group(ABC):
    """A way to agree on a secret.

    Attributes:
      number: its NamedGroup number.
    """

    number: NamedGroup

    @property
    def name(self) -> str:
        """As the registry writes it."""
        return self.number.name

    @abstractmethod
    def generate(self) -> KeyShare:
        """A new share, for a client to offer."""

    @property
    def answered_by(self) -> Group:
        """The group of the share that a server makes to answer one of this group."""
        return self

    def respond(
        self, peer: bytes, generate: Callable[[Group], KeyShare] = lambda group: group.generate()
    ) -> tuple[bytes, bytes]:
        """A server's answer to a client's share: (the ``key_exchange`` to send, the shared secret).

        Args:
          peer: the client's ``key_exchange``.
          generate: makes our share, of the group `answered_by`.

        Raises:
          PeerMisbehaved: illegal_parameter: ``peer`` is no valid share of this group.
        """
        share = generate(self)
        return share.public, share.exchange(peer)


class _X25519Half:
    __slots__ = ("_key",)

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def exchange(self, peer: bytes) -> bytes:
        # "Implementations MUST check whether the computed Diffie-Hellman shared secret is the all-zero value
        # and abort if so" (section 7.4.2): the library raises ValueError then.
        return self._key.exchange(X25519PublicKey.from_public_bytes(peer))


class _X25519(Group):
    __slots__ = ()

    def generate(self) -> KeyShare:
        return KeyShare(self.number, _X25519Half(X25519PrivateKey.generate()))


class _PointHalf:
    """An elliptic curve with uncompressed points.

    struct {
        uint8 legacy_form = 4;
        opaque X[coordinate_length];
        opaque Y[coordinate_length];
    } UncompressedPointRepresentation;
    """

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> bytes:
        return self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    def exchange(self, peer: bytes) -> bytes:
        curve = self._key.curve
        if len(peer) != 1 + 2 * ((curve.key_size + 7) // 8) or peer[0] != UNCOMPRESSED:
            raise ValueError("not an uncompressed point of this curve")
        # Checks that the point is on the curve, and not at infinity.
        return self._key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, peer))


@dataclass(frozen=True, slots=True)
class _Curve(Group):
    curve: ec.EllipticCurve

    def generate(self) -> KeyShare:
        return KeyShare(self.number, _PointHalf(ec.generate_private_key(self.curve)))


class _HybridHalf:
    """ML-KEM first, X25519 behind it: in the share, in the answer and in the secret."""

    __slots__ = ("_mlkem", "_x25519")

    def __init__(self) -> None:
        self._mlkem = MLKEM768PrivateKey.generate()
        self._x25519 = _X25519Half(X25519PrivateKey.generate())

    @property
    def public(self) -> bytes:
        return self._mlkem.public_key().public_bytes_raw() + self._x25519.public

    def exchange(self, peer: bytes) -> bytes:
        if len(peer) != CIPHERTEXT_LENGTH + X25519_LENGTH:
            raise ValueError("not a ciphertext and an X25519 key")
        secret = self._mlkem.decapsulate(peer[:CIPHERTEXT_LENGTH])
        return secret + self._x25519.exchange(peer[CIPHERTEXT_LENGTH:])


class _X25519MLKEM768(Group):
    __slots__ = ()

    def generate(self) -> KeyShare:
        return KeyShare(self.number, _HybridHalf())

    @property
    def answered_by(self) -> Group:
        return _X25519_ALONE

    def respond(
        self, peer: bytes, generate: Callable[[Group], KeyShare] = lambda group: group.generate()
    ) -> tuple[bytes, bytes]:
        if len(peer) != ENCAPSULATION_KEY_LENGTH + X25519_LENGTH:
            raise _no_share(self.number, peer)
        try:
            # Checks that the coefficients are reduced, as FIPS 203 section 7.2 demands.
            secret, ciphertext = MLKEM768PublicKey.from_public_bytes(peer[:ENCAPSULATION_KEY_LENGTH]).encapsulate()
        except ValueError:
            raise _no_share(self.number, peer) from None
        ours = generate(self.answered_by)
        try:
            return ciphertext + ours.public, secret + ours.exchange(peer[ENCAPSULATION_KEY_LENGTH:])
        except PeerMisbehaved:
            raise _no_share(self.number, peer) from None


def x25519_key_share(private: bytes) -> KeyShare:
    """The share of a private key that is known: for traces that have to be repeated."""
    return KeyShare(NamedGroup.x25519, _X25519Half(X25519PrivateKey.from_private_bytes(private)))


def _no_share(group: NamedGroup, peer: bytes) -> PeerMisbehaved:
    return illegal_parameter(f"the peer's key share of {len(peer)} bytes is none of {group.name}", "4.3.8")


_X25519_ALONE = _X25519(NamedGroup.x25519)

#: Every group there is, by number, the preferred ones first.
GROUPS: dict[int, Group] = {
    group.number: group
    for group in (
        _X25519MLKEM768(NamedGroup.X25519MLKEM768),
        _X25519_ALONE,
        _Curve(NamedGroup.secp256r1, ec.SECP256R1()),
        _Curve(NamedGroup.secp384r1, ec.SECP384R1()),
    )
}
