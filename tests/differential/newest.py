"""OpenSSL as the cryptography package brings it, years newer than the interpreter's: a machine on pyOpenSSL.

How this works. `NewestOpenSSL` has of a machine what a meeting with a peer by hand needs: two queues of ciphertext, and
steps that say what they want. What OpenSSL says when it refuses is told in its own words.
"""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL

from trio_tls.errors import PeerMisbehaved
from trio_tls.machine.bio import MemoryBIO
from trio_tls.machine.interface import Want

from ..support import HOST

__all__ = ["NewestOpenSSL", "version"]


def version() -> tuple[int, int]:
    """The version of OpenSSL: (major, minor)."""
    words = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode().split()
    major, minor, *_ = words[1].split(".")
    return int(major), int(minor)


class NewestOpenSSL:
    """One end of a connection.

    Args:
      context: of pyOpenSSL.
      server_side: which end.
    """

    def __init__(self, context: SSL.Context, *, server_side: bool) -> None:
        self.incoming, self.outgoing = MemoryBIO(), MemoryBIO()
        self.handshake_done = False
        self._connection = SSL.Connection(context)
        if server_side:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
            self._connection.set_tlsext_host_name(HOST.encode())
        self._failure: PeerMisbehaved | None = None

    def do_handshake(self) -> Want | None:
        """As `trio_tls.machine.interface.Machine.do_handshake`."""
        if not self.handshake_done:
            if self._step(self._connection.do_handshake) is Want.READ:
                return Want.READ
            self.handshake_done = True
        return None

    def read_into(self, buffer: memoryview) -> int | Want:
        """As `trio_tls.machine.interface.Machine.read_into`."""

        def read() -> None:
            data = self._connection.recv(len(buffer))
            buffer[: len(data)] = data
            counts.append(len(data))

        counts: list[int] = []
        return self._step(read) or counts[0]

    def _step(self, step: Callable[[], None]) -> Want | None:
        if self._failure is not None:
            raise self._failure.again()
        if self.incoming.pending:
            self._connection.bio_write(self.incoming.read())
        try:
            step()
        except SSL.WantReadError:
            return Want.READ
        except (SSL.Error, SSL.SysCallError) as error:
            self._failure = PeerMisbehaved(f"OpenSSL says {error}", hint="None")
            raise self._failure from error
        finally:
            self._drain()
        return None

    def _drain(self) -> None:
        try:
            while True:
                self.outgoing.write(self._connection.bio_read(2**16))
        except SSL.WantReadError:
            return
