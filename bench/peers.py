"""The peers: ways to move the same bytes.

How this works. The asynchronous peers share one client and one server, on Trio, and differ in what they wrap
around the `trio.SocketStream`. The blocking peer has a client and a server of its own: plain ``ssl`` with
``recv_into``, as fast as the standard library goes without an event loop.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import trio
import trio.testing

from trio_tls import TLSStream

from .workloads import Kind, Request, Workload

__all__ = ["PEERS", "Measurement", "Peer", "Settings"]

HOST = "localhost"
RECEIVE_SIZE = 256 * 1024


@dataclass(frozen=True)
class Settings:
    """What all peers have in common.

    Attributes:
      directory: where ``ca.pem`` and ``server.pem`` lie.
      congestion: the congestion control algorithm of every socket, or ``""`` where it cannot be set.
    """

    directory: str
    congestion: str

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(Path(self.directory) / "ca.pem"))

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(Path(self.directory) / "server.pem")
        return context

    def prepare(self, sock: Any) -> None:
        """Set what has to be the same on every socket, before it connects or listens."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.congestion:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self.congestion.encode())


@dataclass(frozen=True)
class Measurement:
    """One measurement of one workload.

    Attributes:
      extra_rss: how far the client's resident memory rose above where it stood, in MB; -1 if unknown.
      stall: the longest time between two ticks of a task that ticks every millisecond, in ms; 0 without a loop.
      stall_cpu: the same in CPU time of the thread, so without what other processes took.
    """

    seconds: float
    extra_rss: float = -1.0
    stall: float = 0.0
    stall_cpu: float = 0.0

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class Memory:
    """The peak of this process's resident memory, from now on."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._start = self._read("VmRSS")
        except OSError:
            self._start = math.nan

    def extra(self) -> float:
        """MB above the start at the peak; -1 if the system does not tell."""
        return -1.0 if math.isnan(self._start) else max(0.0, self._read("VmHWM") - self._start)

    @staticmethod
    def _read(field: str) -> float:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
        return math.nan


class Peer(ABC):
    """One column of the table."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def serve(self, announce: Callable[[int], None]) -> None:
        """Listen on a port, announce it, and serve until killed."""

    @abstractmethod
    def measure(self, workload: Workload, count: int, port: int) -> Measurement:
        """Run ``count`` messages of a workload against the server on ``port``."""


class Connection(Protocol):
    """What the shared client and server need of an asynchronous peer."""

    async def send_all(self, data: bytes) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray: ...

    async def aclose(self) -> None: ...


async def _receive(connection: Connection, count: int) -> None:
    """Receive ``count`` bytes and forget them."""
    while count > 0:
        data = await connection.receive_some()
        if not data:
            raise EOFError("the server has gone")
        count -= len(data)


class AsyncPeer(Peer):
    """The shared client and server, on Trio."""

    async def wrap_client(self, stream: trio.SocketStream) -> Connection:
        """Make a connection of a connected stream; the handshake is done on return."""
        return stream

    async def wrap_server(self, stream: trio.SocketStream) -> Connection:
        """Make a connection of an accepted stream; the handshake is done on return."""
        return stream

    def serve(self, announce: Callable[[int], None]) -> None:
        trio.run(self._serve, announce)

    async def _serve(self, announce: Callable[[int], None]) -> None:
        listener = trio.socket.socket()
        self.settings.prepare(listener)
        await listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        announce(listener.getsockname()[1])
        await trio.serve_listeners(self._handle, [trio.SocketListener(listener)])

    async def _handle(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, EOFError):
            connection = await self.wrap_server(stream)
            while header := await connection.receive_some(Request.LENGTH):
                while len(header) < Request.LENGTH:
                    header += await connection.receive_some(Request.LENGTH - len(header))
                await self._answer(connection, Request.decode(bytes(header)))
            await connection.aclose()

    @staticmethod
    async def _answer(connection: Connection, request: Request) -> None:
        message = b"d" * request.size if request.kind is not Kind.UPLOAD else b""
        if request.kind is Kind.DOWNLOAD:
            for _ in range(request.count):
                await connection.send_all(message)
        elif request.kind is Kind.UPLOAD:
            await _receive(connection, request.size * request.count)
            await connection.send_all(b"k")
        else:
            for number in range(request.count):
                if request.kind is Kind.ECHO or number:
                    await _receive(connection, request.size)
                await connection.send_all(message)

    def measure(self, workload: Workload, count: int, port: int) -> Measurement:
        return trio.run(self._measure, workload, count, port)

    async def _measure(self, workload: Workload, count: int, port: int) -> Measurement:
        if workload.connects:
            start = time.perf_counter()
            for _ in range(count):
                connection = await self._connect(port)
                await connection.send_all(Request(workload.kind, workload.size, 1).encode())
                await _receive(connection, workload.size)
                await connection.aclose()
            return Measurement(time.perf_counter() - start)
        connection = await self._connect(port)
        message = b"u" * workload.size
        header = Request(workload.kind, workload.size, count).encode()
        if workload.fixed:
            await connection.send_all(header)
            measurement = await self._measure_bulk(connection, message)
        else:
            start = time.perf_counter()
            await connection.send_all(header)
            await self._exchange(connection, workload.kind, message, count)
            measurement = Measurement(time.perf_counter() - start)
        await connection.aclose()
        return measurement

    @staticmethod
    async def _exchange(connection: Connection, kind: Kind, message: bytes, count: int) -> None:
        if kind is Kind.DOWNLOAD:
            await _receive(connection, len(message) * count)
        elif kind is Kind.UPLOAD:
            for _ in range(count):
                await connection.send_all(message)
            await _receive(connection, 1)
        else:
            for _ in range(count):
                await connection.send_all(message)
                await _receive(connection, len(message))

    @staticmethod
    async def _measure_bulk(connection: Connection, message: bytes) -> Measurement:
        longest = longest_cpu = 0.0

        async def tick() -> None:
            nonlocal longest, longest_cpu
            before, before_cpu = time.perf_counter(), time.thread_time()
            while True:
                await trio.sleep(0.001)
                now, now_cpu = time.perf_counter(), time.thread_time()
                longest = max(longest, now - before)
                longest_cpu = max(longest_cpu, now_cpu - before_cpu)
                before, before_cpu = now, now_cpu

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            await trio.testing.wait_all_tasks_blocked()
            memory = Memory()
            start = time.perf_counter()
            await connection.send_all(message)
            await _receive(connection, 1)
            seconds = time.perf_counter() - start
            nursery.cancel_scope.cancel()
        return Measurement(seconds, memory.extra(), longest * 1000, longest_cpu * 1000)

    async def _connect(self, port: int) -> Connection:
        sock = trio.socket.socket()
        self.settings.prepare(sock)
        await sock.connect(("127.0.0.1", port))
        return await self.wrap_client(trio.SocketStream(sock))


class TCP(AsyncPeer):
    """Plain TCP on Trio: what there is to lose."""


class TrioSSL(AsyncPeer):
    """``trio.SSLStream``: 1.00 by definition."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._client, self._server = settings.client_context(), settings.server_context()

    async def wrap_client(self, stream: trio.SocketStream) -> Connection:
        connection = trio.SSLStream(stream, self._client, server_hostname=HOST)
        await connection.do_handshake()
        return cast("Connection", connection)

    async def wrap_server(self, stream: trio.SocketStream) -> Connection:
        connection = trio.SSLStream(stream, self._server, server_side=True)
        await connection.do_handshake()
        return cast("Connection", connection)


class Ours(TrioSSL):
    """``trio_tls.TLSStream`` on the same ``ssl.SSLContext``."""

    async def wrap_client(self, stream: trio.SocketStream) -> Connection:
        connection = TLSStream(stream, self._client, server_hostname=HOST)
        await connection.do_handshake()
        return connection

    async def wrap_server(self, stream: trio.SocketStream) -> Connection:
        connection = TLSStream(stream, self._server, server_side=True)
        await connection.do_handshake()
        return connection


class Blocking(Peer):
    """``ssl.SSLSocket`` without an event loop: one connection at a time, ``recv_into`` one buffer."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._client, self._server = settings.client_context(), settings.server_context()
        self._buffer = memoryview(bytearray(RECEIVE_SIZE))

    def serve(self, announce: Callable[[int], None]) -> None:
        with socket.socket() as listener:
            self.settings.prepare(listener)
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            announce(listener.getsockname()[1])
            while True:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(OSError, EOFError):
                    self._handle(self._server.wrap_socket(sock, server_side=True))

    def _handle(self, connection: ssl.SSLSocket) -> None:
        with connection:
            while header := connection.recv(Request.LENGTH):
                while len(header) < Request.LENGTH:
                    header += connection.recv(Request.LENGTH - len(header))
                self._answer(connection, Request.decode(header))

    def _answer(self, connection: ssl.SSLSocket, request: Request) -> None:
        if request.kind is Kind.UPLOAD:
            self._receive(connection, request.size * request.count)
            connection.sendall(b"k")
            return
        message = b"d" * request.size
        for _ in range(request.count):
            if request.kind is Kind.ECHO:
                self._receive(connection, request.size)
            connection.sendall(message)

    def _receive(self, connection: ssl.SSLSocket, count: int) -> None:
        while count > 0:
            received = connection.recv_into(self._buffer)
            if not received:
                raise EOFError("the other end has gone")
            count -= received

    def _connect(self, port: int) -> ssl.SSLSocket:
        sock = socket.socket()
        self.settings.prepare(sock)
        sock.connect(("127.0.0.1", port))
        return self._client.wrap_socket(sock, server_hostname=HOST)

    def measure(self, workload: Workload, count: int, port: int) -> Measurement:
        if workload.connects:
            start = time.perf_counter()
            for _ in range(count):
                with self._connect(port) as connection:
                    connection.sendall(Request(workload.kind, workload.size, 1).encode())
                    self._receive(connection, workload.size)
            return Measurement(time.perf_counter() - start)
        message = b"u" * workload.size
        with self._connect(port) as connection:
            memory = Memory()
            start = time.perf_counter()
            connection.sendall(Request(workload.kind, workload.size, count).encode())
            if workload.kind is Kind.DOWNLOAD:
                self._receive(connection, workload.size * count)
            elif workload.kind is Kind.UPLOAD:
                for _ in range(count):
                    connection.sendall(message)
                self._receive(connection, 1)
            else:
                for _ in range(count):
                    connection.sendall(message)
                    self._receive(connection, workload.size)
            seconds = time.perf_counter() - start
            return Measurement(seconds, memory.extra() if workload.fixed else -1.0)


class AnyIO(TrioSSL):
    """anyio's ``TLSStream`` on its Trio backend; measured where anyio is installed."""

    async def wrap_client(self, stream: trio.SocketStream) -> Connection:
        return await self._wrap(stream, self._client, server_side=False)

    async def wrap_server(self, stream: trio.SocketStream) -> Connection:
        return await self._wrap(stream, self._server, server_side=True)

    @staticmethod
    async def _wrap(stream: trio.SocketStream, context: ssl.SSLContext, *, server_side: bool) -> Connection:
        from anyio._backends._trio import SocketStream  # the only way from a socket that exists
        from anyio.streams.tls import TLSStream as AnyIOStream

        wrapped = await AnyIOStream.wrap(
            SocketStream(stream.socket),
            server_side=server_side,
            hostname=None if server_side else HOST,
            ssl_context=context,
            standard_compatible=False,
        )
        return _AnyIOConnection(wrapped)


class _AnyIOConnection:
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.send_all = stream.send
        self.aclose = stream.aclose

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        import anyio

        try:
            return cast("bytes", await self._stream.receive(max_bytes or 65536))
        except anyio.EndOfStream:
            return b""


#: The columns, by the names that ``--peers`` takes.
PEERS: dict[str, type[Peer]] = {"trio": TrioSSL, "ours": Ours, "tcp": TCP, "blocking": Blocking}
if importlib.util.find_spec("anyio") is not None:
    PEERS["anyio"] = AnyIO
