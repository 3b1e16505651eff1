"""The tables of the page about performance, made from what was measured.

How this works. ``.. benchmark:: NAME`` shows a table of docs/performance/results.json, ``.. profile:: WORKLOAD`` where
the time goes, by docs/performance/profile.json, and ``.. measured::`` what all of that was measured with. All of them
are plain functions that return reStructuredText, so the tests can ask them without Sphinx.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trio_tls.bench.report import as_rst
from trio_tls.bench.results import Results

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

MEASURED = Path(__file__).parent.parent / "performance"

#: Modules with a smaller share of the time are told together.
LEAST = 0.02

#: What a part of the time is spent on, by the module that the profile has for it; a shorter name stands for all below.
PARTS = {
    "ssl": "OpenSSL, by `ssl`",
    "cryptography": "cryptography",
    "transport": "system calls to send and receive",
    "trio/_core": "Trio: tasks, scheduling, waiting for sockets",
    "trio": "Trio: the rest",
    "outcome": "Trio: the rest",
    "socket": "sockets: opening, closing",
    "the workload": "the program that is measured",
    "machine/tls13/record_reader": "records: decryption",
    "machine/tls13/record_writer": "records: encryption",
    "machine/tls13/key_schedule": "keys: HKDF, transcript",
    "machine/tls13/transcript": "keys: HKDF, transcript",
    "machine/tls13/groups": "key exchange",
    "machine/tls13/signatures": "signatures",
    "machine/tls13/resumption": "sessions, tickets",
    "machine/tls13/sessions": "sessions, tickets",
    "machine/tls13/tickets": "sessions, tickets",
    "machine/tls13/session_cache": "sessions, tickets",
    "machine/tls13/messages": "messages: reading, writing",
    "machine/tls13/wire": "messages: reading, writing",
    "machine/tls13/extensions": "messages: reading, writing",
    "machine/tls13": "the rest of the handshake and of the machine",
    "machine/openssl": "the machine around `ssl`",
    "machine/bio": "buffers",
    "machine": "the rest of the handshake and of the machine",
    "trust": "certificates",
    "credentials": "certificates",
}

#: Everything of ours that has no part of its own.
STREAM = "the stream: pump, send, receive, close"
REST = "everything else"


def part_of(module: str) -> str:
    """The part that a module of the profile belongs to."""
    name = module
    while name:
        if name in PARTS:
            return PARTS[name]
        name = name.rpartition("/")[0]
    ours = ("pump", "sending", "receiving", "ending", "stream", "core", "accessors", "errors", "nodelay", "names")
    return STREAM if module in ours else REST


def profile(workload: str, path: Path = MEASURED / "profile.json") -> str:
    """A table of where the time of a workload goes, on either machine."""
    profiles = json.loads(path.read_text(encoding="utf-8"))
    columns = []
    for stack in ("ssl", "own"):
        parts: dict[str, float] = {}
        for module, share in profiles[f"{stack}: {workload}"].items():
            part = part_of(module)
            parts[part] = parts.get(part, 0.0) + share
        columns.append(parts)
    shown = [part for part in _ordered(columns) if part != REST and any(each.get(part, 0) >= LEAST for each in columns)]
    rows = [(part, *(each.get(part, 0.0) for each in columns)) for part in shown]
    rows.append((REST, *(1 - sum(each.get(part, 0.0) for part in shown) for each in columns)))
    lines = [".. list-table::", "   :header-rows: 1", "   :class: narrow profile", ""]
    lines += ["   * - part", "     - on an ``ssl.SSLContext``", "     - on our machine"]
    for part, *cells in rows:
        lines.append(f"   * - {part}")
        lines += [f"     - {cell:.0%}" for cell in cells]
    return "\n".join(lines) + "\n"


def _ordered(columns: list[dict[str, float]]) -> list[str]:
    """All parts, the greatest first."""
    names = {name for column in columns for name in column}
    return sorted(names, key=lambda name: (-sum(column.get(name, 0.0) for column in columns), name))


def benchmark(name: str, path: Path = MEASURED / "results.json") -> str:
    """A table of the results; see `trio_tls.bench.results.sections`."""
    return as_rst(Results.load(path), name)


def measured(path: Path = MEASURED / "results.json") -> str:
    """What the results were measured with, and how many rounds."""
    results = Results.load(path)
    rounds = max(len(each) for by_peer in results.measurements.values() for each in by_peer.values())
    about = ", ".join(each for name, each in results.about.items() if name not in {"date", "congestion control"})
    congestion = results.about.get("congestion control", "")
    when = f"Measured on {results.about['date']}, at most {rounds} times each"
    return f"{when}: {about}; congestion control {congestion}.\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """For Sphinx: a directive for each."""
    from sphinx.util.docutils import SphinxDirective  # noqa: PLC0415  # the tests have no Sphinx

    def directive(render: Callable[..., str], arguments: int, source: str) -> type[SphinxDirective]:
        class Measured(SphinxDirective):
            required_arguments = arguments
            final_argument_whitespace = True

            def run(self) -> list[nodes.Node]:
                self.env.note_dependency(str(MEASURED / source))
                return self.parse_text_to_nodes(render(*self.arguments))

        return Measured

    app.add_directive("benchmark", directive(benchmark, 1, "results.json"))
    app.add_directive("profile", directive(profile, 1, "profile.json"))
    app.add_directive("measured", directive(measured, 0, "results.json"))
    return {"parallel_read_safe": True}
