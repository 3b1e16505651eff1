"""Plain HTTP on a TLS port: a person sees what is wrong, and nobody else notices."""

from __future__ import annotations

import http.client
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import PeerMisbehaved, TLSError, TLSStream
from trio_tls.serving.plain_http import ANSWER, MOST_READ, PATIENCE, answer_plain_http
from trio_tls.testing import CancelMode, Interrupter, sweep

from ..support import HOST, TIERS, Machines, receive_exactly, transport_pair
from .servers import MemoryServer, connect, echo, messages, serve_on_loopback


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    try:
        while part := await stream.receive_some():
            received += part
    except trio.BrokenResourceError:
        pass
    return received


async def test_an_http_client_is_told_that_this_is_a_tls_port(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[Exception] = []

    def ask(host: str, port: int) -> tuple[int, str]:
        connection = http.client.HTTPConnection(host, port, timeout=10)
        connection.request("POST", "/", body=b"x" * 10_000)
        response = connection.getresponse()
        connection.close()
        return response.status, response.read().decode()

    async with trio.open_nursery() as nursery:
        address = await serve_on_loopback(
            nursery,
            echo,
            machines.server,
            plain_http=True,
            on_handshake_error=lambda error, stream: errors.append(error),
        )
        status, text = await trio.to_thread.run_sync(ask, *address)
        assert status == 400
        assert "this is a TLS port" in text and "https://" in text
        async with await connect(address, machines.client) as client:  # nobody else is disturbed
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
        nursery.cancel_scope.cancel()
    (error,) = errors
    assert isinstance(error, PeerMisbehaved) and error.alert is None
    (message,) = messages(caplog)
    assert "does not speak TLS but HTTP: its first bytes are b'POST / HTTP/1.1\\r'" in message


async def test_a_request_gets_the_answer_and_nothing_else(machines: Machines) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(plain_http=True)
        client = server.listener.connect()
        await client.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await client.send_eof()
        assert await everything(client) == ANSWER  # no alert before it or behind it
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("begin", [b"EHLO client\r\n", b"\x00\x01", b"GETTING /", b"\x16\x03\x01", b"SSH-2.0-x\r\n"])
async def test_what_is_no_http_is_left_to_the_handshake(machines: Machines, begin: bytes) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(plain_http=True)
        client = server.listener.connect()
        await client.send_all(begin + b"garbage that is long enough to be seen for what it is")
        await client.send_eof()
        received = await everything(client)
        assert received != ANSWER and received[:1] == b"\x15"  # an alert
        nursery.cancel_scope.cancel()


async def test_without_being_asked_for_there_is_no_answer(machines: Machines) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start()
        client = server.listener.connect()
        await client.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await client.send_eof()
        assert b"HTTP" not in await everything(client)
        nursery.cancel_scope.cancel()


async def test_a_client_that_connects_and_leaves_is_an_ordinary_failure(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(plain_http=True)
        client = server.listener.connect()
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (message,) = messages(caplog)
    assert "UnexpectedEOF" in message


async def test_a_client_that_sends_on_and_on_or_does_not_read_is_left_after_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told_at: list[float] = []
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(
            plain_http=True, on_handshake_error=lambda error, stream: told_at.append(trio.current_time())
        )
        talker = server.listener.connect()
        await talker.send_all(b"POST / HTTP/1.1\r\n")
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await talker.send_all(bytes(1000))
                await trio.sleep(0.001)
        sent_for = trio.current_time()
        assert sent_for <= PATIENCE and sent_for * 1000 <= MOST_READ / 1000 + 2
        silent = server.listener.connect()
        await silent.send_all(b"GET / HTTP/1.1\r\n")
        assert await everything(silent) == ANSWER
        await trio.sleep(60)
        assert told_at == pytest.approx([sent_for, sent_for + PATIENCE], abs=0.01)
        nursery.cancel_scope.cancel()


async def test_a_client_that_resets_instead_of_waiting_for_the_answer_hurts_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(plain_http=True)
        client = server.listener.connect()
        await client.send_all(b"GET / HTTP/1.1\r\n")
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert "does not speak TLS but HTTP" in messages(caplog)[0]
        async with server.connect() as good:
            await good.do_handshake()
        nursery.cancel_scope.cancel()


# What differs on tier 5 is the task that sends, which has nothing to do before the handshake.
@pytest.mark.parametrize("tier", [tier for tier in TIERS if not tier.startswith("5")])
async def test_the_handshake_goes_on_whatever_the_transport_and_however_the_hello_is_cut(
    machines: Machines, tier: str
) -> None:
    async with transport_pair(tier, machines) as transports:
        client = TLSStream(transports[0], machines.client, server_hostname=HOST)
        server = TLSStream(transports[1], machines.server, server_side=True)

        async def serve() -> None:
            assert await answer_plain_http(server) is None
            await server.send_all(await receive_exactly(server, 5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await client.send_all(b"hello")
            assert await receive_exactly(client, 5) == b"hello"
        await trio.aclose_forcefully(client)
        await trio.aclose_forcefully(server)


@pytest.mark.parametrize("mode", CancelMode)
async def test_looking_at_the_first_bytes_survives_every_cancel(machines: Machines, mode: CancelMode) -> None:
    async def scenario(interrupter: Interrupter) -> None:
        a, b = trio.testing.memory_stream_pair()
        client = TLSStream(a, machines.client, server_hostname=HOST)
        server = TLSStream(b, machines.server, server_side=True)

        async def look_and_shake_hands() -> None:
            assert await answer_plain_http(server) is None
            await server.do_handshake()

        async def be_a_client() -> None:
            await client.send_all(b"hello")

        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(be_a_client)
            await interrupter.call(look_and_shake_hands)
            assert await receive_exactly(server, 5) == b"hello"

    report = await sweep(scenario, mode)
    assert report.cancelled > 0


async def test_the_answer_is_given_inside_an_outer_tls_connection_too(machines: Machines) -> None:
    async with transport_pair("2-nested", machines) as (outer_client, outer_server):
        server: TLSStream[Any] = TLSStream(outer_server, machines.server, server_side=True)
        failures: list[TLSError | None] = []

        async def answer() -> None:
            failures.append(await answer_plain_http(server))
            await server.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            await outer_client.send_all(b"HEAD / HTTP/1.0\r\n\r\n")
            received = await receive_exactly(outer_client, len(ANSWER))
            await outer_client.aclose()
        assert received == ANSWER
        assert isinstance(failures[0], PeerMisbehaved)
