"""The speeds of a run as a picture: one SVG file without scripts or references.

How this works. A row for each workload, and on it a mark for each peer, at its ratio to trio.SSLStream on a logarithmic
scale: twice as fast is as far to the right as half as fast to the left. Our two streams have large marks, with a line
from quartile to quartile; every peer has a shape as well as a colour of its own. The picture brings its own background,
and follows the colours (light or dark) that whoever looks at it prefers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from .peers import BASE, PEERS
from .results import Quartiles, Results, Row, sections

__all__ = ["NARROW", "WIDE", "Layout", "drawn"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand.

    Attributes:
      width: of the whole picture.
      left: where the scale begins.
      right: where it ends.
      row: the height of a row.
      above: whether a row's title stands above its marks, not beside them.
      columns: of the legend.
    """

    width: int
    left: int
    right: int
    row: int
    above: bool
    columns: int


WIDE = Layout(780, 262, 750, 30, above=False, columns=3)
#: For a telephone.
NARROW = Layout(380, 24, 356, 46, above=True, columns=1)

#: Above the first row, beside the legend; below the last one.
HEAD = 58
FOOT = 22
LEGEND_ROW = 22

#: The shape and the colours (light, dark) of each peer. The last ones are drawn on top.
MARKS: dict[str, tuple[str, str, str]] = {
    "tcp": ("bar", "#6e7781", "#8b949e"),
    "libssl": ("square", "#57606a", "#afb8c1"),
    "blocking": ("triangle", "#8250df", "#bc8cff"),
    "uvloop": ("cross", "#9a6700", "#d29922"),
    "asyncio": ("plus", "#bf3989", "#f778ba"),
    "anyio": ("diamond", "#1a7f37", "#3fb950"),
    "own-hybrid": ("ring", "#bc4c00", "#f0883e"),
    "ours": ("disc", "#0969da", "#58a6ff"),
    "own": ("disc", "#bc4c00", "#f0883e"),
}

STYLE = """
  .paper { fill: #ffffff; stroke: #d8dee4; }
  svg text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 13px;
    fill: #1f2328; }
  svg .title { font-size: 15px; font-weight: 600; }
  svg .name { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
  svg .small { font-size: 11.5px; fill: #59636e; }
  .grid { stroke: #d8dee4; stroke-width: 1; }
  .base { stroke: #1f2328; stroke-width: 1.5; }
  .mark { stroke-width: 2.2; fill: none; }
"""
DARK = """
    .paper { fill: #0d1117; stroke: #3d444d; }
    svg text { fill: #e6edf3; }
    svg .name { stroke: #0d1117; }
    svg .small { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .base { stroke: #e6edf3; }
"""


def drawn(results: Results, layout: Layout = WIDE) -> str:
    """The picture, as an SVG document.

    Raises:
      LookupError: no speeds were measured together with those of trio.SSLStream.
    """
    rows = [row for section in sections(results) if section.name == "speed" for row in section.rows if row.base]
    if not rows:
        raise LookupError(f"a chart needs speeds, of {BASE} too")
    scale = _Scale.of(rows, layout)
    peers = [peer for peer in MARKS if any(peer in row.cells for row in rows)]
    top = HEAD + math.ceil((len(peers) + 1) / layout.columns) * LEGEND_ROW + 34
    bottom = top + len(rows) * layout.row
    about = _wrapped(_about(results), layout.width // 6 - 4)
    height = bottom + FOOT + 16 * len(about) + 8
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{layout.width}" height="{height}" '
            f'viewBox="0 0 {layout.width} {height}" role="img" aria-labelledby="title">',
            f'<title id="title">{escape(_title())}</title>',
            f"<style>{STYLE}{_colours(0)}  @media (prefers-color-scheme: dark) {{{DARK}{_colours(1)}  }}\n</style>",
            f'<rect class="paper" x="0.5" y="0.5" width="{layout.width - 1}" height="{height - 1}" rx="10"/>',
            *_head(layout),
            *_legend(peers, layout),
            *_grid(scale, top, bottom),
            *(line for number, row in enumerate(rows) for line in _row(row, peers, scale, layout, top, number)),
            *(
                f'<text class="small" x="24" y="{bottom + FOOT + 14 + 16 * number}">{escape(line)}</text>'
                for number, line in enumerate(about)
            ),
            "</svg>\n",
        )
    )


@dataclass(frozen=True)
class _Scale:
    """From ratios to places."""

    low: float
    high: float
    left: int
    right: int

    @classmethod
    def of(cls, rows: Sequence[Row], layout: Layout) -> _Scale:
        """One on which all medians have their place."""
        medians = [cell.median for row in rows for cell in row.cells.values()]
        low = 2.0 ** math.floor(math.log2(min(*medians, 0.99)))
        high = 2.0 ** math.ceil(math.log2(max(*medians, 2.0)))
        return cls(low, high, layout.left, layout.right)

    def place(self, ratio: float) -> float:
        share = math.log2(min(max(ratio, self.low), self.high) / self.low) / math.log2(self.high / self.low)
        return round(self.left + share * (self.right - self.left), 1)

    def ticks(self) -> list[float]:
        steps = round(math.log2(self.high / self.low))
        return [self.low * 2.0**step for step in range(steps + 1)]


def _title() -> str:
    return f"Speed, compared with {PEERS[BASE].title}"


def _about(results: Results) -> str:
    told = [results.about.get(name, "") for name in ("date", "machine", "python", "openssl", "trio")]
    return ", ".join(each for each in told if each)


def _wrapped(text: str, columns: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > columns:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _head(layout: Layout) -> Iterator[str]:
    yield f'<text class="title" x="24" y="30">{escape(_title())}</text>'
    more = "Further right is faster. Medians of all rounds."
    yield f'<text class="small" x="24" y="48">{more}</text>'


def _legend(peers: Sequence[str], layout: Layout) -> Iterator[str]:
    first = ["own", "ours"]
    ordered = [peer for peer in (*first, *PEERS) if peer in peers]
    names = list(dict.fromkeys(ordered))
    column = (layout.width - 48) // layout.columns
    for number, peer in enumerate((*names, BASE)):
        x = 24 + number % layout.columns * column + 8
        y = HEAD + number // layout.columns * LEGEND_ROW + 14
        if peer == BASE:
            yield f'<path class="base" d="M{x} {y - 8}v16"/>'
        else:
            yield _mark(peer, x, y)
        yield f'<text x="{x + 16}" y="{y + 4.5}">{escape(PEERS[peer].title)}</text>'


def _grid(scale: _Scale, top: int, bottom: int) -> Iterator[str]:
    for tick in scale.ticks():
        x = scale.place(tick)
        yield f'<path class="{"base" if tick == 1 else "grid"}" d="M{x} {top - 6}V{bottom}"/>'
        yield f'<text class="small" x="{x}" y="{top - 12}" text-anchor="middle">{tick:g}&#215;</text>'


def _row(row: Row, peers: Sequence[str], scale: _Scale, layout: Layout, top: int, number: int) -> Iterator[str]:
    y = top + number * layout.row + layout.row / 2
    yield f'<path class="grid" d="M24 {y + layout.row / 2:g}H{layout.width - 24}"/>'
    if layout.above:
        yield f'<text class="name" x="24" y="{y - 7:g}">{escape(row.title)}</text>'
        y += 10
    else:
        yield f'<text class="name" x="24" y="{y + 4.5:g}">{escape(row.title)}</text>'
    for peer in peers:
        cell = row.cells.get(peer)
        if cell is not None:
            yield (
                _with_whiskers(peer, cell, scale, y)
                if peer in {"own", "ours"}
                else _mark(peer, scale.place(cell.median), y, f"{PEERS[peer].title}: {cell.median:.2f}")
            )


def _with_whiskers(peer: str, cell: Quartiles, scale: _Scale, y: float) -> str:
    low, high = scale.place(cell.low), scale.place(cell.high)
    line = f'<path class="mark stroke-{peer}" d="M{low} {y:g}H{high}"/>' if low < high else ""
    told = f"{PEERS[peer].title}: {cell.median:.2f}, quartiles {cell.low:.2f} and {cell.high:.2f}"
    return line + _mark(peer, scale.place(cell.median), y, told)


def _mark(peer: str, x: float, y: float, told: str = "") -> str:
    """The mark of a peer, with words that a pointer over it brings up."""
    shape = {
        "disc": f'<circle class="fill-{peer}" cx="{x:g}" cy="{y:g}" r="6"/>',
        "ring": f'<circle class="mark stroke-{peer}" cx="{x:g}" cy="{y:g}" r="5"/>',
        "square": f'<rect class="fill-{peer}" x="{x - 4:g}" y="{y - 4:g}" width="8" height="8"/>',
        "bar": f'<path class="mark stroke-{peer}" d="M{x:g} {y - 8:g}v16"/>',
        "triangle": f'<path class="fill-{peer}" d="M{x - 5:g} {y + 4:g}h10l-5 -9z"/>',
        "diamond": f'<path class="fill-{peer}" d="M{x:g} {y - 5.5:g}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>',
        "plus": f'<path class="mark stroke-{peer}" d="M{x - 5:g} {y:g}h10m-5 -5v10"/>',
        "cross": f'<path class="mark stroke-{peer}" d="M{x - 4:g} {y - 4:g}l8 8m0 -8l-8 8"/>',
    }[MARKS[peer][0]]
    return f"<g><title>{escape(told)}</title>{shape}</g>" if told else shape


def _colours(which: int) -> str:
    return "".join(
        f"  .fill-{peer} {{ fill: {colours[which]}; }} .stroke-{peer} {{ stroke: {colours[which]}; }}\n"
        for peer, (_, *colours) in MARKS.items()
    )
