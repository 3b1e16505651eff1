"""A trace as a picture: the ladder of `trio_tls.cli.ladder`, drawn as one SVG file without scripts or references.

How this works. Rows of fixed height, one for each rung: the time on the left, two lifelines, an arrow between them in
the colour of the keys that protect it. What happens at one end alone stands beside its lifeline. The picture brings its
own background, and follows the colours (light or dark) that whoever looks at it prefers. `drawn` is a file of its own;
`picture` is a part of a page that has `STYLE` already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from .ladder import label, note
from .trace import Connection, Kind

__all__ = ["NARROW", "STYLE", "WIDE", "Layout", "drawn", "picture"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand.

    Attributes:
      width: of the whole picture.
      client: where the client's lifeline is.
      server: where the server's is.
      box: how wide the boxes with their names are.
    """

    width: int
    client: int
    server: int
    box: int

    @property
    def middle(self) -> int:
        """Between the lifelines."""
        return (self.client + self.server) // 2


WIDE = Layout(600, 100, 540, 90)
#: For a telephone.
NARROW = Layout(380, 80, 342, 68)

#: Where the times end.
TIMES = 44
ROW = 34
#: Above the first rung of a connection: the names of the ends.
HEAD = 74
#: Below everything, beside the rows of the legend: what the colours mean.
FOOT = 28
LEGEND_ROW = 24

STYLE = """
  .paper { fill: #ffffff; stroke: #d8dee4; }
  svg text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 13px;
    fill: #1f2328; }
  svg .end { font-size: 15px; font-weight: 600; text-anchor: middle; }
  svg .time { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 11px; fill: #59636e;
    text-anchor: end; }
  svg .label { text-anchor: middle; }
  svg .left { text-anchor: end; }
  svg .small { font-size: 12px; fill: #59636e; }
  .line { stroke: #8c959f; stroke-width: 1.5; }
  .box { fill: #f0f3f6; stroke: #8c959f; }
  .plaintext { stroke: #9a6700; fill: #9a6700; }
  .handshake { stroke: #0969da; fill: #0969da; }
  .application { stroke: #1a7f37; fill: #1a7f37; }
  .failure { stroke: #cf222e; fill: #cf222e; }
  .keys { fill: #8250df; }
  .mark { fill: #1a7f37; }
  .wait { stroke: #8c959f; stroke-width: 4; stroke-dasharray: 2 3; }
  .arrow { stroke-width: 1.8; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117; stroke: #3d444d; }
    svg text { fill: #e6edf3; }
    svg .time, svg .small { fill: #9198a1; }
    .line { stroke: #656c76; }
    .box { fill: #212830; stroke: #656c76; }
    .plaintext { stroke: #d29922; fill: #d29922; }
    .handshake { stroke: #58a6ff; fill: #58a6ff; }
    .application { stroke: #3fb950; fill: #3fb950; }
    .failure { stroke: #f85149; fill: #f85149; }
    .keys { fill: #bc8cff; }
    .mark { fill: #3fb950; }
    .wait { stroke: #656c76; }
  }
"""

#: The words of the legend, and their width.
EPOCHS = {
    "plaintext": ("not protected", 136),
    "handshake": ("handshake keys {}", 164),
    "application": ("application keys []", 170),
}
NEW_KEYS = 88


def drawn(connections: Iterable[Connection]) -> str:
    """The ladders of all connections, under each other, as an SVG document."""
    return picture(tuple(connections), WIDE, within=f"<style>{STYLE}</style>\n") + "\n"


def picture(connections: Sequence[Connection], layout: Layout, *, name: str = "title", within: str = "") -> str:
    """The same as an element ``<svg>``, as wide as the layout says.

    Args:
      connections: what to draw.
      layout: how wide.
      name: the id of its title; each id of a page is there once.
      within: what else shall be in it, such as its style.
    """
    parts: list[str] = []
    top = 16
    for connection in connections:
        parts.extend(_ladder(connection, layout, top))
        top += HEAD + ROW * len(connection.rungs) + 24
    legend, rows = _legend(layout, top + 12)
    height = top + FOOT + rows * LEGEND_ROW
    whom = ", ".join(dict.fromkeys(connection.title for connection in connections))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{layout.width}" height="{height}" '
            f'viewBox="0 0 {layout.width} {height}" role="img" aria-labelledby="{name}">',
            f'<title id="{name}">{escape(f"TLS handshake with {whom}")}</title>',
            f'{within}<rect class="paper" x="0.5" y="0.5" width="{layout.width - 1}" height="{height - 1}" rx="10"/>',
            *parts,
            *legend,
            "</svg>",
        )
    )


def _ladder(connection: Connection, layout: Layout, top: int) -> Iterator[str]:
    bottom = top + HEAD + ROW * len(connection.rungs)
    for x, name in ((layout.client, "client"), (layout.server, "server")):
        yield f'<line class="line" x1="{x}" y1="{top + 30}" x2="{x}" y2="{bottom}"/>'
        yield f'<rect class="box" x="{x - layout.box // 2}" y="{top}" width="{layout.box}" height="30" rx="6"/>'
        yield f'<text class="end" x="{x}" y="{top + 20}">{name}</text>'
    yield f'<text class="small label" x="{layout.middle}" y="{top + 20}">{escape(connection.title)}</text>'
    yield f'<text class="time" x="{TIMES}" y="{top + 20}">ms</text>'
    for number, rung in enumerate(connection.rungs):
        y = top + HEAD + ROW * number
        yield f'<text class="time" x="{TIMES}" y="{y + 4}">{1000 * rung.at:.2f}</text>'
        draw = _arrow if rung.kind in (Kind.MESSAGE, Kind.ALERT) else _note
        yield from draw(connection, number, layout, y)


def _arrow(connection: Connection, number: int, layout: Layout, y: int) -> Iterator[str]:
    rung = connection.rungs[number]
    failure = rung.kind is Kind.ALERT and rung.name != "close_notify"
    style = "failure" if failure else rung.epoch
    from_client = rung.sent is not connection.server_side
    start, end, point = (layout.client, layout.server, -9) if from_client else (layout.server, layout.client, 9)
    yield f'<line class="arrow {style}" x1="{start}" y1="{y}" x2="{end + point}" y2="{y}"/>'
    yield f'<path class="{style}" d="M{end} {y} l{point} -4.5 v9 z"/>'
    yield f'<text class="label" x="{layout.middle}" y="{y - 6}">{escape(label(rung))}</text>'


def _note(connection: Connection, number: int, layout: Layout, y: int) -> Iterator[str]:
    kind = connection.rungs[number].kind
    here, aside, style = (layout.server, -14, "small left") if connection.server_side else (layout.client, 14, "small")
    if kind is Kind.WANT:
        yield f'<line class="wait" x1="{here}" y1="{y - 10}" x2="{here}" y2="{y + 12}"/>'
    elif kind is Kind.KEYS:
        yield f'<path class="keys" d="M{here} {y - 6} l6 6 l-6 6 l-6 -6 z"/>'
    else:
        yield f'<circle class="mark" cx="{here}" cy="{y}" r="5"/>'
    yield f'<text class="{style}" x="{here + aside}" y="{y + 4}">{escape(note(connection, number))}</text>'


def _legend(layout: Layout, y: int) -> tuple[list[str], int]:
    """What the colours mean, and how many rows that takes."""
    parts: list[str] = []
    left = 32
    x, rows = left, 1
    for epoch, (words, width) in (*EPOCHS.items(), ("", ("new keys", NEW_KEYS))):
        if x + width > layout.width:
            x, y, rows = left, y + LEGEND_ROW, rows + 1
        if epoch:
            parts.append(f'<line class="arrow {epoch}" x1="{x}" y1="{y}" x2="{x + 22}" y2="{y}"/>')
            parts.append(f'<text class="small" x="{x + 28}" y="{y + 4}">{words}</text>')
        else:
            parts.append(f'<path class="keys" d="M{x + 6} {y - 6} l6 6 l-6 6 l-6 -6 z"/>')
            parts.append(f'<text class="small" x="{x + 20}" y="{y + 4}">{words}</text>')
        x += width
    return parts, rows
