"""Servers for the clients under test: hypercorn in this process, nginx in its own, a proxy, and one that does nothing.

How this works. Each is an async context manager that yields where the server listens, and ends it. hypercorn runs its
ordinary Trio worker on our classes (`trio_tls.compat`); nginx runs in the foreground, in a directory of its own.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h11
import hypercorn
import hypercorn.trio
import trio

from trio_tls import ConfigContext, ServerConfig, TLSListener, TLSStream, compat

from ..interop.processes import absent
from ..peers import Config, client_of, server_of
from ..support import Machines, server_certificate, server_config

#: Seconds; for a program to start on a busy machine, and for all that is done with it.
PATIENCE = 60

#: What every HTTP server here offers.
PROTOCOLS = ["h2", "http/1.1"]

App = Callable[[Any, Any, Any], Awaitable[None]]


def http_server_of(machines: Machines, protocols: list[str] | None = None) -> Config:
    """A server's configuration that speaks HTTP by ALPN."""
    if machines.is_own("server"):
        return server_config().replace(alpn_protocols=protocols or PROTOCOLS)
    context = server_of(machines)
    context.set_alpn_protocols(protocols or PROTOCOLS)
    return context


def http_client_of(machines: Machines) -> Any:
    """A client's configuration for an HTTP library, which sets the ALPN protocols of an `ssl.SSLContext`."""
    return machines.client if machines.is_own("client") else client_of(machines)


class HypercornConfig(hypercorn.Config):
    """hypercorn's configuration, with a TLS configuration of any kind in it."""

    def __init__(self, tls: Config) -> None:
        super().__init__()
        self._tls = tls
        self.bind = ["127.0.0.1:0"]
        self.errorlog = None
        self.graceful_timeout = 0.1
        self.keep_alive_timeout = 60

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> Any:
        return ConfigContext(self._tls) if isinstance(self._tls, ServerConfig) else self._tls


@asynccontextmanager
async def hypercorn_with(app: Any, tls: Config, **settings: Any) -> AsyncIterator[int]:
    """Hypercorn with an application, and the port that it listens on."""
    config = HypercornConfig(tls)
    for name, value in settings.items():
        setattr(config, name, value)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        with compat.installed():  # it makes its listener while it starts
            serve = partial(hypercorn.trio.serve, app, config, shutdown_trigger=stop.wait)
            (bind,) = await nursery.start(serve)
        try:
            yield int(bind.rpartition(":")[2])
        finally:
            stop.set()


@asynccontextmanager
async def nginx(directory: Path, *, protocols: str = "TLSv1.2 TLSv1.3", server: str = "") -> AsyncIterator[int]:
    """Nginx with a page at ``/``, and 4 MB at ``/big``; the port that it listens on.

    Args:
      directory: for all that it writes.
      protocols: the versions of TLS.
      server: more directives for its server block.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        absent("there is no nginx: install nginx-light (its name in Debian) to run the ecosystem tests")
    assert program is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    certificate = server_certificate()
    (directory / "server.pem").write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
    (directory / "big").write_bytes(bytes(range(256)) * 16_000)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    written = "".join(f"{each}_temp_path {directory}/tmp;" for each in kinds)
    (directory / "nginx.conf").write_text(f"""\
daemon off;
master_process off;
error_log stderr;
pid {directory}/nginx.pid;
events {{ }}
http {{
    access_log off;
    {written}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {directory}/server.pem;
        ssl_certificate_key {directory}/server.pem;
        ssl_protocols {protocols};
        {server}
        location = / {{ return 200 "nginx over $ssl_protocol with $server_protocol"; }}
        location = /big {{ root {directory}; }}
    }}
}}
""")
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(
            [program, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", "stderr"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await _listens(port, process)
            yield port
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()


async def _listens(port: int, process: trio.Process) -> None:
    while True:
        assert process.poll() is None, f"nginx ended with {process.returncode}"
        try:
            await trio.aclose_forcefully(await trio.open_tcp_stream("127.0.0.1", port))
        except OSError:
            await trio.sleep(0.02)  # it does not say when it is ready
        else:
            return


@asynccontextmanager
async def listening(
    handler: Callable[[Any], Awaitable[object]], tls: Config | None = None, *, buffer: int | None = None
) -> AsyncIterator[tuple[int, list[Any]]]:
    """A server by hand: its port, and the connections that it has had. ``buffer``: of its sockets, for receiving."""
    (tcp,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    if buffer is not None:
        tcp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    listener: trio.abc.Listener[Any] = tcp if tls is None else TLSListener(tcp, tls, https_compatible=True)
    connections: list[Any] = []

    async def serve(stream: Any) -> None:
        connections.append(stream)
        try:
            async with stream:
                await handler(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone, as it may

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield tcp.socket.getsockname()[1], connections
        nursery.cancel_scope.cancel()


async def silence(stream: Any) -> None:
    """A server that accepts and never says a word; it reads to the end if it can."""
    await trio.sleep_forever()


async def hello(stream: Any) -> None:
    """A server of HTTP/1.1 that says hello to every request, and tells its port of the client's address."""
    connection = h11.Connection(h11.SERVER)
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.EndOfMessage):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            connection = h11.Connection(h11.SERVER)
        elif isinstance(event, h11.ConnectionClosed):
            return


@asynccontextmanager
async def proxy(tls: Config | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """An HTTP proxy that knows CONNECT, over TLS if given: its port, and the requests that it has had."""
    requests: list[bytes] = []

    async def serve(stream: Any) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = await stream.receive_some(1)  # not a byte of what comes behind
            if not part:
                return
            head += part
        requests.append(head.partition(b"\r\n")[0])
        method, target, _version = requests[-1].split(b" ")
        assert method == b"CONNECT"
        if target.startswith(b"forbidden"):
            await stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = target.decode().rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as upstream:
            await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_relay, stream, upstream, nursery.cancel_scope)
                nursery.start_soon(_relay, upstream, stream, nursery.cancel_scope)

    async with listening(serve, tls) as (port, _connections):
        yield port, requests


async def _relay(source: Any, target: Any, scope: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some():
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


def tls_stream_below(response: Any) -> TLSStream[Any]:
    """The stream that a response of httpx's or httpcore's came over."""
    stream = response.extensions["network_stream"].get_extra_info("tls_stream")
    assert isinstance(stream, TLSStream)
    return stream
