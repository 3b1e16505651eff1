"""What a peer is, and the client and server that all asynchronous ones share.

How this works. `Peer` is one column of the table. `AsyncPeer` has the conversation of client and server as coroutines
that know of no event loop: a peer on Trio or on asyncio adds how connections are made, how tasks run together, and how
bytes are received. So all of them do the same, and differ in what is measured.
"""

from __future__ import annotations

import gc
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, ClassVar

from ..measurement import SUITE, Measurement, Settings, Stopwatch, UnfairError
from ..processes import PeakMemory, resident_memory
from ..workloads import Kind, Method, Request, Workload

__all__ = ["RECEIVE_SIZE", "Announce", "AsyncPeer", "Connection", "Peer", "check", "memory_of_both", "memory_of_each"]

#: The buffer of who receives into a buffer.
RECEIVE_SIZE = 256 * 1024

#: Connections of Method.HOLD that are opened before memory is looked at: they fill free lists and pools.
WARM = 20

#: Seconds between two ticks while a long send is under way.
TICK = 0.001

#: Tells the port that a server listens on, and its process.
Announce = Callable[[int, int], None]

#: A connection of whatever library.
Connection = Any


def check(suite: str, resumed: bool, wanted: Workload) -> None:
    """Look at what a handshake agreed on.

    Raises:
      UnfairError: it is not what all peers are to agree on.
    """
    if suite != SUITE:
        raise UnfairError(f"a connection uses {suite}, not {SUITE} as the others")
    if wanted.method is Method.CONNECT and resumed is not wanted.resumed:
        raise UnfairError(f"a handshake of {wanted.name} was {'a resumed' if resumed else 'a full'} one")


class Peer(ABC):
    """One column of the table.

    Args:
      settings: what all peers have in common.
    """

    #: What the chart says, and what stands above a column.
    title: ClassVar[str]
    short: ClassVar[str]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def can(cls, workload: Workload) -> bool:
        """Whether this peer has this workload."""
        return True

    @abstractmethod
    def serve(self, announce: Announce) -> None:
        """Listen on a port, announce it, and serve until KeyboardInterrupt."""

    @abstractmethod
    def measure(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        """Run ``count`` messages of a workload against the server on ``port``, whose process is ``server``.

        Raises:
          UnfairError: a connection was not what it was to be.
        """


class AsyncPeer(Peer):
    """The shared client and server."""

    # -- what each library adds ------------------------------------------------------------------------------

    @abstractmethod
    async def connect(self, port: int, *, resume: bool) -> Connection:
        """A new connection of a client; the handshake is done on return. ``resume``: with a session that was kept."""

    @abstractmethod
    async def together(self, *functions: Callable[[], Awaitable[None]]) -> None:
        """Run all of them at once."""

    @abstractmethod
    async def while_running(
        self, background: Callable[[], Awaitable[None]], main: Callable[[], Awaitable[None]]
    ) -> None:
        """Run ``main``; meanwhile ``background``, which began to wait before ``main`` started."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait."""

    @abstractmethod
    async def receive(self, connection: Connection, count: int) -> None:
        """Receive ``count`` bytes and forget them. Raises EOFError if the other end has gone."""

    @abstractmethod
    async def header(self, connection: Connection) -> bytes:
        """Receive the header of a request; ``b""`` at the end."""

    @abstractmethod
    def run(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Run the event loop until ``function`` returns."""

    def agreed(self, connection: Connection) -> tuple[str, bool]:
        """The cipher suite, and whether the session was resumed."""
        return SUITE, False

    def keep_session(self, connection: Connection) -> None:
        """Keep the session of a connection that has received something, for the next one."""

    # -- the server ------------------------------------------------------------------------------------------

    async def converse(self, connection: Connection) -> None:
        """Answer requests until the client has gone."""
        while header := await self.header(connection):
            await self._answer(connection, Request.decode(header))

    async def _answer(self, connection: Connection, request: Request) -> None:
        message = b"d" * request.size if request.kind is not Kind.UPLOAD else b""
        if request.kind is Kind.DOWNLOAD:
            for _ in range(request.count):
                await connection.send_all(message)
        elif request.kind is Kind.UPLOAD:
            await self.receive(connection, request.size * request.count)
            await connection.send_all(b"k")
        else:
            for _ in range(request.count):
                if request.kind is Kind.ECHO:
                    await self.receive(connection, request.size)
                await connection.send_all(message)

    # -- the client ------------------------------------------------------------------------------------------

    def measure(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        """As `Peer.measure`."""
        method = {
            Method.EXCHANGE: self._measure_exchange,
            Method.CONNECT: self._measure_connects,
            Method.LONG_SEND: self._measure_long_send,
            Method.HOLD: self._measure_memory,
            Method.WIRE: self._measure_connects,
        }[workload.method]
        measurement: Measurement = self.run(method, workload, count, port, server)
        return measurement

    async def _measure_exchange(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        connections = [await self.connect(port, resume=False) for _ in range(workload.concurrency)]
        check(*self.agreed(connections[0]), workload)
        each = max(1, count // workload.concurrency)
        message = b"u" * workload.size
        watch = Stopwatch(server)
        if len(connections) == 1:
            await self._exchange(connections[0], workload.kind, message, each)
        else:
            await self.together(*(self._bound(one, workload.kind, message, each) for one in connections))
        measurement = watch.read(each * workload.concurrency)
        for connection in connections:
            await connection.aclose()
        return measurement

    def _bound(self, connection: Connection, kind: Kind, message: bytes, count: int) -> Callable[[], Awaitable[None]]:
        return lambda: self._exchange(connection, kind, message, count)

    async def _exchange(self, connection: Connection, kind: Kind, message: bytes, count: int) -> None:
        await connection.send_all(Request(kind, len(message), count).encode())
        if kind is Kind.DOWNLOAD:
            await self.receive(connection, len(message) * count)
        elif kind is Kind.UPLOAD:
            for _ in range(count):
                await connection.send_all(message)
            await self.receive(connection, 1)
        else:
            for _ in range(count):
                await connection.send_all(message)
                await self.receive(connection, len(message))

    async def _measure_connects(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        left = 0

        async def hello(*, checked: bool) -> None:
            connection = await self.connect(port, resume=workload.resumed)
            await connection.send_all(Request(workload.kind, workload.size, 1).encode())
            await self.receive(connection, workload.size)
            if checked:
                check(*self.agreed(connection), workload)
            if workload.resumed:
                self.keep_session(connection)
            await connection.aclose()

        async def some() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await hello(checked=True)

        if workload.resumed:  # a session for each that will be under way
            await self.together(*[lambda: hello(checked=False)] * workload.concurrency)
        left = count
        watch = Stopwatch(server)
        if workload.concurrency == 1:
            await some()
        else:
            await self.together(*[some] * workload.concurrency)
        return watch.read(count)

    async def _measure_long_send(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        longest = longest_cpu = 0.0

        async def tick() -> None:
            nonlocal longest, longest_cpu
            before, before_cpu = time.perf_counter(), time.thread_time()
            while True:
                await self.sleep(TICK)
                now, now_cpu = time.perf_counter(), time.thread_time()
                longest = max(longest, now - before)
                longest_cpu = max(longest_cpu, now_cpu - before_cpu)
                before, before_cpu = now, now_cpu

        connection = await self.connect(port, resume=False)
        message = b"u" * workload.size
        await connection.send_all(Request(workload.kind, workload.size, count).encode())
        memory = PeakMemory()
        watch = Stopwatch(server)

        async def send() -> None:
            await connection.send_all(message)
            await self.receive(connection, 1)

        await self.while_running(tick, send)
        measurement = replace(watch.read(count), extra_rss=memory.extra(), stall=longest, stall_cpu=longest_cpu)
        await connection.aclose()
        return measurement

    async def _measure_memory(self, workload: Workload, count: int, port: int, server: int) -> Measurement:
        connections = []

        async def open_some(count: int) -> None:
            for _ in range(count):
                connection = await self.connect(port, resume=False)
                await connection.send_all(Request(workload.kind, workload.size, 1).encode())
                await self.receive(connection, workload.size)
                connections.append(connection)

        await open_some(WARM)
        before = memory_of_both(server)
        watch = Stopwatch(server)
        await open_some(count)
        measurement = watch.read(count)
        after = memory_of_both(server)
        for connection in connections:
            await connection.aclose()
        return replace(measurement, **memory_of_each(before, after, count))


def memory_of_both(server: int) -> tuple[int | None, int | None]:
    """The memory of this process and of the server's."""
    gc.collect()
    return resident_memory(os.getpid()), resident_memory(server)


def memory_of_each(
    before: tuple[int | None, int | None], after: tuple[int | None, int | None], count: int
) -> dict[str, Any]:
    """Fields of `Measurement`: what each of ``count`` connections took of either."""
    figures = {}
    for name, then, now in zip(("client_rss", "server_rss"), before, after, strict=True):
        if then is not None and now is not None:
            figures[name] = (now - then) / count
    return figures
