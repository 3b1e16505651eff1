"""`trio_tls.compat`: libraries that make `trio.SSLStream` by themselves make ours, and lose nothing they rely on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import ConfigContext, TLSListener, TLSStream, TransportError, UnexpectedEOF, compat

from .blocking import cancel_once_blocked, concurrently
from .peers import client_of, server_of
from .support import HOST, Machines, client_config, client_context, pattern, receive_exactly, socket_pair

TRIO_STREAM, TRIO_LISTENER = trio.SSLStream, trio.SSLListener


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    with compat.installed():
        yield
    assert (trio.SSLStream, trio.SSLListener) == (TRIO_STREAM, TRIO_LISTENER)


def pair(machines: Machines, *, buffer: int | None = None, https_compatible: bool = True) -> tuple[Any, Any]:
    """What a library makes by Trio's names."""
    a, b = socket_pair(buffer=buffer)
    client = trio.SSLStream(a, machines.client, server_hostname=HOST, https_compatible=https_compatible)
    return client, trio.SSLStream(b, machines.server, server_side=True, https_compatible=https_compatible)


async def test_the_names_of_trio_make_our_streams(machines: Machines) -> None:
    client, server = pair(machines)
    async with client, server:
        assert isinstance(client, TLSStream)
        await concurrently(client.do_handshake, server.do_handshake)
        await client.send_all(b"hello")
        assert await server.receive_some() == b"hello"


async def test_the_helpers_of_trio_make_our_streams(machines: Machines) -> None:
    async def echo(stream: Any) -> None:
        assert isinstance(stream, TLSStream)
        await stream.send_all(await stream.receive_some())

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_ssl_over_tcp, echo, 0, machines.server, host="127.0.0.1", https_compatible=True)
        (listener,) = await nursery.start(serve)
        assert isinstance(listener, TLSListener)
        tcp: Any = listener.transport_listener
        port = tcp.socket.getsockname()[1]
        client = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=machines.client)
        async with client:
            assert isinstance(client, TLSStream)
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
        nursery.cancel_scope.cancel()


async def test_isinstance_means_what_it_meant_before(machines: Machines) -> None:
    a, b = socket_pair()
    async with a, b, (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as tcp:
        theirs = TRIO_STREAM(a, client_of(machines), server_hostname=HOST)
        ours = TLSStream(b, machines.server, server_side=True)
        assert isinstance(theirs, trio.SSLStream)
        assert isinstance(ours, trio.SSLStream)
        assert not isinstance(theirs, TLSStream)
        assert not isinstance(a, trio.SSLStream)
        assert issubclass(TLSStream, trio.SSLStream) and issubclass(TRIO_STREAM, trio.SSLStream)
        assert not issubclass(trio.SocketStream, trio.SSLStream)
        assert isinstance(TRIO_LISTENER(tcp, server_of(machines)), trio.SSLListener)
        assert isinstance(TLSListener(tcp, machines.server), trio.SSLListener)
        assert not isinstance(tcp, trio.SSLListener)
        assert issubclass(TLSListener, trio.SSLListener)
        assert trio.SSLStream[trio.SocketStream] is not None
        assert trio.SSLStream.receive_some is TLSStream.receive_some
        assert not issubclass(trio.SSLStream, trio.abc.HalfCloseableStream)


async def test_a_pattern_that_matches_trios_stream_matches_ours(machines: Machines) -> None:
    client, server = pair(machines)
    async with client, server:
        match client:
            case trio.SSLStream(transport_stream=trio.SocketStream() as transport):
                assert transport is client.transport_stream
            case _:
                raise AssertionError("no match")


async def test_installing_twice_and_uninstalling_are_harmless(machines: Machines) -> None:
    compat.install()
    before = trio.SSLStream
    compat.install()
    with compat.installed():
        assert trio.SSLStream is before
    assert trio.SSLStream is before is not TRIO_STREAM
    client, server = pair(machines)
    compat.uninstall()
    compat.uninstall()
    assert (trio.SSLStream, trio.SSLListener) == (TRIO_STREAM, TRIO_LISTENER)
    async with client, server:  # they go on
        await concurrently(client.do_handshake, server.do_handshake)


async def test_an_exception_in_the_block_puts_trios_classes_back() -> None:
    compat.uninstall()
    with pytest.raises(KeyError), compat.installed():
        raise KeyError
    assert trio.SSLStream is TRIO_STREAM


async def test_blocks_that_overlap_last_until_the_last_of_them_has_ended() -> None:
    """As those of two tasks do; they need not end in the order in which they began."""
    compat.uninstall()
    first, second = compat.installed(), compat.installed()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert trio.SSLStream is not TRIO_STREAM and trio.SSLListener is not TRIO_LISTENER
    second.__exit__(None, None, None)
    assert (trio.SSLStream, trio.SSLListener) == (TRIO_STREAM, TRIO_LISTENER)


async def test_what_the_program_has_installed_outlasts_the_blocks() -> None:
    compat.uninstall()
    compat.install()
    with compat.installed():
        pass
    assert trio.SSLStream is not TRIO_STREAM
    compat.uninstall()
    with compat.installed():
        compat.install()
    assert trio.SSLStream is not TRIO_STREAM
    compat.uninstall()


async def test_uninstalling_in_a_block_holds_after_it_and_in_it() -> None:
    with compat.installed():
        compat.uninstall()
        assert trio.SSLStream is TRIO_STREAM
    assert trio.SSLStream is TRIO_STREAM


# -- what such a library relies on ----------------------------------------------------------------------------------


async def test_after_a_send_that_was_cut_off_no_other_data_can_follow(machines: Machines) -> None:
    """As HTTP/2 libraries do: they go on with the next frame, and would put it into the middle of the torn one."""
    client, server = pair(machines, buffer=4096)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        await cancel_once_blocked(partial(client.send_all, pattern(1_000_000)))
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match="would have a gap"):
                await client.send_all(b"the next frame")
        with pytest.raises(TransportError):
            await client.send_all(b"")
        await server.send_all(b"and yet it receives")
        assert await client.receive_some() == b"and yet it receives"


async def receive_all(stream: Any) -> int:
    size = 0
    while part := await stream.receive_some():
        size += len(part)
    return size


async def test_the_peer_of_a_send_that_was_cut_off_is_not_told_that_this_was_all(machines: Machines) -> None:
    """close_notify behind half a message would make it a whole one for a peer that goes by the end."""
    client, server = pair(machines, buffer=4096, https_compatible=False)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        await cancel_once_blocked(partial(client.send_all, pattern(1_000_000)))
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(UnexpectedEOF):
                    await receive_all(server)

            nursery.start_soon(receive)
            for operation in (client.send_eof, client.unwrap):
                with pytest.raises(TransportError, match="would have a gap"):
                    await operation()
            await client.aclose()


async def test_a_send_that_was_accepted_as_a_whole_and_then_cancelled_ends_well(machines: Machines) -> None:
    client, server = pair(machines, buffer=4096, https_compatible=False)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        size = 0
        while not size or client.plaintext_sent == size:  # until the transport is full
            size = client.plaintext_sent + 1000
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.send_all, pattern(1000))
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            if scope.cancelled_caught:
                break
        assert client.plaintext_sent == size
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_eof)
            assert await receive_all(server) == size


async def test_behind_the_end_there_is_nothing_to_tear(machines: Machines) -> None:
    client, server = pair(machines, https_compatible=False)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        await client.send_eof()
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.send_all(b"too late")
        await client.send_eof()
        with pytest.raises(trio.ClosedResourceError, match="send_eof"):
            await client.send_all(b"too late")
        assert await server.receive_some() == b""


async def test_a_send_that_was_cancelled_before_it_began_is_a_gap_as_well(machines: Machines) -> None:
    client, server = pair(machines)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.send_all(b"a frame")
        with pytest.raises(trio.BrokenResourceError, match="would have a gap"):
            await client.send_all(b"the next frame")


async def test_a_cancelled_flush_and_a_cancelled_receive_cost_nothing(machines: Machines) -> None:
    client, server = pair(machines)
    async with client, server:
        await cancel_once_blocked(client.do_handshake)
        await concurrently(client.do_handshake, server.do_handshake)
        await cancel_once_blocked(client.receive_some)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.send_all(b"")
        data = pattern(100_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, data)
            assert await receive_exactly(server, len(data)) == data


async def test_what_libraries_ask_the_ssl_object_for_is_there_on_any_machine(machines: Machines) -> None:
    client, server = pair(machines)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        assert client._ssl_object.version() == machines.version
        assert client._ssl_object.selected_alpn_protocol() is None


async def test_what_only_an_ssl_object_has_is_an_attribute_error_on_a_config_context() -> None:
    a, b = socket_pair()
    client: Any = trio.SSLStream(a, ConfigContext(client_config()), server_hostname=HOST)
    async with b, client:
        assert client._ssl_object is client
        assert client.session is None
        with pytest.raises(AttributeError, match="does not run on an ssl.SSLContext"):
            _ = client.context
        with pytest.raises(AttributeError, match="does not run on an ssl.SSLContext"):
            client.context = client_context()
        with pytest.raises(AttributeError, match="does not run on an ssl.SSLContext"):
            client.session = None


async def test_a_listener_closes_a_connection_that_it_cannot_wrap(machines: Machines) -> None:
    async with (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] as tcp:
        listener: Any = trio.SSLListener(tcp, machines.server)
        listener._config = machines.client  # as a configuration that went bad
        async with await trio.testing.open_stream_to_socket_listener(tcp) as client:
            with pytest.raises(ValueError):  # noqa: PT011  # the words are the machine's
                await listener.accept()
            assert await client.receive_some() == b""


# -- the connection that a task serves --------------------------------------------------------------------------


async def test_a_task_knows_the_connection_that_it_serves(machines: Machines) -> None:
    seen: list[Any] = []

    async def application() -> None:
        seen.append(compat.current_stream())

    async def serve(stream: Any) -> None:
        await stream.do_handshake()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(application)

    (client, server), (other_client, other_server) = pair(machines), pair(machines)
    async with client, server, other_client, other_server, trio.open_nursery() as nursery:
        nursery.start_soon(serve, server)
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(serve, other_server)
        nursery.start_soon(other_client.do_handshake)
    assert set(seen) == {server, other_server}
    assert compat.current_stream() is None


async def test_a_client_serves_nobody(machines: Machines) -> None:
    client, server = pair(machines)
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await client.do_handshake()
        assert compat.current_stream() is None
