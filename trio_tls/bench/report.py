"""Tables of a run: as text for a terminal, and as reStructuredText for the manual."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .peers import BASE, PEERS
from .results import Quartiles, Results, Row, Section, sections

__all__ = ["as_rst", "as_text"]

#: Columns of a terminal that one cell takes, and those of a row's title.
CELL = 18
TITLE = 44


def as_text(results: Results, width: int) -> Iterator[str]:
    """All tables, line by line. Where not all peers fit side by side, they follow below.

    Args:
      results: of the run.
      width: columns of the terminal.
    """
    for section in sections(results):
        shown = [peer for peer in results.peers if any(peer in row.cells for row in section.rows)]
        ratios = any(row.base for row in section.rows)
        if ratios:
            shown.remove(BASE)
        at_once = max(1, (width - TITLE - (CELL if ratios else 0)) // CELL)
        yield ""
        yield section.title
        yield "median of all rounds [quartiles]"
        for start in range(0, max(1, len(shown)), at_once):
            yield ""
            yield from _block(section, shown[start : start + at_once], ratios=ratios)


def _block(section: Section, peers: Sequence[str], *, ratios: bool) -> Iterator[str]:
    head = f"{f'{BASE} itself':>{CELL}}" if ratios else ""
    yield f"{'':{TITLE}}{head}" + "".join(f"{peer:>{CELL}}" for peer in peers)
    for row in section.rows:
        title = f"{row.title}, {row.unit}" if row.unit else row.title
        base = f"{row.base:>{CELL}}" if ratios else ""
        yield f"{title:{TITLE}}{base}" + "".join(f"{_with_quartiles(row, peer):>{CELL}}" for peer in peers)


def _with_quartiles(row: Row, peer: str) -> str:
    cell = row.cells.get(peer)
    if cell is None:
        return "n/a"
    if cell.low == cell.high:
        return _number(cell.median, row)
    return f"{_number(cell.median, row)} [{_number(cell.low, row)}-{_number(cell.high, row)}]"


def _number(value: float, row: Row) -> str:
    return f"{value:.{row.digits}f}"


def as_rst(results: Results, name: str) -> str:
    """One table, for the manual: a line for each workload, a column for each peer.

    Args:
      results: of the run.
      name: of the section.

    Raises:
      LookupError: this was not measured.
    """
    section = next((each for each in sections(results) if each.name == name), None)
    if section is None:
        raise LookupError(f"there are no results of {name!r}")
    ratios = any(row.base for row in section.rows)
    shown = [peer for peer in results.peers if any(peer in row.cells for row in section.rows)]
    if ratios:
        shown.remove(BASE)
    header = ["", *([PEERS[BASE].short] if ratios else []), *(PEERS[peer].short for peer in shown)]
    lines = [".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", "   :class: narrow benchmark", ""]
    rows = [header]
    for row in section.rows:
        title = f"{row.title}, {row.unit}" if row.unit else row.title
        rows.append([title, *([row.base] if ratios else []), *(_cell(row, row.cells.get(peer)) for peer in shown)])
    for cells in rows:
        for number, cell in enumerate(cells):
            lines.append(f"   {' ' if number else '*'} - {cell}".rstrip())
    return "\n".join(lines) + "\n"


def _cell(row: Row, cell: Quartiles | None) -> str:
    return "n/a" if cell is None else _number(cell.median, row)
