"""A connection that is over is gone at once: only the application keeps it, and no cycle waits for the collector.

How this works. The collector is switched off. A server with many connections would feel each of them otherwise: keys
and buffers would lie around until it runs, and its runs would take longer.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import TLSError, TLSStream, UnexpectedEOF

from ..blocking import cancel_once_blocked
from ..support import HOST, Machines, exchange, socket_pair


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """References alone free what is freed here."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


Ends = tuple[TLSStream[Any], TLSStream[Any]]


def transport_of(end: TLSStream[Any]) -> trio.SocketStream:
    assert isinstance(end.transport_stream, trio.SocketStream)
    return end.transport_stream


async def shake_hands(ends: Ends) -> None:
    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(end.do_handshake)


async def talk_and_close(ends: Ends) -> None:
    await shake_hands(ends)
    await exchange(*ends, b"there" * 1000, b"back" * 1000)
    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(end.aclose)


async def close_before_the_handshake(ends: Ends) -> None:
    for end in ends:
        await end.aclose()


async def unwrap(ends: Ends) -> None:
    await shake_hands(ends)
    transports: list[trio.abc.Stream] = []

    async def one(end: TLSStream[Any]) -> None:
        transports.append((await end.unwrap())[0])

    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(one, end)
    for transport in transports:
        await transport.aclose()


async def cancel_the_handshake(ends: Ends) -> None:
    with trio.move_on_after(0) as scope:
        await ends[0].do_handshake()
    assert scope.cancelled_caught
    for end in ends:
        await trio.aclose_forcefully(end)


async def cancel_a_receive(ends: Ends) -> None:
    await shake_hands(ends)
    with trio.move_on_after(0):
        await ends[0].receive_some()
    for end in ends:
        await trio.aclose_forcefully(end)


async def cancel_an_unwrap(ends: Ends) -> None:
    await shake_hands(ends)
    await cancel_once_blocked(ends[0].unwrap)
    for end in ends:
        await trio.aclose_forcefully(end)


async def cancel_a_receive_that_sends(ends: Ends) -> None:
    """Beside a receive, a task of its own sends what a cancelled send has left."""
    await shake_hands(ends)
    await cancel_once_blocked(lambda: ends[0].send_all(bytes(4_000_000)))
    await cancel_once_blocked(ends[0].receive_some)
    for end in ends:
        await trio.aclose_forcefully(end)


async def fail(ends: Ends) -> None:
    await shake_hands(ends)
    await transport_of(ends[1]).send_all(b"\x17\x03\x03\0\x20" + bytes(32))
    with pytest.raises(TLSError):
        await ends[0].receive_some()
    for end in ends:
        await trio.aclose_forcefully(end)


async def fail_behind_data(ends: Ends) -> None:
    """The failure is met while the data before it is read, and kept until the next read."""
    await shake_hands(ends)
    await ends[1].send_all(b"data")
    await transport_of(ends[1]).send_all(b"\x63\x03\x03\0\x20" + bytes(32))
    assert await ends[0].receive_some() == b"data"
    with pytest.raises(TLSError):
        await ends[0].receive_some()
    for end in ends:
        await trio.aclose_forcefully(end)


async def fail_the_handshake(ends: Ends) -> None:
    await transport_of(ends[1]).send_all(b"no TLS at all")
    with pytest.raises(TLSError):
        await ends[0].do_handshake()
    for end in ends:
        await trio.aclose_forcefully(end)


async def eof_in_the_handshake(ends: Ends) -> None:
    await transport_of(ends[1]).send_eof()
    with pytest.raises(UnexpectedEOF):
        await ends[0].do_handshake()
    for end in ends:
        await trio.aclose_forcefully(end)


async def _receive_nowait(end: TLSStream[Any]) -> None:
    await trio.lowlevel.checkpoint()
    end.receive_nowait()


async def _iterate(end: TLSStream[Any]) -> None:
    async for _ in end:
        raise AssertionError("nobody has sent anything")


#: What learns of the peer's end.
LEARNING: dict[str, Callable[[TLSStream[Any]], Awaitable[object]]] = {
    "receive_some": lambda end: end.receive_some(),
    "receive_some_into": lambda end: end.receive_some_into(bytearray(10)),
    "receive_nowait": _receive_nowait,
    "iterate": _iterate,
    "unwrap": lambda end: end.unwrap(),
}

#: What learns that the transport was closed.
NOTICING: dict[str, Callable[[TLSStream[Any]], Awaitable[object]]] = {
    **LEARNING,
    "send_all": lambda end: end.send_all(b"x"),
    "send_some": lambda end: end.send_some(b"x"),
    "send_eof": lambda end: end.send_eof(),
    "wait_send_all_might_not_block": lambda end: end.wait_send_all_might_not_block(),
}


def eof(learn: Callable[[TLSStream[Any]], Awaitable[object]]) -> Callable[[Ends], Awaitable[None]]:
    """The peer is gone without a close_notify, and that is learnt twice."""

    async def life(ends: Ends) -> None:
        await shake_hands(ends)
        await transport_of(ends[1]).send_eof()
        for _ in range(2):
            with pytest.raises(UnexpectedEOF):
                await learn(ends[0])
        for end in ends:
            await trio.aclose_forcefully(end)

    return life


def transport_closed(learn: Callable[[TLSStream[Any]], Awaitable[object]]) -> Callable[[Ends], Awaitable[None]]:
    """Somebody else has closed the transport."""

    async def life(ends: Ends) -> None:
        await shake_hands(ends)
        await transport_of(ends[0]).aclose()
        for _ in range(2):
            with pytest.raises((trio.ClosedResourceError, TLSError)):
                await learn(ends[0])
        for end in ends:
            await trio.aclose_forcefully(end)

    return life


LIVES: dict[str, Callable[[Ends], Awaitable[None]]] = {
    **{
        each.__name__: each
        for each in (
            *(talk_and_close, close_before_the_handshake, unwrap, cancel_the_handshake, cancel_an_unwrap),
            *(
                cancel_a_receive,
                cancel_a_receive_that_sends,
                fail,
                fail_behind_data,
                fail_the_handshake,
                eof_in_the_handshake,
            ),
        )
    },
    **{f"eof, {name}": eof(learn) for name, learn in LEARNING.items()},
    **{f"transport closed, {name}": transport_closed(learn) for name, learn in NOTICING.items()},
}


@pytest.mark.parametrize("life", LIVES)
async def test_nothing_holds_a_stream_or_its_machine_when_it_is_over(life: str, machines: Machines) -> None:
    async def live() -> dict[str, weakref.ref[Any]]:
        transports = socket_pair()
        ends = (
            TLSStream(transports[0], machines.client, server_hostname=HOST),
            TLSStream(transports[1], machines.server, server_side=True),
        )
        watched: dict[str, weakref.ref[Any]] = {}
        for name, end, transport in zip(("client", "server"), ends, transports, strict=True):
            watched[f"the {name}'s stream"] = weakref.ref(end)
            watched[f"the {name}'s transport"] = weakref.ref(transport)
            for part in ("_pump", "_machine"):
                try:
                    watched[f"the {name}'s {part}"] = weakref.ref(getattr(end, part))
                except (AttributeError, TypeError):
                    continue  # it has slots, and no weak references: the stream that holds it tells
        await LIVES[life](ends)
        return watched

    watched = await live()
    await trio.testing.wait_all_tasks_blocked()
    assert [name for name, reference in watched.items() if reference() is not None] == []
