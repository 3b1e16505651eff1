"""Sending: what may be sent, how much of it is under way, when it leaves, and who may send."""

from __future__ import annotations

import array
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_tls import PeerMisbehaved, TLSStream, Want

from .blocking import blocked, cancel_at_once, cancel_once_blocked, concurrently
from .peers import APPLICATION_DATA, RecordingStream, peer_by_hand, record_types
from .support import HOST, TIERS, Machines, pattern, receive_exactly, tls_pair

#: Transports whose sends block once the peer stops reading, and that can be cancelled there.
RESUMABLE = ("1-socket", "2-nested", "3-stapled", "4-lockstep", "4-foreign")

#: What one connection may queue and the kernel may hold, at the most. Far less than what the tests send.
BOUND = 1024 * 1024

# -- what ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        memoryview(b"every second")[2:7],
        memoryview(array.array("d", [1.5, 2.5])),
        array.array("I", [1, 2, 3]),
    ],
    ids=["bytes", "bytearray", "memoryview", "slice of a memoryview", "memoryview of doubles", "array of words"],
)
async def test_any_buffer_is_sent_as_its_bytes(machines: Machines, data: Any) -> None:
    expected = bytes(data)
    async with tls_pair(machines) as (client, server):
        await client.send_all(data)
        assert client.plaintext_sent == len(expected)
        assert await receive_exactly(server, len(expected)) == expected
        assert await client.send_some(data) == len(expected)
        assert await receive_exactly(server, len(expected)) == expected
        assert client.send_nowait(data) == len(expected)
        assert await receive_exactly(server, len(expected)) == expected
        await client.sender(data).send()
        assert await receive_exactly(server, len(expected)) == expected


@pytest.mark.parametrize("data", ["text", None, 5, [1, 2]])
async def test_what_is_no_buffer_is_misuse(machines: Machines, data: Any) -> None:
    async with tls_pair(machines) as (client, server):
        with pytest.raises(TypeError):
            await client.send_all(data)
        with pytest.raises(TypeError):
            await client.send_some(data)
        await client.send_all(b"unharmed")
        assert await server.receive_some() == b"unharmed"


async def test_a_buffer_is_free_again_once_it_was_sent(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, server):
        data = bytearray(pattern(1000))
        await client.send_all(data)
        data.extend(b"it can be resized: nobody holds a view of it")
        assert await receive_exactly(server, 1000) == pattern(1000)
        data = bytearray(1_000_000)
        await cancel_once_blocked(lambda: client.send_all(data))
        data.clear()


@pytest.mark.parametrize("tier", TIERS)
async def test_nothing_is_not_an_eof(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    async with tls_pair(machines, tier) as (client, server), trio.open_nursery() as nursery:
        await client.flush()
        assert await client.send_some(b"") == 0
        with trio.testing.assert_checkpoints():
            await client.send_all(b"")
        nursery.start_soon(client.send_all, b"something")
        assert await receive_exactly(server, 9) == b"something"


# -- how much ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", RESUMABLE)
async def test_a_peer_that_does_not_read_bounds_what_is_queued(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    data = bytes(20_000_000)
    async with tls_pair(machines, tier) as (client, _unread):
        await cancel_once_blocked(lambda: client.send_all(data))
        assert 0 < client.plaintext_sent < BOUND


@pytest.mark.parametrize("tier", RESUMABLE)
async def test_a_long_send_never_runs_far_ahead_of_the_peer(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    data = memoryview(bytes(20_000_000))
    async with tls_pair(machines, tier) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, data)
        received = 0
        while received < len(data):
            received += len(await server.receive_some())
            assert client.plaintext_sent - received < BOUND


@pytest.mark.parametrize("tier", RESUMABLE)
async def test_plaintext_sent_tells_what_a_cancelled_send_has_accepted(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    data = pattern(3_000_000)
    async with tls_pair(machines, tier, buffer=4096) as (client, server), trio.open_nursery() as nursery:
        received = bytearray()

        async def receive() -> None:
            received.extend(await receive_exactly(server, len(data)))
            nursery.cancel_scope.cancel()

        await cancel_once_blocked(lambda: client.send_all(data[client.plaintext_sent :]))
        nursery.start_soon(receive)
        while client.plaintext_sent < len(data):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as sending:
                    sending.start_soon(client.send_all, data[client.plaintext_sent :])
                    for _ in range(20):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        await client.flush()
        await trio.sleep_forever()
    assert received == data


@pytest.mark.parametrize("tier", RESUMABLE)
async def test_a_sender_keeps_its_own_position(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    data = pattern(1_000_000)
    async with tls_pair(machines, tier, buffer=4096) as (client, server):
        await client.flush()
        sender = client.sender(bytearray(data))
        assert (sender.position, sender.remaining) == (0, len(data))
        await cancel_at_once(sender.send)
        assert sender.position == 0
        await cancel_once_blocked(sender.send)
        assert 0 < sender.position < len(data)
        assert sender.position == client.plaintext_sent
        assert sender.remaining == len(data) - sender.position
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send)
            assert await receive_exactly(server, len(data)) == data
        assert sender.remaining == 0
        await sender.send()  # nothing is left of it
        assert client.plaintext_sent == len(data)


@pytest.mark.parametrize("tier", RESUMABLE)
async def test_send_some_tells_the_truth_even_when_it_is_cancelled(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    data = pattern(1_000_000)
    async with tls_pair(machines, tier, buffer=4096) as (client, server):
        accepted = 0
        async with blocked(lambda: client.send_some(data)) as (send,):
            accepted = client.plaintext_sent
            assert accepted > 0
            send.scope.cancel()
            assert await send.result() == accepted  # it has accepted, so the cancel is the next checkpoint's
        await cancel_once_blocked(lambda: fill(client, data))
        accepted = client.plaintext_sent
        await cancel_once_blocked(lambda: client.send_some(b"nothing of this"))
        assert client.plaintext_sent == accepted
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.flush)
            assert len(await receive_exactly(server, accepted)) == accepted


async def fill(stream: TLSStream[Any], data: bytes) -> None:
    """Send until there is no room for one byte more."""
    while True:
        await stream.send_all(data)


async def test_sending_without_waiting(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, server):
        data = pattern(1_000_000)
        accepted = client.send_nowait(data)
        assert 0 < accepted < len(data)
        assert accepted == client.plaintext_sent
        while True:
            try:
                accepted += client.send_nowait(data[accepted:])
            except trio.WouldBlock:
                break
        assert accepted < len(data)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.flush)
            assert await receive_exactly(server, accepted) == data[:accepted]


async def test_sending_without_waiting_needs_the_handshake_and_a_transport_that_can(machines: Machines) -> None:
    async with tls_pair(machines, handshake=False) as (client, _server):
        with pytest.raises(trio.NeedHandshakeError):
            client.send_nowait(b"x")
    async with tls_pair(machines, "5-memory") as (client, _server):
        with pytest.raises(trio.WouldBlock):
            client.send_nowait(b"x")


# -- when it leaves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entered", [True, False])
@pytest.mark.parametrize("request_size", [18, 10_000])
async def test_finished_and_the_first_data_leave_together(machines: Machines, request_size: int, entered: bool) -> None:
    request = pattern(request_size)
    transport, peer = trio.testing.memory_stream_pair()
    recording = RecordingStream(transport)
    client = TLSStream(recording, machines.client, server_hostname=HOST)
    async with TLSStream(peer, machines.server, server_side=True) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.receive_some)
        async with client if entered else aclosing(client):
            await client.send_all(request)
            pieces = [record_types(piece) for piece in recording.sent]
        if machines.version == "TLSv1.3":
            # change_cipher_spec for the sake of middleboxes, Finished, and the request
            assert pieces == [[22], [20, 23, 23]]
        else:  # TLS 1.2: the server's Finished comes before our data
            assert pieces == [[22], [22, 20, 22], [23]]


@pytest.mark.parametrize("tier", ["1-socket", "2-nested", "3-stapled", "4-memory", "4-foreign"])
async def test_a_request_whose_send_was_cancelled_leaves_while_only_a_reader_runs(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    async with tls_pair(machines, tier, buffer=4096) as (client, server):
        data = pattern(1_000_000)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send_all, data)
                while not client.plaintext_sent:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        accepted = client.plaintext_sent
        async with blocked(client.receive_some):
            assert await receive_exactly(server, accepted) == data[:accepted]


@pytest.mark.parametrize("tier", RESUMABLE)
async def test_a_reader_that_is_asleep_already_takes_over_what_a_cancelled_send_has_left(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    data = pattern(1_000_000)
    async with tls_pair(machines, tier, buffer=4096) as (client, server), blocked(client.receive_some):
        await cancel_once_blocked(lambda: client.send_all(data))
        accepted = client.plaintext_sent
        assert await receive_exactly(server, accepted) == data[:accepted]


async def test_flush_pushes_what_a_cancelled_send_has_left(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, server):
        data = pattern(1_000_000)
        await cancel_once_blocked(lambda: client.send_all(data))
        accepted = client.plaintext_sent
        await cancel_once_blocked(client.flush)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.flush)
            assert await receive_exactly(server, accepted) == data[:accepted]
        assert client.plaintext_sent == accepted


async def test_what_it_waits_for_is_told(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, _unread):
        async with blocked(lambda: client.send_all(bytes(1_000_000))):
            assert client.want is Want.WRITE
            async with blocked(client.receive_some):
                assert client.want == Want.READ | Want.WRITE
            assert client.want is Want.WRITE
        assert client.want is None
        async with blocked(client.wait_send_all_might_not_block):
            assert client.want is Want.WRITE


# -- who -----------------------------------------------------------------------------------------------------


async def test_two_senders_are_one_too_many(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, _unread):
        async with blocked(lambda: client.send_all(bytes(1_000_000))):
            for send in (
                lambda: client.send_all(b"x"),
                lambda: client.send_some(b"x"),
                lambda: client.sender(b"x").send(),
                client.flush,
                client.wait_send_all_might_not_block,
                client.send_eof,
                client.unwrap,
            ):
                with pytest.raises(trio.BusyResourceError, match="another task"):
                    await send()
            with pytest.raises(trio.BusyResourceError, match="another task"):
                client.send_nowait(b"x")


@pytest.mark.parametrize("tier", TIERS)
async def test_waiting_for_room_does_no_handshake(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    async with tls_pair(machines, tier, handshake=False) as (client, server):
        if tier != "4-lockstep":
            await client.wait_send_all_might_not_block()
        assert client.info is None
        await concurrently(client.do_handshake, server.do_handshake)


# -- key updates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_side", [False, True])
async def test_key_updates_between_all_records_disturb_neither_direction(
    autojump_clock: MockClock, tmp_path: Path, server_side: bool
) -> None:
    there, back = pattern(1_000_000), pattern(1_000_000, seed=5)
    async with peer_by_hand(tmp_path, server_side=server_side, update_before_each_record=True) as (stream, peer):
        got: dict[str, bytes] = {}

        async def receive(name: str, end: trio.abc.ReceiveStream, count: int) -> None:
            got[name] = await receive_exactly(end, count)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, there)
            nursery.start_soon(peer.send_all, back)
            nursery.start_soon(receive, "peer", peer, len(there))
            nursery.start_soon(receive, "stream", stream, len(back))
        assert got == {"peer": there, "stream": back}
        assert peer.key_updates_received > 0


async def test_a_flood_of_key_updates_from_a_peer_that_reads_nothing_is_refused(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """Each asks for a reply (RFC 9846 section 4.7.3): a peer that does not read could fill our memory with them."""
    async with peer_by_hand(tmp_path, server_side=True, buffer=4096) as (stream, peer):

        async def flood() -> None:
            try:
                while True:  # with data in between, as without it the flood would end sooner
                    updates = b"".join(peer.key_update(request=True) for _ in range(30))
                    await peer.transport.send_all(updates + peer.record(APPLICATION_DATA, b"x"))
            except trio.BrokenResourceError:
                return  # we were thrown out

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            with pytest.raises(PeerMisbehaved, match="reads none of the replies"):
                while await stream.receive_some():
                    pass
            with pytest.raises(PeerMisbehaved):
                await stream.send_all(b"x")
            replied = 0

            async def count_replies() -> None:
                nonlocal replied
                try:
                    while part := await peer.transport.receive_some():
                        replied += len(part)
                except trio.BrokenResourceError:
                    return

            nursery.start_soon(count_replies)
            await stream.aclose()
        assert 0 < replied < BOUND


async def test_a_flood_of_key_updates_from_a_peer_that_reads_is_only_answered(tmp_path: Path) -> None:
    async with peer_by_hand(tmp_path) as (stream, peer), trio.open_nursery() as nursery:

        async def flood_and_read() -> None:
            for _ in range(20):
                await peer.transport.send_all(b"".join(peer.key_update(request=True) for _ in range(30)))
                await peer.send_all(b"x")
                assert await peer.receive_some() == b"y"

        nursery.start_soon(flood_and_read)
        for _ in range(20):
            assert await stream.receive_some() == b"x"
            await stream.send_all(b"y")
    assert peer.key_updates_received >= 20
