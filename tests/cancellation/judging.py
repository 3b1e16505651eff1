"""Sweeps that go on after a failure, and count how each cancel ended."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio
import trio.testing

from trio_tls.testing import CancelMode, Interrupter, sweep

from .connections import Cell, MakeEnd, tls_end
from .operations import Operation

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

#: Real seconds for which nobody may have run if a connection over sockets counts as hung. However busy the machine is:
#: what it keeps waiting is ready to run.
IDLE = 0.5


@dataclass
class Verdict:
    """How the cancels of some sweeps ended. Each run of a scenario is one case, whatever it was cancelled in.

    Attributes:
      cases: runs in which a cancel came.
      survived: the operation was called again, and every byte was right.
      broken: a stream raised an exception.
      lost: bytes were missing or wrong, or the stream ended.
      hung: somebody waited for ever.
    """

    cases: int = 0
    survived: int = 0
    broken: int = 0
    lost: int = 0
    hung: int = 0

    @property
    def failed(self) -> int:
        return self.broken + self.lost + self.hung

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.cases + other.cases,
            self.survived + other.survived,
            self.broken + other.broken,
            self.lost + other.lost,
            self.hung + other.hung,
        )


def judge(operation: Operation, cell: Cell, mode: CancelMode, *, make: MakeEnd = tls_end) -> Verdict:
    """Sweep ``operation`` on ``cell`` to the end, whatever breaks on the way.

    Raises:
      Exception: the scenario failed though nothing was cancelled, which says nothing about cancels.
    """
    verdict = Verdict()

    async def scenario(interrupter: Interrupter) -> None:
        try:
            with too_slow_when_idle(cell):
                await operation.play(cell, interrupter, make=make)
        except Exception as error:
            if not interrupter.fired:
                raise
            _count(verdict, error)
        else:
            verdict.survived += interrupter.fired
        verdict.cases += interrupter.fired

    async def main() -> None:
        await sweep(scenario, mode, steps=operation.steps_on(cell))

    cell.run(main)
    return verdict


@contextmanager
def too_slow_when_idle(cell: Cell) -> Iterator[None]:
    """Raise `trio.TooSlowError` once nobody in this run has had anything to do for a while.

    Where no kernel is involved time jumps, and the deadline of the operation itself comes at once.
    """
    watching = trio.CancelScope()
    with trio.fail_after(math.inf) as judged:
        if cell.on_sockets:  # of the system: it must not be counted among the tasks of the operation
            trio.lowlevel.spawn_system_task(_expire_when_idle, judged, watching)
        try:
            yield
        finally:
            watching.cancel()


async def _expire_when_idle(judged: trio.CancelScope, watching: trio.CancelScope) -> None:
    with watching:
        await trio.testing.wait_all_tasks_blocked(IDLE)
        judged.deadline = -math.inf


def _count(verdict: Verdict, error: Exception) -> None:
    """By the first cause: who breaks makes others wait, and who loses bytes breaks the peer."""
    leaves = list(_leaves(error))
    if any(isinstance(leaf, trio.BrokenResourceError) for leaf in leaves):
        verdict.broken += 1
    elif any(isinstance(leaf, AssertionError) for leaf in leaves):
        verdict.lost += 1
    elif any(isinstance(leaf, trio.TooSlowError) for leaf in leaves):
        verdict.hung += 1
    else:
        raise error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
