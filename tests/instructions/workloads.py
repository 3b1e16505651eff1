"""The program that is counted: ``python -m tests.instructions.workloads DIRECTORY [TEXT]``.

How this works. Each workload warms up (modules are imported, the interpreter has specialized its code, caches are
full), then does its operation a fixed number of times. `mark` calls a function of the C library that nothing else
calls, on which callgrind writes down what it has counted since the last time. The names of these parts, in order, are
printed at the end.

What would make two runs differ is taken away: the order in which Trio runs its tasks is seeded, the garbage collector
is off, and the hash seed is fixed by who starts this. The keys of a handshake are random as ever; what that changes is
far below the tolerance.

Run by itself, it takes a second and prints the same.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from trio_tls import (
    ClientConfig,
    Credential,
    NamedGroup,
    PrivatePolicy,
    ServerConfig,
    SessionCache,
    TLSStream,
    TrustAnchors,
    Verifier,
)

HOST = "server.example.org"

#: What the socket buffers hold. Fixed, since it decides how often a bulk transfer has to wait.
SOCKET_BUFFER = 1 << 20


class Stack:
    """What makes the two ends of a connection."""

    def client(self, transport: trio.SocketStream, *, resume: bool) -> Any:
        """A client's stream; if ``resume``, it offers the session of the one before."""
        raise NotImplementedError

    def server(self, transport: trio.SocketStream) -> Any:
        """A server's stream."""
        raise NotImplementedError

    def finished(self, client: Any) -> bool:
        """Keep the session of a client that shall be resumed; whether it was itself resumed."""
        raise NotImplementedError


class Upstream(Stack):
    """trio.SSLStream: not ours, so it is what the counts of another environment are measured by."""

    def __init__(self, directory: Path) -> None:
        self.client_context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        self.server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server_context.load_cert_chain(directory / "server.pem")
        self.session: Any = None

    def client(self, transport: trio.SocketStream, *, resume: bool) -> Any:
        stream: Any = trio.SSLStream(transport, self.client_context, server_hostname=HOST)
        if resume and self.session is not None:
            stream.session = self.session
        return stream

    def server(self, transport: trio.SocketStream) -> Any:
        return trio.SSLStream(transport, self.server_context, server_side=True)

    def finished(self, client: Any) -> bool:
        self.session = client.session
        return bool(client.session_reused)


class OnContext(Upstream):
    """TLSStream on the same contexts."""

    def client(self, transport: trio.SocketStream, *, resume: bool) -> Any:
        session = self.session if resume else None
        return TLSStream(transport, self.client_context, server_hostname=HOST, session=session)

    def server(self, transport: trio.SocketStream) -> Any:
        return TLSStream(transport, self.server_context, server_side=True)


class OnOwnMachine(Stack):
    """TLSStream on our own TLS 1.3, with the key exchange that OpenSSL 3.0 has by default."""

    def __init__(self, directory: Path) -> None:
        groups = (NamedGroup.x25519,)
        verifier = Verifier(TrustAnchors.from_files(directory / "ca.pem"), PrivatePolicy())
        self.full = ClientConfig(verify=verifier, groups=groups, session_cache=None)
        self.resuming = self.full.replace(session_cache=SessionCache())
        self.server_config = ServerConfig(credentials=Credential.from_files(directory / "server.pem"), groups=groups)

    def client(self, transport: trio.SocketStream, *, resume: bool) -> Any:
        return TLSStream(transport, self.resuming if resume else self.full, server_hostname=HOST)

    def server(self, transport: trio.SocketStream) -> Any:
        return TLSStream(transport, self.server_config)

    def finished(self, client: Any) -> bool:
        return bool(client.session_reused)  # the cache of the configuration has the session


#: The stack that is not ours, and that others can be measured by.
REFERENCE = "trio"

STACKS: dict[str, Callable[[Path], Stack]] = {REFERENCE: Upstream, "ssl": OnContext, "own": OnOwnMachine}


def mark(part: str) -> None:
    """End a part of the program: callgrind was told to write down its counts when this function is called."""
    PARTS.append(part)
    os.getpgrp()


PARTS: list[str] = []


def transports() -> tuple[trio.SocketStream, trio.SocketStream]:
    """A pair of connected sockets."""
    pair = socket.socketpair()
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    a, b = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in pair)
    return a, b


async def receive(connection: Any, count: int) -> None:
    """Receive ``count`` bytes and forget them."""
    while count > 0:
        data = await connection.receive_some()
        if not data:
            raise EOFError("the other end has gone")
        count -= len(data)


@dataclass(frozen=True)
class Workload:
    """One line of the baseline.

    Attributes:
      times: how many operations are counted; as many warm up before.
      run: given the stack, how often, and what to call between warming up and the operations that count.
    """

    times: int
    run: Callable[[Stack, int, Callable[[], None]], Awaitable[None]]


async def connections(stack: Stack, times: int, start: Callable[[], None], *, resume: bool) -> None:
    """An operation: both ends of a handshake, a byte from the server (its tickets come before it), and both closed."""
    for number in range(2 * times):
        if number == times:
            start()
        a, b = transports()
        client, server = stack.client(a, resume=resume), stack.server(b)

        async def serve(server: Any = server) -> None:
            await server.send_all(b"k")
            await server.receive_some()
            await server.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await receive(client, 1)
            resumed = stack.finished(client)
            await client.aclose()
        if number >= times and resumed != resume:
            raise RuntimeError(f"handshake {number} was{'' if resumed else ' not'} resumed")


async def exchange(stack: Stack, times: int, start: Callable[[], None], *, size: int, echo: bool) -> None:
    """An operation: the client sends ``size`` bytes; with ``echo``, so does the server, in answer."""
    a, b = transports()
    client, server = stack.client(a, resume=False), stack.server(b)
    message = bytes(size)

    async def serve() -> None:
        for _ in range(2):
            for _ in range(times if echo else 1):
                await receive(server, size if echo else size * times)
                await server.send_all(message if echo else b"k")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        for count in range(2):
            if count:
                start()
            for _ in range(times):
                await client.send_all(message)
                if echo:
                    await receive(client, size)
            if not echo:
                await receive(client, 1)
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


WORKLOADS = {
    "full handshake": Workload(20, partial(connections, resume=False)),
    "resumed handshake": Workload(20, partial(connections, resume=True)),
    "bulk, writes of 16 KiB": Workload(128, partial(exchange, size=1 << 14, echo=False)),
    "bulk, writes of 256 KiB": Workload(16, partial(exchange, size=1 << 18, echo=False)),
    "ping-pong of 1 KiB": Workload(64, partial(exchange, size=1 << 10, echo=True)),
}


def main(directory: Path, only: str = "") -> None:
    """Do the work and print the names of its parts: all of it, or what has this text in its name, and its reference."""
    # Trio chooses at random which of two tasks that are ready runs first. For its own tests there is this generator.
    trio._core._run._r.seed(0)
    collecting = gc.isenabled()
    gc.disable()
    wanted = {title for name in STACKS for title in WORKLOADS if only in f"{name}: {title}"}
    for name, make in STACKS.items():
        stack = make(directory)
        for title, workload in WORKLOADS.items():
            if title not in wanted or (name != REFERENCE and only not in f"{name}: {title}"):
                continue
            trio.run(workload.run, stack, workload.times, partial(mark, ""))
            mark(f"{name}: {title}")
            gc.collect()
    if collecting:
        gc.enable()
    print(json.dumps(PARTS))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
