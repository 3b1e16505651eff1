"""TLSStream: what the user holds.

How this works. The stream checks that it may be used (closed, half-closed, two senders), does the handshake
if that has not happened, and leaves all moving of bytes to the `Pump`. What each method promises when it is
cancelled stands in its docstring; the table is in the manual ("The cancel contract").

Every method is a checkpoint exactly once when nothing blocks: it looks for a cancel before it does anything
(`checkpoint_if_cancelled`), and yields without a chance to be cancelled once it has done it.
"""

from __future__ import annotations

import ssl
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from .accessors import Accessors
from .errors import TLSError, UnexpectedEOF, UnreadDataError
from .machine.factory import create_machine
from .machine.interface import ConnectionInfo, MachineFactory, Need, Want
from .pump import STASH_LIMIT, Pump
from .sending import ResumableSend
from .transport import choose
from .transport.background import BackgroundSender
from .transport.inline import InlineSender

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

__all__ = ["TLSStream"]

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)

#: The most that one ``receive_some()`` returns when the caller does not say.
DEFAULT_RECEIVE = 256 * 1024


class _Scratch(threading.local):
    """Where plaintext lies between its decryption and its copy into the `bytes` that the caller gets.

    One for all streams of a thread: no await comes between the two. A fresh buffer for each receive would
    cost more than the decryption, in page faults.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(DEFAULT_RECEIVE))


_scratch = _Scratch()


class _Guard:
    """At most one task at a time; a second one gets BusyResourceError, as from trio's streams."""

    __slots__ = ("_message", "busy")

    def __init__(self, message: str) -> None:
        self.busy = False
        self._message = message

    def __enter__(self) -> None:
        if self.busy:
            raise trio.BusyResourceError(self._message)
        self.busy = True

    def __exit__(self, *exc_info: object) -> None:
        self.busy = False


class TLSStream(Accessors, trio.abc.Stream, Generic[T_Stream]):
    """TLS over any `trio.abc.Stream`, such that **cancelling is never fatal and never loses a byte**.

    As ``SSL_connect(3)`` on a nonblocking BIO may be repeated after WANT_READ or WANT_WRITE, any method here
    may be called again after `trio.Cancelled`, and goes on from the byte where it stood. The handshake
    happens on first use, or when `do_handshake` is called.

    ``async with TLSStream(...)`` closes the stream on exit. For a transport that cannot count what it sent
    (neither a `trio.SocketStream`, nor another TLSStream, nor a `trio.StapledStream` of those), it also runs
    the task that makes sends cancellable; without it, a cancelled send of application data breaks the send
    side of such a transport.

    Args:
      transport_stream: the stream that carries the ciphertext. It is closed with this one.
      config: an `ssl.SSLContext` (the interpreter's OpenSSL, TLS 1.2 and 1.3). ``ssl_context=`` is an alias,
        for code written for `trio.SSLStream`.
      server_hostname: the name of the server, for SNI and for the check of its certificate. Clients need it
        unless the context does not check host names. International names are encoded by IDNA 2008.
      server_side: True on the server.
      https_compatible: neither send nor require close_notify, as HTTPS implementations often do.
        Sets the default of the next two.
      send_close_notify: send close_notify in `aclose` (default True), so that the peer can tell our end
        from an attacker's.
      require_close_notify: raise `UnexpectedEOF` when the transport ends without the peer's close_notify
        (default True). False makes it an ordinary end.
      initial_data: bytes already received on the transport, to be read before anything else.
      session: an `ssl.SSLSession` of an earlier connection to the same server, to resume.
      grace: seconds that close, a parting alert, or a handshake flight on an uncounted transport may still
        take when nobody wants to wait (default 1).

    Raises:
      ValueError: the configuration cannot be used this way; the text says why.
    """

    @overload
    def __init__(
        self,
        transport_stream: T_Stream,
        config: ssl.SSLContext | MachineFactory,
        *,
        server_hostname: str | bytes | None = None,
        server_side: bool = False,
        https_compatible: bool = False,
        send_close_notify: bool | None = None,
        require_close_notify: bool | None = None,
        initial_data: bytes | bytearray | memoryview = b"",
        session: ssl.SSLSession | None = None,
        grace: float = 1.0,
    ) -> None: ...

    @overload
    def __init__(
        self,
        transport_stream: T_Stream,
        *,
        ssl_context: ssl.SSLContext,
        server_hostname: str | bytes | None = None,
        server_side: bool = False,
        https_compatible: bool = False,
        send_close_notify: bool | None = None,
        require_close_notify: bool | None = None,
        initial_data: bytes | bytearray | memoryview = b"",
        session: ssl.SSLSession | None = None,
        grace: float = 1.0,
    ) -> None: ...

    def __init__(
        self,
        transport_stream: T_Stream,
        config: ssl.SSLContext | MachineFactory | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | bytes | None = None,
        server_side: bool = False,
        https_compatible: bool = False,
        send_close_notify: bool | None = None,
        require_close_notify: bool | None = None,
        initial_data: bytes | bytearray | memoryview = b"",
        session: ssl.SSLSession | None = None,
        grace: float = 1.0,
    ) -> None:
        if (config is None) == (ssl_context is None):
            raise TypeError("TLSStream needs one configuration: config, or its alias ssl_context")
        if not grace >= 0:
            raise ValueError(f"grace must be a number of seconds, 0 or more, not {grace!r}")
        self.transport_stream: T_Stream | None = transport_stream
        self.plaintext_sent = 0
        """Bytes of plaintext accepted since construction. After a cancelled `send_all` it tells how much was."""
        self._machine = create_machine(
            config if config is not None else ssl_context,
            server_side=server_side,
            server_hostname=_ascii_hostname(server_hostname),
            session=session,
        )
        self._https_compatible = https_compatible
        self._send_close_notify = not https_compatible if send_close_notify is None else send_close_notify
        self._require_close_notify = not https_compatible if require_close_notify is None else require_close_notify
        if initial_data:
            self._machine.incoming.write(bytes(initial_data))
        self._pump = Pump(self._machine, *choose(transport_stream, grace=grace), grace=grace)
        self._grace = grace
        self._send_guard = _Guard("another task is currently sending data on this TLSStream")
        self._receive_guard = _Guard("another task is currently receiving data on this TLSStream")
        self._closed = False
        self._eof_sent = False
        self._settled = False  # open, and the handshake behind us: nothing to look at before a receive
        self._entered = 0
        self._nursery_manager: Any = None
        self._background: BackgroundSender | None = None

    # -- the handshake ---------------------------------------------------------------------------------------

    async def do_handshake(self) -> None:
        """Do the handshake, or what is left of it. Returns at once when it is done.

        Optional: the first send or receive does it too. Any number of tasks may be in it at once.

        Cancelled: nothing is lost. Call it again, and it goes on from the byte where it stood; another
        task that waits for the same handshake takes over at once.

        Raises:
          TLSError: the handshake failed. Every caller gets the same error; the alert has been sent.
          trio.ClosedResourceError: this stream was closed.
        """
        await self._check_usable()
        await checkpoint_if_cancelled()
        if self._pump.last_flight_left:
            await cancel_shielded_checkpoint()
        else:
            await self._pump.handshake(finish=True)

    @property
    def info(self) -> ConnectionInfo | None:
        """What the handshake agreed on; None before it is done."""
        return self._machine.info

    @property
    def want(self) -> Want | Need | None:
        """What the stream waits for now, as ``SSL_want(3)``: a `Want`, an open `Need`, or None."""
        return self._pump.want

    # -- receiving -------------------------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive decrypted data: at least one byte, unless the peer has ended its side; then ``b""``.

        Returns what every record that is here holds, up to ``max_bytes``, and not one record at a time.

        Args:
          max_bytes: the most to return, at least 1. Default: 256 KiB.

        Cancelled: nothing is lost. Sends are never affected.

        Raises:
          UnexpectedEOF: the transport ended without close_notify (and ``require_close_notify`` is set).
          TLSError: the connection failed.
          trio.BusyResourceError: another task is receiving.
          trio.ClosedResourceError: this stream was closed.
        """
        limit = _receive_limit(max_bytes)
        with self._receive_guard:
            await checkpoint_if_cancelled()
            if not self._settled and not await self._ready_to_receive():
                return b""
            slept = False
            try:
                while True:
                    data = self._take(limit)
                    if not isinstance(data, Want):
                        break
                    slept = await self._receive_step(data) or slept
            except TLSError:
                await self._pump.leave_with_alert()
                raise
            if not slept:
                await cancel_shielded_checkpoint()
            return data

    async def receive_some_into(self, buffer: Buffer) -> int:
        """As `receive_some`, into a writable buffer; returns how many bytes, 0 at the end.

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
            self._check_open()
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
        await self._check_usable()
        if not self._pump.last_flight_left:
            try:
                await self._pump.handshake(finish=True)
            except UnexpectedEOF:
                if self._require_close_notify:
                    raise
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
        else:
            await pump.pull_for_reader()
        return True

    def _take(self, limit: int) -> bytes | Want:
        """Plaintext that is here, as bytes."""
        view = _scratch.view[: min(limit, self._machine.readable + len(self._pump.stash) or 1)]
        count = self._fill(view)
        return count if isinstance(count, Want) else bytes(view[:count])

    def _fill(self, view: memoryview) -> int | Want:
        """Plaintext that is here, into ``view``. 0: the end, by the EOF policy."""
        self._pump.check_open()
        try:
            count = self._pump.read_now(view)
        except UnexpectedEOF:
            if self._require_close_notify:
                raise
            return 0
        self._pump.push_nowait()  # replies that the read has queued
        return count

    # -- sending ---------------------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send all of ``data``. ``send_all(b"")`` only flushes.

        Cancelled: a prefix was accepted; `plaintext_sent` tells how long it is, and sending the rest goes
        on from there. Receiving is never affected. `sender` does that sum for you.

        Raises:
          TLSError: the connection failed.
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: this stream was closed, or its sending side was (`send_eof`, `unwrap`).
        """
        with self._send_guard, memoryview(data).cast("B") as view:
            await self._ready_to_send()
            try:
                position, slept = 0, False
                while True:
                    accepted = self._accept_nowait(view[position:])
                    position += accepted
                    self._pump.push_nowait()
                    if self._machine.outgoing.pending:
                        await self._pump.push()
                    elif position == len(view):
                        break
                    elif accepted:
                        await checkpoint()  # a long send to a fast reader must not hold up other tasks
                    else:
                        position += await self._accept(view[position:])
                    slept = True
                if not slept:
                    await cancel_shielded_checkpoint()
            except trio.Cancelled:
                self._pump.hand_over()
                raise
            except TLSError:
                await self._pump.leave_with_alert()
                raise

    async def send_some(self, data: bytes | bytearray | memoryview) -> int:
        """Send a prefix of ``data``, and say how many bytes that was; at least one, unless ``data`` is empty.

        Cancelled while it waits for room: nothing of ``data`` was accepted. Once some was accepted, a cancel
        no longer raises here: the count is returned, and the scope raises at the next checkpoint. So a
        returned count is the whole truth, always.

        Raises: as `send_all`.
        """
        with self._send_guard, memoryview(data).cast("B") as view:
            await self._ready_to_send()
            if not len(view):
                await self._push_all()
                return 0
            try:
                count = self._accept_nowait(view) or await self._accept(view)
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
            count = self._accept_nowait(view)
            self._pump.push_nowait()
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

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a send might not block. Starts no handshake.

        Cancelled: nothing has happened; call it again.
        """
        with self._send_guard:
            await self._check_usable(sending=True)
            await checkpoint_if_cancelled()
            await self._pump.wait_send_all_might_not_block()

    async def _ready_to_send(self) -> None:
        if self._settled and not self._eof_sent:
            await checkpoint_if_cancelled()
            return
        await self._check_usable(sending=True)
        await checkpoint_if_cancelled()
        if not self._machine.handshake_done:
            # Our last flight need not leave first: it goes out together with the data.
            await self._pump.handshake(finish=False)
        self._check_open(sending=True)

    def _accept_nowait(self, view: memoryview) -> int:
        self._pump.check_open()
        if not len(view):
            self._machine.write(view)  # releases what waits for the next write
            return 0
        count = self._pump.accept_nowait(view)
        self.plaintext_sent += count
        return count

    async def _accept(self, view: memoryview) -> int:
        count = await self._pump.accept(view)
        self.plaintext_sent += count
        return count

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

    # -- ending ----------------------------------------------------------------------------------------------

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
            self._machine.shutdown()
            self._eof_sent = True
            await self._push_all()

    async def unwrap(self) -> tuple[T_Stream, bytes]:
        """End TLS, and go on in plain text on the transport.

        Sends close_notify, waits for the peer's, and returns ``(transport_stream, trailing_bytes)``: bytes
        that came behind the peer's close_notify belong to the plain protocol. Application data that was
        still under way is not lost: `receive_some` and `receive_nowait` return it afterwards.

        Cancelled: call it again.

        Raises:
          UnreadDataError: more than 1 MiB of unread application data; receive it, then call again.
          UnexpectedEOF: the transport ended first.
          TLSError: the connection failed.
        """
        with self._send_guard, self._receive_guard:
            await self._check_usable()
            await checkpoint_if_cancelled()
            pump = self._pump
            if not pump.last_flight_left:
                await pump.handshake(finish=True)
            self._machine.shutdown()
            self._eof_sent = True
            try:
                if not pump.sender.counts:
                    await self._push_all()
                # Two ends that both unwrap, and both push first, would wait for each other: so read beside it.
                await self._stash_until_close_notify()
                await self._push_all()
            except TLSError:
                await pump.leave_with_alert()
                raise
            if self._background is not None:
                self._background.stop()
            transport, self.transport_stream = self.transport_stream, None
            self._settled = False
            assert transport is not None  # _check_usable has seen it, and the guards kept others out
            return transport, self._machine.trailing_data()

    async def _stash_until_close_notify(self) -> None:
        """Read to the end of the peer's data, and keep what comes before it for later receives."""
        stash, buffer = self._pump.stash, bytearray(16 * 1024)
        while True:
            if len(stash) >= STASH_LIMIT:
                raise UnreadDataError(
                    f"unwrap() met more than {STASH_LIMIT} bytes of unread application data; "
                    "receive_some() them, then call unwrap() again"
                )
            with memoryview(buffer) as view:
                try:
                    self._pump.check_open()
                    count = self._machine.read_into(view)
                except UnexpectedEOF:
                    if self._require_close_notify:
                        raise
                    return
                if count == 0:
                    return
                if not isinstance(count, Want):
                    stash += view[:count]
                    continue
            await self._receive_step(count)

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
                machine.write(memoryview(b"")) if not self._eof_sent else None  # tickets
                if self._send_close_notify:
                    machine.shutdown()
            except TLSError:
                return  # failed earlier, and told then
        elif not machine.sent_fatal_alert:
            return  # in the middle of the handshake there is nothing that the peer could read
        pump.push_nowait()
        with trio.move_on_after(self._grace):
            try:
                await pump.drain()
                if machine.sent_fatal_alert:
                    await pump.linger(wait=machine.server_side)
            except (TLSError, trio.ClosedResourceError, trio.BrokenResourceError, OSError):
                pass  # the peer, or the transport, has gone first: that is no failure to close

    async def __aenter__(self) -> Self:
        self._entered += 1
        if isinstance(self._pump.sender, InlineSender) and self._nursery_manager is None and not self._closed:
            await self._start_background()
        return self

    async def _start_background(self) -> None:
        pump = self._pump
        while pump.sending.taken:
            await pump.sending.wait()
        if pump.sender.broken is not None or self.transport_stream is None:
            return
        stream = self.transport_stream
        send_half = stream.send_stream if isinstance(stream, trio.StapledStream) else stream
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
        self._entered -= 1
        try:
            await self.aclose()
        except trio.Cancelled:
            if exc is None:
                raise  # else the body's own exception says more, and the scope will raise again
        finally:
            if self._nursery_manager is not None and not self._entered:  # who entered first has opened it
                assert self._background is not None  # they are made together
                self._background.stop()
                manager, self._nursery_manager = self._nursery_manager, None
                await manager.__aexit__(None, None, None)

    def _check_open(self, *, sending: bool = False) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this TLSStream was closed")
        if sending and self._eof_sent:
            raise trio.ClosedResourceError("can't send data after send_eof() or unwrap()")
        if self.transport_stream is None and (sending or not self._pump.stash):
            raise trio.ClosedResourceError("this TLSStream was unwrapped")

    async def _check_usable(self, *, sending: bool = False) -> None:
        try:
            self._check_open(sending=sending)
        except trio.ClosedResourceError:
            await checkpoint()
            raise


def _ascii_hostname(hostname: str | bytes | None) -> str | None:
    """As it goes on the wire: IDNA 2008 A-labels, as trio encodes them."""
    if isinstance(hostname, str):
        hostname = trio.lowlevel.encode_hostname(hostname)
    return hostname.decode("ascii") if hostname is not None else None


def _receive_limit(max_bytes: int | None) -> int:
    if max_bytes is None:
        return DEFAULT_RECEIVE
    if not isinstance(max_bytes, int):
        raise TypeError(f"max_bytes must be an int or None, not {type(max_bytes).__name__}")
    if max_bytes < 1:
        raise ValueError("max_bytes must be >= 1")
    return max_bytes
