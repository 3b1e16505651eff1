"""`unwrap`: TLS ends, the transport goes on in plain text, and nothing that was under way is lost."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_tls import TLSStream, TransportError, UnexpectedEOF, UnreadDataError
from trio_tls.testing import Chaos, ChaosStream, CountedChaosStream

from . import support
from .blocking import blocked, cancel_once_blocked, concurrently, unwrap_both
from .peers import strict_server
from .support import HOST, Machines, pattern, receive_exactly, socket_pair, tls_pair

#: Also the transport on which nothing can be sent before the peer receives.
TIERS = (*support.TIERS, "5-lockstep")

Ends = tuple[TLSStream[Any], TLSStream[Any]]


@asynccontextmanager
async def ends(machines: Machines, tier: str = "1-socket", **options: Any) -> AsyncIterator[Ends]:
    """As `tls_pair`; and the transports, which unwrap gives away, are closed at the end too."""
    async with tls_pair(machines, tier, **options) as (client, server):
        transports = client.transport_stream, server.transport_stream
        try:
            yield client, server
        finally:
            for transport in transports:
                assert transport is not None
                await trio.aclose_forcefully(transport)


@pytest.mark.parametrize("tier", TIERS)
async def test_the_transport_goes_on_in_plain_text(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    async with ends(machines, tier) as (client, server):
        transports: dict[str, trio.abc.Stream] = {}

        async def unwrap(name: str, end: TLSStream[Any]) -> None:
            transports[name], trailing = await end.unwrap()
            assert trailing == b""

        await concurrently(lambda: unwrap("client", client), lambda: unwrap("server", server))
        assert client.transport_stream is server.transport_stream is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transports["client"].send_all, b"in plain text")
            assert await receive_exactly(transports["server"], 13) == b"in plain text"


async def test_it_returns_the_very_transport(machines: Machines) -> None:
    async with ends(machines) as (client, server):
        transport = client.transport_stream
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.unwrap)
            assert (await client.unwrap())[0] is transport


@pytest.mark.parametrize("tier", TIERS)
async def test_plain_bytes_behind_the_close_notify_are_handed_over(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    async with ends(machines, tier) as (client, server), trio.open_nursery() as nursery:

        async def answer_in_plain_text() -> None:
            transport, trailing = await server.unwrap()
            assert trailing == b""
            await transport.send_all(b"220 plain again\r\n")

        nursery.start_soon(answer_in_plain_text)
        transport, start = await client.unwrap()
        assert start + await receive_exactly(transport, 17 - len(start)) == b"220 plain again\r\n"


@pytest.mark.parametrize("tier", TIERS)
async def test_application_data_under_way_stays_readable(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    data = pattern(200_000)
    async with ends(machines, tier) as (client, server):

        async def send_and_unwrap() -> None:
            await server.send_all(data)
            await server.unwrap()

        await concurrently(client.unwrap, send_and_unwrap)
        assert client.is_readable()
        received = client.receive_nowait(1000)
        received += await client.receive_some(1000)
        assert len(received) == 2000
        received += await receive_exactly(client, len(data) - 2000)
        assert received == data
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            client.receive_nowait()


async def test_data_and_trailing_bytes_are_told_apart(machines: Machines) -> None:
    data = pattern(50_000)
    async with ends(machines) as (client, server):
        start = b""

        async def send_unwrap_and_go_on() -> None:
            await server.send_all(data)
            transport, _ = await server.unwrap()
            await transport.send_all(b"plain")

        async def unwrap() -> None:
            nonlocal start
            transport, start = await client.unwrap()
            start += await receive_exactly(transport, 5 - len(start))

        await concurrently(send_unwrap_and_go_on, unwrap)
        assert await receive_exactly(client, len(data)) == data
        assert start == b"plain"


async def test_1_mib_of_unread_data_is_kept_and_no_more_than_that_is_refused(machines: Machines) -> None:
    data = pattern(1024 * 1024)
    async with ends(machines) as (client, server):

        async def send_and_unwrap() -> None:
            await server.send_all(data)
            await server.unwrap()

        await concurrently(send_and_unwrap, client.unwrap)
        assert await receive_exactly(client, len(data)) == data
    async with ends(machines) as (client, server):

        async def refuse() -> None:
            with pytest.raises(UnreadDataError):
                await client.unwrap()
            assert await receive_exactly(client, len(data) + 1) == data + b"."

        await concurrently(lambda: server.send_all(data + b"."), refuse)


async def test_more_than_1_mib_of_unread_data_is_refused_until_it_is_read(machines: Machines) -> None:
    data = pattern(3 * 1024 * 1024)
    async with ends(machines) as (client, server):
        received = bytearray()

        async def send_and_unwrap() -> None:
            await server.send_all(data)
            await server.unwrap()

        async def unwrap_again_and_again() -> None:
            refusals: list[str] = []
            while client.transport_stream is not None:
                try:
                    await client.unwrap()
                except UnreadDataError as error:
                    refusals.append(str(error))
                    received.extend(await client.receive_some())
            assert len(refusals) >= 2
            assert all("receive_some()" in words for words in refusals)

        await concurrently(send_and_unwrap, unwrap_again_and_again)
        received += await receive_exactly(client, len(data) - len(received))
        assert received == data


@pytest.mark.parametrize("tier", ["1-socket", "2-nested", "3-stapled", "4-lockstep", "4-foreign"])
async def test_two_ends_with_full_buffers_do_not_wait_for_each_other(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """Both have sent more than fits, were cancelled, and unwrap: neither may insist on sending first."""
    data = pattern(200_000)
    async with ends(machines, tier, buffer=4096) as (client, server):
        await cancel_once_blocked(lambda: client.send_all(data))
        await cancel_once_blocked(lambda: server.send_all(data))
        sent_by_client, sent_by_server = client.plaintext_sent, server.plaintext_sent
        assert min(sent_by_client, sent_by_server) > 50_000
        await concurrently(client.unwrap, server.unwrap)
        assert await receive_exactly(server, sent_by_client) == data[:sent_by_client]
        assert await receive_exactly(client, sent_by_server) == data[:sent_by_server]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("first", ["flush", "send_all", "send_eof"])
async def test_a_peer_that_has_to_get_rid_of_something_first_is_read_from(
    autojump_clock: MockClock, machines: Machines, tier: str, first: str
) -> None:
    """On a transport without a buffer neither end's send ends before the other receives: one of them has to."""
    data = pattern(30_000) if first == "send_all" else b""
    async with ends(machines, tier) as (client, server):

        async def send_and_unwrap() -> None:
            await (server.send_all(data) if data else getattr(server, first)())
            await server.unwrap()

        with trio.fail_after(10):
            await concurrently(client.unwrap, send_and_unwrap)
        if data:
            assert await receive_exactly(client, len(data)) == data


@pytest.mark.parametrize("tier", ["2-counted", "4-memory", "5-memory", "5-lockstep"])
@pytest.mark.parametrize("silent", [True, False], ids=["a silent peer", "a peer that ends too"])
async def test_no_transport_is_given_back_on_which_our_close_notify_could_not_leave(
    autojump_clock: MockClock, machines: Machines, tier: str, silent: bool
) -> None:
    """A peer that never gets it may never answer: so whoever waited for that would wait for ever."""
    kind = CountedChaosStream if tier == "2-counted" else ChaosStream
    async with ends(machines, tier.replace("2-counted", "5-memory"), wrap=kind) as (client, server):
        assert isinstance(client.transport_stream, ChaosStream)
        client.transport_stream.sending.chaos = Chaos(reset_at=0)
        async with trio.open_nursery() as nursery:
            if not silent:
                nursery.start_soon(server.unwrap)
            for _ in range(2):
                with pytest.raises(TransportError), trio.fail_after(5):
                    await client.unwrap()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("tier", ["5-memory", "5-lockstep"])
async def test_a_send_that_was_torn_is_told_though_the_peer_is_silent(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    async with ends(machines, tier, wrap=ChaosStream) as (client, _server):
        assert isinstance(client.transport_stream, ChaosStream)
        client.transport_stream.sending.chaos = Chaos(stall_at=0)
        await cancel_once_blocked(lambda: client.send_all(b"to nobody"))
        for _ in range(2):
            with pytest.raises(TransportError, match="send was cancelled"), trio.fail_after(5):
                await client.unwrap()


async def test_a_close_notify_that_was_cut_off_by_a_cancel_is_told_by_the_next_call(
    autojump_clock: MockClock, machines: Machines
) -> None:
    async with ends(machines, "5-lockstep") as (client, _server):
        with trio.move_on_after(10) as scope:  # far longer than its grace
            await client.unwrap()
        assert scope.cancelled_caught
        with pytest.raises(TransportError, match="send was cancelled"), trio.fail_after(5):
            await client.unwrap()


@pytest.mark.parametrize("waiting", ["do_handshake", "receive_some", "unwrap"])
async def test_who_waits_for_the_answer_to_a_flight_that_another_task_has_torn_is_told(
    autojump_clock: MockClock, machines: Machines, waiting: str
) -> None:
    async with ends(machines, "5-memory", wrap=ChaosStream, handshake=False) as (client, _server):
        assert isinstance(client.transport_stream, ChaosStream)
        client.transport_stream.sending.chaos = Chaos(stall_at=0)
        async with blocked(client.do_handshake) as (first,), blocked(getattr(client, waiting)) as (second,):
            first.scope.cancel()
            with pytest.raises(TransportError, match="send was cancelled"), trio.fail_after(5):
                await second.result()


async def test_a_failure_that_is_none_of_a_transport_comes_out_as_it_was_raised(
    autojump_clock: MockClock, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send_all(data: object) -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("the transport's own")

    async with ends(machines, "5-memory", wrap=ChaosStream) as (client, _server):
        assert client.transport_stream is not None
        monkeypatch.setattr(client.transport_stream, "send_all", send_all)
        with pytest.raises(LookupError, match="the transport's own"), trio.fail_after(5):
            await client.unwrap()
        with pytest.raises(TransportError, match="the transport's own"), trio.fail_after(5):
            await client.unwrap()


async def test_it_does_the_handshake_if_that_has_not_happened(machines: Machines) -> None:
    async with ends(machines, handshake=False) as (client, server):
        await concurrently(client.unwrap, server.unwrap)


@pytest.mark.parametrize("tier", TIERS)
async def test_it_may_follow_send_eof(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    async with ends(machines, tier) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_eof)
            assert await server.receive_some() == b""
        await unwrap_both(client, server)


async def test_an_end_without_close_notify_is_an_unexpected_eof(machines: Machines) -> None:
    async with ends(machines) as (client, server):
        assert server.transport_stream is not None
        await trio.aclose_forcefully(server.transport_stream)
        with pytest.raises(UnexpectedEOF):
            await client.unwrap()


async def test_an_end_without_close_notify_is_an_end_where_none_is_required(machines: Machines) -> None:
    async with ends(machines, client_options={"require_close_notify": False}) as (client, server):
        assert isinstance(server.transport_stream, trio.SocketStream)
        server.transport_stream.socket.shutdown(socket.SHUT_WR)
        transport, trailing = await client.unwrap()
        assert trailing == b""
        assert transport is not None


async def test_it_works_against_a_strict_peer(machines: Machines) -> None:
    a, b = socket_pair()
    client = TLSStream(a, machines.client, server_hostname=HOST)
    strict = strict_server(machines, b)
    async with a, b:
        await concurrently(client.do_handshake, strict.do_handshake)
        await concurrently(client.unwrap, strict.unwrap)
        await a.send_all(b"plain")
        assert await b.receive_some() == b"plain"


@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.do_handshake(),
        lambda stream: stream.receive_some(),
        lambda stream: stream.receive_some_into(bytearray(1)),
        lambda stream: stream.send_all(b"x"),
        lambda stream: stream.send_some(b"x"),
        lambda stream: stream.flush(),
        lambda stream: stream.send_eof(),
        lambda stream: stream.wait_send_all_might_not_block(),
        lambda stream: stream.unwrap(),
    ],
)
async def test_nothing_else_works_afterwards(machines: Machines, use: Callable[[TLSStream[Any]], Any]) -> None:
    async with ends(machines) as (client, server):
        await concurrently(client.unwrap, server.unwrap)
        with pytest.raises(trio.ClosedResourceError):
            await use(client)


@pytest.mark.parametrize("tier", TIERS)
async def test_closing_afterwards_leaves_the_transport_alone(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    async with ends(machines, tier) as (client, server):
        transports = client.transport_stream, server.transport_stream
        await concurrently(client.unwrap, server.unwrap)
        await client.aclose()
        async with trio.open_nursery() as nursery:
            assert transports[0] is not None
            assert transports[1] is not None
            nursery.start_soon(transports[0].send_all, b"mine now")
            assert await receive_exactly(transports[1], 8) == b"mine now"


async def test_it_is_refused_while_another_task_sends_or_receives(machines: Machines) -> None:
    async with ends(machines) as (client, _server):
        async with blocked(client.receive_some):
            with pytest.raises(trio.BusyResourceError, match="another task"):
                await client.unwrap()
