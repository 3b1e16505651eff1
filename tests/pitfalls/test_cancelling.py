"""Cancelling: the handshake, its waiters, sends, receives and unwrap."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trio_tls import CertificateVerificationError, TransportError, Want

from ..blocking import blocked, cancel_at_once, cancel_once_blocked, concurrently, outcomes, unwrap_both
from ..peers import distrustful_client, ends_of
from ..support import TIERS, Machines, pattern, receive_exactly, tls_pair

#: Transports that can count, or have a task that sends: a cancelled send goes on.
RESUMABLE = ("1-socket", "2-nested", "3-stapled", "4-lockstep", "4-foreign")

#: Transports that are told nothing but ``send_all`` and are not entered: a cancelled send is torn.
TORN = ("5-lockstep", "5-foreign")


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("role", ["client", "server"])
async def test_p1_a_handshake_that_was_cancelled_on_a_silent_peer_is_called_again(
    autojump_clock: MockClock, machines: Machines, tier: str, role: str
) -> None:
    """trio.SSLStream: the second call is BrokenResourceError('')."""
    async with tls_pair(machines, tier, handshake=False) as ends:
        here, there = ends if role == "client" else ends[::-1]
        for _ in range(3):
            await cancel_once_blocked(here.do_handshake)
        await concurrently(here.do_handshake, there.do_handshake)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.send_all, b"still alive")
            assert await receive_exactly(there, 11) == b"still alive"


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("role", ["client", "server"])
async def test_p1b_a_handshake_under_a_cancelled_scope_does_no_harm(
    autojump_clock: MockClock, machines: Machines, tier: str, role: str
) -> None:
    """trio.SSLStream: broken, with not one byte sent."""
    async with tls_pair(machines, tier, handshake=False) as ends:
        here, there = ends if role == "client" else ends[::-1]
        await cancel_at_once(here.do_handshake)
        await concurrently(here.do_handshake, there.do_handshake)


@pytest.mark.parametrize("tier", TIERS)
async def test_p2_a_second_waiter_takes_over_when_the_first_is_cancelled(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: the task in receive_some waits for ever."""
    async with tls_pair(machines, tier, handshake=False) as (client, server):
        async with blocked(client.do_handshake, client.receive_some) as (handshake, receive):
            handshake.scope.cancel()
            await handshake.done.wait()
            await server.do_handshake()
            await server.send_all(b"welcome")
            assert await receive.result() == b"welcome"


@pytest.mark.parametrize("tier", TIERS)
async def test_p2b_a_second_waiter_gets_the_same_verification_error(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: the first task gets the error, the second waits for ever."""
    async with ends_of(machines, tier, client=distrustful_client(machines)) as (client, server):
        async with blocked(client.do_handshake, client.receive_some) as waiting:
            await outcomes(server.do_handshake)
            for one in waiting:
                with pytest.raises(CertificateVerificationError) as caught:
                    await one.result()
                assert caught.value.alert is not None
                assert caught.value.alert.name == "unknown_ca"
        with pytest.raises(CertificateVerificationError):
            await client.do_handshake()


@pytest.mark.parametrize("tier", RESUMABLE)
async def test_p4_receiving_goes_on_after_a_cancelled_send_and_so_does_sending(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: receive_some raises BrokenResourceError, although data is there to be read."""
    data = pattern(1_000_000)
    async with tls_pair(machines, tier, buffer=4096) as (client, server):
        await cancel_once_blocked(lambda: client.send_all(data))
        accepted = client.plaintext_sent
        assert accepted < len(data)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"readable")
            assert await receive_exactly(client, 8) == b"readable"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, data[accepted:])
            assert await receive_exactly(server, len(data)) == data


@pytest.mark.parametrize("tier", TORN)
async def test_p4_receiving_goes_on_where_a_cancelled_send_could_not_be_counted(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """Not even tier 5 loses more than its sending side, and it says how to keep that too."""
    async with tls_pair(machines, tier, buffer=4096) as (client, server):
        await cancel_once_blocked(lambda: client.send_all(pattern(1_000_000)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"readable")
            assert await receive_exactly(client, 8) == b"readable"
        with pytest.raises(TransportError, match="async with TLSStream"):
            await client.send_all(b"more")


@pytest.mark.parametrize("tier", TIERS)
async def test_p5_a_cancelled_receive_loses_nothing(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    """trio.SSLStream: the same, once the handshake is done; here also before."""
    async with tls_pair(machines, tier, handshake=False) as (client, server):
        for _ in range(3):
            await cancel_once_blocked(client.receive_some)
        await concurrently(client.do_handshake, server.do_handshake)
        for _ in range(3):
            await cancel_once_blocked(client.receive_some)
            await cancel_at_once(client.receive_some)
        data = pattern(100_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, data)
            await cancel_at_once(client.receive_some)
            assert await receive_exactly(client, len(data)) == data


@pytest.mark.parametrize("tier", TIERS)
async def test_p25_a_reader_that_times_out_in_the_implicit_handshake_does_not_break_the_writer(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: the reader happens to own the handshake, and takes the writer with it."""
    async with tls_pair(machines, tier, handshake=False) as (client, server):
        async with blocked(client.receive_some, lambda: client.send_all(b"request")) as (reader, writer):
            reader.scope.cancel()
            await reader.done.wait()
            assert await receive_exactly(server, 7) == b"request"
            await writer.result()


@pytest.mark.parametrize("tier", ["1-socket", "3-stapled"])
async def test_p34_a_cancel_while_queued_behind_another_sender_loses_nothing(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: the record is encrypted and dropped, and the next one is bad_record_mac at the peer.

    The sender in front is a receive that pushes what an earlier cancelled send has left.
    """
    first, second = pattern(1_000_000), pattern(1_000_000, seed=9)
    async with tls_pair(machines, tier, buffer=4096) as (client, server):
        await cancel_once_blocked(lambda: client.send_all(first))
        accepted_of_first = client.plaintext_sent
        async with blocked(client.receive_some):
            assert client.want == Want.READ | Want.WRITE  # the receive has both in hand
            for _ in range(3):
                await cancel_once_blocked(lambda: client.send_all(second))
                await cancel_once_blocked(lambda: client.send_some(second))
                await cancel_once_blocked(client.wait_send_all_might_not_block)
            accepted_of_second = client.plaintext_sent - accepted_of_first
            sent = first[:accepted_of_first] + second
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send_all, second[accepted_of_second:])
                assert await receive_exactly(server, len(sent)) == sent


@pytest.mark.parametrize("tier", TIERS)
async def test_u1_a_cancelled_unwrap_is_called_again(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    """trio.SSLStream: the same."""
    async with tls_pair(machines, tier) as (client, server):
        for _ in range(3):
            await cancel_once_blocked(client.unwrap)
        await unwrap_both(client, server)


@pytest.mark.parametrize("tier", TIERS)
async def test_u2_a_send_after_a_cancelled_unwrap_is_refused_and_breaks_nothing(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: PROTOCOL_IS_SHUTDOWN, and the stream is broken."""
    async with tls_pair(machines, tier) as (client, server):
        await cancel_once_blocked(client.unwrap)
        with pytest.raises(trio.ClosedResourceError, match="after send_eof\\(\\) or unwrap\\(\\)"):
            await client.send_all(b"too late")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"last word")
            assert await client.receive_some() == b"last word"
        await unwrap_both(client, server)
