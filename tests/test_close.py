"""Closing: bounded, never waiting for the peer, waking whoever waits; and what an end means (the EOF policy)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_tls import TLSStream, UnexpectedEOF

from .blocking import blocked, cancel_at_once, concurrently
from .peers import RecordingStream, record_types
from .support import HOST, TIERS, Machines, receive_exactly, socket_pair, tls_pair, transport_pair

#: Tiers whose sends block once the peer stops reading.
BLOCKING = ("1-socket", "2-nested", "3-stapled", "4-lockstep", "4-foreign", "5-lockstep", "5-foreign")

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

Use = Callable[[TLSStream[Any]], Any]

# -- what leaves, and how long it may take -------------------------------------------------------------------


async def test_closing_before_the_handshake_sends_nothing(machines: Machines) -> None:
    transport, silent = trio.testing.memory_stream_pair()
    recording = RecordingStream(transport)
    async with silent:
        await TLSStream(recording, machines.client, server_hostname=HOST).aclose()
        assert recording.sent == []
        assert recording.closes == 1
        assert await silent.receive_some() == b""


@pytest.mark.parametrize("tier", TIERS)
async def test_closing_says_close_notify(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    async with tls_pair(machines, tier) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        assert await server.receive_some() == b""
        assert await server.receive_some() == b""


@pytest.mark.parametrize("tier", TIERS)
async def test_closing_takes_no_time_when_the_peer_reads(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    async with tls_pair(machines, tier) as (client, server):
        started = trio.current_time()
        await concurrently(client.aclose, server.receive_some)
        assert trio.current_time() == started


@pytest.mark.parametrize("tier", BLOCKING)
@pytest.mark.parametrize("grace", [0.0, 0.5, 30.0])
async def test_closing_is_bounded_by_the_grace(
    autojump_clock: MockClock, machines: Machines, tier: str, grace: float
) -> None:
    async with tls_pair(machines, tier, buffer=4096, client_options={"grace": grace}) as (client, _unread):
        with trio.CancelScope() as scope:
            async with blocked(lambda: client.send_all(bytes(1_000_000))):
                scope.cancel()
        assert isinstance(client.transport_stream, trio.abc.Stream)
        started = trio.current_time()
        await client.aclose()
        spent = trio.current_time() - started
        below = 1.0 if tier == "2-nested" else 0.0  # the nested stream's own grace
        assert spent <= grace + below


async def test_closing_pushes_what_a_cancelled_send_has_left(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, server):
        async with blocked(lambda: client.send_all(bytes(1_000_000))) as (send,):
            send.scope.cancel()
        accepted = client.plaintext_sent
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            assert len(await receive_exactly(server, 1_000_000)) == accepted


@pytest.mark.parametrize("tier", TIERS)
async def test_closing_twice_is_harmless(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    async with tls_pair(machines, tier) as (client, server):
        await concurrently(client.aclose, server.receive_some)
        await client.aclose()
        async with client:
            pass
        await trio.aclose_forcefully(client)


@pytest.mark.parametrize("entered", [True, False])
async def test_the_transport_is_closed_exactly_once(
    autojump_clock: MockClock, machines: Machines, entered: bool
) -> None:
    transport, _silent = trio.testing.memory_stream_pair()
    recording = RecordingStream(transport)
    stream = TLSStream(recording, machines.client, server_hostname=HOST)
    if entered:
        async with stream, blocked(stream.do_handshake):
            await concurrently(stream.aclose, stream.aclose)
    await concurrently(stream.aclose, stream.aclose)
    await trio.aclose_forcefully(stream)
    assert recording.closes == 1


async def test_a_transport_that_fails_to_close_is_not_asked_again(machines: Machines) -> None:
    class Stuck(RecordingStream):
        async def aclose(self) -> None:
            await super().aclose()
            raise OSError("stuck")

    transport, silent = trio.testing.memory_stream_pair()
    stuck = Stuck(transport)
    stream = TLSStream(stuck, machines.client, server_hostname=HOST)
    async with silent:
        with pytest.raises(OSError, match="stuck"):
            await stream.aclose()
        await stream.aclose()
    assert stuck.closes == 1


@pytest.mark.parametrize("tier", TIERS)
async def test_a_cancelled_close_closes_all_the_same(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    async with tls_pair(machines, tier) as (client, _server):
        transport = client.transport_stream
        await cancel_at_once(client.aclose)
        assert transport is not None
        with pytest.raises(trio.ClosedResourceError):
            await transport.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()


# -- who is woken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.do_handshake(),
        lambda stream: stream.receive_some(),
        lambda stream: stream.receive_some_into(bytearray(1)),
        lambda stream: stream.send_all(b"x"),
        lambda stream: stream.send_some(b"x"),
        lambda stream: stream.send_eof(),
        lambda stream: stream.unwrap(),
    ],
    ids=["do_handshake", "receive_some", "receive_some_into", "send_all", "send_some", "send_eof", "unwrap"],
)
async def test_a_task_in_the_handshake_is_woken(
    autojump_clock: MockClock, machines: Machines, tier: str, use: Use
) -> None:
    async with tls_pair(machines, tier, handshake=False) as (client, _silent):
        async with blocked(lambda: use(client)) as (task,):
            await client.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await task.result()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    "use",
    [lambda stream: stream.receive_some(), lambda stream: stream.unwrap()],
    ids=["receive_some", "unwrap"],
)
async def test_a_task_that_waits_for_the_peer_is_woken(
    autojump_clock: MockClock, machines: Machines, tier: str, use: Use
) -> None:
    async with tls_pair(machines, tier) as (client, _silent):
        async with blocked(lambda: use(client)) as (task,):
            await client.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await task.result()


@pytest.mark.parametrize("tier", BLOCKING)
@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.send_all(bytes(1_000_000)),
        lambda stream: stream.sender(bytes(1_000_000)).send(),
    ],
    ids=["send_all", "sender"],
)
async def test_a_task_that_waits_for_room_is_woken(
    autojump_clock: MockClock, machines: Machines, tier: str, use: Use
) -> None:
    async with tls_pair(machines, tier, buffer=4096) as (client, _unread):
        async with blocked(lambda: use(client)) as (task,):
            await client.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await task.result()


@pytest.mark.parametrize("tier", ["1-socket", "2-nested", "3-stapled", "4-lockstep", "4-foreign"])
@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.flush(),
        lambda stream: stream.send_some(b"more"),
        lambda stream: stream.send_eof(),
        lambda stream: stream.wait_send_all_might_not_block(),
        lambda stream: stream.unwrap(),
    ],
    ids=["flush", "send_some", "send_eof", "wait_send_all_might_not_block", "unwrap"],
)
async def test_a_task_that_waits_behind_a_full_queue_is_woken(
    autojump_clock: MockClock, machines: Machines, tier: str, use: Use
) -> None:
    async with tls_pair(machines, tier, buffer=4096) as (client, _unread):
        async with blocked(lambda: client.send_all(bytes(1_000_000))) as (send,):
            send.scope.cancel()
        async with blocked(lambda: use(client)) as (task,):
            await client.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await task.result()


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
async def test_a_closed_stream_stays_closed(machines: Machines, use: Use) -> None:
    async with tls_pair(machines) as (client, _server):
        await client.aclose()
        with trio.testing.assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
            await use(client)
        with pytest.raises(trio.ClosedResourceError):
            client.receive_nowait()
        with pytest.raises(trio.ClosedResourceError):
            client.send_nowait(b"x")


# -- async with ----------------------------------------------------------------------------------------------


def before_entering(tier: str) -> str:
    """The same transport, of a stream that the test will enter itself."""
    return tier.replace("4-", "5-")


@pytest.mark.parametrize("tier", TIERS)
async def test_entering_twice_is_harmless(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    async with tls_pair(machines, before_entering(tier)) as (client, server):
        async with client, trio.open_nursery() as nursery:
            async with client:
                nursery.start_soon(server.receive_some)
            with pytest.raises(trio.ClosedResourceError):
                await client.send_all(b"x")


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_an_exception_of_the_body_comes_out_as_it_was_raised(
    autojump_clock: MockClock, machines: Machines, tier: str, kind: type[BaseException]
) -> None:
    error = kind("the body's own")
    async with tls_pair(machines, before_entering(tier)) as (client, _server):
        with pytest.raises(kind) as caught:
            async with client:
                raise error
        assert caught.value is error


@pytest.mark.parametrize("tier", TIERS)
async def test_a_group_of_the_body_comes_out_as_it_was_raised(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    async with tls_pair(machines, before_entering(tier)) as (client, _server):
        group = BaseExceptionGroup("the body's own", [ValueError(), KeyboardInterrupt()])
        with pytest.raises(BaseExceptionGroup) as caught:
            async with client:
                raise group
        assert caught.value is group
        assert len(group.exceptions) == 2


async def cancel_and_raise(stream: TLSStream[Any], error: Exception) -> None:
    """An exception in the body of an ``async with`` that was cancelled."""
    with trio.CancelScope() as scope:
        async with stream:
            scope.cancel()
            raise error


@pytest.mark.parametrize("tier", TIERS)
async def test_an_exception_of_a_cancelled_body_comes_out_too(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    error = KeyError("the body's own")
    async with tls_pair(machines, before_entering(tier)) as (client, _server):
        with pytest.raises(KeyError) as caught:
            await cancel_and_raise(client, error)
        assert caught.value is error


@pytest.mark.parametrize("tier", TIERS)
async def test_a_cancel_of_the_body_stays_a_plain_cancel(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    async with tls_pair(machines, before_entering(tier)) as (client, _server):
        with trio.move_on_after(1) as scope:
            async with client:
                await trio.sleep_forever()
        assert scope.cancelled_caught


@pytest.mark.parametrize("inner_first", [True, False])
async def test_nested_streams_are_closed_in_any_order(
    autojump_clock: MockClock, machines: Machines, inner_first: bool
) -> None:
    async with transport_pair("2-nested", machines) as (lower, lower_server):
        upper = TLSStream(lower, machines.client, server_hostname=HOST)
        upper_server = TLSStream(lower_server, machines.server, server_side=True)
        async with upper_server:
            await lower.__aenter__()
            await upper.__aenter__()
            await concurrently(upper.do_handshake, upper_server.do_handshake)
            for stream in (upper, lower) if inner_first else (lower, upper):
                await stream.__aexit__(None, None, None)
            if inner_first:
                assert await upper_server.receive_some() == b""


async def test_nested_streams_are_entered_and_closed_in_other_tasks(
    autojump_clock: MockClock, machines: Machines
) -> None:
    async with transport_pair("2-nested", machines) as (lower, lower_server):
        upper = TLSStream(lower, machines.client, server_hostname=HOST)
        upper_server = TLSStream(lower_server, machines.server, server_side=True)
        async with upper_server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(upper.__aenter__)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lower.__aenter__)
            await concurrently(upper.do_handshake, upper_server.do_handshake)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(upper.__aexit__, None, None, None)
                assert await upper_server.receive_some() == b""


@pytest.mark.parametrize("tier", TIERS)
async def test_another_task_may_close_a_stream_that_was_entered(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    async with tls_pair(machines, before_entering(tier), handshake=False) as (client, server):
        async with client:
            await concurrently(client.do_handshake, server.do_handshake)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.aclose)
                assert await server.receive_some() == b""
            with pytest.raises(trio.ClosedResourceError):
                await client.send_all(b"x")
            await trio.lowlevel.checkpoint()  # the body goes on


@pytest.mark.parametrize("tier", ["4-memory", "4-lockstep", "4-foreign"])
async def test_entering_makes_the_sends_of_a_foreign_transport_cancellable(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """The same transport, used before it is entered, and entered then."""
    async with tls_pair(machines, before_entering(tier)) as (client, server):
        async with client:
            await cancel_at_once(lambda: client.send_all(b"not yet"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send_all, b"now")
                assert await receive_exactly(server, 3) == b"now"


# -- the EOF policy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    ("options", "sends"),
    [
        ({}, True),
        ({"send_close_notify": False}, False),
        ({"require_close_notify": False}, True),
        ({"https_compatible": True}, False),
        ({"https_compatible": True, "send_close_notify": True}, True),
    ],
    ids=str,
)
async def test_whether_close_notify_is_sent(
    autojump_clock: MockClock, machines: Machines, tier: str, options: dict[str, bool], sends: bool
) -> None:
    async with tls_pair(machines, tier, client_options=options) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        for _ in range(3):  # an end is sticky, of whatever kind
            if sends:
                assert await server.receive_some() == b""
            else:
                with pytest.raises(UnexpectedEOF):
                    await server.receive_some()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    ("options", "requires"),
    [
        ({}, True),
        ({"send_close_notify": False}, True),
        ({"require_close_notify": False}, False),
        ({"https_compatible": True}, False),
        ({"https_compatible": True, "require_close_notify": True}, True),
    ],
    ids=str,
)
async def test_whether_close_notify_is_required(
    autojump_clock: MockClock, machines: Machines, tier: str, options: dict[str, bool], requires: bool
) -> None:
    async with tls_pair(machines, tier, client_options=options) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, b"data, and then")
            assert await receive_exactly(client, 14) == b"data, and then"
        assert server.transport_stream is not None
        await trio.aclose_forcefully(server.transport_stream)
        for _ in range(3):
            if requires:
                with pytest.raises(UnexpectedEOF):
                    await client.receive_some()
                with pytest.raises(UnexpectedEOF):
                    client.receive_nowait()
            else:
                assert await client.receive_some() == b""
                assert client.receive_nowait() == b""
                assert await client.receive_some_into(bytearray(9)) == 0


async def test_an_eof_before_the_handshake_follows_the_same_policy(machines: Machines) -> None:
    for required in (True, False):
        a, b = socket_pair()
        async with b, TLSStream(a, machines.client, server_hostname=HOST, require_close_notify=required) as client:
            await b.send_eof()
            for _ in range(2):
                if required:
                    with pytest.raises(UnexpectedEOF):
                        await client.receive_some()
                else:
                    assert await client.receive_some() == b""
                with pytest.raises(UnexpectedEOF):
                    await client.do_handshake()


async def test_sending_is_over_only_when_the_transport_says_so(machines: Machines) -> None:
    """The peer's truncation ends receiving; what we send is another matter."""
    async with tls_pair(machines) as (client, server):
        assert isinstance(server.transport_stream, trio.SocketStream)
        await server.transport_stream.send_eof()
        with pytest.raises(UnexpectedEOF):
            await client.receive_some()
        await client.send_all(b"do you still read?")
        assert await receive_exactly(server, 18) == b"do you still read?"


async def test_close_notify_is_the_last_record(machines: Machines) -> None:
    transport, peer = trio.testing.memory_stream_pair()
    recording = RecordingStream(transport)
    client = TLSStream(recording, machines.client, server_hostname=HOST)
    async with TLSStream(peer, machines.server, server_side=True) as server:
        await concurrently(client.do_handshake, server.do_handshake)
        recording.sent.clear()
        await client.send_all(b"x")
        await client.send_eof()
        await client.aclose()
        # In TLS 1.3 an alert looks like application data from outside.
        expected = [23, 23] if machines.version == "TLSv1.3" else [23, 21]
        assert record_types(b"".join(recording.sent)) == expected
