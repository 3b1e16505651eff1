"""TLS over TCP, in one call: the counterparts of `trio.open_tcp_stream`, `trio.serve_tcp` and their kin."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import trio

from .listener import TLSListener
from .machine.interface import MachineFactory
from .machine.tls13.sessions import Session
from .metrics import ServerMetrics
from .nodelay import TCPNoDelay
from .ports import open_shared_tcp_listeners
from .serve import serve_tls
from .serving.connections import OnHandshakeError, WhenFull
from .ssl_sessions import SessionKeepingStream, SSLSessionCache
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
    session: ssl.SSLSession | Session | None = None,
    session_cache: SSLSessionCache | None = None,
    happy_eyeballs_delay: float | None = 0.25,
    local_address: str | None = None,
    tcp_nodelay: TCPNoDelay = "always",
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
      session_cache: resume a session from here, and keep this connection's when it ends. It needs a ``config``: a
        session is of no use with another context.
      happy_eyeballs_delay: as for `trio.open_tcp_stream`.
      local_address: as for `trio.open_tcp_stream`.
      tcp_nodelay: as for `TLSStream`.
      grace: as for `TLSStream`.

    Cancelled: nothing stays open.

    Raises:
      OSError: the TCP connection could not be made.
      ValueError: the configuration cannot be used by a client; the TCP connection has been closed again.
    """
    if config is not None and ssl_context is not None:
        raise TypeError("pass one configuration: config, or its alias ssl_context")
    chosen = config if config is not None else ssl_context
    if session_cache is not None and (chosen is None or session is not None):
        raise ValueError("session_cache needs a configuration that is kept, and no session beside it")
    if chosen is None:
        # It parses the trust store of the system: too long for the event loop.
        chosen = await trio.to_thread.run_sync(_default_client_context)
    tcp_stream = await trio.open_tcp_stream(
        host, port, happy_eyeballs_delay=happy_eyeballs_delay, local_address=local_address
    )
    kind: type[TLSStream[trio.SocketStream]] = TLSStream if session_cache is None else SessionKeepingStream
    try:
        stream = kind(
            tcp_stream,
            chosen,
            server_hostname=host if server_hostname is None else server_hostname,
            https_compatible=https_compatible,
            session=session,
            tcp_nodelay=tcp_nodelay,
            grace=grace,
        )
        if session_cache is not None and isinstance(stream, SessionKeepingStream):
            stream.use(session_cache, port)
        return stream
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
    tcp_nodelay: TCPNoDelay = "always",
    reuse_port: bool = False,
) -> list[TLSListener[trio.SocketStream]]:
    """Listen on ``port`` for TLS connections.

    Args:
      port: the TCP port; 0 lets the system choose one.
      config: as for `TLSListener` (``ssl_context=`` is an alias).
      host: the address to bind to; default: all of them, IPv4 and IPv6.
      backlog: as for `trio.open_tcp_listeners`.
      https_compatible: as for `TLSStream`.
      tcp_nodelay: as for `TLSStream`.
      reuse_port: let other processes of this user listen on the same port (SO_REUSEPORT); each connection goes to one
        of them. See `run_workers`.

    Returns: one listener for each address.

    Raises:
      OSError: the port could not be had.
      ValueError: the configuration cannot be used by a server.
    """
    open_listeners = open_shared_tcp_listeners if reuse_port else trio.open_tcp_listeners
    tcp_listeners = await open_listeners(port, host=host, backlog=backlog)
    try:
        return [
            TLSListener(
                tcp_listener,
                config,
                ssl_context=ssl_context,
                https_compatible=https_compatible,
                tcp_nodelay=tcp_nodelay,
            )
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
    tcp_nodelay: TCPNoDelay = "always",
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[TLSListener[trio.SocketStream]]] = trio.TASK_STATUS_IGNORED,
    handshake_timeout: float = 30.0,
    max_connections: int | None = None,
    max_handshakes: int | None = None,
    when_full: WhenFull = "wait",
    plain_http: bool = False,
    on_handshake_error: OnHandshakeError[trio.SocketStream] | None = None,
    metrics: ServerMetrics | None = None,
    stop: trio.Event | None = None,
    stop_grace: float = 10.0,
    cancel_grace: float = 0.0,
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
        port,
        config,
        ssl_context=ssl_context,
        host=host,
        backlog=backlog,
        https_compatible=https_compatible,
        tcp_nodelay=tcp_nodelay,
    )
    await serve_tls(
        handler,
        listeners,
        handler_nursery=handler_nursery,
        task_status=task_status,
        handshake_timeout=handshake_timeout,
        max_connections=max_connections,
        max_handshakes=max_handshakes,
        when_full=when_full,
        plain_http=plain_http,
        on_handshake_error=on_handshake_error,
        metrics=metrics,
        stop=stop,
        stop_grace=stop_grace,
        cancel_grace=cancel_grace,
    )


def _default_client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Some Python releases set this option, which makes a truncated stream look like a complete one.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context
