"""What a run has shown: all measurements, and the figures that are made of them.

How this works. `Results` is what is written as JSON: every single measurement, and what machine and software they are
from. `sections` makes tables of it, one for each question. A cell has the median of all rounds and its quartiles. A
ratio is made within each round, between two peers that were measured one after the other, before the median is taken.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .measurement import Measurement
from .peers import BASE, PEERS
from .workloads import IDLE, SEND, WORKLOADS, Workload

__all__ = ["NotResults", "Quartiles", "Results", "Row", "Section", "sections"]

#: By workload, then by peer: one for each round.
Measurements = Mapping[str, Mapping[str, Sequence[Measurement]]]

MiB = 1024 * 1024


class NotResults(ValueError):
    """A file does not have the results of a run."""


@dataclass(frozen=True)
class Results:
    """A whole run.

    Attributes:
      about: the machine, the software, and how it was measured, in words.
      measurements: all of them.
    """

    about: Mapping[str, str]
    measurements: Measurements

    @property
    def peers(self) -> list[str]:
        """Those that were measured, in the order of `PEERS`."""
        measured = {peer for by_peer in self.measurements.values() for peer in by_peer}
        return [peer for peer in PEERS if peer in measured]

    def to_json(self) -> str:
        """As a file has it: one line for each workload of each peer."""
        about = ",\n".join(f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in self.about.items())
        workloads = ",\n".join(
            f"    {json.dumps(name)}: {{\n"
            + ",\n".join(
                f"      {json.dumps(peer)}: {json.dumps([_short(each) for each in rounds])}"
                for peer, rounds in by_peer.items()
            )
            + "\n    }"
            for name, by_peer in self.measurements.items()
        )
        return f'{{\n  "about": {{\n{about}\n  }},\n  "measurements": {{\n{workloads}\n  }}\n}}\n'

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `to_json` has made.

        Raises:
          OSError: the file cannot be read.
          NotResults: it is something else.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            measurements = {
                name: {peer: [Measurement(**each) for each in rounds] for peer, rounds in by_peer.items()}
                for name, by_peer in data["measurements"].items()
            }
            about = {str(name): str(value) for name, value in data["about"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotResults(f"{path} does not have the results of a benchmark: {error!r}") from error
        strangers = {name for name in measurements if name not in WORKLOADS}
        strangers |= {peer for by_peer in measurements.values() for peer in by_peer if peer not in PEERS}
        if strangers:
            raise NotResults(f"{path} is of another version: it has {', '.join(sorted(strangers))}")
        return cls(about, measurements)


def _short(measurement: Measurement) -> dict[str, float]:
    """Without digits that nobody could have measured."""
    return {name: float(f"{value:.9g}") for name, value in measurement.as_dict().items()}


@dataclass(frozen=True)
class Quartiles:
    """Of the figures of all rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
      title: what was measured.
      unit: what the cells are in; ``""`` for a ratio.
      cells: by peer; those that have this figure.
      digits: how many after the point.
      base: the figure of `BASE` in words, where the cells are ratios to it.
    """

    title: str
    unit: str
    cells: Mapping[str, Quartiles]
    digits: int = 2
    base: str = ""


@dataclass(frozen=True)
class Section:
    """A table.

    Attributes:
      name: what the manual asks for.
      title: the question.
      rows: its lines; none if nothing of this was measured.
    """

    name: str
    title: str
    rows: Sequence[Row]


def sections(results: Results) -> list[Section]:
    """All tables of a run that have something in them."""
    made = [
        Section("speed", f"How fast, as a ratio to {PEERS[BASE].title}: more is better", list(_speed(results))),
        Section(
            "processor",
            f"Processor time per byte, as a ratio to {PEERS[BASE].title}: less is better",
            list(_cpu(results)),
        ),
        Section("memory", "Memory, and how long the event loop stood still: less is better", list(_memory(results))),
        Section("wire", "What passes until the first answer has come", list(_wire(results))),
    ]
    return [section for section in made if section.rows]


def _speed(results: Results) -> Iterator[Row]:
    for workload, by_peer in _measured(results):
        if workload.timed:
            rates = {
                peer: [workload.rate(each.count, each.seconds) for each in rounds] for peer, rounds in by_peer.items()
            }
            yield from _ratios(workload.title, workload.unit, rates)


def _cpu(results: Results) -> Iterator[Row]:
    for workload, by_peer in _measured(results):
        if workload.bulk:
            for side, take in (("client", _client_cpu), ("server", _server_cpu)):
                figures = {
                    peer: [seconds / (each.count * workload.size / 1e9) for each in rounds if (seconds := take(each))]
                    for peer, rounds in by_peer.items()
                }
                yield from _ratios(f"{workload.title}: {side}", "s/GB", figures)


def _client_cpu(measurement: Measurement) -> float | None:
    return measurement.client_cpu


def _server_cpu(measurement: Measurement) -> float | None:
    return measurement.server_cpu


def _memory(results: Results) -> Iterator[Row]:
    yield from _plain(results, IDLE, "an idle connection: server", "KiB", 1, lambda each: each.server_rss, 1 / 1024)
    yield from _plain(results, IDLE, "an idle connection: client", "KiB", 1, lambda each: each.client_rss, 1 / 1024)
    yield from _plain(results, SEND, "one send of 200 MB: extra memory", "MiB", 1, lambda each: each.extra_rss, 1 / MiB)
    yield from _plain(results, SEND, "one send of 200 MB: longest stall", "ms", 1, lambda each: each.stall, 1000)
    yield from _plain(
        results, SEND, "the same in processor time of the loop", "ms", 1, lambda each: each.stall_cpu, 1000
    )


def _wire(results: Results) -> Iterator[Row]:
    yield from _plain(results, "wire", "round trips, besides TCP's own", "", 0, lambda each: each.round_trips, 1)
    yield from _plain(results, "wire", "segments with data from the client", "", 0, lambda each: each.sent, 1)
    yield from _plain(results, "wire", "segments with data from the server", "", 0, lambda each: each.received, 1)


def _measured(results: Results) -> Iterator[tuple[Workload, Mapping[str, Sequence[Measurement]]]]:
    """What was measured, in the order of `WORKLOADS`."""
    for name, workload in WORKLOADS.items():
        if results.measurements.get(name):
            yield workload, results.measurements[name]


def _ratios(title: str, unit: str, figures: Mapping[str, Sequence[float]]) -> Iterator[Row]:
    """A row of ratios to `BASE`, round by round; without it, of the figures themselves."""
    some = {peer: values for peer, values in figures.items() if values}
    base = some.get(BASE)
    if base is None:
        if some:
            yield Row(title, unit, {peer: Quartiles.of(values) for peer, values in some.items()})
        return
    cells = {
        peer: Quartiles.of([value / other for value, other in zip(values, base, strict=False)])
        for peer, values in some.items()
    }
    yield Row(title, "", cells, base=f"{_rounded(statistics.median(base))} {unit}")


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plain(
    results: Results,
    workload: str,
    title: str,
    unit: str,
    digits: int,
    take: Callable[[Measurement], float | None],
    scale: float,
) -> Iterator[Row]:
    cells = {}
    for peer, rounds in results.measurements.get(workload, {}).items():
        values = [value * scale for each in rounds if (value := take(each)) is not None]
        if values:
            cells[peer] = Quartiles.of(values)
    if cells:
        yield Row(title, unit, {peer: cells[peer] for peer in PEERS if peer in cells}, digits)
