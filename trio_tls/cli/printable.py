r"""Text from a peer, made harmless for a terminal.

How this works. A control character, or one that Unicode calls invisible (bidirectional overrides among them),
could move the cursor, colour what follows, or make a name look like another. `printable` writes such characters
as Python would: ``\x1b``. `TerminalText` does the same to a stream of bytes, but lets lines and tabs be.
"""

from __future__ import annotations

import codecs

__all__ = ["TerminalText", "printable"]


def printable(text: str) -> str:
    """``text`` on one line, with everything that is not plainly visible escaped."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


class TerminalText:
    r"""Escapes what a peer sends, piece by piece, for a terminal. Bytes that are no UTF-8 are shown as ``\xff``."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """The next piece, escaped; what is not complete yet (half a character, half a line end) waits."""
        text = self._held + self._decoder.decode(data, final)
        self._held = ""
        if text.endswith("\r") and not final:
            text, self._held = text[:-1], "\r"  # the line end of the network may follow
        text = text.replace("\r\n", "\n")
        return "".join(character if character in "\n\t" else _visible(character) for character in text)
