"""What a connection told while it was made, kept to be drawn as a ladder: one rung for each event.

How this works. `Trace` is a `trio_tls.Tracer`; it turns what the machine tells into `Rung` objects, in order and
with their times. What belongs together becomes one rung: the key changes of both directions at one moment, and wants
that only repeat. `trio_tls.cli.ladder` writes the rungs as text, `trio_tls.cli.ladder_svg` as a picture. There is
nothing secret in them.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

__all__ = ["Connection", "Kind", "Rung", "Trace"]


class Kind(enum.Enum):
    """What a rung is."""

    MESSAGE = "message"
    ALERT = "alert"
    KEYS = "key_change"
    WANT = "want"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class Rung:
    """One event.

    Attributes:
      at: seconds since the connection began.
      kind: what it is.
      name: of a message or an alert, as the RFC writes it; of a want, what is waited for; of a key change, the
        epoch that begins; of a mark, its words.
      sent: whether it is ours; None of a key change in both directions, and where it has no direction.
      size: bytes of a message with its header; None of everything else.
      epoch: what protects it: ``"plaintext"``, ``"handshake"`` or ``"application"``.
    """

    at: float
    kind: Kind
    name: str
    sent: bool | None = None
    size: int | None = None
    epoch: str = ""

    def as_json(self) -> dict[str, object]:
        """The event, for ``--json``."""
        facts: dict[str, object] = {"milliseconds": round(1000 * self.at, 3), "kind": self.kind.value}
        facts |= {"name": self.name, "sent": self.sent, "size": self.size, "epoch": self.epoch or None}
        return facts


@dataclass(slots=True)
class Connection:
    """The events of one connection.

    Attributes:
      title: whom it was with.
      server_side: whether it was seen from the server's end.
      rungs: what happened, in order.
      shown: how many of them somebody has seen.
    """

    title: str
    server_side: bool = False
    rungs: list[Rung] = field(default_factory=list)
    shown: int = 0

    @property
    def peer(self) -> str:
        """Which end the other one is."""
        return "client" if self.server_side else "server"

    def waited(self, number: int) -> float | None:
        """The seconds from this rung to the next; None if it is the last."""
        if number + 1 == len(self.rungs):
            return None
        return self.rungs[number + 1].at - self.rungs[number].at


class Trace:
    """Collects what the machine tells, as its tracer. One connection after the other.

    Args:
      clock: seconds, from any beginning; for tests.
      server_side: whether the connections are seen from the server's end.

    Attributes:
      connections: those that were begun.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, *, server_side: bool = False) -> None:
        self._clock = clock
        self._server_side = server_side
        self._began = 0.0
        self._epochs = {True: "plaintext", False: "plaintext"}
        self.connections: list[Connection] = []

    def begin(self, title: str) -> None:
        """A new connection: time starts here."""
        self._began = self._clock()
        self._epochs = {True: "plaintext", False: "plaintext"}
        self.connections.append(Connection(title, self._server_side))

    def mark(self, words: str) -> None:
        """Something that only the application knows, such as that the handshake is done."""
        self._add(Rung(self._now(), Kind.MARK, words))

    # -- what the machine tells; see `trio_tls.Tracer` ---------------------------------------------------------

    def message(self, *, sent: bool, name: str, size: int, epoch: str) -> None:
        """A handshake message."""
        self._add(Rung(self._now(), Kind.MESSAGE, name, sent, size, epoch))

    def key_change(self, *, sent: bool, epoch: str) -> None:
        """New keys for one direction; for both, if nothing came in between."""
        self._epochs[sent] = epoch
        rungs = self._rungs
        if rungs and rungs[-1].kind is Kind.KEYS and rungs[-1].name == epoch and rungs[-1].sent is (not sent):
            rungs[-1] = replace(rungs[-1], sent=None)
        else:
            self._add(Rung(self._now(), Kind.KEYS, epoch, sent))

    def alert(self, *, sent: bool, name: str) -> None:
        """An alert."""
        self._add(Rung(self._now(), Kind.ALERT, name, sent, epoch=self._epochs[sent]))

    def want(self, name: str) -> None:
        """The machine waits. It says so each time that it is asked; once is enough here."""
        rungs = self._rungs
        if not rungs or (rungs[-1].kind, rungs[-1].name) != (Kind.WANT, name):
            self._add(Rung(self._now(), Kind.WANT, name))

    # -- how it is kept ----------------------------------------------------------------------------------------

    @property
    def _rungs(self) -> list[Rung]:
        return self.connections[-1].rungs

    def _now(self) -> float:
        return self._clock() - self._began

    def _add(self, rung: Rung) -> None:
        self._rungs.append(rung)
