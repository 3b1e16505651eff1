"""Limits of a server: connections and handshakes that are too many wait, or are refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import ServerFull, ServerMetrics, TLSListener, TLSStream, serve_tls
from trio_tls.serving.connections import MOST_REFUSALS

from ..support import HOST, Machines, machines_named, server_context
from .servers import MemoryListener, MemoryServer, echo, messages, open_files, serve_on_loopback


async def says_hello(client: TLSStream[Any]) -> bool:
    """Whether the server echoes within a second."""
    with trio.move_on_after(1):
        await client.send_all(b"hello")
        return await client.receive_some() == b"hello"
    return False


async def test_clients_beyond_max_connections_wait_until_another_leaves(
    autojump_clock: trio.testing.MockClock, machines: Machines
) -> None:
    metrics = ServerMetrics()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(max_connections=2, metrics=metrics)
        first, second, third, fourth = (server.connect() for _ in range(4))
        assert await says_hello(first) and await says_hello(second)
        assert not await says_hello(third)
        assert (metrics.connections_accepted, metrics.connections_open) == (2, 2)  # the others lie in the queue
        await first.aclose()
        assert await says_hello(third)
        assert not await says_hello(fourth)
        await second.aclose()
        assert await says_hello(fourth)
        nursery.cancel_scope.cancel()
    assert metrics.connections_open == 0
    assert metrics.connections_refused == {}


async def test_a_silent_client_counts_as_a_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(max_connections=1, handshake_timeout=7)
        silent, client = server.listener.connect(), server.connect()
        await client.do_handshake()
        assert trio.current_time() == pytest.approx(7)
        assert await silent.receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_several_listeners_share_the_limit_and_none_starves(autojump_clock: trio.testing.MockClock) -> None:
    machines, metrics, most = machines_named("ssl-1.3"), ServerMetrics(), 0

    async def watched(stream: TLSStream[Any]) -> None:
        nonlocal most
        most = max(most, metrics.connections_open)
        await echo(stream)

    memory = [MemoryListener() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        listeners = [TLSListener(each, machines.server) for each in memory]

        async def serve(task_status: trio.TaskStatus[Any]) -> None:
            await serve_tls(watched, listeners, max_connections=1, metrics=metrics, task_status=task_status)

        await nursery.start(serve)
        for _round in range(3):
            async with trio.open_nursery() as clients:

                async def visit(listener: MemoryListener) -> None:
                    async with TLSStream(listener.connect(), machines.client, server_hostname=HOST) as client:
                        await client.send_all(b"x")
                        assert await client.receive_some() == b"x"

                for each in memory:
                    clients.start_soon(visit, each)
        nursery.cancel_scope.cancel()
    assert most == 1


async def test_clients_beyond_max_connections_are_refused_if_that_is_wanted(
    autojump_clock: trio.testing.MockClock, machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Exception] = []
    metrics = ServerMetrics()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(
            max_connections=1,
            when_full="refuse",
            metrics=metrics,
            on_handshake_error=lambda error, stream: told.append(error),
        )
        first = server.connect()
        assert await says_hello(first)
        refused = server.listener.connect()
        assert await refused.receive_some() == b""
        assert trio.current_time() == 0
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await says_hello(server.connect())
        nursery.cancel_scope.cancel()
    (error,) = told
    assert isinstance(error, ServerFull) and error.limit == "connections"
    assert metrics.connections_refused == {"connections": 1}
    assert (metrics.connections_accepted, metrics.handshakes_done.total()) == (3, 2)
    (message,) = messages(caplog)
    assert message == (
        "TLS connection with a peer without an address refused: "
        "ServerFull: the server has as many connections as max_connections allows"
    )


async def test_handshakes_beyond_max_handshakes_are_refused_if_that_is_wanted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told: list[Exception] = []
    metrics = ServerMetrics()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(
            max_handshakes=1,
            when_full="refuse",
            handshake_timeout=5,
            metrics=metrics,
            on_handshake_error=lambda error, stream: told.append(error),
        )
        silent = server.listener.connect()
        await trio.testing.wait_all_tasks_blocked()
        assert metrics.handshakes_under_way == 1
        assert await server.listener.connect().receive_some() == b""
        assert trio.current_time() == 0
        assert await silent.receive_some() == b""  # after its time
        for _ in range(2):  # a handshake that is done takes no place
            assert await says_hello(server.connect())
        nursery.cancel_scope.cancel()
    assert [getattr(error, "limit", type(error)) for error in told] == ["handshakes", trio.TooSlowError]
    assert metrics.connections_refused == {"handshakes": 1}
    assert (metrics.handshakes_under_way, metrics.handshakes_waiting) == (0, 0)


async def test_those_who_wait_for_a_handshakes_turn_are_counted(autojump_clock: trio.testing.MockClock) -> None:
    metrics = ServerMetrics()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(max_handshakes=1, metrics=metrics)
        for _ in range(3):
            server.listener.connect()
        await trio.testing.wait_all_tasks_blocked()
        assert (metrics.handshakes_under_way, metrics.handshakes_waiting) == (1, 2)
        assert metrics.handshakes_cut_off == 0, "it only ever grows"
        nursery.cancel_scope.cancel()
    assert (metrics.handshakes_under_way, metrics.handshakes_waiting, metrics.handshakes_cut_off) == (0, 0, 1)


async def test_a_flood_of_refused_clients_cannot_pile_up_behind_a_slow_callback(
    autojump_clock: trio.testing.MockClock,
) -> None:
    now = most = told = 0

    async def slow(error: Exception, stream: TLSStream[Any]) -> None:
        nonlocal now, most, told
        now += 1
        most, told = max(most, now), told + 1
        await trio.sleep(1)
        now -= 1

    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(max_connections=1, when_full="refuse", on_handshake_error=slow)
        assert await says_hello(server.connect())
        refused = [server.listener.connect() for _ in range(90)]
        for each in refused:
            assert await each.receive_some() == b""
        nursery.cancel_scope.cancel()
    assert (most, told) == (MOST_REFUSALS, 90)


async def test_a_stop_ends_a_callback_about_a_refused_client(autojump_clock: trio.testing.MockClock) -> None:
    async def endless(error: Exception, stream: TLSStream[Any]) -> None:
        await trio.sleep_forever()

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(max_connections=1, when_full="refuse", on_handshake_error=endless, stop=stop, stop_grace=2)
        first = server.connect()
        assert await says_hello(first)
        refused = server.listener.connect()
        await trio.testing.wait_all_tasks_blocked()
        stop.set()
        await server.returned.wait()
        assert trio.current_time() == pytest.approx(2)
        assert await refused.receive_some() == b""


async def test_a_server_that_is_cancelled_while_a_client_waits_leaks_nothing() -> None:
    before = open_files()
    async with trio.open_nursery() as nursery:
        address = await serve_on_loopback(nursery, echo, max_connections=1)
        clients = [await trio.open_tcp_stream(*address) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    for each in clients:
        with pytest.raises((trio.BrokenResourceError, AssertionError)):  # closed, or never accepted
            assert await each.receive_some() != b""
        await each.aclose()
    assert open_files() == before


async def test_a_connection_that_was_accepted_and_waits_for_room_is_closed_with_the_server() -> None:
    """Two listeners see the same free place; one of them has to wait with a connection in its hands."""
    machines, metrics = machines_named("ssl-1.3"), ServerMetrics()
    memory = [MemoryListener(), MemoryListener()]
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[Any]) -> None:
            listeners = [TLSListener(each, machines.server) for each in memory]
            await serve_tls(echo, listeners, max_connections=1, metrics=metrics, task_status=task_status)

        await nursery.start(serve)
        await trio.testing.wait_all_tasks_blocked()
        clients = [each.connect() for each in memory]
        await trio.testing.wait_all_tasks_blocked()
        assert (metrics.connections_accepted, metrics.connections_open) == (2, 1)
        nursery.cancel_scope.cancel()
    for client in clients:
        assert await client.receive_some() == b""


@pytest.mark.parametrize(
    ("option", "value"), [("max_connections", 0), ("when_full", "drop"), ("cancel_grace", -1), ("cancel_grace", "nan")]
)
async def test_senseless_limits_are_refused(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: float("nan") if value == "nan" else value}
    with pytest.raises(ValueError, match=option):
        await serve_tls(echo, [TLSListener(MemoryListener(), server_context())], **options)


async def test_the_reason_of_a_refusal_is_in_its_log_record(caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(max_connections=1, when_full="refuse")
        assert await says_hello(server.connect())
        assert await server.listener.connect().receive_some() == b""
        nursery.cancel_scope.cancel()
    (record,) = [record for record in caplog.records if record.name == "trio_tls"]
    assert record.levelno == logging.WARNING
    facts = vars(record)
    assert (facts["event"], facts["error"], facts["alert"]) == ("connection_refused", "ServerFull", None)
