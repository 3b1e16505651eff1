"""Closing: with a peer that is silent, does not read, or is still sending."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_tls import TLSStream

from ..blocking import blocked, cancel_at_once, concurrently
from ..support import HOST, TIERS, Machines, pattern, receive_exactly, tls_pair, transport_pair


@pytest.mark.parametrize("tier", TIERS)
async def test_p6_c1_an_exception_before_the_handshake_comes_out_at_once_and_as_raised(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: ``__aexit__`` does a handshake, hangs on a silent peer, and a timeout masks the exception."""
    started = trio.current_time()
    error = KeyError("the body's own")
    async with transport_pair(tier, machines) as (transport, silent), silent:
        with pytest.raises(KeyError) as caught:
            async with TLSStream(transport, machines.client, server_hostname=HOST):
                raise error
    assert caught.value is error
    assert trio.current_time() == started


@pytest.mark.parametrize("tier", TIERS)
async def test_p7_closing_wakes_a_task_that_is_stuck_in_the_handshake(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: aclose waits for that task, for ever."""
    started = trio.current_time()
    async with tls_pair(machines, tier, handshake=False) as (client, _silent):
        async with blocked(client.do_handshake) as (handshake,):
            await client.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await handshake.result()
        assert trio.current_time() - started <= 1  # the grace; on a socket nothing of it is used


@pytest.mark.parametrize("tier", TIERS)
async def test_p12_unwrap_keeps_the_data_that_was_under_way(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: APPLICATION_DATA_AFTER_CLOSE_NOTIFY; the data and the stream are lost."""
    data = pattern(100_000)
    async with tls_pair(machines, tier) as (client, server):
        transports = client.transport_stream, server.transport_stream

        async def send_and_unwrap() -> None:
            await server.send_all(data)
            await server.unwrap()

        await concurrently(client.unwrap, send_and_unwrap)
        assert await receive_exactly(client, len(data)) == data
        for transport in transports:
            assert transport is not None
            await trio.aclose_forcefully(transport)


@pytest.mark.parametrize("tier", TIERS)
async def test_p13_sending_goes_on_after_the_peers_close_notify(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: the same, but nothing tested it."""
    async with tls_pair(machines, tier) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_eof)
        assert await server.receive_some() == b""
        data = pattern(100_000)
        nursery.start_soon(server.send_all, data)
        assert await receive_exactly(client, len(data)) == data


@pytest.mark.parametrize("tier", ["1-socket", "2-nested", "3-stapled", "4-lockstep", "4-foreign", "5-lockstep"])
async def test_p22_closing_waits_no_longer_than_the_grace_for_a_peer_that_does_not_read(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: aclose blocks until it is cancelled."""
    options = {"grace": 3.0}
    async with tls_pair(machines, tier, buffer=4096, client_options=options) as (client, _unread):
        async with blocked(lambda: client.send_all(bytes(1_000_000))) as (send,):
            started = trio.current_time()
            await client.aclose()
            assert trio.current_time() - started <= 3.0 + 1.0  # a nested stream has a grace of its own, of 1 s
            with pytest.raises(trio.ClosedResourceError):
                await send.result()


@pytest.mark.parametrize("tier", ["1-socket", "2-nested", "3-stapled"])
async def test_u3_closing_in_a_cancelled_task_still_says_close_notify(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: the peer sees a truncation whenever a program shuts down."""
    async with tls_pair(machines, tier) as (client, server):
        await cancel_at_once(client.aclose)
        assert await server.receive_some() == b""


@pytest.mark.parametrize("tier", TIERS)
async def test_a3_closing_does_not_wait_for_the_peers_close_notify(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """anyio: aclose waits for it, for ever."""
    started = trio.current_time()
    async with tls_pair(machines, tier) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        assert await server.receive_some() == b""
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
    assert trio.current_time() - started <= 1


@pytest.mark.parametrize("tier", TIERS)
async def test_a5_closing_while_the_peers_data_is_under_way_raises_nothing(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """anyio: a plain close raises SSLError APPLICATION_DATA_AFTER_CLOSE_NOTIFY."""
    async with tls_pair(machines, tier) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"two records")
            assert await client.receive_some(3) == b"two"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.receive_some)
            await client.aclose()
