"""A receiver on a socket looks again before it sleeps, where that is worth it, and is still woken for all else."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_tls import TLSStream
from trio_tls.machine.interface import Want
from trio_tls.transport import socket as tier_1

from .blocking import blocked
from .support import HOST, Machines, pattern, receive_exactly, tcp_pair, tls_pair


class Sleeps:
    """How often a task has waited for a socket to become readable."""

    count = 0


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Sleeps:
    counted = Sleeps()
    real = trio.lowlevel.wait_readable

    async def wait_readable(sock: Any) -> None:
        counted.count += 1
        await real(sock)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_readable)
    return counted


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What each round of looking has found."""
    found: list[bool] = []
    real = tier_1.SocketReceiver._look_again

    async def look_again(self: tier_1.SocketReceiver, incoming: Any) -> bool:
        skipped = self._without_look_left > 0
        result = await real(self, incoming)
        if not skipped:
            found.append(result)
        return result

    monkeypatch.setattr(tier_1.SocketReceiver, "_look_again", look_again)
    return found


async def answer(end: TLSStream[Any], *, turns: int = 0, seconds: float = 0) -> None:
    """Send back what comes, so many turns of the event loop, or seconds, later."""
    while data := await end.receive_some():
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        if seconds:
            await trio.sleep(seconds)
        await end.send_all(data)


async def ask(end: TLSStream[Any], times: int) -> None:
    for number in range(times):
        await end.send_all(b"%d" % number)
        assert await end.receive_some() == b"%d" % number


async def test_answers_that_come_at_once_are_not_slept_for(
    machines: Machines, autojump_clock: MockClock, sleeps: Sleeps, looks: list[bool]
) -> None:
    async with tls_pair(machines) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(answer, server)
        await ask(client, 10)  # the first ones are slept for, shortly
        sleeps.count = 0
        await ask(client, 100)
        assert sleeps.count < 10
        assert looks.count(True) > 90
        nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_a_while_is_looked_for_ever_less_often(
    machines: Machines, autojump_clock: MockClock, looks: list[bool]
) -> None:
    """By the clock its answers come at once, by the number of turns they do not: that happens where a loop is busy."""
    async with tls_pair(machines) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(partial(answer, server, turns=3 * tier_1.LOOKS))
        await ask(client, 300)
        nursery.cancel_scope.cancel()
    in_vain = looks.count(False)
    assert 4 <= in_vain <= 7 + 300 // tier_1.MOST_WITHOUT, "with 1, 3, 7, ... 63 receives between them"


async def test_a_peer_that_is_far_away_is_never_looked_for(
    machines: Machines, autojump_clock: MockClock, looks: list[bool]
) -> None:
    async with tls_pair(machines) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(partial(answer, server, seconds=0.02))
        await ask(client, 3)
        looks.clear()
        await ask(client, 100)
        nursery.cancel_scope.cancel()
    assert False not in looks, "who answers sees the next question at once, but who asks does not look"


async def test_halves_that_are_sockets_each_look_too(
    machines: Machines, autojump_clock: MockClock, looks: list[bool]
) -> None:
    def stapled(stream: trio.abc.Stream) -> trio.abc.Stream:
        assert isinstance(stream, trio.SocketStream)
        return trio.StapledStream(stream, stream)

    async with tls_pair(machines, wrap=stapled) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(answer, server)
        await ask(client, 30)
        assert looks.count(True) > 10
        nursery.cancel_scope.cancel()


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, bool]]:
    """What each look at a socket has found that no wait came before, and who it was; there is no looking again."""
    found: list[tuple[object, bool]] = []
    real = tier_1.SocketReceiver.receive_nowait

    def receive_nowait(self: tier_1.SocketReceiver, incoming: Any) -> bool:
        tried = not self.expects_to_wait
        result = real(self, incoming)
        if tried:
            found.append((self, result))
        return result

    monkeypatch.setattr(tier_1.SocketReceiver, "receive_nowait", receive_nowait)
    monkeypatch.setattr(tier_1, "LOOKS", 0)
    return found


async def test_what_is_there_already_is_not_waited_for(
    machines: Machines, sleeps: Sleeps, tries: list[tuple[object, bool]]
) -> None:
    """So it is for a server with many connections: by the time that it comes back to one, the next request is there."""
    async with tls_pair(machines) as (client, server):
        sleeps.count = 0
        for number in range(100):
            await server.send_all(b"%d" % number)
            assert await client.receive_some() == b"%d" % number
        assert sleeps.count <= 3
        assert tries.count((client._pump.receiver, False)) <= 3


async def test_what_is_never_there_at_once_is_waited_for_without_a_try(
    machines: Machines, autojump_clock: MockClock, tries: list[tuple[object, bool]]
) -> None:
    async with tls_pair(machines) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(partial(answer, server, seconds=0.02))
        await ask(client, 3)
        tries.clear()
        await ask(client, 300)
        nursery.cancel_scope.cancel()
    in_vain = tries.count((client._pump.receiver, False))
    assert 4 <= in_vain <= 7 + 300 // tier_1.MOST_WITHOUT, "with 1, 3, 7, ... 63 receives between them"


async def looking(end: TLSStream[Any], other: TLSStream[Any]) -> None:
    """Make the next receive of ``end`` one that looks: what comes before it comes at once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, other)
        await ask(end, 10)
        nursery.cancel_scope.cancel()


async def test_a_receive_that_is_looking_is_told_of_a_close(machines: Machines, autojump_clock: MockClock) -> None:
    for turns in range(2, tier_1.LOOKS + 3):
        async with tls_pair(machines) as (client, server):
            await looking(client, server)

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.receive_some()  # runs at once

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                await client.aclose()


async def test_a_receive_that_is_looking_takes_over_from_a_send_that_is_cancelled(
    machines: Machines, autojump_clock: MockClock
) -> None:
    data = pattern(300_000)
    for turns in range(1, tier_1.LOOKS + 3):
        async with tls_pair(machines, buffer=4096) as (client, server):
            await looking(client, server)
            before = client.plaintext_sent
            async with blocked(partial(client.send_all, data)) as (send,), trio.open_nursery() as nursery:
                nursery.start_soon(client.receive_some)
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                send.scope.cancel()
                await send.done.wait()
                accepted = client.plaintext_sent - before
                with trio.fail_after(5):
                    assert await receive_exactly(server, accepted) == data[:accepted]
                nursery.cancel_scope.cancel()


async def test_a_receive_that_is_looking_is_cancelled_and_called_again(
    machines: Machines, autojump_clock: MockClock
) -> None:
    async with tls_pair(machines) as (client, server):
        for turns in range(1, tier_1.LOOKS + 3):
            await looking(client, server)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.receive_some)
                    for _ in range(turns):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            await server.send_all(b"%d" % turns)
            assert await client.receive_some() == b"%d" % turns


async def test_a_servers_first_receive_is_no_answer_and_so_no_reason_to_look(
    machines: Machines, looks: list[bool]
) -> None:
    """However far away its client is: what it says first comes as soon as it is connected."""
    ours, theirs = await tcp_pair()
    async with TLSStream(theirs, machines.server, server_side=True) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            await trio.testing.wait_all_tasks_blocked()
            client = TLSStream(ours, machines.client, server_hostname=HOST)
            nursery.start_soon(first_flight_only, client)
            await trio.testing.wait_all_tasks_blocked()
            assert looks == []
            nursery.cancel_scope.cancel()
    await ours.aclose()


async def first_flight_only(client: TLSStream[Any]) -> None:
    """Send a ClientHello, and read nothing."""
    assert client._machine.do_handshake() is Want.READ
    client._pump.push_nowait()
