"""The sending side of a `TLSStream`.

How this works. The machine *accepts* plaintext, which is a synchronous act and counted (`plaintext_sent`), and
the pump then *pushes* the ciphertext. A cancel before the first leaves nothing done; after it, what is queued
stays queued and leaves with whatever runs next. So only one thing can go wrong in a retry: to send again what was
accepted already. `send_some` returns the count, and `ResumableSend` keeps it for you.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from .core import Core, T_Stream
from .errors import TLSError

if TYPE_CHECKING:
    from typing import Any

__all__ = ["ResumableSend", "Sending"]


class Sending(Core[T_Stream]):
    """`TLSStream`'s methods that send."""

    @property
    def plaintext_sent(self) -> int:
        """Bytes of plaintext accepted since construction. After a cancelled `send_all` it tells how much was."""
        return self._pump.plaintext_sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send all of ``data``. ``send_all(b"")`` only flushes.

        Cancelled: a prefix was accepted; `plaintext_sent` tells how long it is, and sending the rest goes
        on from there. Receiving is never affected. `sender` does that sum for you.

        Raises:
          TLSError: the connection failed.
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this stream was closed, or its sending side was (`send_eof`, `unwrap`).
        """
        pump, outgoing, guard = self._pump, self._machine.outgoing, self._send_guard
        view = memoryview(data).cast("B")
        guard.enter()
        try:
            if self._settled and not self._eof_sent:
                await checkpoint_if_cancelled()
            else:
                await self._ready_to_send()
            position, size, slept = 0, len(view), False
            while True:
                accepted = pump.accept_nowait(view[position:] if position else view)
                position += accepted
                pump.push_nowait()
                if outgoing.pending:
                    await pump.push()
                elif position == size:
                    break
                elif accepted:
                    await checkpoint()  # a long send to a fast reader must not hold up other tasks
                else:
                    position += await pump.accept(view[position:])
                slept = True
            if not slept:
                await cancel_shielded_checkpoint()
        except trio.Cancelled:
            pump.hand_over()
            raise
        except TLSError:
            await pump.leave_with_alert()
            raise
        finally:
            guard.busy = False
            view.release()  # a bytearray can be resized again

    async def send_some(self, data: bytes | bytearray | memoryview) -> int:
        """Send a prefix of ``data``, and say how many bytes that was; at least one, unless ``data`` is empty.

        Cancelled while it waits for room: nothing of ``data`` was accepted. Once some was accepted, a cancel
        no longer raises here: the count is returned, and the scope raises at the next checkpoint. So a
        returned count is the whole truth, always.

        Raises: as `send_all`.
        """
        with self._send_guard, memoryview(data).cast("B") as view:
            if self._settled and not self._eof_sent:
                await checkpoint_if_cancelled()
            else:
                await self._ready_to_send()
            if not len(view):
                await self._push_all()
                return 0
            try:
                count = self._pump.accept_nowait(view) or await self._pump.accept(view)
            except trio.Cancelled:
                self._pump.hand_over()
                raise
            except TLSError:
                await self._pump.leave_with_alert()
                raise
            try:
                await self._push_all()
            except trio.Cancelled:
                pass  # the count must not be lost; what is queued leaves with whatever runs next
            return count

    def send_nowait(self, data: bytes | bytearray | memoryview) -> int:
        """Send a prefix of ``data`` without waiting, and say how many bytes were accepted.

        Some may still be queued in the stream: they leave with whatever runs next, a receive or `flush`.

        Raises:
          trio.WouldBlock: there is no room now.
          NeedHandshakeError: the handshake is not done.
          TLSError: as `send_all`.
        """
        with self._send_guard, memoryview(data).cast("B") as view:
            self._check_open(sending=True)
            if not self._machine.handshake_done:
                raise trio.NeedHandshakeError("call do_handshake() before calling 'send_nowait'")
            if not self._pump.sender.counts:
                raise trio.WouldBlock  # this transport can only be awaited
            count = self._pump.accept_nowait(view)
            self._pump.push_nowait()
            self._pump.hand_over()
            if not count and len(view):
                raise trio.WouldBlock
            return count

    def sender(self, data: bytes | bytearray | memoryview) -> ResumableSend:
        """A send that keeps its own position: after a cancel, call its ``send()`` again."""
        return ResumableSend(self, data)

    async def flush(self) -> None:
        """Send what is queued: what a cancel left, session tickets, KeyUpdate replies.

        Cancelled: nothing is lost; call it again.
        """
        await self.send_all(b"")

    async def update_keys(self, *, request_update: bool = False) -> None:
        """Change the key that we send with (KeyUpdate, RFC 9846 section 4.7.3), and flush.

        Nobody needs to: it happens by itself long before a key is worn out. A peer's KeyUpdate is answered by itself.

        Args:
          request_update: ask the peer to change its key too.

        Cancelled: the key was changed or not; what is queued leaves with whatever runs next.

        Raises:
          ValueError: this stream runs on an `ssl.SSLContext`, which cannot.
          TLSError: as `send_all`.
        """
        with self._send_guard:
            await self._ready_to_send()
            self._machine.update_keys(request_update=request_update)
            await self._push_all()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send might not block. Starts no handshake.

        Cancelled: nothing has happened; call it again.
        """
        with self._send_guard:
            await self._check_usable(sending=True)
            await self._pump.wait_send_all_might_not_block()

    async def _ready_to_send(self) -> None:
        await self._check_usable(sending=True)
        await checkpoint_if_cancelled()
        if not self._machine.handshake_done:
            # Our last flight need not leave first: it goes out together with the data.
            await self._pump.handshake(finish=False)
        self._check_open(sending=True)

    async def _push_all(self) -> None:
        """Push until nothing is queued: one checkpoint at least."""
        self._pump.push_nowait()
        if not self._machine.outgoing.pending:
            await cancel_shielded_checkpoint()
            return
        try:
            while self._machine.outgoing.pending:
                await self._pump.push()
        except trio.Cancelled:
            self._pump.hand_over()
            raise


class ResumableSend:
    """Data on its way through a `TLSStream`, with its own position. Made by `TLSStream.sender`.

    ::

        sender = stream.sender(data)
        while True:
            with trio.move_on_after(5):
                await sender.send()
                break
            print(f"slow: {sender.position} of {len(data)} bytes accepted so far")
    """

    def __init__(self, stream: Sending[Any], data: bytes | bytearray | memoryview) -> None:
        self._stream = stream
        self._data = bytes(data)
        self.position: int = 0
        """Bytes accepted so far."""

    @property
    def remaining(self) -> int:
        """Bytes not accepted yet."""
        return len(self._data) - self.position

    async def send(self) -> None:
        """Send what is left of the data; returns once all of it has been handed to the transport.

        Cancelled: call it again. No byte is sent twice, and none is lost.

        Raises: as `TLSStream.send_all`.
        """
        with memoryview(self._data) as view:
            before = self._stream.plaintext_sent
            try:
                await self._stream.send_all(view[self.position :])
            finally:
                self.position += self._stream.plaintext_sent - before
