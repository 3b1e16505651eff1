"""The receiving side of a `TLSStream`.

How this works. Plaintext comes out of the machine by a synchronous look (`Receiving._fill`). When the machine
wants ciphertext, one step is taken towards it, and then comes the next look. Nothing is taken out of the machine
before the last chance to be cancelled has passed, so a cancelled receive has lost nothing.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from .core import Core, T_Stream
from .errors import TLSError, UnexpectedEOF
from .machine.interface import Want

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Receiving"]

#: The most that one ``receive_some()`` returns.
MOST_RECEIVE = 256 * 1024


class _Scratch(threading.local):
    """Where plaintext lies between its decryption and its copy into the `bytes` that the caller gets.

    One for all streams of a thread: no await comes between the two. A fresh buffer for each receive would
    cost more than the decryption, in page faults.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(MOST_RECEIVE))


_scratch = _Scratch()


class Receiving(Core[T_Stream]):
    """`TLSStream`'s methods that receive."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive decrypted data: at least one byte, unless the peer has ended its side; then ``b""``.

        Returns what every record that is here holds, up to ``max_bytes``, and not one record at a time.

        Args:
          max_bytes: the most to return, at least 1. Default, and never more than: 256 KiB.

        Cancelled: nothing is lost. Sends are never affected.

        Raises:
          UnexpectedEOF: the transport ended without close_notify (and ``require_close_notify`` is set).
          TLSError: the connection failed.
          trio.BusyResourceError: another task is receiving.
          trio.ClosedResourceError: this stream was closed.
        """
        limit = MOST_RECEIVE if max_bytes is None else _receive_limit(max_bytes)
        pump, outgoing, guard = self._pump, self._machine.outgoing, self._receive_guard
        guard.enter()
        try:
            await checkpoint_if_cancelled()
            if not self._settled and not await self._ready_to_receive():
                return b""
            slept = False
            while True:
                data = self._take(limit)
                if isinstance(data, bytes):
                    break
                if data is Want.READ and pump.receiver.expects_to_wait and not outgoing.pending:
                    await pump.pull()  # the common case of `_receive_step`
                    slept = True
                else:
                    slept = await self._receive_step(data) or slept
            if not slept:
                await cancel_shielded_checkpoint()
            return data
        except TLSError:
            await self._pump.leave_with_alert()
            raise
        finally:
            guard.busy = False

    async def receive_some_into(self, buffer: Buffer) -> int:
        """As `receive_some`, into a writable buffer; returns how many bytes, 0 at the end.

        What lies in the buffer behind them may have been overwritten.

        Raises:
          ValueError: ``buffer`` is empty.
          TypeError: ``buffer`` is read-only.
        """
        with memoryview(buffer).cast("B") as view, self._receive_guard:
            if view.readonly:
                raise TypeError("receive_some_into() needs a writable buffer")
            if not len(view):
                raise ValueError("receive_some_into() needs a buffer of at least one byte")
            await checkpoint_if_cancelled()
            if not self._settled and not await self._ready_to_receive():
                return 0
            slept = False
            try:
                while True:
                    count = self._fill(view)
                    if not isinstance(count, Want):
                        break
                    slept = await self._receive_step(count) or slept
            except TLSError:
                await self._pump.leave_with_alert()
                raise
            if not slept:
                await cancel_shielded_checkpoint()
            return count

    def receive_nowait(self, max_bytes: int | None = None) -> bytes:
        """Receive what can be had without waiting; ``b""`` at the end.

        On a transport that can only be awaited, that is what has been received already.

        Raises:
          trio.WouldBlock: there is nothing now.
          NeedHandshakeError: the handshake is not done.
          TLSError: as `receive_some`.
        """
        limit = _receive_limit(max_bytes)
        with self._receive_guard:
            self._check_open(receiving=True)
            if not self._machine.handshake_done:
                raise trio.NeedHandshakeError("call do_handshake() before calling 'receive_nowait'")
            try:
                data = self._take(limit)
                while isinstance(data, Want):
                    if data is Want.WRITE or not self._pump.pull_nowait():
                        raise trio.WouldBlock
                    data = self._take(limit)
            finally:
                self._pump.push_nowait()  # replies, or an alert
            return data

    def is_readable(self) -> bool:
        """Whether a receive would return data, the end, or an error now.

        For idle connections in a pool: a session ticket or a KeyUpdate makes the *socket* readable, but not
        the stream. Such records are dealt with here, and the answer is about application data alone.
        """
        if self._closed or self._pump.stash:
            return True
        if not self._machine.handshake_done or self._receive_guard.busy:
            return False
        try:
            data = self.receive_nowait(1)
        except trio.WouldBlock:
            return False
        except (TLSError, OSError, trio.ClosedResourceError):
            return True  # sticky: the next receive raises it again
        self._pump.stash[:0] = data
        return True

    async def _ready_to_receive(self) -> bool:
        """Open, and with the handshake behind us; False if the transport ended first, and may do so."""
        await self._check_usable(receiving=True)
        if not self._pump.last_flight_left:
            try:
                await self._pump.handshake(finish=not self._pump.sender.counts)
            except UnexpectedEOF as error:
                self._accept_eof(error)
                return False
        self._settled = self.transport_stream is not None
        return True

    async def _receive_step(self, want: Want) -> bool:
        """One step towards plaintext; whether it had to wait."""
        pump = self._pump
        if want is Want.WRITE:  # a TLS 1.2 renegotiation: the peer waits for our flight
            await pump.push()
        elif not pump.receiver.expects_to_wait and pump.pull_nowait():
            return False
        elif self._machine.outgoing.pending:
            await pump.pull_for_reader()
        else:
            await pump.pull()
        return True

    def _take(self, limit: int) -> bytes | Want:
        """Plaintext that is here, as bytes."""
        pump, machine = self._pump, self._machine
        if machine.incoming.pending and not pump.closing and not pump.stash:
            data = machine.read_short(limit)
            if data is not None:
                if machine.outgoing.pending:  # replies that the read has queued
                    pump.push_nowait()
                return data
        view = _scratch.view
        count = self._fill(view if limit >= MOST_RECEIVE else view[:limit])
        return count if isinstance(count, Want) else bytes(view[:count])

    def _fill(self, view: memoryview) -> int | Want:
        """Plaintext that is here, into ``view``. 0: the end, by the EOF policy."""
        pump, machine = self._pump, self._machine
        if pump.closing:
            pump.check_open()
        try:
            count = pump.read_now(view) if pump.stash else machine.read_into(view)
        except UnexpectedEOF as error:
            self._accept_eof(error)
            return 0
        if machine.outgoing.pending:  # such as replies that the read has queued
            pump.push_nowait()
            if isinstance(count, Want) and pump.stash:  # the push has failed, and read what there was to read
                return pump.read_now(view)
        return count


def _receive_limit(max_bytes: int | None) -> int:
    if max_bytes is None:
        return MOST_RECEIVE
    if not isinstance(max_bytes, int):
        raise TypeError(f"max_bytes must be an int or None, not {type(max_bytes).__name__}")
    if max_bytes < 1:
        raise ValueError("max_bytes must be >= 1")
    return max_bytes
