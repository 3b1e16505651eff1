"""Requests that are cancelled in the middle: the pool stays intact, and nothing is torn.

The scenarios are swept: an operation is cancelled at each of its steps in turn (`trio_tls.testing.sweep`).
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import httpcore
import pytest
import trio
import trio.testing

from trio_tls import TLSStream, UnexpectedEOF, compat
from trio_tls.httpcore import TLSBackend, TLSNetworkStream
from trio_tls.testing import CancelMode, Interrupter, sweep

from ..blocking import Blocked, blocked, cancel_once_blocked
from ..support import Machines, machines_named, pattern, receive_exactly, tls_pair
from .servers import http_server_of, hypercorn_with, listening, silence, tls_stream_below
from .test_httpcore import app, as_context, pool_of

SMALL_BUFFERS = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)]


# -- requests ----------------------------------------------------------------------------------------------------


@pytest.mark.row("httpcore", "a request that is cancelled while it waits")
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_a_request_that_is_cancelled_leaves_the_pool_intact(machines: Machines, http2: bool) -> None:
    waiting: list[trio.CancelScope] = []

    async def cancelling_app(scope: Any, receive: Any, send: Any) -> None:
        """As `app`; at ``/never`` there is no answer, and the client's request is cancelled once it is here."""
        if scope["type"] == "http" and scope["path"] == "/never":
            waiting[-1].cancel()
            await trio.sleep_forever()
        await app(scope, receive, send)

    async with hypercorn_with(cancelling_app, http_server_of(machines)) as port:
        async with pool_of(machines, http2=http2) as pool:
            url = f"https://localhost:{port}/"
            first = await pool.request("POST", url, content=b"12345")
            for _ in range(3):
                with trio.CancelScope() as scope:
                    waiting.append(scope)
                    await pool.request("GET", url + "never")
                assert scope.cancelled_caught
            last = await pool.request("POST", url, content=b"12345")
            assert last.content == b"5"
            assert len(pool.connections) == 1
            assert (tls_stream_below(first) is tls_stream_below(last)) == http2  # HTTP/1.1 cannot take a request back


@pytest.mark.slow
@pytest.mark.row("httpcore", "cancelled at every step")
@pytest.mark.parametrize("mode", [CancelMode.BLOCKED, CancelMode.WAKING])
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_a_request_can_be_cancelled_at_every_step(machines: Machines, http2: bool, mode: CancelMode) -> None:
    """Its upload is cut anywhere; the next request is answered. With HTTP/2 it is on the same connection."""
    body = pattern(60_000)
    async with hypercorn_with(app, http_server_of(machines)) as port:

        async def scenario(interrupter: Interrupter) -> None:
            async with pool_of(machines, http2=http2, socket_options=SMALL_BUFFERS) as pool:
                url = f"https://localhost:{port}/"
                # httpcore does not bear a cancel while it sets up HTTP/2 (it counts its streams wrongly then).
                await pool.request("POST", url)
                before = pool.connections
                await interrupter.attempt(partial(pool.request, "POST", url, content=body))
                with trio.fail_after(20):
                    assert (await pool.request("POST", url, content=body)).content == b"60000"
                assert pool.connections == before if http2 else len(pool.connections) == 1

        # Steps near the beginning are all different; later ones are the same over and over.
        report = await sweep(scenario, mode, steps=[*range(1, 12), *range(12, 60, 9)])
        assert report.cancelled > 5


@asynccontextmanager
async def stalling_network(target: int) -> AsyncIterator[tuple[int, list[trio.Event]]]:
    """A way to the server on port ``target`` that carries nothing to it while the last of its events is not set."""
    gate = [trio.Event()]

    async def through(stream: Any) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", target) as upstream, trio.open_nursery() as nursery:
            nursery.start_soon(_copy, stream, upstream, gate)
            nursery.start_soon(_copy, upstream, stream, None)

    gate[0].set()
    async with listening(through, buffer=4096) as (port, _):
        yield port, gate


async def _copy(source: Any, target: Any, gate: list[trio.Event] | None) -> None:
    try:
        while True:
            if gate is not None:
                await gate[-1].wait()
            data = await source.receive_some(1000)
            if not data:
                return
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def cancel_an_upload(pool: httpcore.AsyncConnectionPool, url: str, gate: list[trio.Event]) -> None:
    """While it waits in ``write``: the network takes no more."""
    gate.append(trio.Event())
    async with blocked(partial(pool.request, "POST", url, content=pattern(40_000))):
        pass
    gate[-1].set()


@pytest.mark.row("httpcore", "an upload that is cancelled does not tear HTTP/2")
async def test_the_rest_of_a_cancelled_upload_leaves_before_the_next_request(machines: Machines) -> None:
    async with hypercorn_with(app, http_server_of(machines)) as target, stalling_network(target) as (port, gate):
        async with pool_of(machines, http2=True, socket_options=SMALL_BUFFERS) as pool:
            url = f"https://localhost:{port}/"
            first = await pool.request("POST", url, content=b"1")
            for size in (5, 70_000, 5):
                await cancel_an_upload(pool, url, gate)
                with trio.fail_after(20):
                    response = await pool.request("POST", url, content=bytes(size))
                assert response.content == str(size).encode()
                assert tls_stream_below(response) is tls_stream_below(first)


async def test_a_library_that_knows_nothing_of_it_tears_nothing_either() -> None:
    """Httpcore's own backend on our classes: a write that was accepted leaves, and after a gap the next one fails."""
    machines, backend = machines_named("own"), httpcore.TrioBackend()
    with compat.installed():
        async with hypercorn_with(app, http_server_of(machines)) as target, stalling_network(target) as (port, gate):
            async with pool_of(machines, http2=True, backend=backend, socket_options=SMALL_BUFFERS) as pool:
                url = f"https://localhost:{port}/"
                assert (await pool.request("POST", url, content=b"1")).content == b"1"
                for _ in range(3):
                    await cancel_an_upload(pool, url, gate)
                    with trio.fail_after(20), suppress(httpcore.WriteError):
                        assert (await pool.request("POST", url, content=b"12345")).content == b"5"


@pytest.mark.parametrize("mode", [CancelMode.BLOCKED, CancelMode.WAKING])
async def test_a_cancelled_start_of_tls_closes_the_connection(machines: Machines, mode: CancelMode) -> None:
    async with listening(silence) as _, hypercorn_with(app, http_server_of(machines)) as port:

        async def scenario(interrupter: Interrupter) -> None:
            stream = await TLSBackend().connect_tcp("127.0.0.1", port)
            context = as_context(pool_of(machines)._ssl_context)
            completed = await interrupter.attempt(partial(stream.start_tls, context, "localhost"))
            if not completed:
                assert stream.get_extra_info("is_readable")
                with pytest.raises(httpcore.ReadError):
                    await stream.read(1)
            await stream.aclose()

        report = await sweep(scenario, mode)
        assert report.cancelled > 0


# -- the stream itself ---------------------------------------------------------------------------------------------


def network_stream(stream: Any) -> TLSNetworkStream:
    return TLSNetworkStream(stream, require_close_notify=False, grace=1.0)


@pytest.mark.parametrize("mode", CancelMode)
async def test_a_write_that_was_cancelled_anywhere_is_not_torn(machines: Machines, mode: CancelMode) -> None:
    """What was written is written, whether the writer saw the end of it or not."""
    pieces = [pattern(50_000, seed) for seed in range(3)]

    async def scenario(interrupter: Interrupter) -> None:
        async with tls_pair(machines, buffer=4096) as (client, server):
            stream = network_stream(client)

            async def write_all() -> None:
                for piece in pieces:
                    await interrupter.attempt(partial(stream.write, piece))
                await stream.write(b"")  # as httpcore does where it has nothing new

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write_all)
                assert await receive_exactly(server, 150_000) == b"".join(pieces)

    report = await sweep(scenario, mode, steps=[*range(1, 10), *range(10, 60, 7)])
    assert report.calls >= 3


async def test_what_a_cancelled_write_has_left_leaves_while_only_a_reader_runs(machines: Machines) -> None:
    data = pattern(500_000)
    async with tls_pair(machines, buffer=4096) as (client, server):
        stream = network_stream(client)
        await cancel_once_blocked(partial(stream.write, data))
        async with blocked(partial(stream.read, 100)) as (reading,):
            assert await receive_exactly(server, len(data)) == data
            await server.send_all(b"answer")
            assert await reading.result() == b"answer"


async def test_a_reader_that_waits_already_takes_over_what_a_cancelled_write_has_left(machines: Machines) -> None:
    """Else two peers could wait for each other: the one for the rest, the other for an answer to it."""
    data = pattern(500_000)
    async with tls_pair(machines, buffer=4096) as (client, server):
        stream = network_stream(client)
        async with blocked(partial(stream.read, 100), partial(stream.write, data)) as (reading, writing):
            writing.scope.cancel()
            assert await receive_exactly(server, len(data)) == data
            await server.send_all(b"answer")
            assert await reading.result() == b"answer"


async def test_a_reader_that_has_sent_one_rest_takes_over_the_next(machines: Machines) -> None:
    """It still waits in the read that has sent the first; the rest of the second must not wait for its end."""
    pieces = [pattern(300_000, seed) for seed in range(2)]
    async with tls_pair(machines, buffer=4096) as (client, server):
        stream = network_stream(client)
        await cancel_once_blocked(partial(stream.write, pieces[0]))
        async with blocked(partial(stream.read, 100)) as (reading,):
            assert await receive_exactly(server, len(pieces[0])) == pieces[0]
            await trio.testing.wait_all_tasks_blocked()
            await cancel_once_blocked(partial(stream.write, pieces[1]))
            with trio.fail_after(20):
                assert await receive_exactly(server, len(pieces[1])) == pieces[1]
            await server.send_all(b"answer")
            assert await reading.result() == b"answer"


async def test_a_read_that_is_cancelled_while_it_sends_loses_nothing(machines: Machines) -> None:
    data, answer = pattern(300_000), pattern(100_000, seed=1)
    received = bytearray()

    async with tls_pair(machines, buffer=4096) as (client, server):
        stream = network_stream(client)
        await cancel_once_blocked(partial(stream.write, data))

        async def read_with_cancels() -> None:
            while len(received) < len(answer):
                reading = Blocked()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(reading.run, partial(stream.read, 700))
                    for _ in range(len(received) % 5):
                        await trio.lowlevel.checkpoint()
                    reading.scope.cancel()
                if reading.value is not None:
                    received.extend(reading.value)
                else:
                    received.extend(await stream.read(700))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_with_cancels)
            nursery.start_soon(server.send_all, answer)
            assert await receive_exactly(server, len(data)) == data
    assert received == answer


async def test_a_write_waits_for_the_one_before(machines: Machines) -> None:
    pieces = [pattern(200_000, seed) for seed in range(3)]
    async with tls_pair(machines, buffer=4096) as (client, server):
        stream = network_stream(client)
        async with trio.open_nursery() as nursery:
            for piece in pieces:
                nursery.start_soon(stream.write, piece)
                await trio.testing.wait_all_tasks_blocked()
            assert await receive_exactly(server, 600_000) == b"".join(pieces)


async def test_the_end_of_the_data_is_told_while_something_is_left_to_send(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, server):
        stream = network_stream(client)
        await cancel_once_blocked(partial(stream.write, bytes(500_000)))
        await server.send_all(b"the last")
        await server.send_eof()
        assert await _read_to_the_end(stream) == b"the last"
        await stream.aclose()


async def test_a_failure_is_told_while_something_is_left_to_send(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, server):
        stream = network_stream(client)
        await cancel_once_blocked(partial(stream.write, bytes(500_000)))
        assert server.transport_stream is not None
        await trio.aclose_forcefully(server.transport_stream)
        with pytest.raises(httpcore.ReadError):
            await stream.read(100)
        await stream.aclose()


async def _read_to_the_end(stream: TLSNetworkStream) -> bytes:
    received = b""
    while data := await stream.read(100):
        received += data
    return received


async def test_a_connection_with_a_torn_write_is_closed_at_once(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, _server):
        stream = network_stream(client)
        await cancel_once_blocked(partial(stream.write, bytes(500_000)))
        before = trio.current_time()
        with trio.CancelScope(shield=True):  # as httpcore closes
            await stream.aclose()
        assert trio.current_time() - before < 0.5  # and not after the grace of a second


@asynccontextmanager
async def expecting_a_cut(server: TLSStream[Any]) -> AsyncIterator[None]:
    """The server reads all that has left, then the body runs, and what the server sees then is no orderly end."""

    async def receive() -> None:
        with pytest.raises(UnexpectedEOF):
            while await server.receive_some():
                pass
            raise AssertionError("this looked like all of the data")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        yield


async def test_a_connection_with_a_torn_write_does_not_say_that_this_was_all(machines: Machines) -> None:
    """Not even if there is room for it."""
    async with tls_pair(machines) as (client, server):
        stream = network_stream(client)
        await cancel_once_blocked(partial(stream.write, bytes(5_000_000)))
        async with expecting_a_cut(server):
            await stream.aclose()


async def test_a_start_of_tls_that_fails_behind_a_torn_write_does_not_say_so_either(machines: Machines) -> None:
    bad: Any = "a context"
    async with tls_pair(machines, buffer=4096) as (client, server):
        stream = network_stream(client)
        await cancel_once_blocked(partial(stream.write, bytes(500_000)))
        async with expecting_a_cut(server):
            with pytest.raises(TypeError, match="must be"):
                await stream.start_tls(bad, "localhost")


async def test_a_plain_connection_is_not_torn_either() -> None:
    data = pattern(5_000_000)
    received: list[bytes] = []
    done, go = trio.Event(), trio.Event()

    async def receive(stream: Any) -> None:
        await go.wait()
        received.append(await receive_exactly(stream, len(data) + 4))
        done.set()

    async with listening(receive) as (port, _):
        stream = await TLSBackend().connect_tcp("127.0.0.1", port)
        await cancel_once_blocked(partial(stream.write, data))
        go.set()
        await stream.write(b"more")
        await done.wait()
        await stream.aclose()
    assert received == [data + b"more"]


async def test_tls_starts_behind_what_a_cancelled_write_has_left(machines: Machines) -> None:
    """As after the CONNECT to a proxy."""
    request = pattern(5_000_000)
    go = trio.Event()

    async def serve(stream: Any) -> None:
        await go.wait()
        assert await receive_exactly(stream, len(request)) == request
        secure = TLSStream(stream, http_server_of(machines), server_side=True)
        await secure.send_all(await secure.receive_some())

    async with listening(serve) as (port, _):
        stream = await TLSBackend().connect_tcp("127.0.0.1", port)
        await cancel_once_blocked(partial(stream.write, request))
        go.set()
        secure = await stream.start_tls(as_context(pool_of(machines)._ssl_context), "localhost")
        await secure.write(b"hello")
        assert await secure.read(100) == b"hello"
        await secure.aclose()
