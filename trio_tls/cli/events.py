"""What a server of the command tells while it runs: one line, or one JSON object, for each event.

How this works. Whoever can connect can fail, as often as he likes; so of each kind of failure some are told, and the
rest is told as a number when the seconds are over (as `trio_tls.serving.log` does it). `Events.watch` sees to that.
"""

from __future__ import annotations

import datetime
import json
import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import trio

from ..workers import WorkerEvent
from .console import OutputClosed
from .paper import OutputFailed, Paper
from .printable import printable
from .problem import ExitStatus, Problem, in_seconds

__all__ = ["Events", "ServerEvents"]

#: Of each kind of failure, so many lines in so many seconds.
MOST_LINES, WINDOW = 10, 10.0


@dataclass(slots=True)
class _Window:
    """The failures of one kind."""

    begin: float
    told: int = 0
    untold: int = 0


class Events:
    """Standard output, an event at a time.

    Args:
      as_json: whether each line is an object.
      worker: the number of the worker that tells it; None: there are none, or it is their supervisor.

    Attributes:
      as_json: as given.
    """

    def __init__(self, *, as_json: bool, worker: int | None = None) -> None:
        self.as_json = as_json
        self.paper: Paper = Paper(sys.stdout)
        self._worker = worker
        self._unread = False
        self._failed: OutputFailed | None = None
        self._windows: dict[str, _Window] = {}
        self._news = trio.lowlevel.ParkingLot()

    def say(self, facts: dict[str, Any], text: str, style: str = "") -> None:
        """Tell one event. It never fails, for it may be told in a callback; see `watch`.

        Args:
          facts: for programs.
          text: the same for people.
          style: how a terminal shows it, as rich names it.
        """
        if self._worker is not None:
            facts, text = {**facts, "worker": self._worker}, f"[{self._worker}] {text}"
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        try:
            self.paper.line(json.dumps({"time": now, **facts}) if self.as_json else text, style)
        except OutputClosed:
            self._nobody_reads(None)
        except OutputFailed as failed:
            self._nobody_reads(failed)

    def _nobody_reads(self, failed: OutputFailed | None) -> None:
        self._failed = failed
        self._unread = True
        self._news.unpark_all()

    def failure(self, peer: str, problem: Problem) -> None:
        """Tell of a handshake or a connection that failed; or count it, if there are too many of its kind.

        Args:
          peer: with whom.
          problem: how.
        """
        kind = problem.status.name.lower() if problem.error is None else type(problem.error).__name__
        if self._may(kind):
            facts = {"event": "failure", "peer": peer, "exit_status": int(problem.status), "error": problem.as_json()}
            self.say(facts, f"{peer} failed: {problem}", "red")

    def flush(self) -> None:
        """Tell how many failures were not told."""
        for kind in list(self._windows):
            self._close(kind)

    def _may(self, kind: str) -> bool:
        """Whether another failure of this kind may be told now."""
        now = trio.current_time()
        window = self._windows.get(kind)
        if window is None or window.begin + WINDOW <= now:
            if window is not None:
                self._close(kind)
            window = self._windows[kind] = _Window(now)
        if window.told < MOST_LINES:
            window.told += 1
            return True
        window.untold += 1
        if window.untold == 1:
            self._news.unpark_all()  # now `watch` has a deadline
        return False

    def _close(self, kind: str) -> None:
        window = self._windows.pop(kind)
        if window.untold:
            seconds = round(trio.current_time() - window.begin, 3)
            facts = {"event": "suppressed", "of": kind, "suppressed": window.untold, "seconds": seconds}
            what = f"{window.untold:,} more failures of the kind {kind}"
            self.say(facts, f"{what} in {seconds:.0f} seconds were not told one by one", "red")

    def check(self) -> None:
        """Raise, as `watch` would, if nothing can be told any more."""
        if self._unread:
            raise self._failed or OutputClosed

    async def watch(self) -> None:
        """Wait until nothing can be told any more. Meanwhile tell in good time how many failures were not told.

        Raises:
          OutputClosed: then, if nobody reads it.
          OutputFailed: then, if it cannot be written.
        """
        while True:
            self.check()
            ends = [window.begin + WINDOW for window in self._windows.values() if window.untold]
            with trio.move_on_at(min(ends, default=math.inf)):
                await self._news.park()
            for kind, window in list(self._windows.items()):
                if window.begin + WINDOW <= trio.current_time():
                    self._close(kind)


class ServerEvents(Events, ABC):
    """What every server of the command tells, beside its connections.

    Args:
      as_json: as for `Events`.
      stop_grace: seconds that connections have to finish at the end.
      worker: as for `Events`.
    """

    def __init__(self, *, as_json: bool, stop_grace: float, worker: int | None = None) -> None:
        super().__init__(as_json=as_json, worker=worker)
        self._stop_grace = stop_grace

    @abstractmethod
    def listens(self, addresses: list[str]) -> None:
        """The server listens; with workers, all of them do."""

    def metrics(self, addresses: list[str]) -> None:
        """The counters can be asked for."""
        urls = [f"http://{address}/metrics" for address in addresses]
        self.say({"event": "metrics", "urls": urls}, f"metrics at {', '.join(urls)}", "dim")

    def of_worker(self, event: WorkerEvent) -> None:
        """Something happened to a worker."""
        facts = {"event": f"worker {event.kind}", "worker": event.number, "pid": event.pid, "text": event.text}
        self.say(facts, event.text, "red" if event.kind == "ended" else "dim")

    def reloaded(self, failure: Exception | None, certificate: str | None = None) -> None:
        """Tell that files were read again; or that they are refused, and what they held before goes on to be used.

        Args:
          failure: what is wrong with the files; None: nothing.
          certificate: the file with the certificate that it is about; None: there is only one.
        """
        about = {} if certificate is None else {"certificate": certificate}
        which = "" if certificate is None else f" ({printable(certificate)})"
        if failure is None:
            self.say({"event": "reloaded", **about}, f"the certificate's files were read again{which}", "dim")
            return
        problem = failure if isinstance(failure, Problem) else Problem(ExitStatus.USAGE, " ".join(str(failure).split()))
        facts = {"event": "reload refused", **about, "error": problem.as_json()}
        self.say(facts, f"the old certificate stays{which}, since the new files cannot be used: {problem}", "red")

    def stopping(self, count: int) -> None:
        """The server has been told to stop, while so many connections are open."""
        have = "s have" if count > 1 else " has"
        text = f"stopping: {count} open connection{have} {in_seconds(self._stop_grace)} to finish"
        self.say({"event": "stopping", "connections": count}, text, "dim")

    def end(self) -> None:
        """The server has stopped."""
        self.say({"event": "stopped"}, "stopped", "dim")
