"""Tier 1: a ``trio.SocketStream``, spoken to through its socket.

How this works. ``SocketStream.send_all`` cannot tell how much it sent before it was cancelled; ``send(2)``
can. So both halves make plain nonblocking calls on the socket's file descriptor and wait with
``trio.lowlevel``: whatever a call moved is counted in the same breath, with no await in between.

The file descriptor stays the trio socket's own. A `BorrowedSocket` is a second `socket.socket` object on the
same descriptor, which never closes it, and which asks the trio socket before each call whether the descriptor
is still its.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio

from .base import Receiver, Sender
from .sleeping import sleepers

if TYPE_CHECKING:
    from ..machine.bio import MemoryBIO

__all__ = ["BorrowedSocket", "SocketReceiver", "SocketSender", "borrow"]

#: The least and the most that one receive asks for. It grows under load and shrinks again. Larger buffers
#: come straight from the kernel, and their page faults cost more than further receives do. The least is more than one
#: whole record, so that a message of 16 KiB comes in one piece.
LEAST_RECEIVE = 24 * 1024
MOST_RECEIVE = 128 * 1024

#: How often a receiver looks again before it sleeps, letting other tasks run each time. Where answers come within some
#: dozen microseconds, to be woken takes longer than the answer, and more processor time than a few looks.
LOOKS = 8

#: It does so while receives take no more seconds than this. After a round of looks in vain it does without for some
#: receives, and each time for more of them, up to so many: a peer further away is looked for once in so many receives.
SOON = 0.0005
MOST_WITHOUT = 63


class _Unowned(socket.socket):
    """A socket object that never closes its descriptor."""

    def __del__(self) -> None:
        self.detach()


class BorrowedSocket:
    """Nonblocking calls on the descriptor of a trio socket."""

    __slots__ = ("_descriptor", "_plain", "_trio_socket", "sent")

    def __init__(self, trio_socket: trio.socket.SocketType) -> None:
        self._trio_socket = trio_socket
        self._plain = _Unowned(trio_socket.family, trio_socket.type, trio_socket.proto, fileno=trio_socket.fileno())
        self._plain.setblocking(False)
        self._descriptor = self._plain.fileno()
        self.sent: bool = False
        """Whether anything was sent: before, what comes is no answer. Always, if that goes another way."""

    def get(self) -> socket.socket:
        """The socket to call, if its descriptor is still the one that was borrowed."""
        if self._trio_socket.fileno() != self._descriptor:
            raise trio.ClosedResourceError("the transport's socket was closed")
        return self._plain

    @property
    def did_shutdown_write(self) -> bool:
        return self._trio_socket.did_shutdown_SHUT_WR

    def shutdown_write(self) -> None:
        self._trio_socket.shutdown(socket.SHUT_WR)

    def interrupt(self) -> None:
        """Wake whoever waits for this descriptor; the waiter sees a ClosedResourceError."""
        if not self.closed:
            trio.lowlevel.notify_closing(self._plain)

    @property
    def closed(self) -> bool:
        return self._trio_socket.fileno() != self._descriptor


def borrow(stream: object) -> BorrowedSocket | None:
    """The socket below ``stream``, if it is exactly a SocketStream on a real socket."""
    if type(stream) is not trio.SocketStream:
        return None
    trio_socket = stream.socket
    if trio_socket.fileno() < 0:
        return None  # closed already: the generic tiers report it in trio's own words
    try:
        return BorrowedSocket(trio_socket)
    except (OSError, TypeError, ValueError):  # a socket of a custom factory, without a descriptor
        return None


class SocketSender(Sender):
    """Counted sends on a socket."""

    def __init__(self, borrowed: BorrowedSocket) -> None:
        self._borrowed = borrowed

    def send_nowait(self, outgoing: MemoryBIO) -> None:
        plain = self._borrowed.get()
        while outgoing.pending:
            view = outgoing.peek()
            try:
                sent = plain.send(view)
            except (BlockingIOError, InterruptedError):
                return
            except BrokenPipeError:
                if self._borrowed.did_shutdown_write:
                    raise trio.ClosedResourceError("can't send data after sending EOF") from None
                raise
            outgoing.consume(sent)
            self._borrowed.sent = True
            if sent < len(view):
                return

    async def send(self, outgoing: MemoryBIO, *, flight: bool) -> None:
        await self._wait_writable()
        self.send_nowait(outgoing)

    async def wait_send_all_might_not_block(self) -> None:
        await self._wait_writable()

    async def _wait_writable(self) -> None:
        plain = self._borrowed.get()
        try:
            await trio.lowlevel.wait_writable(plain)
        except trio.ClosedResourceError:
            if self._borrowed.closed:
                raise
            # interrupted: there is something new to look at

    def interrupt(self) -> None:
        self._borrowed.interrupt()

    def finish(self) -> bool:
        try:
            self._borrowed.get()
            self._borrowed.shutdown_write()
        except (OSError, trio.ClosedResourceError):
            return False
        return True


class SocketReceiver(Receiver):
    """Receives straight into the incoming BIO.

    The BIO's memory is this connection's alone and is lent to the kernel for one system call, never across
    an await: while a connection waits, it holds no receive buffer.
    """

    def __init__(self, borrowed: BorrowedSocket) -> None:
        self._borrowed = borrowed
        self._size = LEAST_RECEIVE
        self._soon = False  # whether the last answer took no longer than that
        self._without_look = self._without_look_left = 0  # receives that do not: after the last miss, and still to come
        self._without_try = self._without_try_left = 0  # the same for trying the socket before any wait
        self._interrupts = 0

    def receive_nowait(self, incoming: MemoryBIO) -> bool:
        size = self._size
        try:
            data = self._borrowed.get().recv(size)
        except (BlockingIOError, InterruptedError):
            if not self.expects_to_wait:
                self.expects_to_wait: bool = True
                self._without_try = min(2 * self._without_try + 1, MOST_WITHOUT)
                self._without_try_left = self._without_try
            return False
        if not self.expects_to_wait:
            self._without_try = 0
        received = len(data)
        if not received:
            incoming.write_eof()
            return True
        incoming.write(data)
        if received == size:
            self.expects_to_wait = False
            self._size = min(2 * size, MOST_RECEIVE)
        elif received < size // 4:
            self._size = max(size // 2, LEAST_RECEIVE)
        return True

    async def receive(self, incoming: MemoryBIO) -> None:
        self._without_try_left -= 1
        began = trio.current_time()
        if not self._soon or not await self._look_again(incoming):
            plain = self._borrowed.get()
            try:
                if self.rest is not None:
                    sleepers.add(self, began, self.rest)
                await trio.lowlevel.wait_readable(plain)
            except trio.ClosedResourceError:
                return  # interrupted, or closed: whoever looks again finds out
            finally:
                sleepers.remove(self)
            self.receive_nowait(incoming)
        if self._without_try_left <= 0:
            self.expects_to_wait = False
        self._soon = self._borrowed.sent and trio.current_time() - began < SOON

    async def _look_again(self, incoming: MemoryBIO) -> bool:
        """Whether something came, or the wait was interrupted, within a few turns of the event loop."""
        if self._without_look_left:
            self._without_look_left -= 1
            return False
        interrupts = self._interrupts
        for _ in range(LOOKS):
            await trio.lowlevel.checkpoint()
            if self._interrupts != interrupts:
                return True
            if self.receive_nowait(incoming):
                self._without_look = 0
                return True
        self._without_look = min(2 * self._without_look + 1, MOST_WITHOUT)
        self._without_look_left = self._without_look
        return False

    def interrupt(self) -> None:
        self._interrupts += 1
        self._borrowed.interrupt()
