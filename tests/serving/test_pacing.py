"""Handshakes take turns: whoever is established has its say between any two steps of others' handshakes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import TLSListener, TLSStream, serve_tls
from trio_tls.machine.factory import create_machine
from trio_tls.machine.openssl import OpenSSLMachine
from trio_tls.machine.tls13.connection import TLS13Machine
from trio_tls.serving.inside import pace_handshake
from trio_tls.serving.pacing import Pace
from trio_tls.testing import CancelMode, Interrupter, sweep

from ..support import HOST, Machines, tls_pair
from .servers import MemoryListener, MemoryServer, MemoryStream, echo

#: Clients whose bytes arrive at the same moment.
MANY = 50


class Strangers:
    """Clients in memory that have connected to ``server``, and whose bytes come when it is said, all at once."""

    def __init__(self, server: MemoryServer) -> None:
        self.answered: list[int] = []
        self._arriving: list[trio.testing.MemoryReceiveStream] = []
        for number in range(MANY):
            leaving, arriving = trio.testing.MemorySendStream(), trio.testing.MemoryReceiveStream()
            leaving.send_all_hook = self._note(number)
            server.listener.arrive(trio.StapledStream(leaving, arriving))
            self._arriving.append(arriving)

    def say(self, data: bytes) -> None:
        for arriving in self._arriving:
            arriving.put_data(data)

    def _note(self, number: int) -> Callable[[], Awaitable[None]]:
        async def note() -> None:
            self.answered.append(number)

        return note


class Passes(trio.abc.Instrument):
    """The passes of the event loop so far."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


@pytest.fixture
def passes(autojump_clock: trio.testing.MockClock) -> Passes:
    return Passes()


@asynccontextmanager
async def serving(
    machines: Machines,
    passes: Passes,
    handler: Callable[[TLSStream[MemoryStream]], Awaitable[object]] = echo,
    **options: Any,
) -> AsyncIterator[MemoryServer]:
    """A server, and the passes counted from here."""
    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, handler, machines)
        await server.start(**options)
        yield server
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(passes)


def hello(machines: Machines) -> bytes:
    machine = create_machine(machines.client, server_side=False, server_hostname=HOST, session=None)
    machine.do_handshake()
    return machine.outgoing.read()


async def test_an_established_connection_has_its_say_between_any_two_of_fifty_handshakes(
    machines: Machines, passes: Passes
) -> None:
    async with serving(machines, passes) as server:
        established = server.connect()
        await established.do_handshake()
        strangers = Strangers(server)
        await trio.testing.wait_all_tasks_blocked()
        strangers.say(hello(machines))
        for said in range(10):
            await established.send_all(b"x")
            assert await established.receive_some() == b"x"
            assert len(strangers.answered) <= 15 * (said + 1), "an echo takes a few passes of the event loop"
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(strangers.answered) == list(range(MANY))
        await established.aclose()


@pytest.mark.parametrize("plain_http", [False, True])
@pytest.mark.parametrize("garbage", [False, True])
async def test_no_two_handshakes_make_a_step_in_one_pass_of_the_event_loop(
    machines: Machines, passes: Passes, monkeypatch: pytest.MonkeyPatch, garbage: bool, plain_http: bool
) -> None:
    steps: list[int] = []  # the pass of each
    for kind in (OpenSSLMachine, TLS13Machine):
        monkeypatch.setattr(kind, "do_handshake", noting(kind.do_handshake, steps, passes))
    async with serving(machines, passes, plain_http=plain_http) as server:
        strangers = Strangers(server)
        await trio.testing.wait_all_tasks_blocked()
        strangers.say(b"garbage, garbage" if garbage else hello(machines))
        steps.clear()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(strangers.answered) == list(range(MANY))
    assert len(steps) == len(set(steps)) == MANY


def noting(do_handshake: Callable[[Any], Any], steps: list[int], passes: Passes) -> Callable[[Any], Any]:
    """``do_handshake`` of a machine, which notes the pass in which it had something to work on."""

    def noted(machine: Any) -> Any:
        if machine.incoming.pending:
            steps.append(passes.count)
        return do_handshake(machine)

    return noted


async def test_what_comes_with_the_end_of_a_handshake_is_dealt_with_in_another_pass(
    machines: Machines, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a flood of records, that costs as much again."""
    steps: list[int] = []
    handled: list[int] = []
    for kind in (OpenSSLMachine, TLS13Machine):
        monkeypatch.setattr(kind, "do_handshake", noting(kind.do_handshake, steps, passes))

    async def handle(stream: TLSStream[Any]) -> None:
        handled.append(passes.count)

    async with serving(machines, passes, handle) as server:
        await server.connect().send_all(b"flood")
        await trio.testing.wait_all_tasks_blocked()
    assert handled[0] > max(steps)


async def test_a_handshake_that_is_alone_waits_for_no_other_pass(machines: Machines, passes: Passes) -> None:
    pace = Pace()
    trio.lowlevel.add_instrument(pace)
    trio.lowlevel.add_instrument(passes)
    for _ in range(3):
        await trio.lowlevel.checkpoint()
        before = passes.count
        await pace.turn()
        assert passes.count == before
    await pace.turn()
    assert passes.count == before + 1
    trio.lowlevel.remove_instrument(passes)
    trio.lowlevel.remove_instrument(pace)


async def test_handshakes_go_on_in_the_callers_nursery_when_the_server_is_gone(
    machines: Machines, passes: Passes
) -> None:
    """Nobody tells them any more when a pass is over."""
    listener = MemoryListener()
    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[object]) -> None:
                listeners = [TLSListener(listener, machines.server)]
                await serve_tls(echo, listeners, handler_nursery=handlers, task_status=task_status)

            await nursery.start(serve)
            clients = [TLSStream(listener.connect(), machines.client, server_hostname=HOST) for _ in range(5)]
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.send_all, b"x")
        for client in clients:
            assert await client.receive_some() == b"x"
            await client.aclose()


async def test_a_server_that_has_ended_listens_to_the_event_loop_no_more(
    machines: Machines, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening: list[object] = []
    add, remove = trio.lowlevel.add_instrument, trio.lowlevel.remove_instrument

    def begin(instrument: trio.abc.Instrument) -> None:
        listening.append(instrument)
        add(instrument)

    def end(instrument: trio.abc.Instrument) -> None:
        listening.remove(instrument)
        remove(instrument)

    monkeypatch.setattr(trio.lowlevel, "add_instrument", begin)
    monkeypatch.setattr(trio.lowlevel, "remove_instrument", end)
    async with trio.open_nursery() as nursery:
        await MemoryServer(nursery, echo, machines).start()
        assert [type(each) for each in listening] == [Pace]
        nursery.cancel_scope.cancel()
    assert listening == []


@pytest.mark.parametrize("mode", CancelMode)
async def test_a_cancel_while_waiting_for_a_turn_loses_nothing(mode: CancelMode, machines: Machines) -> None:
    pace = Pace()  # nobody tells it that a pass is over: each turn is waited for

    async def scenario(interrupter: Interrupter) -> None:
        async with tls_pair(machines, handshake=False) as (client, server), trio.open_nursery() as nursery:
            pace_handshake(server, pace.turn)
            nursery.start_soon(client.send_all, b"hello")
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(3):
                nursery.start_soon(pace.turn)
            await interrupter.call(server.do_handshake)
            assert await server.receive_some() == b"hello"

    report = await sweep(scenario, mode)
    assert report.cancelled > 0
