"""TLS over TCP, in one call: the counterparts of `trio.open_tcp_stream`, `trio.serve_tcp` and their kin."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import trio

from .listener import TLSListener
from .machine.interface import MachineFactory
from .serve import serve_tls
from .stream import TLSStream

__all__ = ["open_tls_over_tcp_listeners", "open_tls_over_tcp_stream", "serve_tls_over_tcp"]


async def open_tls_over_tcp_stream(
    host: str | bytes,
    port: int,
    config: ssl.SSLContext | MachineFactory | None = None,
    *,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | bytes | None = None,
    https_compatible: bool = False,
    session: ssl.SSLSession | None = None,
    happy_eyeballs_delay: float | None = 0.25,
    local_address: str | None = None,
    grace: float = 1.0,
) -> TLSStream[trio.SocketStream]:
    """Connect to ``host`` and ``port`` over TCP, and wrap the connection in a `TLSStream`.

    No handshake is done: the first send or receive does it, or call `TLSStream.do_handshake`.

    Args:
      host: a name or an address.
      port: the TCP port.
      config: as for `TLSStream` (``ssl_context=`` is an alias). Default: what `ssl.create_default_context`
        makes. Making one takes tens of milliseconds, in a worker thread: who connects often should make one
        and pass it.
      server_hostname: the name that the server's certificate must have. Default: ``host``.
      https_compatible: as for `TLSStream`.
      session: as for `TLSStream`.
      happy_eyeballs_delay: as for `trio.open_tcp_stream`.
      local_address: as for `trio.open_tcp_stream`.
      grace: as for `TLSStream`.

    Cancelled: nothing stays open.

    Raises:
      OSError: the TCP connection could not be made.
      ValueError: the configuration cannot be used by a client; the TCP connection has been closed again.
    """
    if config is not None and ssl_context is not None:
        raise TypeError("pass one configuration: config, or its alias ssl_context")
    chosen = config if config is not None else ssl_context
    if chosen is None:
        # It parses the trust store of the system: too long for the event loop.
        chosen = await trio.to_thread.run_sync(_default_client_context)
    tcp_stream = await trio.open_tcp_stream(
        host, port, happy_eyeballs_delay=happy_eyeballs_delay, local_address=local_address
    )
    try:
        return TLSStream(
            tcp_stream,
            chosen,
            server_hostname=host if server_hostname is None else server_hostname,
            https_compatible=https_compatible,
            session=session,
            grace=grace,
        )
    except BaseException:
        await trio.aclose_forcefully(tcp_stream)
        raise


async def open_tls_over_tcp_listeners(
    port: int,
    config: ssl.SSLContext | MachineFactory | None = None,
    *,
    ssl_context: ssl.SSLContext | None = None,
    host: str | bytes | None = None,
    backlog: int | None = None,
    https_compatible: bool = False,
) -> list[TLSListener[trio.SocketStream]]:
    """Listen on ``port`` for TLS connections.

    Args:
      port: the TCP port; 0 lets the system choose one.
      config: as for `TLSListener` (``ssl_context=`` is an alias).
      host: the address to bind to; default: all of them, IPv4 and IPv6.
      backlog: as for `trio.open_tcp_listeners`.
      https_compatible: as for `TLSStream`.

    Returns: one listener for each address.

    Raises:
      OSError: the port could not be had.
      ValueError: the configuration cannot be used by a server.
    """
    tcp_listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    try:
        return [
            TLSListener(tcp_listener, config, ssl_context=ssl_context, https_compatible=https_compatible)
            for tcp_listener in tcp_listeners
        ]
    except BaseException:
        for tcp_listener in tcp_listeners:
            await trio.aclose_forcefully(tcp_listener)
        raise


async def serve_tls_over_tcp(
    handler: Callable[[TLSStream[trio.SocketStream]], Awaitable[object]],
    port: int,
    config: ssl.SSLContext | MachineFactory | None = None,
    *,
    ssl_context: ssl.SSLContext | None = None,
    host: str | bytes | None = None,
    backlog: int | None = None,
    https_compatible: bool = False,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[TLSListener[trio.SocketStream]]] = trio.TASK_STATUS_IGNORED,
    handshake_timeout: float = 30.0,
    max_handshakes: int | None = None,
    on_handshake_error: Callable[[Exception, TLSStream[trio.SocketStream]], object] | None = None,
    stop: trio.Event | None = None,
    stop_grace: float = 10.0,
) -> None:
    """Listen on ``port``, and run ``handler(stream)`` for each client whose TLS handshake succeeds.

    `open_tls_over_tcp_listeners` and `serve_tls` in one; they explain the arguments. A client that sends
    garbage, nothing, or a bad certificate disturbs neither the server nor another client. An exception of a
    handler ends the server, unless it is a `TLSError`.

    ::

        async def echo(stream: TLSStream[trio.SocketStream]) -> None:
            async for data in stream:
                await stream.send_all(data)

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain("server.pem")
        trio.run(partial(serve_tls_over_tcp, echo, 4433, context))
    """
    listeners = await open_tls_over_tcp_listeners(
        port, config, ssl_context=ssl_context, host=host, backlog=backlog, https_compatible=https_compatible
    )
    await serve_tls(
        handler,
        listeners,
        handler_nursery=handler_nursery,
        task_status=task_status,
        handshake_timeout=handshake_timeout,
        max_handshakes=max_handshakes,
        on_handshake_error=on_handshake_error,
        stop=stop,
        stop_grace=stop_grace,
    )


def _default_client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Some Python releases set this option, which makes a truncated stream look like a complete one.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context
