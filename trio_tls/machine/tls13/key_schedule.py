"""The key schedule (RFC 9846 section 7.1): from a PSK and a shared secret to every other secret.

How this works. `KeySchedule` goes down the left side of the RFC's diagram, one extraction per step, and hands out
what hangs on the right. A step that was taken cannot be taken again, and none can be skipped: the secret that it
started from is gone ("Once all the values which are to be derived from a given secret have been computed, that
secret SHOULD be erased"). What is made of a secret that was handed out needs no schedule and is a function.

HMAC (RFC 2104) is put together here from the two hashes that it is made of. To key them is most of its work, and
copies of keyed ones are nearly free; a handshake makes some forty HMACs under a dozen keys.

Python cannot erase `bytes`; dropping the last reference early is all that is done, and `Secret` keeps them out of
logs and tracebacks.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from .suites import SUITES, CipherSuite
from .transcript import DIGESTS, hash_of
from .value import value

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "KeySchedule",
    "Secret",
    "TrafficSecrets",
    "derive_secret",
    "expand_label",
    "export_keying_material",
    "finished_verify_data",
    "next_traffic_secret",
    "resumption_psk",
    "traffic_keys",
]

#: Bytes of a write iv: the AEADs here have nonces of 12 bytes (section 5.3).
IV_LENGTH = 12

#: What HMAC XORs onto each byte of a key, as tables for `bytes.translate`.
INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))

#: Bytes of a block of each hash, which is what HMAC pads its key to.
BLOCK_LENGTHS = {name: new(b"").block_size for name, new in DIGESTS.items()}


class Secret:
    """A secret that does not show itself.

    Attributes:
      value: its bytes.
    """

    __slots__ = ("_keyed", "value")

    def __init__(self, value: bytes) -> None:
        self.value: bytes = value
        self._keyed: tuple[_Hash, _Hash] | None = None

    def expand(self, algorithm: hashes.HashAlgorithm, label: bytes, context: bytes, length: int) -> bytes:
        """`expand_label` for at most one hash: then HKDF-Expand is one HMAC."""
        if self._keyed is None:
            self._keyed = _keyed(algorithm, self.value)
        inner, outer = self._keyed
        inner, outer = inner.copy(), outer.copy()
        inner.update(_label_before_context(label, len(context), length) + context + b"\x01")
        outer.update(inner.digest())
        return outer.digest()[:length]

    def derive(self, suite: CipherSuite, label: bytes, transcript_hash: bytes) -> Secret:
        """`derive_secret`, as a `Secret`."""
        return Secret(self.expand(suite.hash, label, transcript_hash, suite.hash_length))

    def erase(self) -> None:
        """Let go of the secret: nobody has use for it any more."""
        self.value, self._keyed = b"", None

    def __repr__(self) -> str:
        return f"<Secret of {len(self.value)} bytes>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled or copied")


@value
class TrafficSecrets:
    """What the traffic keys of both directions are made of.

    Attributes:
      client: for what the client writes.
      server: for what the server writes.
    """

    client: Secret
    server: Secret


def _keyed(algorithm: hashes.HashAlgorithm, key: bytes) -> tuple[_Hash, _Hash]:
    """The inner and the outer hash of an HMAC, with its key in them: as long as a hash, so it fits into one block."""
    new = DIGESTS[algorithm.name]
    block = key.ljust(BLOCK_LENGTHS[algorithm.name], b"\0")
    return new(block.translate(INNER_PAD)), new(block.translate(OUTER_PAD))


def _hmac(algorithm: hashes.HashAlgorithm, key: bytes, message: bytes) -> bytes:
    """The HMAC of one message, under a key that is used once."""
    new = DIGESTS[algorithm.name]
    block = key.ljust(BLOCK_LENGTHS[algorithm.name], b"\0")
    return new(block.translate(OUTER_PAD) + new(block.translate(INNER_PAD) + message).digest()).digest()


def expand_label(algorithm: hashes.HashAlgorithm, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 9846 section 7.1.

    struct {
        uint16 length = Length;
        opaque label<7..255> = "tls13 " + Label;
        opaque context<0..255> = Context;
    } HkdfLabel;

    Raises:
      ValueError: the label or context does not fit into its vector, or the length is out of range.
    """
    return HKDFExpand(algorithm, length, _hkdf_label(label, context, length)).derive(secret)


def _hkdf_label(label: bytes, context: bytes, length: int) -> bytes:
    if not 1 <= len(label) <= 249 or len(context) > 255:
        raise ValueError("a label has 1 to 249 bytes, a context at most 255")
    if not 0 < length < 2**16:
        raise ValueError(f"HKDF cannot expand to {length} bytes")
    return b"%c%c%ctls13 %b%c%b" % (length >> 8, length & 255, 6 + len(label), label, len(context), context)


@cache
def _label_before_context(label: bytes, context_length: int, length: int) -> bytes:
    """`_hkdf_label` without the context at its end. Only labels of this package get here: there are few."""
    return _hkdf_label(label, bytes(context_length), length)[: -context_length or None]


def derive_secret(algorithm: hashes.HashAlgorithm, secret: bytes, label: bytes, transcript_hash: bytes) -> bytes:
    """Derive-Secret of RFC 9846 section 7.1, given the hash of its messages."""
    return expand_label(algorithm, secret, label, transcript_hash, algorithm.digest_size)


class KeySchedule:
    """The secrets of one connection, in their order.

    Args:
      suite: the cipher suite; only its hash matters here.
      psk: the pre-shared key of a session that is resumed; None without one.

    A step out of order is a RuntimeError.
    """

    __slots__ = ("_exporter", "_secret", "_step", "_suite")

    def __init__(self, suite: CipherSuite, psk: bytes | None = None) -> None:
        self._suite = suite
        self._exporter: Secret | None = None
        self._secret = _early_secret_without_psk(suite.number) if psk is None else _early_secret(suite, psk)
        self._step = "early"

    def binder(self, transcript_hash: bytes) -> bytes:
        """The binder of this PSK, which was made by a resumption (section 4.3.11.2).

        Args:
          transcript_hash: of the ClientHello without its binders, with the PSK's hash.
        """
        self._at("early")
        binder_key = self._secret.derive(self._suite, b"res binder", self._suite.empty_hash)
        return finished_verify_data(self._suite, binder_key, transcript_hash)

    def handshake_secrets(self, shared_secret: bytes, transcript_hash: bytes) -> TrafficSecrets:
        """The secrets of the rest of the handshake.

        Args:
          shared_secret: of the key exchange.
          transcript_hash: of ClientHello...ServerHello.
        """
        self._at("early")
        self._extract(shared_secret, "handshake")
        return TrafficSecrets(
            client=self._secret.derive(self._suite, b"c hs traffic", transcript_hash),
            server=self._secret.derive(self._suite, b"s hs traffic", transcript_hash),
        )

    def application_secrets(self, transcript_hash: bytes) -> TrafficSecrets:
        """The first secrets of application data; `exporter` is there from now on.

        Args:
          transcript_hash: of ClientHello...server Finished.
        """
        self._at("handshake")
        self._extract(bytes(self._suite.hash_length), "main")
        self._exporter = self._secret.derive(self._suite, b"exp master", transcript_hash)
        return TrafficSecrets(
            client=self._secret.derive(self._suite, b"c ap traffic", transcript_hash),
            server=self._secret.derive(self._suite, b"s ap traffic", transcript_hash),
        )

    @property
    def exporter(self) -> Secret:
        """The exporter_secret."""
        if self._exporter is None:
            raise RuntimeError("there is no exporter secret before the application secrets")
        return self._exporter

    def resumption_secret(self, transcript_hash: bytes) -> Secret:
        """The secret that tickets are made of. It ends the schedule: the main secret is dropped.

        Args:
          transcript_hash: of ClientHello...client Finished.
        """
        self._at("main")
        secret = self._secret.derive(self._suite, b"res master", transcript_hash)
        self._secret, self._step = Secret(b""), "done"
        return secret

    def _at(self, step: str) -> None:
        if self._step != step:
            raise RuntimeError(f"the key schedule is at {self._step!r}, not {step!r}")

    def _extract(self, key_material: bytes, step: str) -> None:
        salt = self._secret.derive(self._suite, b"derived", self._suite.empty_hash)
        self._secret = Secret(_hmac(self._suite.hash, salt.value, key_material))  # which is HKDF-Extract
        self._step = step

    def __repr__(self) -> str:
        return f"<KeySchedule at {self._step!r}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a KeySchedule is not pickled or copied")


def _early_secret(suite: CipherSuite, psk: bytes) -> Secret:
    return Secret(_hmac(suite.hash, bytes(suite.hash_length), psk))


@cache
def _early_secret_without_psk(number: int) -> Secret:
    """HKDF-Extract(0, 0), since no round is skipped: known to everybody, so one serves all connections."""
    suite = SUITES[number]
    return _early_secret(suite, bytes(suite.hash_length))


def traffic_keys(suite: CipherSuite, secret: Secret) -> tuple[bytes, bytes]:
    """The write key and the write iv (section 7.3) of one direction."""
    return (
        secret.expand(suite.hash, b"key", b"", suite.key_length),
        secret.expand(suite.hash, b"iv", b"", IV_LENGTH),
    )


def next_traffic_secret(suite: CipherSuite, secret: Secret) -> Secret:
    """application_traffic_secret_N+1, after a KeyUpdate (section 7.2)."""
    return secret.derive(suite, b"traffic upd", b"")


def finished_verify_data(suite: CipherSuite, secret: Secret, transcript_hash: bytes) -> bytes:
    """The verify_data of a Finished (section 4.5.3). Compare with ``constant_time.bytes_eq``.

    Args:
      suite: the cipher suite.
      secret: the handshake traffic secret of who sends the Finished.
      transcript_hash: of all messages before the Finished.
    """
    finished_key = secret.expand(suite.hash, b"finished", b"", suite.hash_length)
    return _hmac(suite.hash, finished_key, transcript_hash)


def resumption_psk(suite: CipherSuite, resumption_secret: Secret, nonce: bytes) -> bytes:
    """The PSK that goes with a ticket (section 4.7.1).

    Args:
      suite: the cipher suite of the connection that the ticket comes from.
      resumption_secret: `KeySchedule.resumption_secret`.
      nonce: the ticket_nonce.
    """
    return resumption_secret.expand(suite.hash, b"resumption", nonce, suite.hash_length)


def export_keying_material(
    suite: CipherSuite, exporter_secret: Secret, label: bytes, context: bytes, length: int
) -> bytes:
    """TLS-Exporter of section 7.5: a secret for the application, of any length up to 255 hashes.

    Args:
      suite: the cipher suite.
      exporter_secret: `KeySchedule.exporter`.
      label: such as ``b"EXPORTER-Channel-Binding"``.
      context: ``b""`` and no context are the same here.
      length: bytes wanted.

    Raises:
      ValueError: the label is empty or too long, or the length is out of range.
    """
    algorithm = suite.hash
    secret = derive_secret(algorithm, exporter_secret.value, label, suite.empty_hash)
    return expand_label(algorithm, secret, b"exporter", hash_of(algorithm, context), length)
