"""A network backend for ``httpcore``, and so for ``httpx``: HTTP clients whose TLS is a `TLSStream`.

How this works. httpcore makes its connections through a network backend, and asks the stream it gets from there to
start TLS. `TLSBackend` is such a backend; its streams do three things that httpcore's own do not:

- A cancelled or late write is not torn. An HTTP/2 connection goes on when one of its requests is cancelled, and what
  httpcore has given to a write it does not give again. So the rest stays in a queue, and leaves with the next read
  or write, before anything else.
- An idle connection is asked whether it is still good, and not its socket: a session ticket or a KeyUpdate makes a
  socket readable, too, and httpcore would drop the connection.
- Whatever goes wrong while TLS starts, a cancel included, the connection is closed.

It needs httpcore: ``pip install trio_tls[httpcore]``.
"""

from __future__ import annotations

import math
import ssl
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import httpcore
import trio

from .errors import TLSError
from .machine.interface import MachineFactory
from .stream import TLSStream

__all__ = ["TLSBackend", "TLSNetworkStream"]

#: What a stream here is made of.
Transport: TypeAlias = "trio.SocketStream | TLSStream[Any]"


class TLSBackend(httpcore.AsyncNetworkBackend):
    """Gives httpcore connections whose TLS is a `TLSStream`; pass it as ``network_backend``.

    ::

        pool = httpcore.AsyncConnectionPool(ssl_context=context, network_backend=TLSBackend())

    The ``ssl_context`` of the pool (and ``proxy_ssl_context`` of a proxy) is an `ssl.SSLContext` as ever, or our own
    TLS 1.3 as ``ConfigContext(ClientConfig(...))``. The exceptions are httpcore's own, in the words of the `TLSError`,
    which is their ``args[0]``. With httpx, use `trio_tls.httpx.TLSTransport`.

    Args:
      require_close_notify: whether a response whose end is known by nothing but the end of the connection fails with
        ``httpcore.ReadError`` if the server does not say by close_notify that this was the end. Default False, as
        HTTPS clients have it: many servers just hang up. close_notify is sent in any case (RFC 9112 section 9.8).
      grace: seconds that a closing connection may still take, as for `TLSStream`.
    """

    def __init__(self, *, require_close_notify: bool = False, grace: float = 1.0) -> None:
        if not grace >= 0:
            raise ValueError(f"grace must be a number of seconds, 0 or more, not {grace!r}")
        self._require_close_notify = require_close_notify
        self._grace = grace

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> TLSNetworkStream:
        """Connect over TCP; httpcore calls this.

        Raises:
          httpcore.ConnectError: the connection could not be made.
          httpcore.ConnectTimeout: it took more than ``timeout`` seconds.
        """
        with _told_as_connecting("there was no connection to the server", timeout), _deadline(timeout):
            stream = await trio.open_tcp_stream(host, port, local_address=local_address)
            return await self._ready(stream, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> TLSNetworkStream:
        """Connect to a Unix socket; httpcore calls this. Raises: as `connect_tcp`."""
        with _told_as_connecting("there was no connection to the server", timeout), _deadline(timeout):
            stream = await trio.open_unix_socket(path)
            return await self._ready(stream, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Sleep; httpcore calls this between attempts to connect."""
        await trio.sleep(seconds)

    async def _ready(
        self, stream: trio.SocketStream, socket_options: Iterable[httpcore.SOCKET_OPTION] | None
    ) -> TLSNetworkStream:
        try:
            set_option: Any = stream.socket.setsockopt  # it has several forms, and an option is one of them
            for option in socket_options or ():
                set_option(*option)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return TLSNetworkStream(stream, require_close_notify=self._require_close_notify, grace=self._grace)


class TLSNetworkStream(httpcore.AsyncNetworkStream):
    """A connection of httpcore's, with TLS once it was started; `TLSBackend` makes it.

    After an upgrade (WebSocket, CONNECT) an application has it as ``response.extensions["network_stream"]``, where
    ``get_extra_info("tls_stream")`` is the `TLSStream` itself.
    """

    def __init__(self, stream: Transport, *, require_close_notify: bool, grace: float) -> None:
        self._stream = stream
        self._require_close_notify = require_close_notify
        self._grace = grace
        self._unsent: deque[memoryview] = deque()  # what writes have taken, and the stream has not accepted yet
        self._sending = trio.Lock()
        self._behind = False  # whether a write has ended early, so that what the stream has accepted may still be in it
        self._received = b""  # what a cancelled read had received already
        self._reading: trio.CancelScope | None = None  # of the read that was begun last

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Receive at most ``max_bytes``; ``b""`` at the end.

        Cancelled, or late: nothing is lost.

        Raises:
          httpcore.ReadError: the connection failed.
          httpcore.ReadTimeout: nothing came for ``timeout`` seconds.
        """
        late = httpcore.ReadTimeout, "the server has sent nothing"
        with _told_as(httpcore.ReadError, *late, timeout), _deadline(timeout):
            while not self._received:
                with trio.CancelScope() as self._reading:
                    if not self._unsent or self._sending.locked():
                        return bytes(await self._stream.receive_some(max_bytes))
                    if await self._receive_and_send(max_bytes):
                        return b""
            data, self._received = self._received[:max_bytes], self._received[max_bytes:]
            return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of ``buffer``, and before it what earlier writes have left. Writes wait for each other.

        Cancelled, or late: the rest is kept, and leaves with the next read or write. It must not be written again.

        Raises:
          httpcore.WriteError: the connection failed.
          httpcore.WriteTimeout: not all was sent after ``timeout`` seconds.
        """
        if buffer:
            self._unsent.append(memoryview(bytes(buffer)))
        if self._unsent or self._behind:
            late = httpcore.WriteTimeout, "the server has not taken all that was sent to it"
            try:
                with _told_as(httpcore.WriteError, *late, timeout), _deadline(timeout):
                    await self._send()
            finally:
                if self._unsent and self._reading is not None:
                    self._reading.cancel()  # a read that waits takes over: the peer may be waiting for the rest

    async def aclose(self) -> None:
        """Close the connection. Where a write was left undone there is no orderly end, and none is tried."""
        if self._unsent or self._behind:
            if isinstance(self._stream, TLSStream):
                self._stream._send_close_notify = False  # noqa: SLF001  # it would say that this was all
            await trio.aclose_forcefully(self._stream)
        else:
            await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext | MachineFactory,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> TLSNetworkStream:
        """Start TLS, or TLS inside TLS, and do the handshake; httpcore calls this.

        Args:
          ssl_context: any configuration that a `TLSStream` takes.
          server_hostname: the server's name.
          timeout: seconds for the handshake.

        Cancelled: the connection is closed.

        Raises:
          httpcore.ConnectError: the handshake failed, or the name cannot be one of a server; the connection is closed.
          httpcore.ConnectTimeout: it was not done after ``timeout`` seconds; the connection is closed.
        """
        closing: TLSNetworkStream | TLSStream[Any] = self
        with _told_as_connecting("the TLS handshake was not done", timeout):
            try:
                with _deadline(timeout):
                    received, self._received = self._received, b""
                    # Before anything else runs: httpcore has just set the protocols of a context that others share.
                    stream = TLSStream(
                        self._stream,
                        ssl_context,
                        server_hostname=server_hostname,
                        require_close_notify=self._require_close_notify,
                        initial_data=received,
                        grace=self._grace,
                    )
                    await self._send()  # a proxy may still have to read what a cancelled write has left
                    closing = stream
                    await stream.do_handshake()
            except BaseException:
                await closing.aclose()
                raise
        return TLSNetworkStream(stream, require_close_notify=self._require_close_notify, grace=self._grace)

    def get_extra_info(self, info: str) -> Any:
        """A fact of the connection, or None.

        Args:
          info: ``"tls_stream"``: the `TLSStream`. ``"ssl_object"``: the `ssl.SSLObject`; with our own TLS 1.3 the
            TLSStream, which has its accessors. ``"socket"``, ``"client_addr"``, ``"server_addr"``: of the socket below
            all; None once an application has unwrapped the TLSStream. ``"is_readable"``: whether a read would return
            at once; an idle connection is not good any more then.
        """
        if info == "is_readable":
            return self._is_readable()
        if info in ("tls_stream", "ssl_object"):
            stream = self._stream if isinstance(self._stream, TLSStream) else None
            return stream if info == "tls_stream" else getattr(stream, "_ssl_object", stream)
        if info in ("socket", "client_addr", "server_addr"):
            sock = self._socket()
            if sock is None or info == "socket":
                return sock
            return sock.getsockname() if info == "client_addr" else sock.getpeername()
        return None

    def _is_readable(self) -> bool:
        if self._received:
            return True
        if isinstance(self._stream, TLSStream):
            return self._stream.is_readable()
        sock = self._stream.socket
        return sock.fileno() < 0 or sock.is_readable()

    def _socket(self) -> trio.socket.SocketType | None:
        stream: trio.abc.Stream | None = self._stream
        while isinstance(stream, TLSStream):
            stream = stream.transport_stream
        return stream.socket if isinstance(stream, trio.SocketStream) else None

    async def _send(self) -> None:
        """Send what is queued. Whatever ends this early, the queue says what is left."""
        async with self._sending:
            behind, self._behind = self._behind, True
            while self._unsent:
                view = self._unsent[0]
                if isinstance(self._stream, TLSStream):
                    sent = await self._stream.send_some(view)
                else:
                    sent = await self._stream.socket.send(view)
                if sent < len(view):
                    self._unsent[0] = view[sent:]
                else:
                    self._unsent.popleft()
            if behind and isinstance(self._stream, TLSStream):
                await self._stream.flush()
            await trio.lowlevel.checkpoint_if_cancelled()  # a cancelled send_some() returns its count, and raises not
            self._behind = False

    async def _receive_and_send(self, max_bytes: int) -> bool:
        """Receive into ``_received``, and meanwhile send what a write has left: the peer may be waiting for it.

        Returns whether this was the end of the data.
        """
        failure: Exception | None = None
        ended = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_if_possible)
            try:
                self._received = bytes(await self._stream.receive_some(max_bytes))
                ended = not self._received
            except Exception as error:  # out of the nursery it would be in a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return ended

    async def _send_if_possible(self) -> None:
        try:
            await self._send()
        except (TLSError, trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the next write tells; what the peer has sent before is worth more


def _deadline(timeout: float | None) -> AbstractContextManager[trio.CancelScope]:
    return trio.fail_after(math.inf if timeout is None else timeout)


@contextmanager
def _told_as(failed: type[Exception], late: type[Exception], what: str, timeout: float | None) -> Iterator[None]:
    """Trio's exceptions as httpcore's."""
    try:
        yield
    except trio.TooSlowError as error:
        raise late(f"{what} after {timeout:g} seconds") from error
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError, ValueError) as error:
        raise failed(error) from error


def _told_as_connecting(what: str, timeout: float | None) -> AbstractContextManager[None]:
    return _told_as(httpcore.ConnectError, httpcore.ConnectTimeout, what, timeout)
