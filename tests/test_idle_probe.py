"""`is_readable`: whether an idle connection is still good, asked without waiting.

A connection pool that asks the *socket* drops healthy connections: a session ticket or a KeyUpdate makes it
readable, too. The stream knows better.
"""

from __future__ import annotations

from pathlib import Path
from select import select

import pytest
import trio
import trio.testing

from trio_tls import PeerMisbehaved, TLSStream, UnexpectedEOF

from .blocking import blocked, concurrently
from .peers import HANDSHAKE, has_ticket, peer_by_hand
from .support import Machines, pattern, receive_exactly, tls_pair


def socket_is_readable(stream: TLSStream[trio.SocketStream]) -> bool:
    """What a pool would find out by itself."""
    assert stream.transport_stream is not None
    return bool(select([stream.transport_stream.socket.fileno()], [], [], 0)[0])


async def test_an_idle_connection_is_not_readable(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        assert not client.is_readable()
        assert not server.is_readable()
        await client.send_all(b"ping")
        assert await server.receive_some() == b"ping"
        assert not client.is_readable()
        assert not server.is_readable()


async def test_before_the_handshake_there_is_nothing_to_read(machines: Machines) -> None:
    async with tls_pair(machines, handshake=False) as (client, server):
        assert not client.is_readable()
        async with blocked(client.do_handshake):
            assert not server.is_readable()  # a ClientHello is there, but no data
        await concurrently(client.do_handshake, server.do_handshake)


async def test_tickets_do_not_make_it_readable(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await server.flush()
        assert socket_is_readable(client) == (machines.version == "TLSv1.3")
        assert not client.is_readable()
        assert not socket_is_readable(client)  # they were dealt with
        assert has_ticket(client.session)


async def test_a_key_update_does_not_make_it_readable_and_is_answered(tmp_path: Path) -> None:
    for server_side in (False, True):
        async with peer_by_hand(tmp_path, server_side=server_side) as (stream, peer):
            await peer.transport.send_all(peer.key_update(request=True) + peer.key_update(request=False))
            assert socket_is_readable(stream)
            assert not stream.is_readable()
            await stream.send_all(b"under the next keys")
            assert await peer.receive_some() == b"under the next keys"
            assert peer.key_updates_received == 1
            await peer.send_all(b"likewise")
            assert stream.is_readable()
            assert await stream.receive_some() == b"likewise"
            (tmp_path / "secrets.log").unlink()


async def test_a_key_update_is_answered_though_nothing_is_ever_sent(tmp_path: Path) -> None:
    for server_side in (False, True):
        async with peer_by_hand(tmp_path, server_side=server_side) as (stream, peer):
            await peer.transport.send_all(peer.key_update(request=True))
            async with blocked(stream.receive_some):
                with trio.fail_after(5):
                    answer = await peer.transport.receive_some()
            assert answer[-27:-22] == b"\x17\x03\x03\x00\x16"  # a KeyUpdate; a server's tickets go before it
            (tmp_path / "secrets.log").unlink()


async def test_data_makes_it_readable_and_the_probe_loses_none_of_it(machines: Machines) -> None:
    data = pattern(50_000)
    async with tls_pair(machines) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, data)
        await trio.testing.wait_all_tasks_blocked()
        assert client.is_readable()
        received = await client.receive_some()
        assert len(received) > 1  # not only the byte that it took to look
        while len(received) < len(data):
            for _ in range(3):
                assert client.is_readable()
            received += await client.receive_some(777)
        assert received == data
        assert not client.is_readable()


async def test_data_behind_a_key_update_makes_it_readable(tmp_path: Path) -> None:
    async with peer_by_hand(tmp_path) as (stream, peer):
        await peer.transport.send_all(peer.key_update(request=True))
        await peer.send_all(b"behind it")
        assert stream.is_readable()
        assert stream.receive_nowait() == b"behind it"


async def test_half_a_record_does_not_make_it_readable(tmp_path: Path) -> None:
    async with peer_by_hand(tmp_path) as (stream, peer):
        record = peer.record(23, b"in two parts")
        await peer.transport.send_all(record[:10])
        assert not stream.is_readable()
        await peer.transport.send_all(record[10:])
        assert stream.is_readable()
        assert await receive_exactly(stream, 12) == b"in two parts"


async def test_the_peers_close_notify_makes_it_readable(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await server.send_eof()
        assert client.is_readable()
        assert client.is_readable()
        assert await client.receive_some() == b""


async def test_an_eof_makes_it_readable(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        assert server.transport_stream is not None
        await trio.aclose_forcefully(server.transport_stream)
        assert client.is_readable()
        assert client.is_readable()
        with pytest.raises(UnexpectedEOF):
            await client.receive_some()


async def test_an_error_makes_it_readable_and_is_raised_by_the_next_receive(tmp_path: Path) -> None:
    async with peer_by_hand(tmp_path) as (stream, peer):
        await peer.transport.send_all(peer.record(HANDSHAKE, b"\x02\x00\x00\x00"))  # a ServerHello, now
        assert stream.is_readable()
        assert stream.is_readable()
        with pytest.raises(PeerMisbehaved, match="out of order"):
            await stream.receive_some()


async def test_a_closed_stream_is_readable_since_a_receive_would_raise_at_once(machines: Machines) -> None:
    async with tls_pair(machines) as (client, _server):
        await client.aclose()
        assert client.is_readable()


async def test_while_another_task_receives_there_is_nothing_left_for_us(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        async with blocked(client.receive_some) as (receive,):
            assert not client.is_readable()
            await server.send_all(b"for the other task")
            assert await receive.result() == b"for the other task"
