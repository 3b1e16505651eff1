"""What trio's own tests assert where we differ from `trio.SSLStream`: all but the difference.

``tests/trio_suite/shim.py`` lists the tests of trio that are expected to fail. They fail at one point only:
our ``aclose()`` starts no handshake. Everything else that they assert is asserted here.
"""

from __future__ import annotations

import ssl

import pytest
import trio
from trio.testing import assert_checkpoints, memory_stream_pair

from trio_tls import TLSStream, UnexpectedEOF

from .certificates import distrusting
from .support import HOST, Machines, tls_pair


async def test_closing_nice_case(machines: Machines) -> None:
    """Trio's test of that name, without its last part."""
    async with tls_pair(machines, "5-memory", handshake=False) as (client, server):
        client_transport = client.transport_stream
        assert client_transport is not None
        async with trio.open_nursery() as nursery:  # trio's handshake would be part of the two aclose() calls
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(server.do_handshake)

        async def client_closer() -> None:
            with assert_checkpoints():
                await client.aclose()

        async def server_closer() -> None:
            assert await server.receive_some(10) == b""
            assert await server.receive_some(10) == b""
            with assert_checkpoints():
                await server.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client_closer)
            nursery.start_soon(server_closer)

        with pytest.raises(trio.ClosedResourceError):
            await client_transport.send_all(b"123")
        for _ in range(2):
            with assert_checkpoints():
                await client.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await server.send_all(b"123")
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some(10)
        with pytest.raises(trio.ClosedResourceError):
            await client.unwrap()
        with pytest.raises(trio.ClosedResourceError):
            await client.do_handshake()


async def test_aclose_before_the_handshake_closes_the_transport_and_the_peer_sees_it_end(machines: Machines) -> None:
    """The last part of trio's test_closing_nice_case, as we have it: the peer is not given a handshake first."""
    async with tls_pair(machines, "5-memory", handshake=False) as (client, server):
        transport = client.transport_stream
        assert transport is not None

        async def see_the_end() -> None:
            with assert_checkpoints(), pytest.raises(UnexpectedEOF, match="without answering|in the middle"):
                await server.receive_some(10)
            with assert_checkpoints():
                await server.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            nursery.start_soon(see_the_end)
        with pytest.raises(trio.ClosedResourceError):
            await transport.send_all(b"123")
        with pytest.raises(trio.ClosedResourceError):
            await client.do_handshake()


async def test_aclose_before_the_handshake_is_an_ordinary_end_where_close_notify_is_not_required(
    machines: Machines,
) -> None:
    options = {"require_close_notify": False}
    async with tls_pair(machines, "5-memory", handshake=False, server_options=options) as (client, server):
        await client.aclose()
        assert await server.receive_some(10) == b""
        assert await server.receive_some(10) == b""


async def test_aclose_before_the_handshake_tells_the_peer_nothing_and_judges_nobody(machines: Machines) -> None:
    """Trio's test_ssl_handshake_failure_during_aclose: there is no handshake that could fail."""
    near, far = memory_stream_pair()
    stream = TLSStream(near, distrusting(ssl.TLSVersion.TLSv1_2), server_hostname=HOST)
    with assert_checkpoints():
        await stream.aclose()
    assert await far.receive_some(100) == b"", "not one byte left"
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"123")
