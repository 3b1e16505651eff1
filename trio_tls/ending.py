"""How a `TLSStream` ends: half-close, unwrap, close, and ``async with``.

How this works. close_notify is queued in the machine once; what differs is who waits for what. `send_eof` waits
until it has left, `unwrap` also until the peer's has come, and `aclose` for nothing longer than the grace period.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled

from .core import T_Stream
from .errors import TLSError, UnexpectedEOF, UnreadDataError
from .machine.interface import Want
from .pump import STASH_LIMIT
from .receiving import Receiving
from .sending import Sending
from .transport.background import BackgroundSender
from .transport.inline import InlineSender

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Ending"]


class Ending(Receiving[T_Stream], Sending[T_Stream]):
    """`TLSStream`'s methods that end it."""

    transport_stream: T_Stream | None  # None once `unwrap` has given it back
    _grace: float
    _send_close_notify: bool
    _opener: trio.lowlevel.Task | None = None  # the task whose nursery runs the sender task
    _entered: int = 0  # how often it has entered
    _nursery_manager: Any = None
    _background: BackgroundSender | None = None

    async def send_eof(self) -> None:
        """Send close_notify: we send no more, the peer may go on. Calling it twice is harmless.

        With TLS 1.3 the peer's data is not affected. A TLS 1.2 peer that follows RFC 5246 to the letter may
        drop what it has not sent yet and close.

        Cancelled: call it again.

        Raises: as `send_all`.
        """
        with self._send_guard:
            await self._check_usable()
            await checkpoint_if_cancelled()
            if not self._machine.handshake_done:
                await self._pump.handshake(finish=False)
            if not self._eof_sent:
                self._pump.accept_nowait(memoryview(b""))  # raises if the connection has failed
            self._machine.shutdown()
            self._eof_sent = True
            await self._push_all()

    async def unwrap(self) -> tuple[T_Stream, bytes]:
        """End TLS, and go on in plain text on the transport.

        Sends close_notify, waits for the peer's, and returns ``(transport_stream, trailing_bytes)``: bytes
        that came behind the peer's close_notify belong to the plain protocol. Application data that was
        still under way is not lost: `receive_some` and `receive_nowait` return it afterwards.

        Cancelled: call it again. On a transport that can only be awaited, without ``async with``, that works if
        close_notify can leave within ``grace`` seconds of the cancel.

        Raises:
          UnreadDataError: more than 1 MiB of unread application data; receive it, then call again. On a transport that
            can only be awaited, without ``async with``, our close_notify may be cut off then, and sending over.
          UnexpectedEOF: the transport ended first.
          TLSError: the connection failed.
        """
        with self._send_guard, self._receive_guard:
            await self._check_usable()
            await checkpoint_if_cancelled()
            pump = self._pump
            if not pump.last_flight_left:
                await pump.handshake(finish=not pump.sender.counts)
            self._machine.shutdown()
            self._eof_sent = True
            try:
                pump.push_nowait()
                # Two ends that both unwrap, and both push first, would wait for each other: so read beside it.
                await pump.read_while_pushing(self._stash_until_close_notify, sending=True)
                await self._push_all()
            except TLSError:
                await pump.leave_with_alert()
                raise
            if self._background is not None:
                self._background.stop()
            pump.check_open()
            transport, self.transport_stream = self.transport_stream, None
            self._settled = False
            assert transport is not None  # _check_usable has seen it, and the guards kept others out
            return transport, self._machine.trailing_data()

    async def _stash_until_close_notify(self) -> None:
        """Read to the end of the peer's data, and keep what comes before it for later receives."""
        stash, buffer = self._pump.stash, bytearray(16 * 1024)
        while True:
            if len(stash) > STASH_LIMIT:
                raise UnreadDataError(
                    f"unwrap() met more than {STASH_LIMIT} bytes of unread application data; "
                    "receive_some() them, then call unwrap() again"
                )
            with memoryview(buffer) as view:
                try:
                    self._pump.check_open()
                    count = self._machine.read_into(view)
                except UnexpectedEOF as error:
                    self._accept_eof(error)
                    return
                if count == 0:
                    return
                if not isinstance(count, Want):
                    stash += view[:count]
                    continue
            self._pump.check_sendable()  # a peer that will never get our close_notify may never send its own
            if count is Want.WRITE:  # a TLS 1.2 renegotiation
                await self._pump.push()
            elif not self._pump.pull_nowait():
                await self._pump.pull()

    async def aclose(self) -> None:
        """Close the stream and its transport.

        Sends what is queued and close_notify, if that takes no longer than ``grace`` seconds; never starts a
        handshake and never waits for the peer. Tasks blocked in other methods get `trio.ClosedResourceError`.

        Cancelled: the transport is closed forcefully, as trio's streams are; close_notify still leaves if it
        can without waiting.
        """
        if self._closed:
            await checkpoint()
            return
        self._closed = True
        self._settled = False
        transport = self.transport_stream
        if transport is None:  # unwrapped: the transport is the caller's
            self._pump.wake_for_close()
            await checkpoint()
            return
        try:
            await self._say_goodbye()
        finally:
            self._pump.say_last_words()
            if self._background is not None:
                self._background.stop()
            await transport.aclose()

    async def _say_goodbye(self) -> None:
        pump, machine = self._pump, self._machine
        pump.wake_for_close()
        if machine.handshake_done and not machine.sent_fatal_alert:
            try:
                if not self._eof_sent:
                    machine.write(memoryview(b""))  # releases the tickets
                if self._send_close_notify:
                    machine.shutdown()
            except TLSError:
                return  # failed earlier, and told then
        elif not machine.sent_fatal_alert:
            return  # in the middle of the handshake there is nothing that the peer could read
        pump.push_nowait()
        if not machine.outgoing.pending and not machine.sent_fatal_alert:
            return
        with trio.move_on_after(self._grace):
            try:
                await pump.drain()
                if machine.sent_fatal_alert:
                    await pump.linger(wait=machine.server_side)
            except (TLSError, trio.ClosedResourceError, trio.BusyResourceError, trio.BrokenResourceError, OSError):
                pass  # the peer, or the transport, has gone first: that is no failure to close

    async def __aenter__(self) -> Self:
        if isinstance(self._pump.sender, InlineSender) and not self._closed:
            await self._start_background()
        elif self._opener is trio.lowlevel.current_task():
            self._entered += 1
        return self

    async def _start_background(self) -> None:
        pump = self._pump
        while pump.sending.taken:
            await pump.sending.wait()
        if pump.sender.broken is not None or self.transport_stream is None or self._opener is not None or self._closed:
            return
        stream = self.transport_stream
        send_half = stream.send_stream if isinstance(stream, trio.StapledStream) else stream
        self._opener, self._entered = trio.lowlevel.current_task(), 1
        manager = trio.open_nursery()
        nursery = await manager.__aenter__()
        self._nursery_manager = manager
        self._background = pump.sender = BackgroundSender(send_half)
        nursery.start_soon(self._background.run, self._machine.outgoing, name="TLSStream sender")

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opener = self._opener is trio.lowlevel.current_task()
        self._entered -= opener
        try:
            await self.aclose()
        except trio.Cancelled:
            if exc is None:
                raise  # else the body's own exception says more, and the scope will raise again
        finally:
            if opener and not self._entered and self._nursery_manager is not None:  # nobody else may close it
                assert self._background is not None  # they are made together
                self._background.stop()
                manager, self._nursery_manager = self._nursery_manager, None
                await manager.__aexit__(None, None, None)
