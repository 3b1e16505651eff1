"""``trio-tls demo``: the promise of this library, kept before your eyes.

How this works. A client, a relay and a server talk over real TCP sockets on loopback, with small buffers so that
sends block. While a handshake is under way the relay passes on the server's flight in small pieces, with a
pause after each: a server that stalls. Every piece is a point where the client waits, and so a point where it
can be cancelled; `trio_tls.testing.Interrupter` cancels it exactly there, and calls again.

Then both ends send and receive at the same time, and every send and receive is cancelled until it gets through.
Each end knows what the other one sends, and compares every byte.

Our own machine speaks TLS 1.3, at once and after a HelloRetryRequest; with ``--openssl`` the interpreter's OpenSSL
speaks TLS 1.3 and 1.2.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import itertools
import operator
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import trio

from ..config import ClientConfig, ServerConfig
from ..errors import TLSError
from ..listener import TLSListener
from ..machine.tls13.registry import NamedGroup
from ..stream import TLSStream
from ..testing import CancelMode, Interrupter
from ..trust import PrivatePolicy, TrustAnchors, Verifier
from .certificates import Authority
from .console import Console, Growing, OutputClosed

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = ["run"]

#: Send and receive buffers of every socket, in bytes.
BUFFER = 16 * 1024

#: The pieces in which the relay passes on the server's flight, in bytes, and the pause after each, in seconds.
STALL_PIECE = 64
STALL_PAUSE = 0.001

#: Bytes each way: to try out a connection whose handshake was cancelled, and on the connection for the data.
FEW = 2 * 1024
MANY = 4 * 1024 * 1024

#: Bytes in which a client says how many it wants.
HEADER = 8

#: Bytes that are one send.
MESSAGE = 32 * 1024

#: Seconds after which something hangs.
PATIENCE = 60


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration; the exit status."""
    console = Console()
    try:
        # Ctrl-C arrives at the main task's waits, where it harms nothing.
        play = OpenSSL() if arguments.openssl else OurOwn()
        figures = trio.run(demonstrate, console, play, restrict_keyboard_interrupt_to_checkpoints=True)
    except Exception as error:
        leaves = list(_leaves(error))
        if any(isinstance(leaf, OutputClosed) for leaf in leaves):
            raise
        console.say()
        for leaf in leaves:
            console.say(console.bad(f"It did not hold: {type(leaf).__name__}: {leaf}"))
        return 1
    held = figures.hold
    verdict = console.good("Everything held:") if held else console.bad("It did not hold:")
    console.say(f"\n{verdict} {figures}")
    return 0 if held else 1


class BytesDiffer(Exception):
    """What arrived is not what was sent."""


@dataclass(slots=True)
class Figures:
    """What the closing line tells."""

    handshakes_cancelled: int = 0
    sends_cancelled: int = 0
    receives_cancelled: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    mismatches: int = 0
    seconds: float = 0.0

    @property
    def hold(self) -> bool:
        """Whether something was shown, and nothing was lost."""
        shown = self.handshakes_cancelled and self.sends_cancelled and self.receives_cancelled
        return bool(shown) and not self.mismatches and self.bytes_to_server == self.bytes_to_client

    def __str__(self) -> str:
        """The closing line."""
        each_way = f"bytes each way {self.bytes_to_server:,}"
        if self.bytes_to_server != self.bytes_to_client:
            each_way = f"bytes to the server {self.bytes_to_server:,}, to the client {self.bytes_to_client:,}"
        return (
            f"handshake cancels survived {self.handshakes_cancelled:,}, sends cancelled {self.sends_cancelled:,}, "
            f"receives cancelled {self.receives_cancelled:,}, {each_way}, mismatches {self.mismatches:,}, "
            f"{self.seconds:.1f} seconds"
        )


class OurOwn:
    """The demonstration on our own machine.

    Attributes:
      authority: the throw-away CA.
      machine: who speaks TLS, in words.
    """

    machine = "trio_tls's own machine"

    def __init__(self) -> None:
        self.authority: Authority = Authority()

    def server(self) -> ServerConfig:
        """The server's configuration."""
        return ServerConfig(credentials=self.authority.issue("127.0.0.1").credential)

    def clients(self) -> Iterator[tuple[str, ClientConfig]]:
        """The client's, a chapter each. Without a session cache, so that each handshake is a full one."""
        verifier = Verifier(TrustAnchors.from_pem(self.authority.pem), PrivatePolicy())
        yield "TLS 1.3", ClientConfig(verify=verifier, session_cache=None)
        # The server prefers a group that this client sends no share of, so it has to ask.
        shares = [NamedGroup.x25519]
        retried = ClientConfig(verify=verifier, session_cache=None, key_shares=shares)
        yield "TLS 1.3, after a HelloRetryRequest", retried


class OpenSSL:
    """The demonstration on the interpreter's OpenSSL; see `OurOwn`."""

    machine = "the interpreter's OpenSSL"

    def __init__(self) -> None:
        self.authority: Authority = Authority()

    def server(self) -> ssl.SSLContext:
        """The server's context."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue("127.0.0.1").load_into(context)
        return context

    def clients(self) -> Iterator[tuple[str, ssl.SSLContext]]:
        """The client's contexts, a chapter each."""
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            context = ssl.create_default_context(cadata=self.authority.pem)
            context.minimum_version = context.maximum_version = version
            yield f"TLS {version.name[-3:].replace('_', '.')}", context


async def demonstrate(console: Console, play: OurOwn | OpenSSL) -> Figures:
    """The whole story; its figures."""
    began = time.perf_counter()
    figures = Figures()
    server = Server(play.server(), figures)
    with trio.move_on_after(PATIENCE) as patience:
        async with trio.open_nursery() as nursery:
            address = await nursery.start(server.serve)
            relay = Relay(address)
            relay_address = await nursery.start(relay.serve)
            console.say(console.bold("trio-tls demo: a TLS connection that survives every cancel"))
            console.say(
                f"A throw-away CA, a server on {address[0]}:{address[1]}, and before it a relay that stalls:\n"
                f"what the server sends in a handshake comes {STALL_PIECE} bytes at a time, with pauses.\n"
                f"TLS is spoken by {play.machine}, on both ends."
            )
            for title, config in play.clients():
                console.say(console.bold(f"\n{title}"))
                chapter = Chapter(console, relay, relay_address, config, figures, server.done)
                await chapter.cancel_once_at_every_step()
                await chapter.cancel_again_and_again()
            console.say(console.bold("\nThe same with trio.SSLStream, for comparison"))
            await compare_with_trio(console, relay, relay_address, play.authority)
            nursery.cancel_scope.cancel()
    if patience.cancelled_caught:
        raise trio.TooSlowError(f"not done after {PATIENCE} seconds: something hangs")
    figures.seconds = time.perf_counter() - began
    return figures


class Chapter:
    """The client's part of the story, for one configuration."""

    def __init__(
        self,
        console: Console,
        relay: Relay,
        address: tuple[str, int],
        config: ssl.SSLContext | ClientConfig,
        figures: Figures,
        server_is_done: Callable[[], Awaitable[None]],
    ) -> None:
        self.console = console
        self.relay = relay
        self.address = address
        self.config = config
        self.figures = figures
        self.server_is_done = server_is_done

    async def cancel_once_at_every_step(self) -> None:
        """A new connection for each step at which the handshake can be cancelled."""
        self.console.say("  New connections; the handshake cancelled at one step after the other:")
        steps = Growing(self.console, "    ")
        steps.add("cancelled before it began, then at step")
        cancelled = 0
        for step in itertools.count():  # 0: the scope was cancelled before the call
            interrupter = Interrupter(CancelMode.BLOCKED, step) if step else Interrupter(CancelMode.ALREADY)
            async with await self._connect() as stream:
                await interrupter.call(stream.do_handshake)
                await self._converse(stream, FEW)
            if not interrupter.fired:
                break
            if interrupter.cancelled and step:
                steps.add(str(step))
            cancelled += interrupter.cancelled
        steps.end()
        self.figures.handshakes_cancelled += cancelled
        self._held(f"{cancelled} cancels; each handshake went on from there, each connection was sound")

    async def cancel_again_and_again(self) -> None:
        """One connection whose handshake is cancelled until it completes, and then carries the data."""
        self.console.say("  One connection; the handshake cancelled every time, each time a step later:")
        interrupter = Interrupter(CancelMode.STORM)
        async with await self._connect() as stream:
            await interrupter.call(stream.do_handshake)
            self.figures.handshakes_cancelled += interrupter.cancelled
            self._held(f"{interrupter.cancelled} cancels; call {interrupter.calls} completed it: {_agreed(stream)}")
            await self._exchange_data(stream)

    async def _exchange_data(self, stream: TLSStream[trio.SocketStream]) -> None:
        self.console.say(f"  On that connection {MANY >> 20} MiB each way, both ends cancelling sends and receives:")
        sends, receives = self.figures.sends_cancelled, self.figures.receives_cancelled
        quarters = Growing(self.console, "    ")
        shown = 0

        def progress(received: int) -> None:
            nonlocal shown
            while shown < received * 4 // MANY:
                shown += 1
                quarters.add(f"{shown * 25}%")

        await self._converse(stream, MANY, progress)
        quarters.end()
        sends, receives = self.figures.sends_cancelled - sends, self.figures.receives_cancelled - receives
        self._held(f"{sends:,} sends and {receives:,} receives cancelled; every byte came once, and in order")

    async def _connect(self) -> TLSStream[trio.SocketStream]:
        self.relay.stalls = True
        return TLSStream(await connect(self.address), self.config, server_hostname=self.address[0])

    async def _converse(
        self,
        stream: TLSStream[trio.SocketStream],
        count: int,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Ask the server for ``count`` bytes and give it as many."""
        self.relay.stalls = False
        mismatches = self.figures.mismatches
        await stream.send_all(count.to_bytes(HEADER, "big"))
        self.figures.bytes_to_client += await converse(
            stream, bytes_to_server(count), bytes_to_client(count), self.figures, progress
        )
        await self.server_is_done()
        if self.figures.mismatches > mismatches:
            raise BytesDiffer(f"{self.figures.mismatches - mismatches} bytes were lost, doubled or altered")

    def _held(self, text: str) -> None:
        self.console.say(f"    {self.console.good('ok')}: {text}")


async def compare_with_trio(console: Console, relay: Relay, address: tuple[str, int], authority: Authority) -> None:
    """The same cancel, on the stream that this library is for those who need more than."""
    step = 2
    relay.stalls = True
    context = ssl.create_default_context(cadata=authority.pem)
    stream = trio.SSLStream(await connect(address), context, server_hostname=address[0])
    try:
        await Interrupter(CancelMode.BLOCKED, step).call(stream.do_handshake)
    except trio.BrokenResourceError:
        outcome = "BrokenResourceError"
    else:
        outcome = "went on"
    finally:
        await trio.aclose_forcefully(stream)
    console.say(f"  The handshake, cancelled at step {step} and called again: {outcome}")


class Server:
    """A TLS server that holds the same conversation with every client."""

    def __init__(self, config: ssl.SSLContext | ServerConfig, figures: Figures) -> None:
        self._config = config
        self._figures = figures
        self._is_done, self._done = trio.open_memory_channel[None](1)

    async def done(self) -> None:
        """Wait until the server's end of one conversation is over, and counted."""
        await self._done.receive()

    async def serve(self, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        """Serve; starts with the address."""
        listener, address = await listen()
        task_status.started(address)
        await trio.serve_listeners(self._handle, [TLSListener(listener, self._config)])

    async def _handle(self, stream: TLSStream[trio.SocketStream]) -> None:
        async with stream:
            try:
                await stream.do_handshake()
            except TLSError:
                return  # the client tells
            header = bytearray()
            while len(header) < HEADER:
                header += await stream.receive_some(HEADER - len(header))
            count = int.from_bytes(header, "big")
            self._figures.bytes_to_server += await converse(
                stream, bytes_to_client(count), bytes_to_server(count), self._figures
            )
            self._is_done.send_nowait(None)


class Relay:
    """Passes bytes on between clients and the server.

    Attributes:
      stalls: whether what the server sends goes on in small pieces, with pauses.
    """

    def __init__(self, server_address: tuple[str, int]) -> None:
        self.stalls = False
        self._server_address = server_address

    async def serve(self, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        """Relay; starts with the address."""
        listener, address = await listen()
        task_status.started(address)
        await trio.serve_listeners(self._handle, [listener])

    async def _handle(self, client: trio.SocketStream) -> None:
        async with await connect(self._server_address) as server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, client, server, False)
            nursery.start_soon(self._pass_on, server, client, True)

    async def _pass_on(self, source: trio.SocketStream, destination: trio.SocketStream, may_stall: bool) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # one end has gone first, as ends do
            while True:
                stalls = may_stall and self.stalls
                data = await source.receive_some(STALL_PIECE if stalls else BUFFER)
                if not data:
                    await destination.send_eof()
                    return
                await destination.send_all(data)
                if stalls:
                    await trio.sleep(STALL_PAUSE)


async def converse(
    stream: TLSStream[trio.SocketStream],
    outgoing: bytes,
    expected: bytes,
    figures: Figures,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Send ``outgoing`` while receiving ``expected``, cancelling both all along; how many bytes came."""
    received = 0

    async def send() -> None:
        interrupter = Interrupter(CancelMode.STORM)
        for start in range(0, len(outgoing), MESSAGE):
            sender = stream.sender(outgoing[start : start + MESSAGE])
            while not await interrupter.attempt(sender.send):
                pass  # the sender knows what was accepted
        figures.sends_cancelled += interrupter.cancelled
        await stream.send_eof()

    async def receive() -> None:
        nonlocal received
        interrupter = Interrupter(CancelMode.STORM)
        part = b""

        async def receive_some() -> None:
            nonlocal part
            part = await stream.receive_some()

        while True:
            while not await interrupter.attempt(receive_some):
                pass
            if not part:
                break
            wanted = expected[received : received + len(part)]
            if part != wanted:
                figures.mismatches += sum(map(operator.ne, part, wanted)) + len(part) - len(wanted)
            received += len(part)
            if progress is not None:
                progress(received)
        figures.mismatches += max(0, len(expected) - received)
        figures.receives_cancelled += interrupter.cancelled

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(receive)
    return received


@functools.cache
def bytes_to_server(count: int) -> bytes:
    """What the client sends; both ends know it."""
    return hashlib.shake_128(b"to the server").digest(count)


@functools.cache
def bytes_to_client(count: int) -> bytes:
    """What the server sends."""
    return hashlib.shake_128(b"to the client").digest(count)


async def connect(address: tuple[str, int]) -> trio.SocketStream:
    """A TCP connection with small buffers."""
    connecting = trio.socket.socket()
    try:
        _shrink(connecting)
        await connecting.connect(address)
    except BaseException:
        connecting.close()
        raise
    return trio.SocketStream(connecting)


async def listen() -> tuple[trio.SocketListener, tuple[str, int]]:
    """A TCP listener on loopback, whose connections have small buffers; and its address."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    _shrink(listener.socket)  # what it accepts inherits that
    host, port = listener.socket.getsockname()
    return listener, (host, port)


def _shrink(sized: trio.socket.SocketType) -> None:
    sized.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    sized.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


def _agreed(stream: TLSStream[trio.SocketStream]) -> str:
    info = stream.info
    if info is None:
        return "nothing agreed"
    return info.cipher_suite if info.group is None else f"{info.cipher_suite}, {info.group}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, at any depth."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
