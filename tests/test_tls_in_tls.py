"""TLS in TLS: both layers at work, with cancelled sends, and KeyUpdates and tickets on the layer below."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_tls import TLSStream

from .blocking import blocked, cancel_once_blocked, concurrently
from .peers import peer_by_hand
from .support import HOST, Machines, exchange, pattern, receive_exactly, tls_pair, transport_pair


@asynccontextmanager
async def deep_pair(machines: Machines, depth: int) -> AsyncIterator[tuple[TLSStream[Any], TLSStream[Any]]]:
    """The ends of ``depth`` layers of TLS on a pair of sockets with small buffers."""
    async with transport_pair("2-nested", machines, buffer=4096) as transports:
        below: tuple[trio.abc.Stream, trio.abc.Stream] = transports  # the first layer
        for _ in range(depth - 1):
            client = TLSStream(below[0], machines.client, server_hostname=HOST)
            server = TLSStream(below[1], machines.server, server_side=True)
            below = client, server
        async with client, server:
            yield client, server


@pytest.mark.parametrize("depth", [2, 3])
async def test_data_goes_both_ways_through_all_layers(
    autojump_clock: MockClock, machines: Machines, depth: int
) -> None:
    there, back = pattern(300_000), pattern(300_000, seed=2)
    async with deep_pair(machines, depth) as (client, server):
        assert await exchange(client, server, there, back) == (there, back)


@pytest.mark.parametrize("depth", [2, 3])
async def test_a_cancelled_send_is_resumed_at_every_depth(
    autojump_clock: MockClock, machines: Machines, depth: int
) -> None:
    data = pattern(1_000_000)
    async with deep_pair(machines, depth) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        sender = client.sender(data)
        for _ in range(3):
            await cancel_once_blocked(sender.send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send)
            assert await receive_exactly(server, len(data)) == data


@pytest.mark.parametrize("depth", [2, 3])
async def test_what_a_cancelled_send_left_in_any_layer_leaves_while_only_a_reader_runs(
    autojump_clock: MockClock, machines: Machines, depth: int
) -> None:
    async with deep_pair(machines, depth) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        data = pattern(1_000_000)
        await cancel_once_blocked(lambda: client.send_all(data))
        accepted = client.plaintext_sent
        async with blocked(client.receive_some):
            assert await receive_exactly(server, accepted) == data[:accepted]


async def test_the_upper_layer_unwraps_and_the_lower_goes_on(machines: Machines) -> None:
    async with tls_pair(machines, "2-nested") as (client, server):
        transports: dict[str, Any] = {}

        async def unwrap(name: str, end: TLSStream[Any]) -> None:
            transports[name], _ = await end.unwrap()

        await concurrently(lambda: unwrap("client", client), lambda: unwrap("server", server))
        lower, lower_server = transports["client"], transports["server"]
        async with lower, lower_server:
            assert lower.version() == machines.version
            await lower.send_all(b"one layer less")
            assert await lower_server.receive_some() == b"one layer less"


@pytest.mark.parametrize("lower_is_server", [False, True])
async def test_key_updates_on_the_lower_layer_disturb_nothing(
    autojump_clock: MockClock, machines: Machines, tmp_path: Path, lower_is_server: bool
) -> None:
    """The lower peer sends a KeyUpdate before each of its records, and wants each answered."""
    there, back = pattern(500_000), pattern(500_000, seed=3)
    async with peer_by_hand(tmp_path, server_side=lower_is_server, buffer=4096, update_before_each_record=True) as (
        lower,
        peer,
    ):
        client = TLSStream(lower, machines.client, server_hostname=HOST)
        server = TLSStream(peer, machines.server, server_side=True)
        async with client, server:
            await concurrently(client.do_handshake, server.do_handshake)
            await cancel_once_blocked(lambda: client.send_all(there))
            await cancel_once_blocked(lambda: server.send_all(back))
            got: dict[str, bytes] = {}

            async def receive(name: str, end: trio.abc.ReceiveStream, count: int) -> None:
                got[name] = await receive_exactly(end, count)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send_all, there[client.plaintext_sent :])
                nursery.start_soon(server.send_all, back[server.plaintext_sent :])
                nursery.start_soon(receive, "server", server, len(there))
                nursery.start_soon(receive, "client", client, len(back))
            assert got == {"server": there, "client": back}
            assert peer.key_updates_received > 0


async def test_tickets_of_the_lower_layer_do_not_make_the_upper_readable(machines: Machines) -> None:
    async with tls_pair(machines, "2-nested") as (client, server):
        lower = server.transport_stream
        assert isinstance(lower, TLSStream)
        await lower.flush()
        assert not client.is_readable()
        await server.send_all(b"but data does")
        assert client.is_readable()
        assert await client.receive_some() == b"but data does"
