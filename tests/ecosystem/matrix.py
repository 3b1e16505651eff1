"""The matrix: which library does what over which TLS; printed after a run, and shown in the manual.

How this works. A test of the matrix is marked ``row("library", "what it does")``. Its column is the machine that it ran
over. `Collected` gathers the outcomes of all processes that ran tests, and writes them as a table. The manual's table
has the same rows, which a test sees to.
"""

from __future__ import annotations

import pytest

__all__ = ["COLUMNS", "PROPERTY", "Collected", "cell_of", "machines_of"]

#: What a test tells about itself: the library, what it does, and the machine.
PROPERTY = "ecosystem"

#: By the names of the machines in `tests.support`: how the two ends were configured.
COLUMNS = {
    "ssl-1.3": "ssl, TLS 1.3",
    "ssl-1.2": "ssl, TLS 1.2",
    "own": "our own",
    "own-client": "our client",
    "own-server": "our server",
}


def machines_of(item: pytest.Item) -> str:
    """The name of the machines that a test runs over, or ""."""
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return ""
    return str(callspec.params.get("machines", callspec.id if callspec.id in COLUMNS else ""))


def cell_of(item: pytest.Item) -> tuple[str, str] | None:
    """What a test's report has to tell for the matrix; None if the test is not in it."""
    mark = item.get_closest_marker("row")
    return None if mark is None else (PROPERTY, "|".join((*mark.args, machines_of(item))))


class Collected:
    """The outcomes of the tests, as a table."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str], dict[str, str]] = {}

    def add(self, report: pytest.TestReport) -> None:
        """Take what a test's report says, if it is one of the matrix."""
        for name, value in report.user_properties:
            if name == PROPERTY:
                library, does, machine = str(value).split("|")
                cells = self._outcomes.setdefault((library, does), {})
                if report.failed or report.skipped:
                    cells[machine] = "FAILED" if report.failed else "skipped"
                elif report.when == "call":
                    cells.setdefault(machine, "ok")

    def lines(self) -> list[str]:
        """The table; no lines if no test of the matrix ran."""
        if not self._outcomes:
            return []
        used = [name for name in COLUMNS if any(name in cells for cells in self._outcomes.values())]
        rows = [["library", "over a TLSStream", *(COLUMNS[name] for name in used)]]
        for (library, does), cells in sorted(self._outcomes.items()):
            rows.append([library, does, *(cells.get(name, "") for name in used)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        outcomes = [outcome for cells in self._outcomes.values() for outcome in cells.values()]
        counted = ", ".join(f"{outcomes.count(each)} {each}" for each in ("ok", "FAILED", "skipped"))
        return [*table, counted]
