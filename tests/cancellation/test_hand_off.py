"""Leader hand-off: several tasks wait for one handshake; the one that drives it is cancelled; the others complete."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from trio_tls.testing import CancelMode, Interrupter, SweepReport, sweep

from ..support import TIERS, Machines, pattern
from .connections import ROLES, Cell, connect, expect
from .operations import CANCELLABLE, PATIENCE, converse


@pytest.mark.parametrize("mode", [CancelMode.BLOCKED, CancelMode.WAKING])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("tier", TIERS)
def test_the_others_complete_the_handshake_wherever_its_leader_is_cancelled(
    machines: Machines, tier: str, role: str, mode: CancelMode
) -> None:
    cell = Cell(machines, tier, role)

    async def scenario(interrupter: Interrupter) -> None:
        done: list[str] = []

        async def follow(name: str) -> None:
            await link.subject.do_handshake()
            done.append(name)

        with trio.fail_after(PATIENCE):
            async with connect(cell, handshake=False) as link:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(interrupter.attempt, link.subject.do_handshake)
                    await trio.lowlevel.checkpoint()  # now it leads
                    nursery.start_soon(follow, "first")
                    nursery.start_soon(follow, "second")
                    nursery.start_soon(link.peer.do_handshake)
                assert sorted(done) == ["first", "second"]
                await converse(link)

    report: SweepReport = cell.run(partial(sweep, scenario, mode))
    assert report.last_step > 0


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("tier", CANCELLABLE)
def test_a_sender_and_a_receiver_go_on_when_the_leader_is_cancelled(machines: Machines, tier: str, role: str) -> None:
    cell = Cell(machines, tier, role)
    there, back = pattern(3_000), pattern(2_000, seed=9_999)

    async def scenario(interrupter: Interrupter) -> None:
        with trio.fail_after(PATIENCE):
            async with connect(cell, handshake=False) as link, trio.open_nursery() as nursery:
                nursery.start_soon(interrupter.attempt, link.subject.do_handshake)
                await trio.lowlevel.checkpoint()
                nursery.start_soon(link.subject.send_all, there)
                nursery.start_soon(expect, link.subject, back)
                nursery.start_soon(link.peer.send_all, back)
                nursery.start_soon(expect, link.peer, there)

    for mode in (CancelMode.BLOCKED, CancelMode.WAKING):
        report: SweepReport = cell.run(partial(sweep, scenario, mode))
        assert report.last_step > 0


def test_nobody_hangs_when_everyone_is_cancelled_in_turn(machines: Machines) -> None:
    cell = Cell(machines, "4-memory")

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with connect(cell, handshake=False) as link:
                async with trio.open_nursery() as nursery:
                    for _ in range(4):
                        nursery.start_soon(Interrupter(CancelMode.STORM).call, link.subject.do_handshake)
                    nursery.start_soon(Interrupter(CancelMode.STORM).call, link.peer.do_handshake)
                await converse(link)

    cell.run(main)
