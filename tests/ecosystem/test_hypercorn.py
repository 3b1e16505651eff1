"""hypercorn's Trio worker, and quart-trio on it, over our listener and streams."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import pytest
import trio
from quart import request
from quart_trio import QuartTrio

from trio_tls import TLSStream
from trio_tls.asgi import TLSExtension
from trio_tls.httpx import TLSTransport

from ..peers import certified_client, demanding_server
from ..support import HOST, Machines
from .servers import http_client_of, http_server_of, hypercorn_with, tls_stream_below

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    assert (await receive())["type"] == "http.request"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def connection_to(port: int, machines: Machines, **options: Any) -> TLSStream[trio.SocketStream]:
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    return TLSStream(tcp, machines.client, server_hostname=HOST, **options)


async def get(stream: TLSStream[Any], *, headers: bytes = b"") -> bytes:
    await stream.send_all(GET + headers + b"\r\n")
    answer = b""
    while not answer.endswith(b"hello"):
        part = await stream.receive_some()
        assert part, answer
        answer += part
    return answer


@pytest.mark.row("hypercorn", "HTTP/1.1 and HTTP/2")
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_it_serves(machines: Machines, http2: bool) -> None:
    async with hypercorn_with(hello, http_server_of(machines)) as port:
        async with httpx.AsyncClient(transport=TLSTransport(http_client_of(machines), http2=http2)) as client:
            for _ in range(3):
                response = await client.get(f"https://localhost:{port}/")
                assert response.text == "hello"
                assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                assert tls_stream_below(response).version() == machines.version


@pytest.mark.row("hypercorn", "goes on after a half-close")
async def test_the_end_of_one_connection_is_not_the_end_of_the_server(machines: Machines) -> None:
    """It calls ``send_eof`` on every stream that it closes. An exception that it does not expect there ends it."""
    async with hypercorn_with(hello, http_server_of(machines)) as port:
        for _ in range(3):
            async with await connection_to(port, machines, https_compatible=True) as stream:
                assert b"200" in await get(stream, headers=b"Connection: close\r\n")
                assert await stream.receive_some() == b""


@pytest.mark.row("hypercorn", "goes on after a half-close")
async def test_a_client_that_closes_its_side_first_gets_its_answer(machines: Machines) -> None:
    async with hypercorn_with(hello, http_server_of(machines)) as port:
        async with await connection_to(port, machines, require_close_notify=False) as stream:
            assert b"200" in await get(stream)
            await stream.send_eof()
            assert await stream.receive_some() == b""
        async with await connection_to(port, machines) as stream:
            assert b"200" in await get(stream)


@pytest.mark.row("hypercorn", "goes on after a bad client")
async def test_clients_that_fail_disturb_nobody(machines: Machines) -> None:
    async with hypercorn_with(hello, http_server_of(machines), ssl_handshake_timeout=0.2) as port:
        garbage, silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        async with garbage, silent:
            await garbage.send_all(b"GET / HTTP/1.1\r\n\r\n")
            while await garbage.receive_some():
                pass  # an alert
            assert await silent.receive_some() == b""  # after the timeout
        gone = await connection_to(port, machines)
        await gone.do_handshake()
        await trio.aclose_forcefully(gone)
        async with await connection_to(port, machines) as stream:
            assert b"200" in await get(stream)


@pytest.mark.row("quart-trio", "client certificates, by the ASGI TLS extension")
async def test_an_application_sees_the_clients_certificate(machines: Machines) -> None:
    app = QuartTrio(__name__)

    @app.get("/")
    async def whoami() -> dict[str, Any]:
        facts: dict[str, Any] = dict(request.scope["extensions"]["tls"])
        facts["chain"] = len(facts.pop("client_cert_chain"))
        return facts

    server = demanding_server(machines)
    if isinstance(server, ssl.SSLContext):
        server.set_alpn_protocols(["http/1.1"])
    async with hypercorn_with(TLSExtension(app), server) as port:
        transport = TLSTransport(certified_client(machines))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport) as client:
            facts = (await client.get(f"https://localhost:{port}/")).json()
    assert facts["chain"] >= 1  # OpenSSL adds the CA, where it has it
    assert "trustme" in facts["client_cert_name"]
    assert facts["tls_version"] == (0x0303 if machines.version == "TLSv1.2" else 0x0304)
    assert facts["cipher_suite"] > 0x1300
    assert (facts["server_cert"] is None) != machines.is_own("server")


@pytest.mark.row("quart-trio", "a large upload and its echo")
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_a_large_upload_comes_back(machines: Machines, http2: bool) -> None:
    app = QuartTrio(__name__)

    @app.post("/")
    async def echo() -> bytes:
        body: Any = await request.get_data()
        return bytes(body)

    data = bytes(range(256)) * 2000
    async with hypercorn_with(app, http_server_of(machines)) as port:
        async with httpx.AsyncClient(transport=TLSTransport(http_client_of(machines), http2=http2)) as client:
            response = await client.post(f"https://localhost:{port}/", content=data)
    assert response.content == data
