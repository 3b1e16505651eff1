"""A `TLSStream` for anyio: over any of its byte streams, with its exceptions and typed attributes. On Trio alone.

How this works. An anyio socket on the Trio backend has a socket that Trio can use as well, so TLS runs on that, and a
cancelled send is exact to the byte. Any other stream of anyio's is dressed as one of Trio's (`_TrioDress`); nobody can
tell how much such a stream has sent when it was cancelled, so enter the TLS stream (``async with``): then a task of its
own sends, and a cancel loses nothing.

It needs anyio: ``pip install trio_tls[anyio]``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import trio
from anyio.abc import AnyByteStream, ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute

from .machine.interface import ConnectionInfo, MachineFactory
from .stream import TLSStream

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AnyIOTLSStream", "TLSInfoAttribute"]


class TLSInfoAttribute(anyio.TypedAttributeSet):
    """What an `AnyIOTLSStream` tells beside anyio's ``TLSAttribute``."""

    #: what the handshake agreed on
    connection_info: ConnectionInfo = anyio.typed_attribute()
    #: the `TLSStream` itself
    tls_stream: TLSStream[trio.abc.Stream] = anyio.typed_attribute()


class AnyIOTLSStream(ByteStream):
    """TLS over a byte stream of anyio's, such that cancelling is never fatal; the counterpart of anyio's TLSStream.

    ::

        async with await anyio.connect_tcp("example.org", 443) as tcp:
            async with await AnyIOTLSStream.wrap(tcp, context, hostname="example.org") as stream:
                await stream.send(request)

    anyio's typed attributes are there: ``stream.extra(TLSAttribute.alpn_protocol)``. With our own TLS 1.3 there is no
    ``TLSAttribute.ssl_object``, and ``TLSAttribute.channel_binding_tls_unique`` is None.

    Args:
      transport_stream: the stream that carries the ciphertext; closed with this one.
      config: an `ssl.SSLContext`, or a `ClientConfig` or `ServerConfig`, as for `TLSStream`.
      hostname: the name of the server, which a client needs to check its certificate.
      server_side: True on the server.
      standard_compatible: False: neither send nor require close_notify.

    Raises:
      ValueError: the configuration cannot be used this way.
      RuntimeError: this is not anyio on Trio.
    """

    def __init__(
        self,
        transport_stream: AnyByteStream,
        config: ssl.SSLContext | MachineFactory,
        *,
        hostname: str | None = None,
        server_side: bool = False,
        standard_compatible: bool = True,
    ) -> None:
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError('trio_tls runs on Trio: anyio.run(main, backend="trio")')
        self.transport_stream = transport_stream
        self.standard_compatible = standard_compatible
        self._tls: TLSStream[trio.abc.Stream] = TLSStream(
            _transport_below(transport_stream),
            config,
            server_hostname=hostname,
            server_side=server_side,
            https_compatible=not standard_compatible,
        )

    @classmethod
    async def wrap(
        cls,
        transport_stream: AnyByteStream,
        config: ssl.SSLContext | MachineFactory,
        *,
        hostname: str | None = None,
        server_side: bool = False,
        standard_compatible: bool = True,
    ) -> Self:
        """A stream whose handshake is done. The arguments are those of the class.

        Cancelled: the transport is left in the middle of a handshake. To be able to go on, make the stream, and call
        `do_handshake` as often as it takes.

        Raises: as the class and `do_handshake`. The transport stays open; close it.
        """
        stream = cls(
            transport_stream,
            config,
            hostname=hostname,
            server_side=server_side,
            standard_compatible=standard_compatible,
        )
        await stream.do_handshake()
        return stream

    async def do_handshake(self) -> None:
        """Do the handshake, or what is left of it. Optional: the first send or receive does it too.

        Cancelled: nothing is lost; call it again.

        Raises:
          anyio.BrokenResourceError: the handshake failed. It has the words of the `TLSError`, which is its cause.
          anyio.ClosedResourceError: this stream was closed.
        """
        with _told_as_anyio_does("handshaking"):
            await self._tls.do_handshake()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive at least one byte, and at most ``max_bytes``.

        Cancelled: nothing is lost.

        Raises:
          anyio.EndOfStream: the peer has ended its side.
          anyio.BrokenResourceError: the connection failed, or was cut short.
          anyio.ClosedResourceError: this stream was closed.
          anyio.BusyResourceError: another task is receiving.
          ValueError: ``max_bytes`` is less than 1.
        """
        with _told_as_anyio_does("reading from"):
            data = await self._tls.receive_some(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Send all of ``item``.

        Cancelled: a prefix was accepted. To go on where it stood, take the `TLSStream` and its ``sender``:
        ``stream.extra(TLSInfoAttribute.tls_stream).sender(item)``.

        Raises:
          anyio.BrokenResourceError: the connection failed.
          anyio.ClosedResourceError: this stream was closed, or its sending side was.
          anyio.BusyResourceError: another task is sending.
        """
        with _told_as_anyio_does("writing to"):
            await self._tls.send_all(item)

    async def send_eof(self) -> None:
        """Send close_notify: we send no more, the peer may go on. Raises: as `send`."""
        with _told_as_anyio_does("writing to"):
            await self._tls.send_eof()

    async def unwrap(self) -> tuple[AnyByteStream, bytes]:
        """End TLS; the stream below, and what came behind the peer's close_notify.

        Cancelled: call it again.

        Raises: as `receive`.
        """
        below = self._tls.transport_stream
        with _told_as_anyio_does("closing"):
            _transport, trailing = await self._tls.unwrap()
        if isinstance(below, _TrioDress):
            trailing += below.take_early()
        return self.transport_stream, trailing

    async def aclose(self) -> None:
        """Close this stream and its transport. TLS here does not wait for the peer; anyio's TLS below it does.

        Raises:
          anyio.BrokenResourceError: the transport has failed to close.
        """
        below = self._tls.transport_stream
        try:
            with _told_as_anyio_does("closing"):
                await self._tls.aclose()
        finally:
            if isinstance(below, trio.SocketStream):  # anyio's socket has to know that its descriptor is gone
                await self.transport_stream.aclose()

    async def __aenter__(self) -> Self:
        """Enter the `TLSStream`: on a transport that cannot count, its task sends from now on."""
        await self._tls.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Close; see `aclose`."""
        try:
            await self.aclose()
        finally:
            await self._tls.__aexit__(exc_type, exc_val, exc_tb)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The typed attributes, those of the transport included."""
        tls = self._tls
        attribute: Any = TLSAttribute  # its annotations are of the values, and not of what is here
        ours: dict[Any, Callable[[], Any]] = {
            attribute.alpn_protocol: tls.selected_alpn_protocol,
            attribute.channel_binding_tls_unique: tls.get_channel_binding,
            attribute.cipher: tls.cipher,
            attribute.peer_certificate: tls.getpeercert,
            attribute.peer_certificate_binary: lambda: tls.getpeercert(binary_form=True),
            attribute.server_side: lambda: tls.server_side,
            attribute.shared_ciphers: lambda: tls.shared_ciphers() if tls.server_side else None,
            attribute.standard_compatible: lambda: self.standard_compatible,
            attribute.tls_version: tls.version,
            TLSInfoAttribute.connection_info: lambda: tls.info,
            TLSInfoAttribute.tls_stream: lambda: tls,
        }
        ssl_object = getattr(tls, "_ssl_object", None)
        if ssl_object is not None:
            ours[attribute.ssl_object] = lambda: ssl_object
        below = dict(self.transport_stream.extra_attributes)
        below.pop(attribute.ssl_object, None)  # of TLS below, which is another connection
        return {**below, **ours}


class _TrioDress(trio.abc.Stream):
    """A byte stream of anyio's, as one of Trio's."""

    def __init__(self, stream: AnyByteStream) -> None:
        self._stream = stream
        self._early = b""  # an object stream gives more at once than was asked for

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with _told_as_trio_does():
            await self._stream.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()  # anyio cannot tell

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        with _told_as_trio_does():
            try:
                while not self._early:  # an empty object is no end
                    if isinstance(self._stream, ByteStream):
                        self._early = await self._stream.receive(max_bytes or 65536)
                    else:
                        self._early = await self._stream.receive()
            except anyio.EndOfStream:
                return b""
        data, self._early = self._early[:max_bytes], self._early[max_bytes or len(self._early) :]
        return data

    def take_early(self) -> bytes:
        """What was received and not taken yet; whoever unwraps gets it."""
        early, self._early = self._early, b""
        return early

    async def aclose(self) -> None:
        with _told_as_trio_does():
            await self._stream.aclose()


def _transport_below(stream: AnyByteStream) -> trio.abc.Stream:
    # A stream that wraps a socket has its raw_socket, too; only one that is a socket may be passed by.
    raw = stream.extra(SocketAttribute.raw_socket, None) if isinstance(stream, SocketStream) else None  # noqa: S610
    if raw is None:
        return _TrioDress(stream)
    return trio.SocketStream(trio.socket.from_stdlib_socket(raw))


@contextmanager
def _told_as_anyio_does(action: str) -> Iterator[None]:
    try:
        yield
    except trio.BrokenResourceError as error:
        raise anyio.BrokenResourceError(str(error)) from error
    except trio.ClosedResourceError as error:
        raise anyio.ClosedResourceError(str(error)) from error
    except trio.BusyResourceError as error:
        raise anyio.BusyResourceError(action) from error


@contextmanager
def _told_as_trio_does() -> Iterator[None]:
    try:
        yield
    except anyio.ClosedResourceError as error:
        raise trio.ClosedResourceError(str(error)) from error
    except anyio.BusyResourceError as error:
        raise trio.BusyResourceError(str(error)) from error
    except (anyio.BrokenResourceError, OSError) as error:
        raise trio.BrokenResourceError(str(error)) from error
