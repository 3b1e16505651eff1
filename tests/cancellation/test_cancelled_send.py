"""Cancelled send, then nothing but receives: the request still leaves, on every tier."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from trio_tls.testing import CancelMode, Interrupter, SweepReport, sweep

from ..support import Machines, pattern
from .connections import ROLES, Cell, Link, connect, expect
from .operations import CANCELLABLE, PATIENCE

#: More than the kernel takes at once, and less than the stream: so all of it is accepted before the first await.
REQUEST = pattern(20_000)
ANSWER = pattern(5_000, seed=77_777)


async def serve_one_request(link: Link, accepted: int) -> None:
    await expect(link.peer, REQUEST[:accepted])
    await link.peer.send_all(ANSWER)


@pytest.mark.parametrize("mode", [CancelMode.BLOCKED, CancelMode.WAKING])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("tier", CANCELLABLE)
def test_a_request_whose_send_was_cancelled_leaves_while_its_answer_is_awaited(
    machines: Machines, tier: str, role: str, mode: CancelMode
) -> None:
    cell = Cell(machines, tier, role)

    async def scenario(interrupter: Interrupter) -> None:
        with trio.fail_after(PATIENCE):
            async with connect(cell, handshake=True) as link, trio.open_nursery() as nursery:
                if mode is CancelMode.WAKING:  # it wakes up only if somebody reads
                    nursery.start_soon(serve_one_request, link, len(REQUEST))
                await interrupter.attempt(partial(link.subject.send_all, REQUEST))
                assert link.subject.plaintext_sent == len(REQUEST)
                if mode is CancelMode.BLOCKED:
                    nursery.start_soon(serve_one_request, link, len(REQUEST))
                await expect(link.subject, ANSWER)

    # while nobody reads, send_all() sleeps for ever in its first step: there is no second
    steps = (1,) if mode is CancelMode.BLOCKED else None
    report: SweepReport = cell.run(partial(sweep, scenario, mode, steps=steps))
    assert report.last_step > 0


@pytest.mark.parametrize("operation", ["send_all", "send_some", "sender"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("tier", CANCELLABLE)
def test_it_leaves_too_if_the_reader_was_asleep_before_the_sender_was_cancelled(
    machines: Machines, tier: str, role: str, operation: str
) -> None:
    cell = Cell(machines, tier, role)

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with connect(cell, handshake=True) as link, trio.open_nursery() as nursery:
                nursery.start_soon(expect, link.subject, ANSWER)
                await trio.testing.wait_all_tasks_blocked()
                send = (
                    link.subject.sender(REQUEST).send
                    if operation == "sender"
                    else partial(getattr(link.subject, operation), REQUEST)
                )
                interrupter = Interrupter(CancelMode.BLOCKED)
                await interrupter.attempt(send)
                assert interrupter.fired
                assert link.subject.plaintext_sent == len(REQUEST)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(serve_one_request, link, len(REQUEST))

    cell.run(main)


@pytest.mark.parametrize("tier", CANCELLABLE)
def test_a_sleeping_reader_pushes_and_is_itself_cancelled_at_every_step(machines: Machines, tier: str) -> None:
    cell = Cell(machines, tier)

    async def scenario(interrupter: Interrupter) -> None:
        with trio.fail_after(PATIENCE):
            async with connect(cell, handshake=True) as link, trio.open_nursery() as nursery:
                await Interrupter(CancelMode.BLOCKED).attempt(partial(link.subject.send_all, REQUEST))
                nursery.start_soon(serve_one_request, link, len(REQUEST))
                received = b""
                while len(received) < len(ANSWER):
                    received += await interrupter.call(link.subject.receive_some)
                assert received == ANSWER

    for mode in CancelMode:
        report: SweepReport = cell.run(partial(sweep, scenario, mode))
        assert report.cancelled > 0
