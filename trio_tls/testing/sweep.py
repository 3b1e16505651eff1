"""The cancellation sweep: cancel an operation at each of its steps in turn, call it again, and see what is lost.

How this works. A *step* is what a task runs from where it was resumed to where it yields. An instrument counts the
steps of the operation's task and of the child tasks that it spawns: the operation runs with a mark in its
context variables, and children inherit those. At the chosen step it cancels the scope around the operation.

The operation is then called again, in a scope of its own, after everybody else has had time to go on. A
*scenario* is the test around it: it builds the world anew, hands the operation to the `Interrupter` that it is
given, and compares what came of it. `sweep` runs the scenario for step 1, 2, 3, ... until the operation no
longer has such a step::

    async def scenario(interrupter):
        ours, theirs = make_a_connection()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.send_all, b"hello")
            assert await interrupter.call(ours.receive_some) == b"hello"

    report = await sweep(scenario, CancelMode.BLOCKED)
    assert report.cancelled > 0

A cancel that a test times with a clock strikes where the clock happens to; these strike everywhere.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import trio
import trio.testing

__all__ = ["CancelMode", "Interrupter", "SweepReport", "sweep"]

T = TypeVar("T")


class CancelMode(enum.Enum):
    """When a cancel comes."""

    BLOCKED = "while blocked"
    """At the end of the k-th step: the operation has just gone to sleep."""

    WAKING = "while waking up"
    """At the beginning of the k-th step: what the operation waited for has happened, and it does not know yet."""

    ALREADY = "before the call"
    """The scope is cancelled before the operation is called. Once for each call."""

    STORM = "every time"
    """At the end of the first step; when it is called again, of the second; and so on until it completes."""


class Interrupter:
    """Calls operations and cancels them by the rule of its mode.

    Args:
      mode: when a cancel comes.
      step: k, at least 1, for the modes BLOCKED and WAKING. All calls together are counted, and cancelled once.

    Attributes:
      mode: as given.
      step: as given.
      steps: how many steps the operations have made so far.
      fired: whether a cancel was asked for. The operation may have completed nevertheless.
      calls: how often an operation was called.
      cancelled: how many of those calls ended in `trio.Cancelled`.
    """

    def __init__(self, mode: CancelMode, step: int = 1) -> None:
        if step < 1:
            raise ValueError("steps are counted from 1")
        self.mode = mode
        self.step = step
        self.steps = 0
        self.fired: bool = False
        self.calls: int = 0
        self.cancelled: int = 0
        self._tries = 0

    async def call(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Run ``operation()``, again after each cancel, until it completes; its result.

        Between two tries every other task runs until all are blocked, so that no try sees the same world.
        Exceptions of the operation rise as they are.
        """
        while True:
            outcome = await self._try(operation)
            if outcome is not None:
                return outcome[0]
            await trio.testing.wait_all_tasks_blocked()

    async def attempt(self, operation: Callable[[], Awaitable[object]]) -> bool:
        """Run ``operation()`` once; whether it completed. False: it was cancelled."""
        return await self._try(operation) is not None

    async def _try(self, operation: Callable[[], Awaitable[T]]) -> tuple[T] | None:
        self.calls += 1
        self._tries += 1
        outcome: tuple[T] | None = None
        with trio.CancelScope() as scope:
            if self.mode is CancelMode.ALREADY and self._tries == 1:
                self.fired = True
                scope.cancel()
            with _Watch(self, scope, self._end_of_patience()):
                outcome = (await operation(),)
        if outcome is None:
            self.cancelled += 1
        else:
            self._tries = 0
        return outcome

    def _end_of_patience(self) -> int | None:
        """The value of `steps` at which the try that begins now is to be cancelled."""
        if self.mode is CancelMode.STORM:
            return self.steps + self._tries
        if self.mode is CancelMode.ALREADY or self.fired:
            return None
        return self.step


#: In the context of a task: the watch over the operation that it works for.
_watch: ContextVar[_Watch | None] = ContextVar("trio_tls.testing.sweep", default=None)


class _Watch(trio.abc.Instrument):
    """Counts the steps of one call, and cancels it when its time has come."""

    def __init__(self, interrupter: Interrupter, scope: trio.CancelScope, last_step: int | None) -> None:
        self._interrupter = interrupter
        self._scope = scope
        self._last_step = last_step
        self._waking = interrupter.mode is CancelMode.WAKING

    def __enter__(self) -> None:
        self._token = _watch.set(self)
        trio.lowlevel.add_instrument(self)

    def __exit__(self, *exc_info: object) -> None:
        trio.lowlevel.remove_instrument(self)
        _watch.reset(self._token)

    # A cancel from the hook `task_scheduled` would come in the middle of whatever wakes the task (a ParkingLot
    # that unparks several, say), where no program can call cancel(). Before the task resumes is early enough.
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._waking and task.context.get(_watch) is self:
            self._count()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self._waking and task.context.get(_watch) is self:
            self._count()

    def _count(self) -> None:
        self._interrupter.steps += 1
        if self._interrupter.steps == self._last_step:
            self._interrupter.fired = True
            self._scope.cancel()


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep did.

    Attributes:
      mode: when the cancels came.
      runs: how often the scenario ran.
      last_step: the last step at which a cancel was asked for; 0 where none was.
      calls: how often operations were called, retries included.
      cancelled: how many of those calls were cancelled, and so: called again.
    """

    mode: CancelMode
    runs: int
    last_step: int
    calls: int
    cancelled: int


async def sweep(
    scenario: Callable[[Interrupter], Awaitable[object]],
    mode: CancelMode,
    *,
    steps: Iterable[int] | None = None,
) -> SweepReport:
    """Run ``scenario`` once for each step of the operation inside it, which is cancelled there.

    Ends with the first run in which the operation has no such step. For ALREADY and STORM one run is all.
    An exception of the scenario ends the sweep: it is the finding.

    Args:
      scenario: async function of an `Interrupter`. It has to begin anew each time.
      mode: when the cancel comes.
      steps: the steps to try, ascending. Default: 1, 2, 3, ... without end.

    Raises:
      ValueError: the scenario called no operation.
    """
    runs = last_step = calls = cancelled = 0
    if mode is CancelMode.ALREADY or mode is CancelMode.STORM:
        steps = (1,)
    for step in itertools.count(1) if steps is None else steps:
        interrupter = Interrupter(mode, step)
        await scenario(interrupter)
        if not interrupter.calls:
            raise ValueError("the scenario never used interrupter.call() or interrupter.attempt()")
        runs += 1
        calls += interrupter.calls
        cancelled += interrupter.cancelled
        if not interrupter.fired:
            break
        last_step = step if mode in (CancelMode.BLOCKED, CancelMode.WAKING) else interrupter.steps
    return SweepReport(mode, runs, last_step, calls, cancelled)
