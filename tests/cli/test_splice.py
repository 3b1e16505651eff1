"""Two streams joined: every byte, each end of a way, and every failure is passed on as what it is."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from trio_tls import TLSError, TLSStream, TransportError, UnexpectedEOF
from trio_tls.cli.splice import LAST_WORDS, Splice, SpliceBroken, TooLongSilent, cut, delivered
from trio_tls.testing import CancelMode, Interrupter, sweep

from ..support import Machines, pattern, receive_exactly, socket_pair, tcp_pair, tls_pair


@dataclass
class Joined:
    """A TLS client and a plain backend, and what stands between them."""

    client: TLSStream[trio.SocketStream]
    here: TLSStream[trio.SocketStream]
    there: trio.SocketStream
    backend: trio.SocketStream
    splice: Splice


@asynccontextmanager
async def joined(machines: Machines, *, tcp: bool = False, buffer: int | None = None) -> AsyncIterator[Joined]:
    async with tls_pair(machines, "1-socket", buffer=buffer) as (client, here):
        there, backend = await tcp_pair(buffer=buffer) if tcp else socket_pair(buffer=buffer)
        async with there, backend:
            yield Joined(client, here, there, backend, Splice(here, there))


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(part) async for part in stream])


async def test_each_way_goes_on_after_the_other_has_ended(machines: Machines) -> None:
    async with joined(machines) as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.splice.run)
        await world.client.send_all(b"question")
        await world.client.send_eof()
        assert await everything(world.backend) == b"question"
        await world.backend.send_all(b"answer")
        assert await world.client.receive_some() == b"answer"
        await world.backend.send_all(b", and more")
        await world.backend.send_eof()
        assert await everything(world.client) == b", and more"
    assert (world.splice.there, world.splice.back) == (8, 16)


async def test_the_backend_may_end_first(machines: Machines) -> None:
    async with joined(machines) as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.splice.run)
        await world.backend.send_all(b"that is all")
        await world.backend.send_eof()
        assert await everything(world.client) == b"that is all"
        await world.client.send_all(b"bye")
        await world.client.send_eof()
        assert await everything(world.backend) == b"bye"


@pytest.mark.parametrize("mode", CancelMode)
async def test_a_cancelled_splice_goes_on_and_loses_nothing(machines: Machines, mode: CancelMode) -> None:
    there, back = pattern(30_000), pattern(30_000, seed=9)

    async def scenario(interrupter: Interrupter) -> None:
        async with joined(machines, buffer=4096) as world:
            got: dict[str, bytes] = {}

            async def talk(name: str, stream: TLSStream[trio.SocketStream] | trio.SocketStream, data: bytes) -> None:
                async with trio.open_nursery() as nursery:

                    async def send() -> None:
                        await stream.send_all(data)
                        await stream.send_eof()

                    nursery.start_soon(send)
                    got[name] = await everything(stream)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk, "client", world.client, there)
                nursery.start_soon(talk, "backend", world.backend, back)
                await interrupter.call(world.splice.run)
            assert got == {"client": back, "backend": there}

    steps = None if mode in (CancelMode.ALREADY, CancelMode.STORM) else range(1, 60, 2)
    report = await sweep(scenario, mode, steps=steps)
    assert report.cancelled > 0


async def test_whoever_does_not_read_slows_the_other_end(machines: Machines) -> None:
    async with joined(machines, buffer=4096) as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.splice.run)
        nursery.start_soon(world.client.send_all, bytes(10_000_000))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert world.client.plaintext_sent < 2_000_000, "what lies between is bounded"
        assert world.splice.there < 2_000_000
        nursery.cancel_scope.cancel()


async def test_a_truncated_client_is_no_orderly_end_for_the_backend(machines: Machines) -> None:
    async with joined(machines, tcp=True) as world, trio.open_nursery() as nursery:
        await world.client.send_all(b"half of a")
        assert world.client.transport_stream is not None

        async def run() -> None:
            with pytest.raises(SpliceBroken) as caught:
                await world.splice.run()
            assert caught.value.end is world.here
            assert isinstance(caught.value.__cause__, UnexpectedEOF)
            await cut(world.here)
            await cut(world.there)

        nursery.start_soon(run)
        assert await receive_exactly(world.backend, 9) == b"half of a"
        await trio.aclose_forcefully(world.client.transport_stream)
        with pytest.raises(trio.BrokenResourceError):
            await world.backend.receive_some()


async def test_a_reset_backend_is_no_orderly_end_for_the_client(machines: Machines) -> None:
    async with joined(machines, tcp=True) as world, trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(SpliceBroken) as caught:
                await world.splice.run()
            assert caught.value.end is world.there
            await cut(world.here)

        nursery.start_soon(run)
        await world.backend.send_all(b"half of an")
        assert await receive_exactly(world.client, 10) == b"half of an"
        await cut(world.backend)
        with pytest.raises((UnexpectedEOF, TransportError)):
            await world.client.receive_some()


async def test_an_answer_that_comes_before_the_whole_question_arrives(machines: Machines) -> None:
    async with joined(machines, tcp=True) as world, trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(SpliceBroken):
                await world.splice.run()
            await cut(world.here)

        async def ask() -> None:
            with pytest.raises(TLSError):
                await world.client.send_all(bytes(20_000_000))

        nursery.start_soon(run)
        nursery.start_soon(ask)
        await receive_exactly(world.backend, 100)
        await world.backend.send_all(b"too much")
        await world.backend.aclose()  # with unread bytes, so it resets
        assert await receive_exactly(world.client, 8) == b"too much"


async def test_silence_ends_it_and_every_byte_begins_it_anew(
    machines: Machines, autojump_clock: trio.testing.MockClock
) -> None:
    async with joined(machines) as world:
        splice = Splice(world.here, world.there, patience=10)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def talk() -> None:
                for _ in range(3):
                    await trio.sleep(8)
                    await world.backend.send_all(b"x")
                    assert await world.client.receive_some() == b"x"

            nursery.start_soon(talk)
            with pytest.raises(TooLongSilent):
                await splice.run()
        assert trio.current_time() - began == pytest.approx(34, abs=1)


async def test_two_plain_and_two_tls_streams_can_be_joined_too(machines: Machines) -> None:
    a, b = socket_pair()
    c, d = socket_pair()
    async with a, b, c, d, trio.open_nursery() as nursery:
        nursery.start_soon(Splice(b, c).run)
        await a.send_all(b"plain")
        await a.send_eof()
        assert await everything(d) == b"plain"
        nursery.cancel_scope.cancel()
    async with tls_pair(machines) as (one, here), tls_pair(machines) as (there, other):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Splice(here, there).run)
            await one.send_all(b"sealed")
            await one.send_eof()
            assert await everything(other) == b"sealed"
            nursery.cancel_scope.cancel()


async def test_what_was_sent_before_a_failure_is_delivered_first(machines: Machines) -> None:
    async with joined(machines, tcp=True, buffer=16384) as world, trio.open_nursery() as nursery:
        sent = await world.there.socket.send(bytes(1_000_000))  # as much as the kernel takes

        async def finish() -> None:
            await delivered(world.there)
            await cut(world.there)

        nursery.start_soon(finish)
        got = 0
        with pytest.raises(trio.BrokenResourceError):
            while part := await world.backend.receive_some(100):
                got += len(part)
        assert got == sent > 0


@pytest.mark.parametrize("tls", [True, False])
async def test_who_takes_nothing_is_not_waited_for_for_long(
    machines: Machines, tls: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with joined(machines, tcp=True, buffer=16384) as world:
        end = world.here if tls else world.there
        with trio.move_on_after(1):
            await end.send_all(bytes(10_000_000))
        began = trio.current_time()
        await delivered(end)
        took = trio.current_time() - began
        if tls or sys.platform == "linux":  # what TLS itself still holds is known everywhere
            assert took >= LAST_WORDS - 0.1  # more, if the peer's kernel was slow to take what it has room for
        await cut(world.backend)
        await cut(world.there)
        await delivered(world.there)  # there is nothing left to wait for
        await cut(world.here)
        await delivered(world.here)


async def test_to_cut_twice_is_harmless(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await cut(server)
        await cut(server)
        with pytest.raises((UnexpectedEOF, TransportError)):
            await client.receive_some()


async def test_to_cut_what_is_no_longer_tls_leaves_the_transport_alone(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):

        async def unwrap() -> None:
            transport, _ = await client.unwrap()
            await transport.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(unwrap)
            transport, _ = await server.unwrap()
        await cut(server)
        assert await transport.receive_some() == b""
        await transport.aclose()
