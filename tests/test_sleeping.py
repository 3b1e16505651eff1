"""Connections on sockets that sleep for long let go of memory, as soon as others go to sleep."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_tls import ConfigByHello, TLSStream
from trio_tls.machine.choosing import ChoosingMachine
from trio_tls.transport import sleeping
from trio_tls.transport.sleeping import LONG, Sleepers, sleepers

from .blocking import cancel_once_blocked
from .machine.tls13.ends import a_server
from .machine.tls13.test_rest import holds
from .support import Machines, machines_named, tls_pair


@pytest.fixture
def own() -> Machines:
    return machines_named("own")


class Rested(list[str]):
    """Who was told to rest."""

    def of(self, name: str) -> Any:
        return lambda: self.append(name)


def test_who_sleeps_for_long_is_told_when_somebody_else_goes_to_sleep() -> None:
    asleep, rested = Sleepers(), Rested()
    asleep.add("a", 10.0, rested.of("a"))
    asleep.add("b", 10.0 + 0.9 * LONG, rested.of("b"))
    assert rested == []
    asleep.add("c", 10.0 + 1.1 * LONG, rested.of("c"))
    assert rested == ["a"]
    asleep.add("d", 10.0 + 5 * LONG, rested.of("d"))
    assert rested == ["a", "b", "c"]
    assert len(asleep) == 1


def test_who_was_woken_is_told_nothing() -> None:
    asleep, rested = Sleepers(), Rested()
    asleep.add("a", 10.0, rested.of("a"))
    asleep.add("b", 10.0, rested.of("b"))
    asleep.remove("a")
    asleep.add("c", 10.0 + 2 * LONG, rested.of("c"))
    asleep.remove("a")  # it may have been told, and so be gone
    assert rested == ["b"]


def test_what_a_run_with_another_clock_has_left_behind_holds_nobody_up() -> None:
    asleep, rested = Sleepers(), Rested()
    asleep.add("left behind", 900_000.0, rested.of("left behind"))
    asleep.add("a", 10.0, rested.of("a"))
    asleep.add("b", 10.0 + 2 * LONG, rested.of("b"))
    assert rested == ["left behind", "a"]


def test_the_costs_of_many_sleepers_are_spread() -> None:
    asleep, rested = Sleepers(), Rested()
    for number in range(100):
        asleep.add(number, 10.0, rested.of("old"))
    for number in range(100, 103):
        before = len(rested)
        asleep.add(number, 10.0 + 2 * LONG, rested.of("new"))
        assert len(rested) - before == sleeping.AT_ONCE


async def test_a_connection_that_is_idle_holds_no_ciphers(own: Machines, mock_clock: MockClock) -> None:
    async with tls_pair(own) as (client, server), tls_pair(own) as (_, other), trio.open_nursery() as nursery:
        received: list[bytes] = []

        async def receive(end: TLSStream[Any]) -> None:
            received.append(await end.receive_some())

        await client.send_all(b"x")
        assert await server.receive_some() == b"x"
        nursery.start_soon(receive, server)
        await wait_all_tasks_blocked()
        assert holds(server._machine)[0], "it has not slept for long"
        mock_clock.jump(2 * LONG)
        nursery.start_soon(receive, other)
        await wait_all_tasks_blocked()
        assert holds(server._machine) == (False, False)
        await server.send_all(b"more")  # another task sends meanwhile
        assert holds(server._machine) == (False, True)
        assert await client.receive_some() == b"more"
        await client.send_all(b"thanks")
        await wait_all_tasks_blocked()
        assert received == [b"thanks"]
        nursery.cancel_scope.cancel()


async def test_a_machine_that_was_chosen_by_the_hello_rests_as_well(mock_clock: MockClock) -> None:
    machines = machines_named("own")
    chosen = Machines("chosen", machines.client, ConfigByHello(lambda need: machines.server), machines.version)
    async with tls_pair(chosen) as (client, server):
        await client.send_all(b"x")
        assert await server.receive_some() == b"x"
        behind = server._machine
        assert isinstance(behind, ChoosingMachine)
        assert behind.chosen is not None
        assert holds(behind.chosen)[0]
        assert server._pump.receiver.rest is not None
        server._pump.receiver.rest()
        assert holds(behind.chosen) == (False, False)


def test_a_machine_that_has_chosen_nobody_has_nothing_to_let_go_of() -> None:
    ChoosingMachine(lambda need: None, lambda config: a_server(), max_bytes=1000).rest()


async def test_nobody_stays_among_the_sleepers(machines: Machines) -> None:
    before = len(sleepers)
    resting = {"client": machines.client, "server": machines.server}
    wanted = sum(not isinstance(each, ssl.SSLContext) for each in resting.values())
    async with tls_pair(machines) as (client, server):
        for end in (client, server):
            await cancel_once_blocked(end.receive_some)
            assert len(sleepers) == before
        async with trio.open_nursery() as nursery:
            for end in (client, server):
                nursery.start_soon(closed_under, end)
            await wait_all_tasks_blocked()
            assert len(sleepers) == before + wanted, "OpenSSL has nothing to let go of"
            await client.aclose()
            await server.aclose()
    assert len(sleepers) == before


async def closed_under(end: TLSStream[Any]) -> None:
    """Receive until somebody closes the connection: the peer, or this end itself."""
    try:
        assert await end.receive_some() == b""
    except trio.ClosedResourceError:
        pass


async def test_a_connection_that_rests_again_and_again_loses_nothing(
    machines: Machines, autojump_clock: MockClock
) -> None:
    async def echo(end: TLSStream[Any]) -> None:
        while data := await end.receive_some():
            await end.send_all(data)

    async with tls_pair(machines) as (a, b), tls_pair(machines) as (c, d), trio.open_nursery() as nursery:
        nursery.start_soon(echo, b)
        nursery.start_soon(echo, d)
        for number in range(30):
            for end in (a, c):
                await end.send_all(b"%d" % number)
                assert await end.receive_some() == b"%d" % number
            await trio.sleep(2 * LONG)
        nursery.cancel_scope.cancel()
