"""httpcore and httpx over `trio_tls.httpcore.TLSBackend`: requests, proxies, errors, timeouts, idle connections."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
import trio
import trio.testing

from trio_tls import Alert, ClientConfig, ConfigContext, TLSError, TLSStream, UnexpectedEOF
from trio_tls.httpcore import TLSBackend, TLSNetworkStream
from trio_tls.httpx import TLSTransport

from ..blocking import unwrap_both
from ..peers import distrustful_client
from ..support import HOST, Machines, client_config, client_context, machines_named, receive_exactly, tls_pair
from .servers import (
    hello,
    http_client_of,
    http_server_of,
    hypercorn_with,
    listening,
    nginx,
    proxy,
    silence,
    tls_stream_below,
)


def as_context(config: Any) -> ssl.SSLContext:
    """What httpcore takes."""
    return ConfigContext(config) if isinstance(config, ClientConfig) else config


def pool_of(machines: Machines, *, backend: Any = None, **options: Any) -> httpcore.AsyncConnectionPool:
    return httpcore.AsyncConnectionPool(
        ssl_context=as_context(http_client_of(machines)), network_backend=backend or TLSBackend(), **options
    )


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says how long the body was."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


# -- requests --------------------------------------------------------------------------------------------------


@pytest.mark.row("httpcore", "HTTP/1.1 and HTTP/2 with hypercorn")
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_requests_and_uploads_share_a_connection(machines: Machines, http2: bool) -> None:
    async with hypercorn_with(app, http_server_of(machines)) as port, pool_of(machines, http2=http2) as pool:
        for size in (0, 10, 300_000):
            response = await pool.request("POST", f"https://localhost:{port}/", content=bytes(size))
            assert response.content == str(size).encode()
            assert response.extensions["http_version"] == (b"HTTP/2" if http2 else b"HTTP/1.1")
            assert tls_stream_below(response).version() == machines.version
        assert len(pool.connections) == 1


@pytest.mark.row("httpx", "HTTP/1.1 and HTTP/2 with nginx")
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_nginx_serves_pages_and_files(machines: Machines, tmp_path: Path, http2: bool) -> None:
    transport = TLSTransport(http_client_of(machines), http2=http2)
    async with nginx(tmp_path) as port, httpx.AsyncClient(transport=transport) as client:
        streams = set()
        for _ in range(3):
            page = await client.get(f"https://localhost:{port}/")
            assert page.text == f"nginx over {machines.version} with {'HTTP/2.0' if http2 else 'HTTP/1.1'}"
            big = await client.get(f"https://localhost:{port}/big")
            assert big.content == (tmp_path / "big").read_bytes()
            streams |= {tls_stream_below(page), tls_stream_below(big)}
        assert len(streams) == 1


@pytest.mark.row("httpx", "connections that nginx ends are replaced")
async def test_a_connection_that_nginx_has_ended_is_replaced(machines: Machines, tmp_path: Path) -> None:
    transport = TLSTransport(http_client_of(machines))
    async with (
        nginx(tmp_path, server="keepalive_requests 2;") as port,
        httpx.AsyncClient(transport=transport) as client,
    ):
        streams = [tls_stream_below(await client.get(f"https://localhost:{port}/")) for _ in range(6)]
    assert len(set(streams)) == 3


async def test_the_concurrent_requests_of_http2_share_one_connection(machines: Machines) -> None:
    async with hypercorn_with(app, http_server_of(machines)) as port, pool_of(machines, http2=True) as pool:
        answers = []

        async def request(size: int) -> None:
            response = await pool.request("POST", f"https://localhost:{port}/", content=bytes(size))
            answers.append((size, int(response.content)))

        await request(1)
        async with trio.open_nursery() as nursery:
            for number in range(2, 12):
                nursery.start_soon(request, number * 10_000)
        assert len(answers) == 11 and all(sent == received for sent, received in answers)
        assert len(pool.connections) == 1


async def test_plain_http_works_as_ever() -> None:
    async with listening(hello) as (port, connections), pool_of(machines_named("own")) as pool:
        for _ in range(3):
            response = await pool.request("GET", f"http://localhost:{port}/")
            assert response.content == b"hello"
        stream = response.extensions["network_stream"]
        assert stream.get_extra_info("tls_stream") is stream.get_extra_info("ssl_object") is None
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
        assert stream.get_extra_info("is_readable") is False
        assert stream.get_extra_info("anything else") is None
        assert len(connections) == 1
        await connections[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert stream.get_extra_info("is_readable") is True
    assert stream.get_extra_info("is_readable") is True


async def test_a_unix_socket_carries_tls(machines: Machines, tmp_path: Path) -> None:
    path, tls = str(tmp_path / "socket"), http_server_of(machines)
    listening_socket = trio.socket.socket(trio.socket.AF_UNIX)
    await listening_socket.bind(path)
    listening_socket.listen()
    async with trio.open_nursery() as nursery:

        async def serve(transport: trio.SocketStream) -> None:
            async with TLSStream(transport, tls, server_side=True, https_compatible=True) as stream:
                await hello(stream)

        nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening_socket)])
        async with httpx.AsyncClient(transport=TLSTransport(http_client_of(machines), uds=path)) as client:
            assert (await client.get("https://localhost/")).text == "hello"
        nursery.cancel_scope.cancel()


async def test_facts_of_a_connection(machines: Machines) -> None:
    tls = http_server_of(machines)
    async with listening(hello, tls) as (port, connections), pool_of(machines) as pool:
        response = await pool.request("GET", f"https://localhost:{port}/", extensions={"sni_hostname": HOST})
        network_stream = response.extensions["network_stream"]
        stream = tls_stream_below(response)
        assert stream.server_hostname == HOST
        ssl_object = network_stream.get_extra_info("ssl_object")
        assert ssl_object.version() == machines.version
        assert ssl_object.selected_alpn_protocol() == "http/1.1"
        assert (ssl_object is stream) == machines.is_own("client")
        assert network_stream.get_extra_info("server_addr") == ("127.0.0.1", port)
        client_address = connections[0].transport_stream.socket.getpeername()
        assert network_stream.get_extra_info("client_addr") == client_address
        assert network_stream.get_extra_info("socket").getsockname() == client_address


async def test_an_unwrapped_connection_has_no_socket_to_tell_of(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        stream = TLSNetworkStream(client, require_close_notify=False, grace=1.0)
        assert stream.get_extra_info("socket") is not None
        await unwrap_both(client, server)
        for info in ("socket", "client_addr", "server_addr"):
            assert stream.get_extra_info(info) is None
        assert stream.get_extra_info("is_readable") is True


async def test_connections_that_share_a_context_have_each_the_protocols_that_were_set_for_it(
    machines: Machines,
) -> None:
    """The library sets them right before it starts TLS: other ones for a proxy than for a server behind it."""
    context = as_context(http_client_of(machines))
    agreed: dict[str, str | None] = {}
    async with listening(hello, http_server_of(machines)) as (port, _):

        async def connect(protocol: str) -> None:
            stream = await TLSBackend().connect_tcp("127.0.0.1", port)
            ready.append(protocol)
            if len(ready) == 2:
                both.set()
            await both.wait()
            context.set_alpn_protocols([protocol])
            secure = await stream.start_tls(context, "localhost")
            agreed[protocol] = secure.get_extra_info("tls_stream").selected_alpn_protocol()
            await secure.aclose()

        ready: list[str] = []
        both = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect, "h2")
            nursery.start_soon(connect, "http/1.1")
    assert agreed == {"h2": "h2", "http/1.1": "http/1.1"}


async def test_socket_options_are_set_and_a_bad_one_closes_the_connection() -> None:
    good = [(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)]
    async with listening(silence) as (port, _connections):
        stream = await TLSBackend().connect_tcp("127.0.0.1", port, socket_options=good)
        option = stream.get_extra_info("socket").getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE)
        assert option == 1
        await stream.aclose()
        with pytest.raises(httpcore.ConnectError):
            await TLSBackend().connect_tcp("127.0.0.1", port, socket_options=[(9999, 9999, 1)])


async def test_it_sleeps_between_attempts(autojump_clock: trio.testing.MockClock) -> None:
    before = trio.current_time()
    await TLSBackend().sleep(5)
    assert trio.current_time() - before == 5


@pytest.mark.parametrize("grace", [-1, float("nan")])
def test_a_negative_grace_is_refused(grace: float) -> None:
    with pytest.raises(ValueError, match="grace"):
        TLSBackend(grace=grace)


def test_httpx_takes_configurations_and_nothing_else() -> None:
    bad: Any = "ca.pem"
    with pytest.raises(TypeError, match="verify must be an ssl.SSLContext, a ClientConfig or a bool, not str"):
        TLSTransport(bad)
    for good in (True, False, client_config(), client_context(), ConfigContext(client_config())):
        assert isinstance(TLSTransport(good), httpx.AsyncHTTPTransport)


def test_a_version_of_httpx_that_is_other_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "__init__", lambda self, **options: None)
    with pytest.raises(RuntimeError, match="does not know httpx"):
        TLSTransport()


# -- proxies ---------------------------------------------------------------------------------------------------


@pytest.mark.row("httpcore", "through a proxy, TLS in TLS")
@pytest.mark.parametrize("secure", [False, True], ids=["http-proxy", "https-proxy"])
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_requests_go_through_a_proxy(machines: Machines, secure: bool, http2: bool) -> None:
    tls = http_server_of(machines, ["http/1.1"]) if secure else None
    async with hypercorn_with(app, http_server_of(machines)) as port, proxy(tls) as (proxy_port, requests):
        pool = httpcore.AsyncHTTPProxy(
            f"{'https' if secure else 'http'}://localhost:{proxy_port}/",
            ssl_context=as_context(http_client_of(machines)),
            proxy_ssl_context=as_context(http_client_of(machines)) if secure else None,
            network_backend=TLSBackend(),
            http2=http2,
        )
        async with pool:
            for size in (10, 300_000):
                response = await pool.request("POST", f"https://127.0.0.1:{port}/", content=bytes(size))
                assert response.content == str(size).encode()
            inner = tls_stream_below(response)
            assert isinstance(inner.transport_stream, TLSStream if secure else trio.SocketStream)
            network_stream = response.extensions["network_stream"]
            assert network_stream.get_extra_info("server_addr") == ("127.0.0.1", proxy_port)
            assert network_stream.get_extra_info("is_readable") is False
        assert requests == [b"CONNECT 127.0.0.1:%d HTTP/1.1" % port]


@pytest.mark.row("httpx", "through a proxy, TLS in TLS")
async def test_httpx_goes_through_a_proxy(machines: Machines) -> None:
    tls = http_server_of(machines, ["http/1.1"])
    async with hypercorn_with(app, http_server_of(machines)) as port, proxy(tls) as (proxy_port, requests):
        context = as_context(http_client_of(machines))
        through = httpx.Proxy(f"https://localhost:{proxy_port}/", ssl_context=context)
        transport = TLSTransport(http_client_of(machines), proxy=through)
        async with httpx.AsyncClient(transport=transport) as client:
            assert (await client.post(f"https://127.0.0.1:{port}/", content=b"12345")).text == "5"
            with pytest.raises(httpx.ProxyError, match="403"):
                await client.get("https://forbidden.example.org/")
        assert len(requests) == 2


# -- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.row("httpcore", "its exceptions, with our words")
async def test_a_server_that_is_not_trusted_is_a_connect_error(machines: Machines) -> None:
    seen: list[TLSError] = []

    async def serve(stream: Any) -> None:
        try:
            await stream.do_handshake()
            await stream.receive_some()
        except TLSError as error:
            seen.append(error)

    async with listening(serve, http_server_of(machines)) as (port, _connections):
        context = as_context(distrustful_client(machines))
        async with httpcore.AsyncConnectionPool(ssl_context=context, network_backend=TLSBackend()) as pool:
            with pytest.raises(httpcore.ConnectError) as caught:
                await pool.request("GET", f"https://localhost:{port}/")
            assert pool.connections == []
        await trio.testing.wait_all_tasks_blocked()
    cause = caught.value.args[0]
    assert isinstance(cause, TLSError) and isinstance(cause, ssl.CertificateError)
    assert str(caught.value) == str(cause) != ""
    assert seen[0].alert is Alert.unknown_ca and seen[0].sent_by_peer


async def test_a_name_that_cannot_be_one_is_a_connect_error(machines: Machines) -> None:
    async with listening(silence) as (port, _), pool_of(machines) as pool:
        for name in ("", "a" * 300) if not machines.is_own("client") else ("_a_._b_", "a" * 300):
            stream = await TLSBackend().connect_tcp("127.0.0.1", port)
            with pytest.raises(httpcore.ConnectError):
                await stream.start_tls(as_context(http_client_of(machines)), name, timeout=5)
            with pytest.raises(httpcore.ReadError):
                await stream.read(1)  # it was closed
        assert pool.connections == []


async def test_what_is_no_configuration_is_a_type_error_and_closes_the_connection() -> None:
    bad: Any = "a context"
    async with listening(silence) as (port, _):
        stream = await TLSBackend().connect_tcp("127.0.0.1", port)
        with pytest.raises(TypeError, match="must be"):
            await stream.start_tls(bad, HOST)
        with pytest.raises(httpcore.WriteError):
            await stream.write(b"anything")


async def test_nobody_listening_is_a_connect_error(tmp_path: Path) -> None:
    async with listening(silence) as (port, _):
        pass
    with pytest.raises(httpcore.ConnectError):
        await TLSBackend().connect_tcp("127.0.0.1", port)
    with pytest.raises(httpcore.ConnectError):
        await TLSBackend().connect_unix_socket(str(tmp_path / "nothing"))


async def test_a_reset_while_reading_is_a_read_error_and_while_writing_a_write_error(machines: Machines) -> None:
    async def reset(stream: Any) -> None:
        await stream.do_handshake()
        sock = stream.transport_stream.socket
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(stream)

    async with listening(reset, http_server_of(machines)) as (port, _):
        stream = await TLSBackend().connect_tcp("127.0.0.1", port)
        secure = await stream.start_tls(as_context(http_client_of(machines)), "localhost")
        with pytest.raises(httpcore.ReadError, match="failed|ended|reset"):
            while True:
                await secure.read(1000)
        with pytest.raises(httpcore.WriteError):
            await secure.write(b"anything")
        await secure.aclose()


@pytest.mark.parametrize("strict", [False, True])
async def test_a_response_that_ends_with_the_connection(machines: Machines, strict: bool) -> None:
    async def cut_short(stream: Any) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nhalf of")  # without close_notify: an attacker could do it

    backend = TLSBackend(require_close_notify=strict)
    async with listening(cut_short, http_server_of(machines)) as (port, _), pool_of(machines, backend=backend) as pool:
        if strict:
            with pytest.raises(httpcore.ReadError) as caught:
                await pool.request("GET", f"https://localhost:{port}/")
            assert isinstance(caught.value.args[0], UnexpectedEOF)
        else:
            assert (await pool.request("GET", f"https://localhost:{port}/")).content == b"half of"


async def test_the_server_is_told_the_end(machines: Machines) -> None:
    """RFC 9112 section 9.8: "Clients MUST send a closure alert before closing the connection"."""
    ends: list[bytes] = []

    async def serve(transport: Any) -> None:
        stream = TLSStream(transport, http_server_of(machines), server_side=True, require_close_notify=True)
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        ends.append(await stream.receive_some())

    async with listening(serve) as (port, _):
        async with pool_of(machines) as pool:
            assert (await pool.request("GET", f"https://localhost:{port}/")).content == b"ok"
        while not ends:
            await trio.testing.wait_all_tasks_blocked()
    assert ends == [b""]


# -- timeouts --------------------------------------------------------------------------------------------------


@pytest.mark.row("httpcore", "timeouts")
async def test_a_server_that_does_not_answer_the_handshake_is_a_connect_timeout(
    autojump_clock: trio.testing.MockClock, machines: Machines
) -> None:
    ended = trio.Event()

    async def serve(stream: Any) -> None:
        while await stream.receive_some():
            pass
        ended.set()

    async with listening(serve) as (port, _), pool_of(machines) as pool:
        with pytest.raises(httpcore.ConnectTimeout, match="handshake was not done after 5 seconds"):
            await pool.request("GET", f"https://127.0.0.1:{port}/", extensions={"timeout": {"connect": 5}})
        assert pool.connections == []
        await ended.wait()  # the connection was closed


@pytest.mark.row("httpcore", "timeouts")
async def test_a_server_that_does_not_answer_a_request_is_a_read_timeout(
    autojump_clock: trio.testing.MockClock, machines: Machines
) -> None:
    async def read_and_be_silent(stream: Any) -> None:
        await stream.receive_some()
        await trio.sleep(100)

    async with listening(read_and_be_silent, http_server_of(machines)) as (port, connections):
        async with pool_of(machines) as pool:
            with pytest.raises(httpcore.ReadTimeout, match="sent nothing after 5 seconds"):
                await pool.request("GET", f"https://127.0.0.1:{port}/", extensions={"timeout": {"read": 5}})
            assert pool.connections == []
            assert len(connections) == 1


@pytest.mark.row("httpcore", "timeouts")
async def test_a_server_that_does_not_read_is_a_write_timeout(
    autojump_clock: trio.testing.MockClock, machines: Machines
) -> None:
    async def deaf(stream: Any) -> None:
        await stream.do_handshake()
        await trio.sleep(100)

    options = {"timeout": {"write": 5}}
    async with listening(deaf, http_server_of(machines)) as (port, _), pool_of(machines) as pool:
        before = trio.current_time()
        with pytest.raises(httpcore.WriteTimeout, match="not taken all that was sent to it after 5 seconds"):
            await pool.request(
                "POST", f"https://127.0.0.1:{port}/", content=bytes(30_000_000), extensions=dict(options)
            )
        assert trio.current_time() - before < 5.1  # a connection that cannot end well is not waited for
        assert pool.connections == []


# -- idle connections ------------------------------------------------------------------------------------------


@asynccontextmanager
async def updating_keys(tls: Any) -> AsyncIterator[tuple[int, list[Any], Callable[[Any], Awaitable[None]]]]:
    """A server, its connections, and what makes an idle connection's socket readable: a KeyUpdate of the server's."""

    async def key_update(response: Any) -> None:
        await connections[-1].update_keys(request_update=True)
        await trio.lowlevel.wait_readable(response.extensions["network_stream"].get_extra_info("socket"))

    async with listening(hello, tls) as (port, connections):
        yield port, connections, key_update


@pytest.mark.row("httpcore", "idle connections with KeyUpdates are kept")
@pytest.mark.parametrize("machines", ["own", "own-server"], indirect=True)
async def test_an_idle_connection_with_a_key_update_is_kept(machines: Machines) -> None:
    """A KeyUpdate is nothing to an application, but makes the socket readable; so does a ticket."""
    async with updating_keys(http_server_of(machines)) as (port, connections, key_update), pool_of(machines) as pool:
        for _ in range(4):
            response = await pool.request("GET", f"https://localhost:{port}/")
            assert response.content == b"hello"
            await key_update(response)
        assert not response.extensions["network_stream"].get_extra_info("is_readable")
        assert len(connections) == 1


async def test_a_backend_that_asks_the_socket_drops_such_a_connection() -> None:
    """What the test above is about: httpcore's own backend."""
    machines, backend = machines_named("own-server"), httpcore.TrioBackend()
    async with updating_keys(http_server_of(machines)) as (port, connections, key_update):
        async with pool_of(machines, backend=backend) as pool:
            for _ in range(4):
                await key_update(await pool.request("GET", f"https://localhost:{port}/"))
            assert len(connections) == 4


@pytest.mark.row("httpcore", "idle connections that have ended are replaced")
async def test_an_idle_connection_that_has_ended_is_replaced(machines: Machines) -> None:
    async with listening(hello, http_server_of(machines)) as (port, connections), pool_of(machines) as pool:
        for number in range(1, 4):
            response = await pool.request("GET", f"https://localhost:{port}/")
            assert response.content == b"hello"
            await connections[-1].aclose()
            stream = response.extensions["network_stream"]
            await trio.lowlevel.wait_readable(stream.get_extra_info("socket"))
            assert stream.get_extra_info("is_readable")
            assert len(connections) == number


async def test_an_upgraded_connection_is_the_applications(machines: Machines) -> None:
    async def upgrade(stream: Any) -> None:
        assert (await stream.receive_some()).endswith(b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
        await stream.send_all(await receive_exactly(stream, 5))

    async with listening(upgrade, http_server_of(machines)) as (port, _), pool_of(machines) as pool:
        headers = [("Upgrade", "echo"), ("Connection", "upgrade")]
        async with pool.stream("GET", f"https://localhost:{port}/", headers=headers) as response:
            assert response.status == 101
            stream = response.extensions["network_stream"]
            await stream.write(b"12345")
            assert await stream.read(100) == b"12345"
