"""The cipher suites: an AEAD and a hash each (RFC 9846 section B.4).

How this works. `SUITES` is the whole choice, in the order that we prefer. The CCM suites of the standard are left
out: they are for devices whose hardware has nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from .registry import CipherSuiteNumber
from .transcript import hash_of

__all__ = ["SUITES", "CipherSuite"]

#: AES-GCM: "up to 2^24.5 full-size records ... may be encrypted under a given set of keys" (section 5.5).
GCM_RECORDS = 2**24

#: "For ChaCha20/Poly1305, the record sequence number would wrap before the safety limit is reached."
ALL_RECORDS = 2**64 - 1


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """One cipher suite.

    Attributes:
      number: its number on the wire.
      name: as the RFC and OpenSSL write it, such as ``"TLS_AES_128_GCM_SHA256"``.
      hash: the hash of the transcript and of HKDF.
      hash_length: bytes of that hash, which are also the bytes of every secret.
      empty_hash: the hash of nothing, which is the context of some secrets.
      key_length: bytes of a traffic key.
      aead: the AEAD; its nonces have 12 bytes and its tags 16.
      record_limit: how many records may be protected under one key, before a KeyUpdate is due (section 5.5).
      secret_bits: the strength, as ``cipher()`` tells it.
    """

    number: CipherSuiteNumber
    name: str
    hash: hashes.HashAlgorithm
    hash_length: int
    empty_hash: bytes
    key_length: int
    aead: type[AESGCM] | type[ChaCha20Poly1305]
    record_limit: int
    secret_bits: int


def _suite(
    number: CipherSuiteNumber,
    algorithm: hashes.HashAlgorithm,
    key_length: int,
    aead: type[AESGCM] | type[ChaCha20Poly1305],
    record_limit: int,
) -> CipherSuite:
    return CipherSuite(
        number=number,
        name=number.name,
        hash=algorithm,
        hash_length=algorithm.digest_size,
        empty_hash=hash_of(algorithm, b""),
        key_length=key_length,
        aead=aead,
        record_limit=record_limit,
        secret_bits=8 * key_length,
    )


#: Every suite there is, by number, the preferred ones first.
SUITES: dict[int, CipherSuite] = {
    suite.number: suite
    for suite in (
        _suite(CipherSuiteNumber.TLS_AES_128_GCM_SHA256, hashes.SHA256(), 16, AESGCM, GCM_RECORDS),
        _suite(CipherSuiteNumber.TLS_AES_256_GCM_SHA384, hashes.SHA384(), 32, AESGCM, GCM_RECORDS),
        _suite(CipherSuiteNumber.TLS_CHACHA20_POLY1305_SHA256, hashes.SHA256(), 32, ChaCha20Poly1305, ALL_RECORDS),
    )
}
