"""Rows of facts and single lines: plain text to a pipe or a file, colours and wrapping on a terminal.

How this works. On a terminal `rich` does it, where it is installed (the extra ``cli``); everything else gets the
same words without it. What is written here has been made harmless before (`trio_tls.cli.printable`).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from typing import TextIO

from .console import OutputClosed
from .problem import ExitStatus, Problem

__all__ = ["OutputFailed", "Paper", "Row", "output_failed"]

#: Columns of the labels.
LABELS = 13


@dataclass(frozen=True, slots=True)
class Row:
    """One fact.

    Attributes:
      label: what it is; ``""`` goes on with the row above.
      text: the fact.
      style: how it is shown on a terminal, as rich names it (``"green"``), or ``""``.
      depth: how far it is indented.
    """

    label: str
    text: str
    style: str = ""
    depth: int = 0


class OutputFailed(Problem):
    """Standard output takes nothing more, and not since somebody has closed it: a full disk, say."""


def output_failed(error: OSError) -> OutputFailed:
    """What there is to say when standard output refuses to be written."""
    sentence = f"standard output cannot be written: {error.strerror or error}"
    return OutputFailed(ExitStatus.USAGE, sentence, "Check where it goes to")


class Paper:
    """Where facts are written.

    Args:
      output: standard output or standard error.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        if isinstance(output, TextIOWrapper):
            output.reconfigure(errors="backslashreplace")  # a name may hold what this locale cannot show
        self._rich = (
            output.isatty()
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
            and importlib.util.find_spec("rich") is not None
        )

    def rows(self, rows: Iterable[Row]) -> None:
        """Write rows under each other, labels on the left.

        Raises:
          OutputClosed: nobody reads it.
        """
        if self._rich:
            self._write(_rich_rows(self._output, rows))
        else:
            self._write("".join(f"{_label(row)}{row.text}".rstrip() + "\n" for row in rows))

    def line(self, text: str, style: str = "") -> None:
        """Write one line, however long it is.

        Raises:
          OutputClosed: nobody reads it.
        """
        self.segments([(text, style)])

    def segments(self, segments: Sequence[tuple[str, str]]) -> None:
        """Write one line of several parts, each with its own style.

        Raises:
          OutputClosed: nobody reads it.
        """
        if self._rich:
            self._write(_rich_line(self._output, segments))
        else:
            self._write("".join(text for text, _ in segments) + "\n")

    def shows(self, text: str) -> bool:
        """Whether the output has these characters."""
        try:
            text.encode(self._output.encoding or "ascii")
        except UnicodeEncodeError:
            return False
        return True

    def _write(self, text: str) -> None:
        try:
            self._output.write(text)
            self._output.flush()
        except BrokenPipeError:
            raise OutputClosed from None
        except OSError as error:
            if self._output is sys.stderr:
                return  # nobody can be told; the exit status still tells how it went
            raise output_failed(error) from error


def _label(row: Row) -> str:
    return "  " * row.depth + row.label.ljust(LABELS - 2 * row.depth)


def _rich_rows(output: TextIO, rows: Iterable[Row]) -> str:
    from rich.console import Console  # noqa: PLC0415  # an extra, and only for a terminal
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=0)
    table.add_column(width=LABELS)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(Text(_label(row).rstrip(), "bold" if not row.depth else "dim"), Text(row.text, row.style))
    console = Console(file=output, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _rich_line(output: TextIO, segments: Sequence[tuple[str, str]]) -> str:
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=output, highlight=False)
    with console.capture() as captured:
        console.print(Text.assemble(*segments), soft_wrap=True)
    return captured.get()
