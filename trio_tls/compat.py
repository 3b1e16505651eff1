"""Libraries that make ``trio.SSLStream`` by themselves: opt in, and they make `TLSStream` instead.

How this works. Libraries write ``trio.SSLStream(...)`` and ``trio.SSLListener(...)``, directly or through
``trio.open_ssl_over_tcp_stream`` and its kin, and look the names up in the module ``trio`` when they run. `install`
puts classes of ours there. For ``isinstance`` they mean what the names meant before: Trio's own streams, and ours.

Such a library expects of a stream what `trio.SSLStream` does. One thing matters: a cancelled ``send_all`` broke that
stream, so a library may go on with the next message as if nothing had happened, and learn by an exception that it
cannot. On a plain `TLSStream` the next message would follow on a torn one. So here a cancelled send that was not
accepted as a whole ends the sending side, and the peer is not told by close_notify that what it has was all. All else
can be cancelled and called again.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import trio
from trio.lowlevel import checkpoint

from .core import T_Stream
from .errors import TransportError
from .listener import TLSListener
from .machine.interface import MachineFactory
from .stream import TLSStream

__all__ = ["SSLListener", "SSLStream", "current_stream", "install", "installed", "uninstall"]

#: Trio's own.
_STREAM, _LISTENER = trio.SSLStream, trio.SSLListener

#: Of the connection that a task serves.
_current: ContextVar[TLSStream[Any] | None] = ContextVar("trio_tls.compat", default=None)


class _Wanted:
    """Who wants our classes in the place of Trio's: the process, or blocks that may overlap."""

    def __init__(self) -> None:
        self.always = False
        self.blocks: set[object] = set()


_wanted = _Wanted()


class SSLStream(TLSStream[T_Stream]):
    """A `TLSStream` for code that was written for `trio.SSLStream`; what `install` puts in its place.

    The differences: a cancelled ``send_all`` that was not accepted as a whole ends the sending side, without
    close_notify, and ``_ssl_object``, which libraries ask for ALPN, is there on our own machine too: it is the stream
    itself.
    """

    _torn = False

    async def do_handshake(self) -> None:
        """As `TLSStream.do_handshake`; a server's stream becomes the `current_stream` of the task."""
        await super().do_handshake()
        if self.server_side:
            _current.set(self)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As `TLSStream.send_all`.

        Cancelled: unless all of ``data`` had been accepted, nothing more can be sent, close_notify neither: the peer
        has to see that this was not the end. Receiving goes on.
        """
        await self._check_not_torn()
        size, before = memoryview(data).nbytes, self.plaintext_sent
        try:
            await super().send_all(data)
        except trio.Cancelled:
            if self.plaintext_sent - before < size and not self._eof_sent:  # behind the end there is nothing to tear
                self._torn, self._send_close_notify = True, False
            raise

    async def send_eof(self) -> None:
        """As `TLSStream.send_eof`. After a send that was torn it raises `TransportError`, as `send_all` does."""
        await self._check_not_torn()
        await super().send_eof()

    async def unwrap(self) -> tuple[T_Stream, bytes]:
        """As `TLSStream.unwrap`. After a send that was torn it raises `TransportError`, as `send_all` does."""
        await self._check_not_torn()
        return await super().unwrap()

    async def _check_not_torn(self) -> None:
        if self._torn:
            await checkpoint()
            raise TransportError(
                "an earlier send was cancelled before all of its data was accepted, so the data would have a gap",
                hint="Close the connection, or use a TLSStream and its sender(), which goes on where it stood",
            )

    @property
    def _ssl_object(self) -> Any:
        try:
            return super()._ssl_object
        except AttributeError:
            return self  # it has all the accessors


class SSLListener(TLSListener[T_Stream]):
    """A `TLSListener` whose connections are `SSLStream` objects of this module."""

    def __init__(
        self,
        transport_listener: trio.abc.Listener[T_Stream],
        ssl_context: ssl.SSLContext | MachineFactory,
        *,
        https_compatible: bool = False,
    ) -> None:
        super().__init__(transport_listener, ssl_context, https_compatible=https_compatible)

    async def accept(self) -> SSLStream[T_Stream]:
        """As `TLSListener.accept`."""
        transport_stream = await self.transport_listener.accept()
        try:
            return SSLStream(transport_stream, self.config, server_side=True, https_compatible=self._https_compatible)
        except BaseException:
            await trio.aclose_forcefully(transport_stream)
            raise


class _InPlace(type):
    """A class that makes objects of ours, and means by ``isinstance`` what Trio's name meant: Trio's own, and ours.

    It is none of the classes itself: one that claimed Trio's streams would claim them for `TLSStream`, above it, too.
    """

    _makes: Any
    _means: type[Any]

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return cls._makes(*args, **options)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._means)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls._means)

    def __getitem__(cls, stream_type: Any) -> Any:
        return cls._makes[stream_type]

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls._makes, name)


class _InPlaceOfSSLStream(metaclass=_InPlace):
    _makes, _means = SSLStream, _STREAM


class _InPlaceOfSSLListener(metaclass=_InPlace):
    _makes, _means = SSLListener, _LISTENER


def install() -> None:
    """Put our classes in the place of `trio.SSLStream` and `trio.SSLListener`, for this whole process.

    Code that looks the names up from now on makes our streams: ``trio.SSLStream(...)``, ``trio.SSLListener(...)``, and
    Trio's `trio.open_ssl_over_tcp_stream`, `trio.open_ssl_over_tcp_listeners` and `trio.serve_ssl_over_tcp`. They also
    take a config where a context was taken; a library that looks closer gets a `ConfigContext`. Code that has done
    ``from trio import SSLStream`` before keeps Trio's. Calling it twice is harmless.
    """
    _wanted.always = True
    _bind()


def uninstall() -> None:
    """Put Trio's own classes back, in every `installed` block too. Streams that were made meanwhile go on."""
    _wanted.always = False
    _wanted.blocks.clear()
    _bind()


@contextmanager
def installed() -> Iterator[None]:
    """As `install`, for as long as the block lasts. It is process-wide, not for this task alone.

    Blocks may overlap, as those of two tasks do: Trio's classes are back when the last of them has ended, unless
    `install` was called.
    """
    block = object()
    _wanted.blocks.add(block)
    _bind()
    try:
        yield
    finally:
        _wanted.blocks.discard(block)
        _bind()


def current_stream() -> TLSStream[Any] | None:
    """The connection that this task serves; None if there is none that could be known.

    It is known where the server, in this task or in one that this was started from, called ``do_handshake()`` on a
    stream that was made while our classes were installed; hypercorn and websockets do. An application finds its
    connection by it, where the server does not hand it on.
    """
    return _current.get()


def _bind() -> None:
    stream: Any = _STREAM
    listener: Any = _LISTENER
    if _wanted.always or _wanted.blocks:
        stream, listener = _InPlaceOfSSLStream, _InPlaceOfSSLListener
    trio.SSLStream = stream  # type: ignore[misc]
    trio.SSLListener = listener  # type: ignore[misc]
