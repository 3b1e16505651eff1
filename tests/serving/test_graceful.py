"""A graceful end: on request or on a cancel, and nothing hangs on a peer that does not read."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import ServerMetrics, TLSListener, TLSStream, serve_tls, serve_tls_over_tcp
from trio_tls.serving.connections import CLOSE_GRACE

from ..support import HOST, ForeignStream, Machines, machines_named, receive_exactly, server_context
from .servers import MemoryListener, MemoryServer, MemoryStream, connect, echo, open_files, serve_on_loopback


async def slow_answer(stream: TLSStream[Any]) -> None:
    await stream.receive_some()
    await trio.sleep(5)
    await stream.send_all(b"done")


async def send_for_ever(stream: TLSStream[Any]) -> None:
    while True:
        await stream.send_all(bytes(100_000))


async def cancelled_with_grace(
    handler: Callable[[TLSStream[MemoryStream]], Awaitable[object]],
    use: Callable[[TLSStream[MemoryStream], Callable[[], None]], Awaitable[None]],
    machines: Machines,
    **options: Any,
) -> MemoryListener:
    """Serve ``handler``, and call ``use(client, cancel)``."""
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as serving:
                server = MemoryServer(serving, handler, machines)
                await server.start(**options)
                client = server.connect()
                nursery.start_soon(use, client, scope.cancel)
    return server.listener


async def test_a_cancel_lets_handlers_finish_if_that_is_wanted(
    autojump_clock: trio.testing.MockClock, machines: Machines
) -> None:
    async def use(client: TLSStream[MemoryStream], cancel: Callable[[], None]) -> None:
        await client.send_all(b"question")
        cancel()
        assert await client.receive_some() == b"done"
        assert await client.receive_some() == b""  # close_notify
        assert trio.current_time() == pytest.approx(5)

    listener = await cancelled_with_grace(slow_answer, use, machines, cancel_grace=60)
    assert listener.closed
    assert trio.current_time() == pytest.approx(5)


async def test_after_cancel_grace_handlers_are_cancelled_and_their_clients_told(
    autojump_clock: trio.testing.MockClock, machines: Machines
) -> None:
    async def use(client: TLSStream[MemoryStream], cancel: Callable[[], None]) -> None:
        await client.do_handshake()
        await trio.testing.wait_all_tasks_blocked()
        cancel()
        assert await client.receive_some() == b""
        assert trio.current_time() == pytest.approx(3)

    await cancelled_with_grace(echo, use, machines, cancel_grace=3)
    assert trio.current_time() == pytest.approx(3)


async def test_a_cancel_with_grace_cuts_off_handshakes_at_once(autojump_clock: trio.testing.MockClock) -> None:
    metrics = ServerMetrics()
    listener = MemoryListener()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as serving:
            listeners = [TLSListener(listener, server_context())]
            await serving.start(partial(serve_tls, echo, cancel_grace=60, metrics=metrics), listeners)
            silent = listener.connect()
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert trio.current_time() == 0
    assert await silent.receive_some() == b""
    assert metrics.handshakes_cut_off == 1


async def test_an_exception_that_ends_the_server_leaves_the_other_handlers_their_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def fail_or_answer(stream: TLSStream[MemoryStream]) -> None:
        if await stream.receive_some() == b"fail":
            raise LookupError("a defect")
        await trio.sleep(5)
        await stream.send_all(b"done")

    listener, machines = MemoryListener(), machines_named("ssl-1.3")

    async def question() -> None:
        client = TLSStream(listener.connect(), machines.client, server_hostname=HOST)
        await client.send_all(b"question")
        bad = TLSStream(listener.connect(), machines.client, server_hostname=HOST)
        await bad.send_all(b"fail")
        assert await client.receive_some() == b"done"
        assert await client.receive_some() == b""

    async with trio.open_nursery() as clients:
        clients.start_soon(question)
        with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="a defect")):
            await serve_tls(fail_or_answer, [TLSListener(listener, machines.server)], cancel_grace=60)
    assert trio.current_time() == pytest.approx(5)


async def test_a_cancel_during_a_stop_shortens_it_to_the_cancels_grace(autojump_clock: trio.testing.MockClock) -> None:
    stop = trio.Event()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as serving:
            server = MemoryServer(serving, echo)
            await server.start(stop=stop, stop_grace=1000, cancel_grace=2)
            client = server.connect()
            await client.do_handshake()
            stop.set()
            await trio.sleep(10)
            scope.cancel()
    assert trio.current_time() == pytest.approx(12)
    assert await client.receive_some() == b""


async def test_without_cancel_grace_a_cancel_is_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, slow_answer)
        await server.start()
        client = server.connect()
        await client.send_all(b"question")
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 0


async def test_cancel_grace_is_refused_where_the_handlers_are_somebody_elses() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="cancel_grace goes without handler_nursery"):
            await serve_tls(
                echo, [TLSListener(MemoryListener(), server_context())], cancel_grace=1, handler_nursery=nursery
            )


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_nothing_hangs_on_a_peer_that_does_not_read(machines: Machines, how: str) -> None:
    """Real sockets, whose buffers are full; the handler is blocked in a send."""
    before, stop = open_files(), trio.Event()
    began = trio.current_time()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            address = await serve_on_loopback(
                nursery, send_for_ever, machines.server, stop=stop, stop_grace=0.1, cancel_grace=0.1
            )
            clients = [await connect(address, machines.client) for _ in range(3)]
            for client in clients:
                assert await receive_exactly(client, 10) == bytes(10)
            await trio.testing.wait_all_tasks_blocked(0.05)
            if how == "stop":
                stop.set()
            else:
                nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 10
    for client in clients:
        await trio.aclose_forcefully(client)
    assert open_files() == before


async def test_nothing_hangs_on_a_transport_that_does_not_close(autojump_clock: trio.testing.MockClock) -> None:
    class Stubborn(ForeignStream):
        async def aclose(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                await self.wrapped.aclose()

    class StubbornListener(MemoryListener):
        async def accept(self) -> Any:
            return Stubborn(await super().accept())

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        server.listener = StubbornListener()
        await server.start(stop=stop, stop_grace=2, cancel_grace=2)
        client = server.connect()
        await client.do_handshake()
        await trio.testing.wait_all_tasks_blocked()
        stop.set()
        await server.returned.wait()
    assert trio.current_time() == pytest.approx(2 + CLOSE_GRACE)


async def test_serve_tls_over_tcp_stops_gracefully_too(machines: Machines) -> None:
    stop, returned = trio.Event(), trio.Event()

    async def answer(stream: TLSStream[trio.SocketStream]) -> None:
        await stream.receive_some()
        stop.set()
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(b"done")

    async def serve(task_status: trio.TaskStatus[Any]) -> None:
        await serve_tls_over_tcp(answer, 0, machines.server, host="127.0.0.1", stop=stop, task_status=task_status)
        returned.set()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(serve)
        address = listener.transport_listener.socket.getsockname()
        async with await connect(address, machines.client) as client:
            await client.send_all(b"question")
            assert await receive_exactly(client, 4) == b"done"
            assert await client.receive_some() == b""
        with trio.fail_after(10):
            await returned.wait()
    with socket.socket() as late, pytest.raises(OSError, match="refused"):
        late.connect(address)
