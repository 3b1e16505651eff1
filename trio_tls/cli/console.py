"""Plain text to a pipe or a file, modest colours to a terminal."""

from __future__ import annotations

import os
import sys

__all__ = ["Console", "Growing", "OutputClosed"]


class OutputClosed(Exception):
    """Nobody reads our output any more, as behind ``| head -1``."""


class Console:
    """Standard output. Everything is written at once, so that a story can be followed while it happens."""

    def __init__(self) -> None:
        self._output = sys.stdout
        self._colours = self._output.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def say(self, text: str = "", *, end: str = "\n") -> None:
        """Write ``text``.

        Raises:
          OutputClosed: nobody reads it.
        """
        try:
            print(text, end=end, file=self._output, flush=True)
        except BrokenPipeError:
            raise OutputClosed from None

    def bold(self, text: str) -> str:
        """The same text, for headings."""
        return self._in_colour("1", text)

    def dim(self, text: str) -> str:
        """The same text, for progress."""
        return self._in_colour("2", text)

    def good(self, text: str) -> str:
        """The same text, for what held."""
        return self._in_colour("32", text)

    def bad(self, text: str) -> str:
        """The same text, for what did not."""
        return self._in_colour("31", text)

    def _in_colour(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text


class Growing:
    """A paragraph that grows word by word, wrapped at 80 columns.

    Args:
      console: where to.
      indent: what each line begins with.
    """

    WIDTH = 80

    def __init__(self, console: Console, indent: str) -> None:
        self._console = console
        self._indent = indent
        self._column = 0

    def add(self, word: str) -> None:
        """Write one more word."""
        if self._column and self._column + 1 + len(word) > self.WIDTH:
            self.end()
        before = " " if self._column else self._indent
        self._console.say(before + self._console.dim(word), end="")
        self._column += len(before) + len(word)

    def end(self) -> None:
        """End the paragraph."""
        self._console.say()
        self._column = 0
