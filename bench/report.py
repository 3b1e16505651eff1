"""From measurements to tables of ratios."""

from __future__ import annotations

import statistics
from typing import Any

from .runner import Results
from .workloads import BULK, WORKLOADS

__all__ = ["BASE", "figures", "render"]

#: The peer that all others are compared with.
BASE = "trio"

#: What the project wants to reach, as shown under the table.
GOALS = (
    "goals: ours download-256k at least 1.6, pingpong-1k at least 1.4; "
    f"{BULK} with less than 20 MB extra RSS and no stall above 20 ms"
)


def _quartiles(values: list[float]) -> dict[str, float]:
    if len(values) == 1:
        return {"q1": values[0], "median": values[0], "q3": values[0]}
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"q1": q1, "median": median, "q3": q3}


def figures(results: Results) -> dict[str, Any]:
    """Medians and quartiles by workload and peer: the rate, its ratio to `BASE` in the same round, and the rest."""
    table: dict[str, Any] = {}
    for name, by_peer in results.items():
        workload = WORKLOADS[name]
        rates = {
            peer: [workload.rate(count, measurement.seconds) for count, measurement in rounds]
            for peer, rounds in by_peer.items()
        }
        table[name] = {}
        for peer, rounds in by_peer.items():
            row: dict[str, Any] = {"unit": workload.unit, "rate": _quartiles(rates[peer]), "rates": rates[peer]}
            if BASE in rates:
                pairs = zip(rates[peer], rates[BASE], strict=True)
                row["ratio"] = _quartiles([rate / base for rate, base in pairs])
            if workload.fixed:
                for figure in ("extra_rss", "stall", "stall_cpu"):
                    row[figure] = _quartiles([getattr(measurement, figure) for _, measurement in rounds])
            table[name][peer] = row
    return table


def render(table: dict[str, Any]) -> str:
    """The tables, as text."""
    peers = list(next(iter(table.values())))
    lines = ["", f"Ratio to {BASE}.SSLStream in the same round, more is better: median [quartiles]", ""]
    lines.append(f"{'':14}{f'{BASE} itself':>16}" + "".join(f"{peer:>21}" for peer in peers if peer != BASE))
    for name, row in table.items():
        base = f"{row[BASE]['rate']['median']:.0f} {row[BASE]['unit']}" if BASE in row else ""
        cells = [_cell(row[peer]) for peer in peers if peer != BASE]
        lines.append(f"{name:14}{base:>16}" + "".join(f"{cell:>21}" for cell in cells))
    if BULK in table:
        lines += ["", "One send of 200 MB, in the sender's process: median [quartiles]", ""]
        lines.append(f"{'':14}{'extra RSS, MB':>26}{'longest stall, ms':>26}{'the same, CPU ms':>26}")
        for peer, row in table[BULK].items():
            cells = [_range(row[figure], 1) for figure in ("extra_rss", "stall", "stall_cpu")]
            if not row["stall"]["median"]:
                cells[1:] = ["no loop", "no loop"]
            lines.append(f"{peer:14}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join([*lines, "", GOALS])


def _cell(row: dict[str, Any]) -> str:
    if "ratio" in row:
        return _range(row["ratio"], 2)
    return f"{row['rate']['median']:.0f} {row['unit']}"


def _range(quartiles: dict[str, float], digits: int) -> str:
    median, q1, q3 = (f"{quartiles[name]:.{digits}f}" for name in ("median", "q1", "q3"))
    return f"{median} [{q1}-{q3}]"
