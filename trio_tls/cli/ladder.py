"""A trace as text: the client on the left, the server on the right, and an arrow for each message.

How this works. Each `Rung` becomes one line of `WIDTH` columns, made of segments with a style each, so that a
terminal can colour them; a pipe gets the same characters. The brackets are those of the RFC's figures: ``{}`` for
what is protected with handshake keys, ``[]`` with application keys.
"""

from __future__ import annotations

from collections.abc import Iterator

from .trace import Connection, Kind, Rung

__all__ = ["ASCII", "DRAWN", "Segment", "heading", "label", "lines", "note", "title"]

#: Some text, and its style as rich names it.
Segment = tuple[str, str]

#: Columns: those of all, and those of the times.
WIDTH = 80
TIMES = 8

#: Columns between the two bars.
INSIDE = WIDTH - TIMES - 4

#: What it is drawn with, and what that becomes on an output that cannot show it.
DRAWN = "│─▶◀◆…✓"
ASCII = str.maketrans(DRAWN, "|-><*.*")

BRACKETS = {"plaintext": "{}", "handshake": "{{{}}}", "application": "[{}]"}

STYLES = {"plaintext": "yellow", "handshake": "cyan", "application": "green"}


def heading(connection: Connection) -> Iterator[list[Segment]]:
    """The lines above a ladder."""
    ends = "client" + connection.title.rjust(INSIDE + 2 - len("client"))
    yield [(f"{'ms':>{TIMES}}  ", "dim"), (ends, "bold")]


def lines(connection: Connection, start: int = 0) -> Iterator[list[Segment]]:
    """The rungs from number ``start`` on, a line each."""
    for number in range(start, len(connection.rungs)):
        rung = connection.rungs[number]
        yield [
            (f"{1000 * rung.at:{TIMES}.2f}  ", "dim"),
            ("│", "dim"),
            *(_arrow(rung) if rung.kind in (Kind.MESSAGE, Kind.ALERT) else _note(connection, number)),
            ("│", "dim"),
        ]


def label(rung: Rung) -> str:
    """A message or an alert, in words."""
    if rung.kind is Kind.ALERT:
        return BRACKETS[rung.epoch].format(f"alert: {rung.name}")
    return f"{BRACKETS[rung.epoch].format(title(rung.name))}, {rung.size:,} bytes"


def title(name: str) -> str:
    """The name of a message as the RFC's figures write it: ``"ClientHello"`` for ``"client_hello"``."""
    return "".join(part.capitalize() for part in name.split("_"))


def note(connection: Connection, number: int) -> str:
    """What has no direction, in words: the rung with this number is a key change, a want or a mark."""
    rung, waited = connection.rungs[number], connection.waited(number)
    if rung.kind is Kind.WANT:
        whom = f"the {connection.peer}" if rung.name == "read" else rung.name
        return f"waits for {whom}" + ("" if waited is None else f", {1000 * waited:.2f} ms")
    if rung.kind is Kind.KEYS:
        does = {True: "sends", False: "receives", None: "sends and receives"}[rung.sent]
        return f"{does} with {rung.name} keys"
    return rung.name


def _arrow(rung: Rung) -> Iterator[Segment]:
    style = "bold red" if rung.kind is Kind.ALERT and rung.name != "close_notify" else STYLES[rung.epoch]
    text = f" {label(rung)} "
    shaft = "─" * max(1, INSIDE - len(text) - 3)
    if rung.sent:
        yield "──", style
        yield text, f"bold {style}"
        yield f"{shaft}▶", style
    else:
        yield f"◀{shaft}", style
        yield text, f"bold {style}"
        yield "──", style


MARKS = {Kind.KEYS: ("◆", "magenta"), Kind.WANT: ("…", "dim"), Kind.MARK: ("✓", "bold green")}


def _note(connection: Connection, number: int) -> Iterator[Segment]:
    mark, style = MARKS[connection.rungs[number].kind]
    yield f" {mark} {note(connection, number)}".ljust(INSIDE), style
