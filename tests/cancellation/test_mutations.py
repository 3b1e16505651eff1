"""The sweep can fail: it finds bytes that are dropped on purpose, and what trio.SSLStream loses."""

from __future__ import annotations

import sys

import pytest
import trio

from trio_tls.machine.bio import MemoryBIO
from trio_tls.pump import Pump
from trio_tls.testing import CancelMode, Interrupter

from ..support import Machines
from .connections import Cell, upstream_end
from .judging import judge, too_slow_when_idle
from .operations import OPERATIONS

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


def test_the_sweep_finds_a_partial_send_that_is_taken_for_a_whole_one(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    consume = MemoryBIO.consume

    def consume_more(bio: MemoryBIO, size: int) -> None:
        consume(bio, size)
        if bio.pending > 2048:  # more than any flight: what a send on a full socket has left
            consume(bio, 1)

    monkeypatch.setattr(MemoryBIO, "consume", consume_more)
    cell = Cell(machines, "1-socket")

    async def main() -> None:
        with too_slow_when_idle(cell):
            await OPERATIONS["send_all"].play(cell, Interrupter(CancelMode.BLOCKED))

    # whoever notices it first: the peer's machine, the comparison, or a receiver that waits in vain
    with pytest.raises((trio.BrokenResourceError, AssertionError, trio.TooSlowError, ExceptionGroup)):
        cell.run(main)


@pytest.mark.parametrize("name", ["do_handshake", "send_all", "send_eof", "unwrap"])
def test_the_sweep_finds_a_queue_that_a_cancel_drops(
    name: str, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = Pump.push

    async def push_and_forget(pump: Pump) -> None:
        try:
            await push(pump)
        except trio.Cancelled:
            pump.machine.outgoing.read()
            raise

    monkeypatch.setattr(Pump, "push", push_and_forget)
    # single bytes, so that there is a queue at every step
    verdict = judge(OPERATIONS[name], Cell(machines, "3-stapled", pieces="bytes"), CancelMode.BLOCKED)
    assert verdict.failed > 0


@pytest.mark.parametrize("mode", [CancelMode.BLOCKED, CancelMode.WAKING])
def test_the_sweep_finds_a_receive_that_forgets_what_came_while_it_was_cancelled(
    mode: CancelMode, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull = Pump.pull

    async def pull_and_look_up(pump: Pump) -> None:
        await pull(pump)
        try:
            await trio.lowlevel.checkpoint()  # a second await, between the bytes and the machine
        except trio.Cancelled:
            pump.machine.incoming.read()
            raise

    monkeypatch.setattr(Pump, "pull", pull_and_look_up)
    verdict = judge(OPERATIONS["receive_some"], Cell(machines, "1-socket"), mode)
    assert verdict.failed > 0


UPSTREAM = pytest.mark.ssl_alone("trio.SSLStream knows contexts alone")


@UPSTREAM
@pytest.mark.parametrize("name", ["do_handshake", "send_all", "unwrap"])
@pytest.mark.parametrize("tier", ["1-socket", "4-lockstep"])
def test_the_sweep_shows_what_upstream_loses(name: str, tier: str, machines: Machines) -> None:
    for mode in (CancelMode.BLOCKED, CancelMode.STORM):
        assert judge(OPERATIONS[name], Cell(machines, tier), mode, make=upstream_end).failed > 0
        assert judge(OPERATIONS[name], Cell(machines, tier), mode).failed == 0


@UPSTREAM
def test_upstream_does_not_survive_a_handshake_that_was_cancelled_before_it_began(machines: Machines) -> None:
    verdict = judge(OPERATIONS["do_handshake"], Cell(machines, "4-memory"), CancelMode.ALREADY, make=upstream_end)
    assert verdict.broken == verdict.cases == 1
