"""The transcript hash (RFC 9846 section 4.1): a running hash of all handshake messages.

How this works. Which hash it is turns out with the cipher suite, after the first message. Until `Transcript.choose`
the messages are kept; from then on they only run through the hash, whose digest can be taken at any time.

The hashes that TLS 1.3 runs all the time are those of `hashlib`: they cost a fraction of the calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes

from .registry import HandshakeType

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["DIGESTS", "Transcript", "hash_of"]

#: The hashes of the cipher suites, by the names that `cryptography` and `hashlib` both have for them.
DIGESTS: dict[str, Callable[[bytes], _Hash]] = {"sha256": hashlib.sha256, "sha384": hashlib.sha384}


def hash_of(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    """The digest of ``data``."""
    running = hashes.Hash(algorithm)
    running.update(data)
    return running.finalize()


class Transcript:
    """All handshake messages so far, sent and received, each with its 4-byte header."""

    __slots__ = ("_messages", "_running")

    def __init__(self) -> None:
        self._messages = b""
        self._running: _Hash | None = None

    def add(self, message: bytes) -> None:
        """Append one message, or several."""
        if self._running is None:
            self._messages += message
        else:
            self._running.update(message)

    def choose(self, algorithm: hashes.HashAlgorithm) -> None:
        """Settle the hash: that of the cipher suite. A second choice has to be the same, as after a HelloRetryRequest.

        Raises:
          RuntimeError: another hash was chosen before.
        """
        if self._running is None:
            self._running = DIGESTS[algorithm.name](self._messages)
            self._messages = b""
        elif self._running.name != algorithm.name:
            raise RuntimeError(f"the transcript runs with {self._running.name}, not {algorithm.name}")

    def digest(self) -> bytes:
        """The hash of all messages so far."""
        if self._running is None:
            raise _not_chosen()
        return self._running.digest()

    def digest_with(self, extra: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """The hash of all messages so far and ``extra``, which is not added: for a binder.

        Args:
          extra: the truncated ClientHello.
          algorithm: the PSK's hash. A client's first ClientHello comes before any choice, so that it is needed
            there. After the choice it has to be the same one: a PSK with another hash is of no use any more.

        Raises:
          RuntimeError: the hash is not known, or was chosen and is another one.
        """
        if self._running is None and algorithm is not None:
            return DIGESTS[algorithm.name](self._messages + extra).digest()
        fork = self._chosen().copy()
        if algorithm is not None and fork.name != algorithm.name:
            raise RuntimeError(f"the transcript runs with {fork.name}, not {algorithm.name}")
        fork.update(extra)
        return fork.digest()

    def replace_by_message_hash(self) -> None:
        """Put Hash(ClientHello1) in the place of ClientHello1, before the HelloRetryRequest is added.

            Hash(message_hash ||        /* Handshake type */
                 00 00 Hash.length  ||  /* Handshake message length (bytes) */
                 Hash(ClientHello1) ||  /* Hash of ClientHello1 */
                 HelloRetryRequest  || ... || Mn)

        With the negotiated hash, even where a PSK that is offered has another one.
        """
        running = self._chosen()
        digest = running.digest()
        self._running = DIGESTS[running.name](bytes((HandshakeType.message_hash, 0, 0, len(digest))) + digest)

    def _chosen(self) -> _Hash:
        if self._running is None:
            raise _not_chosen()
        return self._running


def _not_chosen() -> RuntimeError:
    return RuntimeError("the transcript's hash is not chosen yet")
