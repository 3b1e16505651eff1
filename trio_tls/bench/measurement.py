"""One measurement of one workload, and what all peers have in common for it."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from .processes import processor_time

__all__ = ["GROUP", "HOST", "SUITE", "Measurement", "SessionContext", "Settings", "Stopwatch", "UnfairError"]

T_Context = TypeVar("T_Context", bound=ssl.SSLContext)

HOST = "localhost"

#: What every handshake agrees on: OpenSSL's defaults, up to 3.4. Newer ones would take a hybrid group by default.
GROUP = "X25519"
SUITE = "TLS_AES_256_GCM_SHA384"


class UnfairError(Exception):
    """A connection was not what it was to be, so its figures would mislead."""


class SessionContext(ssl.SSLContext):
    """A context whose connections resume `session`, whoever makes them.

    Neither asyncio nor anyio has an argument for it; all call ``wrap_bio``.
    """

    session: ssl.SSLSession | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As `ssl.SSLContext.wrap_bio`, with the session of this context by default."""
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session or self.session)


@dataclass(frozen=True)
class Settings:
    """What all peers have in common.

    Attributes:
      directory: where ``ca.pem`` and ``server.pem`` lie.
      congestion: the congestion control algorithm of every socket, or ``""`` where it cannot be set.
    """

    directory: str
    congestion: str

    def client_context(self, kind: type[T_Context]) -> T_Context:
        """A context of a client, without a session so far."""
        context = kind(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path("ca.pem"))
        self._same(context)
        return context

    def server_context(self) -> ssl.SSLContext:
        """A context of a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("server.pem"))
        self._same(context)
        return context

    @staticmethod
    def _same(context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.set_ecdh_curve(GROUP)
        except ssl.SSLError:
            # Python 3.10 can name only curves of the older kind. OpenSSL begins with this one by itself, up to 3.4.
            if ssl.OPENSSL_VERSION_INFO >= (3, 5):
                raise

    def path(self, name: str) -> Path:
        """A file of this run."""
        return Path(self.directory) / name

    def new_socket(self) -> socket.socket:
        """A socket that is not connected yet, with what has to be the same on all of them."""
        # With the protocol named: asyncio turns Nagle's algorithm off only where it sees that this is TCP.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.congestion:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self.congestion.encode())
        return sock

    def listening(self) -> socket.socket:
        """A socket that listens on a port of loopback."""
        listener = self.new_socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        return listener


@dataclass(frozen=True)
class Measurement:
    """What one measurement of one workload has shown. None: not measured, or not told by the system.

    Attributes:
      count: how many messages or connections.
      seconds: how long they took.
      client_cpu: seconds of processor time of the client's process.
      server_cpu: the same of the server's.
      extra_rss: how far the client's resident memory rose above where it stood, in bytes.
      stall: the longest time between two ticks of a task that ticks every millisecond, in seconds.
      stall_cpu: the same in processor time of the thread, so without what other processes took.
      client_rss: bytes of the client's resident memory for each connection.
      server_rss: the same of the server's.
      sent: TCP segments with data from the client.
      received: the same from the server.
      round_trips: how often the client had to wait for the server.
    """

    count: int
    seconds: float
    client_cpu: float | None = None
    server_cpu: float | None = None
    extra_rss: int | None = None
    stall: float | None = None
    stall_cpu: float | None = None
    client_rss: float | None = None
    server_rss: float | None = None
    sent: int | None = None
    received: int | None = None
    round_trips: int | None = None

    def as_dict(self) -> dict[str, float]:
        """What was measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Stopwatch:
    """The time, and the processor time of both processes, from when it is made until it is read.

    Args:
      server: the process at the other end.
    """

    def __init__(self, server: int) -> None:
        self._server = server
        self._server_cpu = processor_time(server)
        self._client_cpu = time.process_time()
        self._start = time.perf_counter()

    def read(self, count: int) -> Measurement:
        """What it took for ``count`` messages."""
        seconds = time.perf_counter() - self._start
        client_cpu = time.process_time() - self._client_cpu
        server_cpu = processor_time(self._server)
        if self._server_cpu is None or server_cpu is None:
            return Measurement(count, seconds, client_cpu)
        return Measurement(count, seconds, client_cpu, server_cpu - self._server_cpu)
