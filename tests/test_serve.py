"""serve_tls: bad clients hurt nobody, and stopping is graceful.

Where time matters, the listeners are in memory and the clock is trio's `MockClock`; elsewhere the sockets are real.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import pathlib
import socket
import ssl
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import (
    CertificateVerificationError,
    PeerMisbehaved,
    TLSError,
    TLSListener,
    TLSStream,
    TransportError,
    UnexpectedEOF,
    serve_tls,
)
from trio_tls.names import quoted

from .peers import Config, certified_client, demanding_server
from .serving.servers import (
    MemoryListener,
    MemoryServer,
    MemoryStream,
    connect,
    echo,
    messages,
    open_files,
    reset,
    serve_on_loopback,
)
from .support import HOST, Machines, client_context, receive_exactly, server_context

#: Seconds after which something hangs, however busy the machine is.
PATIENCE = 60

# -- bad clients -----------------------------------------------------------------------------------------------


async def test_p23_plain_http_to_the_server_with_a_naive_handler_hurts_nobody(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        address = await serve_on_loopback(nursery, echo, machines.server)
        plain = await trio.open_tcp_stream(*address)
        await plain.send_all(b"GET / HTTP/1.1\r\nHost: server.example.org\r\n\r\n")
        async for _alert in plain:
            pass
        await plain.aclose()
        async with await connect(address, machines.client) as client:
            await client.send_all(b"still here")
            assert await receive_exactly(client, 10) == b"still here"
        nursery.cancel_scope.cancel()
    (message,) = messages(caplog)
    assert message.startswith("TLS handshake with 127.0.0.1:")
    assert "does not speak TLS but HTTP" in message
    assert "\n" not in message


async def test_fifty_bad_clients_of_every_kind_disturb_no_good_one(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "trio_tls")
    errors: list[Exception] = []
    good_are_served = trio.Event()

    async def garbage(address: tuple[str, int]) -> None:
        async with await trio.open_tcp_stream(*address) as plain:
            await plain.send_all(bytes(range(256)) * 4)
            await good_are_served.wait()

    async def nothing(address: tuple[str, int]) -> None:
        async with await trio.open_tcp_stream(*address):
            await good_are_served.wait()

    async def plain_http(address: tuple[str, int]) -> None:
        async with await trio.open_tcp_stream(*address) as plain:
            await plain.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await good_are_served.wait()

    async def gone_at_once(address: tuple[str, int]) -> None:
        await reset(await trio.open_tcp_stream(*address))

    async def half_a_client_hello(address: tuple[str, int]) -> None:
        async with await trio.open_tcp_stream(*address) as plain:
            await plain.send_all(bytes.fromhex("16030102000100"))

    async def reset_in_the_handshake(address: tuple[str, int]) -> None:
        plain = await trio.open_tcp_stream(*address)
        await plain.send_all(bytes.fromhex("16030102000100"))
        await reset(plain)

    async def handshake_refused(config: Config, address: tuple[str, int]) -> None:
        async with await connect(address, config) as client:
            with pytest.raises(TLSError):
                await client.receive_some()  # with TLS 1.3 the alert comes behind the handshake

    too_old = client_context()
    too_old.maximum_version = ssl.TLSVersion.TLSv1_2
    too_old.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    kinds: list[Callable[[tuple[str, int]], Awaitable[None]]] = [
        garbage,
        nothing,
        plain_http,
        gone_at_once,
        half_a_client_hello,
        reset_in_the_handshake,
        partial(handshake_refused, machines.client),  # without a client certificate
        partial(handshake_refused, client_context(ssl.TLSVersion.TLSv1_2)),
        partial(handshake_refused, too_old),  # no common cipher suite
        partial(handshake_refused, ssl.create_default_context()),  # does not trust the server
    ]

    async def good(address: tuple[str, int]) -> None:
        async with await connect(address, certified_client(machines)) as client:
            for _ in range(10):
                await client.send_all(b"ping")
                assert await receive_exactly(client, 4) == b"ping"

    files_before = open_files()
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as serving:
        address = await serve_on_loopback(
            serving,
            echo,
            demanding_server(machines),
            on_handshake_error=lambda error, stream: errors.append(error),
        )
        async with trio.open_nursery() as bad_ones:
            for _ in range(5):
                for kind in kinds:
                    bad_ones.start_soon(kind, address)
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as good_ones:
                    for _ in range(20):
                        good_ones.start_soon(good, address)
            good_are_served.set()
        with trio.fail_after(PATIENCE):
            while len(errors) < 50 or open_files() > files_before + 1:
                await trio.lowlevel.checkpoint()
        assert len(errors) == 50
        assert {CertificateVerificationError, PeerMisbehaved, UnexpectedEOF, TransportError} <= {*map(type, errors)}
        assert all(str(error) for error in errors)
        serving.cancel_scope.cancel()
    assert open_files() == files_before
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before


async def test_a_silent_client_is_closed_after_the_timeout(
    autojump_clock: trio.testing.MockClock, machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[Exception] = []
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(handshake_timeout=7, on_handshake_error=lambda error, stream: errors.append(error))
        silent = server.listener.connect()
        assert await silent.receive_some() == b""
        assert trio.current_time() == pytest.approx(7)
        nursery.cancel_scope.cancel()
    assert [type(error) for error in errors] == [trio.TooSlowError]
    assert messages(caplog) == [
        "TLS handshake with a peer without an address failed: TooSlowError: the handshake was not done after 7 seconds"
    ]


async def test_with_all_handshakes_taken_the_next_client_waits_and_its_time_begins_with_its_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    closed_at: list[float] = []

    async def silent(server: MemoryServer) -> None:
        assert await server.listener.connect().receive_some() == b""
        closed_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(handshake_timeout=10, max_handshakes=2)
        async with trio.open_nursery() as clients:
            for _ in range(5):
                clients.start_soon(silent, server)
        nursery.cancel_scope.cancel()
    assert closed_at == pytest.approx([10, 10, 20, 20, 30])


async def test_running_handlers_take_no_handshake_slot(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(handshake_timeout=10, max_handshakes=1)
        async with server.connect() as first, server.connect() as second:
            for client in (first, second, first):
                await client.send_all(b"x")
                assert await client.receive_some() == b"x"
        assert trio.current_time() == 0
        nursery.cancel_scope.cancel()


async def test_on_handshake_error_may_be_async_and_sees_the_open_stream() -> None:
    told: list[tuple[Exception, str | None]] = []
    done = trio.Event()

    async def on_handshake_error(error: Exception, stream: TLSStream[trio.SocketStream]) -> None:
        await trio.lowlevel.checkpoint()
        assert stream.transport_stream is not None
        told.append((error, stream.transport_stream.socket.getpeername()[0]))
        done.set()

    async with trio.open_nursery() as nursery:
        address = await serve_on_loopback(nursery, echo, on_handshake_error=on_handshake_error)
        async with await trio.open_tcp_stream(*address) as plain:
            await plain.send_all(b"EHLO client.example.org\r\n")
            await done.wait()
        nursery.cancel_scope.cancel()
    ((error, peer),) = told
    assert isinstance(error, PeerMisbehaved)
    assert peer == "127.0.0.1"


async def test_an_exception_of_on_handshake_error_is_logged_and_hurts_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_handshake_error(error: Exception, stream: TLSStream[MemoryStream]) -> None:
        raise LookupError("no metrics today")

    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(on_handshake_error=on_handshake_error)
        garbage = server.listener.connect()
        await garbage.send_all(b"garbage, garbage")
        async for _alert in garbage:
            pass
        async with server.connect() as client:
            await client.do_handshake()
        nursery.cancel_scope.cancel()
    assert "on_handshake_error failed for a peer without an address" in messages(caplog)
    assert "no metrics today" in caplog.text


async def test_running_out_of_file_descriptors_is_waited_out(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Exhausted(MemoryListener):
        failures = 3

        async def accept(self) -> MemoryStream:
            stream = await super().accept()
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return stream

    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        server.listener = Exhausted()
        await server.start()
        for _ in range(3):
            server.listener.connect()
        async with server.connect() as client:
            await client.do_handshake()
        nursery.cancel_scope.cancel()
    assert "EMFILE" in caplog.text


# -- handlers --------------------------------------------------------------------------------------------------


async def test_the_handler_runs_with_the_handshake_done_and_the_stream_is_closed_after_it(machines: Machines) -> None:
    async def greet(stream: TLSStream[trio.SocketStream]) -> None:
        assert stream.info is not None
        await stream.send_all(b"welcome")

    async with trio.open_nursery() as nursery:
        address = await serve_on_loopback(nursery, greet, machines.server)
        async with await connect(address, machines.client) as client:
            assert b"".join([part async for part in client]) == b"welcome"  # up to a close_notify
        nursery.cancel_scope.cancel()


async def test_a_peer_that_vanishes_ends_its_own_connection_alone(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        address = await serve_on_loopback(nursery, echo, machines.server)
        vanishing, staying = await connect(address, machines.client), await connect(address, machines.client)
        for client in (vanishing, staying):
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
        assert vanishing.transport_stream is not None
        await reset(vanishing.transport_stream)
        with trio.fail_after(PATIENCE):
            while not messages(caplog):
                await trio.lowlevel.checkpoint()
        await staying.send_all(b"y")
        assert await staying.receive_some() == b"y"
        await staying.aclose()
        await vanishing.aclose()
        nursery.cancel_scope.cancel()
    (message,) = messages(caplog)
    assert message.startswith("TLS connection with 127.0.0.1:")
    assert "TransportError" in message


@pytest.mark.parametrize("last_bytes", [b"", b"garbage after the handshake"])
async def test_truncation_and_garbage_after_the_handshake_end_that_connection_alone(
    machines: Machines, last_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start()
        bad = server.connect()
        await bad.do_handshake()
        assert bad.transport_stream is not None
        if last_bytes:
            await bad.transport_stream.send_all(last_bytes)
        await bad.transport_stream.aclose()
        with trio.fail_after(PATIENCE):
            while not messages(caplog):
                await trio.lowlevel.checkpoint()
        async with server.connect() as client:
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
        nursery.cancel_scope.cancel()
    (message,) = messages(caplog)
    assert message.startswith("TLS connection with a peer without an address failed: ")


async def test_a_tls_error_in_the_handlers_own_nursery_ends_that_connection_alone(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    async def both_ways(stream: TLSStream[MemoryStream]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            nursery.start_soon(trio.sleep_forever)

    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, both_ways, machines)
        await server.start()
        client = server.connect()
        await client.do_handshake()
        assert client.transport_stream is not None
        await client.transport_stream.aclose()
        with trio.fail_after(PATIENCE):
            while not messages(caplog):
                await trio.lowlevel.checkpoint()
        assert not server.returned.is_set()
        nursery.cancel_scope.cancel()
    (message,) = messages(caplog)
    assert "UnexpectedEOF" in message


async def test_another_exception_beside_a_tls_error_propagates(caplog: pytest.LogCaptureFixture) -> None:
    async def fails_twice(stream: TLSStream[MemoryStream]) -> None:
        async def fail() -> None:
            raise LookupError("a defect")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            try:
                await trio.sleep_forever()
            finally:
                raise PeerMisbehaved("the peer broke the protocol, too")

    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="a defect"), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            server = MemoryServer(nursery, fails_twice)
            await server.start()
            await server.connect().do_handshake()
            await trio.sleep_forever()
    (message,) = messages(caplog)
    assert "PeerMisbehaved" in message


async def test_any_other_exception_of_a_handler_propagates_as_from_trios_serve_tcp() -> None:
    async def defect(stream: TLSStream[MemoryStream]) -> None:
        raise LookupError("a defect")

    listener = MemoryListener()
    client = TLSStream(listener.connect(), client_context(), server_hostname=HOST)
    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="a defect")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="a defect")) as caught:
                await serve_tls(defect, [TLSListener(listener, server_context())])
            raise caught.value.exceptions[0]
    assert listener.closed
    assert await client.receive_some() == b""  # it was told by close_notify


async def test_handlers_run_in_the_nursery_that_was_given() -> None:
    listener = MemoryListener()
    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="a defect")):
        async with trio.open_nursery() as servers:

            async def defect(stream: TLSStream[MemoryStream]) -> None:
                assert trio.lowlevel.current_task().parent_nursery is handlers
                raise LookupError("a defect")

            with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="a defect")) as caught:
                async with trio.open_nursery() as handlers:
                    serve = partial(serve_tls, handler_nursery=handlers)
                    await servers.start(serve, defect, [TLSListener(listener, server_context())])
                    await TLSStream(listener.connect(), client_context(), server_hostname=HOST).do_handshake()
                    await trio.sleep_forever()
            assert not listener.closed  # the server itself is not hurt
            servers.cancel_scope.cancel()
            raise caught.value.exceptions[0]


# -- stopping --------------------------------------------------------------------------------------------------


async def test_stop_closes_the_listeners_and_lets_handlers_finish(autojump_clock: trio.testing.MockClock) -> None:
    async def slow_answer(stream: TLSStream[MemoryStream]) -> None:
        await stream.receive_some()
        await trio.sleep(5)
        await stream.send_all(b"done")

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, slow_answer)
        await server.start(stop=stop, stop_grace=60)
        client = server.connect()
        await client.send_all(b"question")
        stop.set()
        assert await client.receive_some() == b"done"
        assert await client.receive_some() == b""
        assert server.listener.closed
        await server.returned.wait()
        assert trio.current_time() == pytest.approx(5)


async def test_after_stop_grace_handlers_are_cancelled_and_their_clients_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(stop=stop, stop_grace=3)
        client = server.connect()
        await client.do_handshake()
        await trio.testing.wait_all_tasks_blocked()
        stop.set()
        await server.returned.wait()
        assert trio.current_time() == pytest.approx(3)
        assert await client.receive_some() == b""  # close_notify, not a truncation


async def test_stop_does_not_wait_for_clients_without_a_handshake(autojump_clock: trio.testing.MockClock) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(stop=stop, stop_grace=60, max_handshakes=1)
        silent, waiting = server.listener.connect(), server.listener.connect()
        await trio.testing.wait_all_tasks_blocked()
        stop.set()
        await server.returned.wait()
        assert trio.current_time() == 0
        assert await silent.receive_some() == await waiting.receive_some() == b""


async def test_stop_waits_for_handlers_in_a_nursery_of_the_callers(autojump_clock: trio.testing.MockClock) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as handlers, trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(stop=stop, stop_grace=3, handler_nursery=handlers)
        client = server.connect()
        await client.do_handshake()
        stop.set()
        await server.returned.wait()
        assert trio.current_time() == pytest.approx(3)
        assert not handlers.cancel_scope.cancel_called
        assert await client.receive_some() == b""


async def test_a_stop_that_is_set_already_returns_at_once() -> None:
    stop = trio.Event()
    stop.set()
    with trio.fail_after(PATIENCE):
        listener = MemoryListener()
        await serve_tls(echo, [TLSListener(listener, server_context())], stop=stop)
        assert listener.closed


async def test_cancelling_the_server_closes_listeners_and_tells_clients() -> None:
    async with trio.open_nursery() as nursery:
        address = await serve_on_loopback(nursery, echo)
        client = await connect(address)
        await client.send_all(b"x")
        assert await client.receive_some() == b"x"
        nursery.cancel_scope.cancel()
    assert await client.receive_some() == b""  # close_notify, not a truncation
    await client.aclose()
    with pytest.raises(OSError, match="failed"):
        await trio.open_tcp_stream(*address)


@pytest.mark.parametrize(
    ("option", "value"),
    [("handshake_timeout", 0), ("handshake_timeout", float("nan")), ("max_handshakes", 0), ("stop_grace", -1)],
)
async def test_senseless_limits_are_refused(option: str, value: float) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(ValueError, match=option):
        await serve_tls(echo, [TLSListener(MemoryListener(), server_context())], **options)


async def test_the_log_names_ipv6_and_unix_peers(caplog: pytest.LogCaptureFixture, tmp_path: pathlib.Path) -> None:
    path = os.fspath(tmp_path / "client.sock")
    listening = trio.socket.socket(socket.AF_UNIX)
    await listening.bind(os.fspath(tmp_path / "server.sock"))
    listening.listen()
    (over_ipv6,) = await trio.open_tcp_listeners(0, host="::1")
    listeners = [TLSListener(transport, server_context()) for transport in (trio.SocketListener(listening), over_ipv6)]
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_tls, echo, listeners)
        for kind, address in (
            (socket.AF_UNIX, listening.getsockname()),
            (socket.AF_INET6, over_ipv6.socket.getsockname()),
        ):
            with trio.socket.socket(kind) as client:
                await client.bind(path if kind == socket.AF_UNIX else ("::1", 0))
                await client.connect(address)
                logged = len(messages(caplog))
                client.shutdown(socket.SHUT_WR)
                with trio.fail_after(PATIENCE):
                    while len(messages(caplog)) == logged:
                        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    over_unix, over_tcp = messages(caplog)
    assert over_unix.startswith(f"TLS handshake with unix:{quoted(str(path))} failed: ")
    assert over_tcp.startswith("TLS handshake with [::1]:")


async def test_a_client_whose_handshake_failed_is_forgotten_without_the_garbage_collector(machines: Machines) -> None:
    """A server under attack would else keep thousands of them, until a collection that holds up everybody."""
    kept: list[weakref.ref[object]] = []

    def note(error: Exception, stream: TLSStream[MemoryStream]) -> None:
        kept.extend((weakref.ref(error), weakref.ref(stream)))

    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(on_handshake_error=note)
        await garbage_is_refused(server)
        gc.disable()
        try:
            for _ in range(5):
                await garbage_is_refused(server)
            assert sum(each() is not None for each in kept) <= 2  # the last may be on its way
        finally:
            gc.enable()
        nursery.cancel_scope.cancel()
    assert len(kept) == 12


async def garbage_is_refused(server: MemoryServer) -> None:
    client = server.listener.connect()
    await client.send_all(b"garbage, garbage, garbage")
    await client.send_eof()
    while await client.receive_some():
        pass
    await client.aclose()
    await trio.testing.wait_all_tasks_blocked()
