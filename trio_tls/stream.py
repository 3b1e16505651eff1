"""TLSStream: what the user holds.

How this works. A method checks that the stream may be used (closed, half-closed, two senders), does the
handshake if that has not happened, and leaves all moving of bytes to the `Pump`. The methods live in
`trio_tls.receiving`, `trio_tls.sending` and `trio_tls.ending`; here are the construction and the handshake. What each
promises when it is cancelled stands in its docstring; the table is in the manual ("The cancel contract").

Every method is a checkpoint exactly once when nothing blocks: it looks for a cancel before it does anything
(`checkpoint_if_cancelled`), and yields without a chance to be cancelled once it has done it.
"""

from __future__ import annotations

import ssl
from typing import overload

import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from .accessors import Accessors
from .blocking_contexts import off_the_loop
from .core import T_Stream
from .ending import Ending
from .machine.factory import create_machine
from .machine.interface import ConnectionInfo, MachineFactory, Need, Want
from .machine.tls13.sessions import Session
from .nodelay import TCPNoDelay, apply_tcp_nodelay
from .pump import Pump
from .transport import choose

__all__ = ["TLSStream"]


class TLSStream(Ending[T_Stream], Accessors, trio.abc.Stream):
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
      config: a `ClientConfig` or `ServerConfig` (our own TLS 1.3), or an `ssl.SSLContext` (the interpreter's
        OpenSSL, TLS 1.2 and 1.3). ``ssl_context=`` is an alias,
        for code written for `trio.SSLStream`. One that may block in the handshake, as those of ``truststore`` do, is
        run in a worker thread (`HandshakeInThread`).
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
      session: a session of an earlier connection to the same server, to resume: an `ssl.SSLSession`, or a `Session`
        with a ClientConfig (which keeps sessions in a cache by itself).
      tcp_nodelay: ``"always"`` leaves the transport as it is: a `trio.SocketStream` of TCP has ``TCP_NODELAY`` on, so
        every send leaves at once, which suits nearly everybody. ``"never"`` turns it off, for a protocol of many
        small one-way sends (Nagle's algorithm gathers them); ``"handshake"`` does so once the handshake is done.
        These two need a TCP socket below. `set_tcp_nodelay` does it at any other time.
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
        session: ssl.SSLSession | Session | None = None,
        tcp_nodelay: TCPNoDelay = "always",
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
        session: ssl.SSLSession | Session | None = None,
        tcp_nodelay: TCPNoDelay = "always",
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
        session: ssl.SSLSession | Session | None = None,
        tcp_nodelay: TCPNoDelay = "always",
        grace: float = 1.0,
    ) -> None:
        if (config is None) == (ssl_context is None):
            raise TypeError("TLSStream needs one configuration: config, or its alias ssl_context")
        if not grace >= 0:
            raise ValueError(f"grace must be a number of seconds, 0 or more, not {grace!r}")
        machine = create_machine(
            off_the_loop(config if config is not None else ssl_context),
            server_side=server_side,
            server_hostname=_ascii_hostname(server_hostname),
            session=session,
        )
        self._https_compatible = https_compatible
        self._send_close_notify = not https_compatible if send_close_notify is None else send_close_notify
        self._require_close_notify = not https_compatible if require_close_notify is None else require_close_notify
        if initial_data:
            machine.incoming.write(bytes(initial_data))
        super().__init__(machine, Pump(machine, *choose(transport_stream, grace=grace), grace=grace))
        self.transport_stream: T_Stream | None = transport_stream
        self._pump.on_handshake_done = apply_tcp_nodelay(transport_stream, tcp_nodelay)
        self._grace = grace

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


def _ascii_hostname(hostname: str | bytes | None) -> str | None:
    """As it goes on the wire: IDNA 2008 A-labels, as trio encodes them."""
    if isinstance(hostname, str):
        hostname = trio.lowlevel.encode_hostname(hostname)
    return hostname.decode("ascii") if hostname is not None else None
