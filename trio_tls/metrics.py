"""ServerMetrics: what a server has seen, as plain numbers, and as Prometheus reads them.

How this works. `trio_tls.serve_tls` counts into the `ServerMetrics` that it was given; nothing is computed, and nothing
is sent anywhere. Whoever exports them looks whenever he likes: at the attributes, or at `ServerMetrics.prometheus`.
Everything happens in one thread, between two awaits, so no look ever sees half of an event.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["AgreedParameters", "FailureKind", "Histogram", "ServerMetrics"]

#: Upper bounds in seconds: a handshake takes some milliseconds of work, and some round trips.
HANDSHAKE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: Upper bounds in seconds: from one request to a connection that stays for a day.
CONNECTION_SECONDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)


class AgreedParameters(NamedTuple):
    """What a handshake has agreed on.

    Attributes:
      version: ``"TLSv1.3"`` or ``"TLSv1.2"``.
      cipher_suite: the suite's name.
      group: the key exchange group; ``""`` where the TLS library does not tell (`ssl` before Python 3.15).
      resumed: whether an earlier session was resumed.
    """

    version: str
    cipher_suite: str
    group: str
    resumed: bool


class FailureKind(NamedTuple):
    """How a handshake or a connection failed.

    Attributes:
      error: the name of the exception's class, such as ``"PeerMisbehaved"``.
      alert: the name of the alert, such as ``"unknown_ca"``; ``""`` where none was sent or none is known.
      sent_by_peer: whether it was the peer who sent the alert.
    """

    error: str
    alert: str
    sent_by_peer: bool


class Histogram:
    """How often a value fell between which bounds.

    Args:
      bounds: the upper bounds, ascending; a value that equals a bound lies below it.

    Attributes:
      bounds: the same.
      counts: how many values fell into each interval; one more than ``bounds``, for what lies above the last.
      sum: the sum of all values.
    """

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds: tuple[float, ...] = tuple(bounds)
        if not self.bounds or any(a >= b for a, b in zip(self.bounds, self.bounds[1:], strict=False)):
            raise ValueError(f"a histogram needs ascending bounds, at least one, not {self.bounds!r}")
        self.counts: list[int] = [0] * (len(self.bounds) + 1)
        self.sum: float = 0.0

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(eq=False, slots=True)
class ServerMetrics:
    """Counters and timings of a server, or of several: give the object to `serve_tls` as ``metrics``.

    ::

        metrics = ServerMetrics()
        nursery.start_soon(partial(serve_tls_over_tcp, handler, 443, config, metrics=metrics))
        ...
        print(metrics.connections_open, metrics.handshakes_failed.most_common(3))

    All but three attributes only ever grow; the three are said to.

    Attributes:
      connections_accepted: connections that were accepted, refused ones included.
      connections_open: connections that are open now, whether their handshake is done or not. Goes up and down.
      connections_refused: refused connections, by the limit that was reached: ``"connections"`` or ``"handshakes"``.
      handshakes_under_way: handshakes that have begun and not ended. Goes up and down.
      handshakes_waiting: connections that wait for their turn (``max_handshakes``). Goes up and down.
      handshakes_done: handshakes that succeeded, by what they agreed on.
      handshakes_failed: handshakes that failed, by how. After the deadline it is ``TooSlowError``.
      handshakes_cut_off: handshakes that the server's own end has cut off.
      connections_failed: connections that failed after their handshake, by how, as far as the handler let it be seen.
      handshake_seconds: how long the handshakes took that succeeded.
      connection_seconds: how long connections were open, whatever became of them.
      log_lines_suppressed: lines that were left out of the log because there were too many like them.
    """

    connections_accepted: int = 0
    connections_open: int = 0
    connections_refused: Counter[str] = field(default_factory=Counter)
    handshakes_under_way: int = 0
    handshakes_waiting: int = 0
    handshakes_done: Counter[AgreedParameters] = field(default_factory=Counter)
    handshakes_failed: Counter[FailureKind] = field(default_factory=Counter)
    handshakes_cut_off: int = 0
    connections_failed: Counter[FailureKind] = field(default_factory=Counter)
    handshake_seconds: Histogram = field(default_factory=lambda: Histogram(HANDSHAKE_SECONDS))
    connection_seconds: Histogram = field(default_factory=lambda: Histogram(CONNECTION_SECONDS))
    log_lines_suppressed: int = 0
    _received: int = 0
    _sent: int = 0
    _open: dict[object, Callable[[], tuple[int, int]]] = field(default_factory=dict)

    @property
    def bytes_received(self) -> int:
        """Bytes that came from the clients, as they were on the wire."""
        return self._received + sum(traffic()[0] for traffic in self._open.values())

    @property
    def bytes_sent(self) -> int:
        """Bytes that went to the clients, as they were on the wire."""
        return self._sent + sum(traffic()[1] for traffic in self._open.values())

    def connection_begins(self, connection: object, traffic: Callable[[], tuple[int, int]]) -> None:
        """A server has let a connection in. For servers; `serve_tls` calls it.

        Args:
          connection: any object that stands for it.
          traffic: tells how many bytes it has received and sent so far.
        """
        self._open[connection] = traffic
        self.connections_open += 1

    def connection_ends(self, connection: object, seconds: float) -> None:
        """It is closed, after so many seconds. For servers; `serve_tls` calls it."""
        received, sent = self._open.pop(connection)()
        self._received += received
        self._sent += sent
        self.connections_open -= 1
        self.connection_seconds.observe(seconds)

    def prometheus(self, labels: Mapping[str, str] | None = None) -> str:
        """The same in Prometheus' text format (version 0.0.4), to be served as ``text/plain; version=0.0.4``.

        Args:
          labels: put on every value, such as ``{"worker": "1"}``.

        Raises:
          ValueError: a label's name cannot be one.
        """
        common = dict(labels or {})
        for name in common:
            if not (name.isascii() and name.isidentifier()) or name in RESERVED_LABELS:
                raise ValueError(f"{name!r} cannot be the name of a label here")
        return "".join(line + "\n" for line in _Text(common).lines(self))


#: Labels that have a meaning here.
RESERVED_LABELS = frozenset(
    {"le", "outcome", "limit", "version", "cipher_suite", "group", "resumed", "error", "alert", "sent_by"}
)


class _Text:
    """Prometheus' text format. Each metric is a HELP line, a TYPE line, and a line for each set of labels."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def lines(self, seen: ServerMetrics) -> Iterator[str]:
        failed, done = seen.handshakes_failed, seen.handshakes_done
        slow = sum(count for kind, count in failed.items() if kind.error == "TooSlowError")
        outcomes = {
            "done": done.total(),
            "failed": failed.total() - slow,
            "timed_out": slow,
            "refused": seen.connections_refused["handshakes"],
            "cut_off": seen.handshakes_cut_off,
        }
        yield from self._metric(
            "connections_accepted_total", "Connections accepted.", "counter", [({}, seen.connections_accepted)]
        )
        yield from self._metric("connections_open", "Connections open now.", "gauge", [({}, seen.connections_open)])
        refused = [({"limit": limit}, seen.connections_refused[limit]) for limit in ("connections", "handshakes")]
        yield from self._metric(
            "connections_refused_total", "Connections refused because a limit was reached.", "counter", refused
        )
        yield from self._metric(
            "handshakes_under_way", "Handshakes under way now.", "gauge", [({}, seen.handshakes_under_way)]
        )
        yield from self._metric(
            "handshakes_waiting",
            "Connections waiting for a handshake's turn.",
            "gauge",
            [({}, seen.handshakes_waiting)],
        )
        yield from self._metric(
            "handshakes_total",
            "Handshakes that have ended, by outcome.",
            "counter",
            [({"outcome": outcome}, count) for outcome, count in outcomes.items()],
        )
        yield from self._metric(
            "handshakes_done_total",
            "Handshakes that succeeded, by what they agreed on.",
            "counter",
            [
                (
                    {
                        "version": agreed.version,
                        "cipher_suite": agreed.cipher_suite,
                        "group": agreed.group,
                        "resumed": str(agreed.resumed).lower(),
                    },
                    count,
                )
                for agreed, count in sorted(done.items())
            ],
        )
        yield from self._failures("handshakes_failed_total", "Handshakes that failed, by error and alert.", failed)
        yield from self._failures(
            "connections_failed_total",
            "Connections that failed after their handshake, by error and alert.",
            seen.connections_failed,
        )
        yield from self._histogram(
            "handshake_seconds", "Duration of the handshakes that succeeded.", seen.handshake_seconds
        )
        yield from self._histogram("connection_seconds", "How long connections were open.", seen.connection_seconds)
        for name, text, count in (
            ("received_bytes_total", "Bytes received, as they were on the wire.", seen.bytes_received),
            ("sent_bytes_total", "Bytes sent, as they were on the wire.", seen.bytes_sent),
            ("log_lines_suppressed_total", "Lines left out of the log.", seen.log_lines_suppressed),
        ):
            yield from self._metric(name, text, "counter", [({}, count)])

    def _failures(self, name: str, text: str, failures: Counter[FailureKind]) -> Iterator[str]:
        values = []
        for kind, count in sorted(failures.items()):
            sent_by = ("peer" if kind.sent_by_peer else "server") if kind.alert else ""
            values.append(({"error": kind.error, "alert": kind.alert, "sent_by": sent_by}, count))
        yield from self._metric(name, text, "counter", values)

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Iterator[str]:
        yield from self._head(name, text, "histogram")
        below = 0
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
            below += count
            yield self._value(f"{name}_bucket", {"le": bound}, below)
        yield self._value(f"{name}_sum", {}, histogram.sum)
        yield self._value(f"{name}_count", {}, below)

    def _metric(self, name: str, text: str, kind: str, values: Iterable[tuple[dict[str, str], float]]) -> Iterator[str]:
        yield from self._head(name, text, kind)
        for labels, value in values:
            yield self._value(name, labels, value)

    @staticmethod
    def _head(name: str, text: str, kind: str) -> Iterator[str]:
        yield f"# HELP trio_tls_{name} {text}"
        yield f"# TYPE trio_tls_{name} {kind}"

    def _value(self, name: str, labels: dict[str, str], value: float) -> str:
        joined = ",".join(f'{label}="{_escaped(text)}"' for label, text in (self._labels | labels).items())
        return f"trio_tls_{name}{{{joined}}} {value}" if joined else f"trio_tls_{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
