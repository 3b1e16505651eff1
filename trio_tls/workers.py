"""Several processes that do the same, and one that watches over them.

How this works. `run_workers` forks its workers, then does nothing but wait: for signals, which it passes on, for
workers that end, which it replaces, and for their word that they are ready. It runs no event loop, so that a fork
never copies one; each worker starts its own. Who is told to stop is a worker, by SIGTERM, and Ctrl-C reaches the
supervisor alone: workers do not see SIGINT, or the first Ctrl-C at a terminal would be two signals to them.

A worker that is killed is replaced at once; one that keeps ending soon after its start, after pauses that grow. If
workers end before any was ever ready, something is wrong with the program or its surroundings, and everything ends.

A supervisor that is killed cannot tell its workers. So each holds the end of a pipe that closes with the supervisor:
`Worker.orphaned` waits for that.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Worker", "WorkerEvent", "run_workers"]

LOGGER = logging.getLogger("trio_tls")

#: Seconds: who has lived longer is replaced at once, and others after a pause that doubles up to the greatest.
SHORT_LIFE, LEAST_PAUSE, GREATEST_PAUSE = 5.0, 0.1, 10.0

#: Seconds: the first pause after the system had no room for another process.
FORK_PAUSE = 1.0

#: Seconds in which a second SIGTERM is the first once more: a service manager sends one to every process of a service,
#: and the supervisor passes on its own.
SAME_SIGNAL = 1.0

#: What a worker writes when it is ready. Its pipe closes without a word when it ends before.
READY = b"r"

#: What the supervisor passes on, or acts on.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

#: The exit status that a shell reports for Ctrl-C.
INTERRUPTED = 128 + signal.SIGINT


class Worker:
    """What a worker knows of itself.

    Attributes:
      number: 1 for the first; whoever replaces a worker has its number.
    """

    def __init__(self, number: int, lifeline: int, news: int) -> None:
        self.number = number
        self._lifeline = lifeline
        self._news: int | None = news

    def ready(self) -> None:
        """Tell the supervisor that this worker does its work now: that it listens, say."""
        if self._news is not None:
            try:
                os.write(self._news, READY)
            except BrokenPipeError:
                pass  # the supervisor is gone; `orphaned` tells
            os.close(self._news)
            self._news = None

    async def orphaned(self) -> None:
        """Wait until the supervisor is gone: then stop.

        Cancelled: nothing has happened.
        """
        mine = os.dup(self._lifeline)  # of one descriptor, Trio lets one task wait
        try:
            await trio.lowlevel.wait_readable(mine)
        finally:
            os.close(mine)

    async def stop_when_told(
        self, stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Set ``stop`` when this worker shall stop: at SIGTERM, or when the supervisor is gone.

        Runs until it is cancelled. A second SIGTERM, more than a second after the first, does what it would do without
        this: it kills, unless there is a handler of yours. One that comes sooner is the first once more, and changes
        nothing, also when this was cancelled meanwhile.

        Args:
          stop: set then.
          task_status: for ``nursery.start``, which returns once a SIGTERM sets ``stop``; before, it kills.
        """
        before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
        told: float | None = None

        def outside(number: int, frame: FrameType | None) -> None:
            """What SIGTERM does while no receiver takes it: once told, the same one may come again at any time."""
            if told is None or time.monotonic() - told > SAME_SIGNAL:
                signal.signal(signal.SIGTERM, before)
                signal.raise_signal(signal.SIGTERM)

        # Trio's receiver gives back what it has not passed on, to the handler that was there before: ours.
        signal.signal(signal.SIGTERM, outside)
        try:
            with trio.open_signal_receiver(signal.SIGTERM) as signals:
                task_status.started()
                async with trio.open_nursery() as nursery:

                    async def follow() -> None:
                        await self.orphaned()
                        stop.set()

                    nursery.start_soon(follow)
                    first: float | None = None
                    async for _ in signals:
                        now = trio.current_time()
                        if first is None:
                            first, told = now, time.monotonic()
                            stop.set()
                        elif now - first > SAME_SIGNAL:
                            told = None
                            nursery.cancel_scope.cancel()
                            break
        finally:
            if told is None:
                signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """Something happened to a worker.

    Attributes:
      kind: ``"started"``, ``"ready"``, ``"ended"``, or ``"delayed"``: the system has no room for it now, and it is
        started later.
      number: the worker's.
      pid: the process; 0 of one that is delayed.
      text: for people; of one that has ended, how.
    """

    kind: Literal["started", "ready", "ended", "delayed"]
    number: int
    pid: int
    text: str


def run_workers(
    work: Callable[[Worker], int | None],
    count: int,
    *,
    on_event: Callable[[WorkerEvent], object] | None = None,
    stop_grace: float = 30.0,
) -> int:
    """Run ``work(worker)`` in ``count`` processes, replace those that die, and stop all of them at SIGTERM or SIGINT.

    ::

        def work(worker: Worker) -> None:
            trio.run(main, worker)


        async def main(worker: Worker) -> None:
            stop = trio.Event()
            listeners = await open_tls_over_tcp_listeners(4433, config, reuse_port=True)
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.stop_when_told, stop)
                worker.ready()
                await serve_tls(handler, listeners, stop=stop)
                nursery.cancel_scope.cancel()


        sys.exit(run_workers(work, 4))

    The first SIGTERM or SIGINT sends SIGTERM to every worker, a second one sends it again, and who is still there
    after ``stop_grace`` seconds is killed. SIGHUP is passed on; a worker that does nothing about it ignores it. Workers
    are forked: call this before anything that a fork must not copy, such as threads and event loops. A worker for which
    the system has no room is started later.

    Args:
      work: what a worker does; its exit status (None: 0). An exception in it is printed, and ends that worker with 1.
      count: how many workers.
      on_event: is told what happens to workers. By default that is logged to the logger ``trio_tls``.
      stop_grace: seconds that workers have to stop.

    Returns: the exit status for the process: 0 after SIGTERM, 130 after SIGINT; or the one of a worker that ended
    before any was ready.

    Raises:
      ValueError: ``count`` is less than 1, ``stop_grace`` is negative, or this is not the main thread.
      OSError: there is no room for a process, and no worker was ever ready.
      Exception: what ``on_event`` raises, once the workers are stopped.
    """
    if count < 1:
        raise ValueError(f"there has to be at least 1 worker, not {count!r}")
    if not stop_grace >= 0:
        raise ValueError(f"stop_grace must be a number of seconds, 0 or more, not {stop_grace!r}")
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("run_workers() has to be called in the main thread: it takes signals")
    return _Supervisor(work, count, on_event or _log, stop_grace).run()


def _log(event: WorkerEvent) -> None:
    LOGGER.log(logging.WARNING if event.kind in {"ended", "delayed"} else logging.INFO, event.text)


@dataclass(slots=True)
class _Process:
    """A worker's process, or the pause before the next one."""

    number: int
    pid: int = 0  # 0: there is none
    news: int = -1  # the end of a pipe that closes when it is ready, or ends
    started: float = 0.0
    due: float = 0.0  # when the next one is started
    pause: float = 0.0


class _Supervisor:
    """One call of `run_workers`."""

    def __init__(
        self,
        work: Callable[[Worker], int | None],
        count: int,
        on_event: Callable[[WorkerEvent], object],
        stop_grace: float,
    ) -> None:
        self._work = work
        self._on_event = on_event
        self._stop_grace = stop_grace
        self._processes = [_Process(number) for number in range(1, count + 1)]
        self._any_ready = False
        self._status: int | None = None  # once it is stopping
        self._kill_at = 0.0
        self._lifeline = (-1, -1)
        self._wakeup = (-1, -1)
        self._before: Mapping[signal.Signals, Any] = {}
        self._wakeup_before = -1

    def run(self) -> int:
        self._lifeline, self._wakeup = os.pipe(), os.pipe()
        for end in self._wakeup:
            os.set_blocking(end, False)
        self._wakeup_before = signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _taken_note) for number in _SIGNALS}
        try:
            try:
                while self._status is None or any(each.pid for each in self._processes):
                    self._start_who_is_due()
                    self._wait()
            except BaseException:
                self._end_all()
                raise
        finally:
            self._restore_signals()
            for end in (*self._lifeline, *self._wakeup):
                os.close(end)
        return self._status

    # -- starting --------------------------------------------------------------------------------------------

    def _start_who_is_due(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if self._status is None and not process.pid and process.due <= now:
                self._start(process)

    def _start(self, process: _Process) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid, reading = self._fork(process.number)
        except OSError as error:
            if not self._any_ready:
                raise
            self._put_off(process, error)
            return
        process.pid, process.news = pid, reading
        process.started = time.monotonic()
        self._tell("started", process, f"worker {process.number} is started (process {pid})")

    def _fork(self, number: int) -> tuple[int, int]:
        """Start a worker; its process, and where it tells that it is ready.

        Raises:
          OSError: there is no room for it; then nothing has changed.
        """
        reading, writing = os.pipe()
        # A signal that comes between the fork and the child's own handlers would be lost; so it has to wait.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)
            raise
        else:
            if not pid:
                self._become(number, reading, writing, blocked)
        finally:
            # Without the signals nobody would wake us.
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(writing)
        return pid, reading

    def _put_off(self, process: _Process, error: OSError) -> None:
        """There was no room for this one: later there may be."""
        process.pause = min(2 * process.pause or FORK_PAUSE, GREATEST_PAUSE)
        process.due = time.monotonic() + max(process.pause, FORK_PAUSE)
        self._tell(
            "delayed", process, f"worker {process.number} cannot be started, and it is tried again soon: {error}"
        )

    def _become(self, number: int, reading: int, writing: int, blocked: set[int | signal.Signals]) -> NoReturn:
        """In the child: work, and end with the process."""
        status = 1
        try:
            self._restore_signals()
            if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
                # It is passed on to all: it must not kill one that has no handler for it, or not yet.
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, {*blocked, signal.SIGINT})
            for end in (reading, self._lifeline[1], *self._wakeup, *(each.news for each in self._processes)):
                if end >= 0:
                    os.close(end)
            status = self._work(Worker(number, self._lifeline[0], writing)) or 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                # What the caller has to do at its end is not to be done once for each worker.
                os._exit(status)

    def _restore_signals(self) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    # -- watching --------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for the next thing to happen, and deal with all that has."""
        news = [each.news for each in self._processes if each.news >= 0]
        readable, _, _ = select.select([self._wakeup[0], *news], [], [], self._patience())
        for process in self._processes:
            if process.news not in readable:
                continue
            said = os.read(process.news, 1)
            self._close_news(process)
            if said == READY:
                self._any_ready = True
                self._tell("ready", process, f"worker {process.number} is ready (process {process.pid})")
        if self._wakeup[0] in readable:
            for number in os.read(self._wakeup[0], 4096):
                self._obey(number)
        for process in self._processes:
            if process.pid:
                self._ended(process)
        if self._status is not None and time.monotonic() >= self._kill_at:
            self._send(signal.SIGKILL)
            self._kill_at = float("inf")

    def _patience(self) -> float | None:
        """Seconds until something is to be done, whatever happens; None: nothing is."""
        moments = [each.due for each in self._processes if not each.pid] if self._status is None else [self._kill_at]
        first = min(moments, default=float("inf"))
        return None if first == float("inf") else max(0.0, first - time.monotonic())

    def _obey(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            if self._status is None:
                self._status = INTERRUPTED if number == signal.SIGINT else 0
                self._kill_at = time.monotonic() + self._stop_grace
            self._send(signal.SIGTERM)
        elif number == signal.SIGHUP:
            self._send(signal.SIGHUP)

    def _ended(self, process: _Process) -> bool:
        """Whether this one has ended; then the next one is planned."""
        pid, wait_status = os.waitpid(process.pid, os.WNOHANG)
        if not pid:
            return False
        code = os.waitstatus_to_exitcode(wait_status)
        now = time.monotonic()
        self._close_news(process)
        process.pid = 0
        soon = now - process.started < SHORT_LIFE
        process.pause = min(2 * process.pause or LEAST_PAUSE, GREATEST_PAUSE) if soon else 0.0
        process.due = now + process.pause
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with the exit status {code}"
        if self._status is None and not self._any_ready:
            self._status = code if code > 0 else 1
            self._kill_at = now + self._stop_grace
            self._send(signal.SIGTERM)
        self._tell("ended", process, f"worker {process.number} {how} (process {pid})", pid)
        return True

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.pid:  # not waited for yet, so the number is nobody else's
                os.kill(process.pid, number)

    def _end_all(self) -> None:
        """Something is wrong here: let nobody work on alone."""
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_grace
        self._on_event = _ignored
        self._status = self._status or 1
        self._kill_at = deadline
        while any(each.pid for each in self._processes):
            self._wait()

    def _close_news(self, process: _Process) -> None:
        if process.news >= 0:
            os.close(process.news)
            process.news = -1

    def _tell(
        self, kind: Literal["started", "ready", "ended", "delayed"], process: _Process, text: str, pid: int = 0
    ) -> None:
        self._on_event(WorkerEvent(kind, process.number, pid or process.pid, text))


def _taken_note(number: int, frame: FrameType | None) -> None:
    """Python writes its number to the wakeup descriptor; that is enough."""


def _ignored(event: WorkerEvent) -> None:
    """Nobody is told any more."""
