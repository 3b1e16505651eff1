"""STARTTLS: the plain text before TLS, for SMTP (RFC 3207), IMAP (RFC 9051) and PostgreSQL.

How this works. Each protocol is one async function: it speaks until the server has said that TLS may begin. What
the server says is read in bounded lines, and never further than its last word: bytes that come behind it in plain
text would otherwise be taken for part of the encrypted conversation (RFC 3207 section 6 and CVE-2011-0411 tell
what an attacker in the middle makes of that), so they end it. Whoever calls `upgrade` sets the time limit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from .printable import printable
from .problem import ExitStatus, Problem

__all__ = ["PROTOCOLS", "upgrade"]

#: Longest line that a server may send, in bytes, and most lines of one answer.
LINE_LIMIT = 8192
LINES_LIMIT = 128


async def upgrade(stream: trio.abc.Stream, protocol: str) -> str:
    """Bring the server to where TLS begins; what it said of itself, escaped.

    Raises:
      Problem: it does not offer TLS, refuses, breaks the protocol, goes on in plain text, or is gone.
    """
    conversation = _Conversation(stream, protocol)
    try:
        greeting = await PROTOCOLS[protocol](conversation)
    except trio.BrokenResourceError as error:
        raise conversation.problem("reset the connection", "See its log") from error
    if conversation.unread:
        raise conversation.problem(
            f"went on in plain text after it had agreed to TLS ({bytes(conversation.unread[:40])!r})",
            "Somebody between the ends may be injecting text (CVE-2011-0411); do not use this connection",
        )
    return printable(greeting)


class _Conversation:
    """Lines to and from a server, in plain text."""

    def __init__(self, stream: trio.abc.Stream, protocol: str) -> None:
        self._stream = stream
        self._protocol = protocol
        self.unread = bytearray()

    def problem(self, what: str, hint: str = "") -> Problem:
        """A `Problem` of which the server is the subject."""
        return Problem(ExitStatus.NETWORK, f"STARTTLS: the {self._protocol} server {what}", hint)

    async def send(self, data: bytes) -> None:
        """Send this."""
        await self._stream.send_all(data)

    async def byte(self) -> bytes:
        """The next byte, and nothing behind it."""
        data = await self._stream.receive_some(1)
        if not data:
            raise self.problem("closed the connection", "See its log")
        return bytes(data)

    async def line(self) -> str:
        """The next line, without its end."""
        while b"\n" not in self.unread:
            if len(self.unread) > LINE_LIMIT:
                raise self.problem(f"sent a line longer than {LINE_LIMIT} bytes", _ANOTHER_PROTOCOL)
            data = await self._stream.receive_some(4096)
            if not data:
                raise self.problem("closed the connection", "See its log")
            self.unread += data
            if self.unread[:2] == b"\x16\x03":
                raise self.problem("speaks TLS from the start", "Leave out --starttls")
        line, _, rest = bytes(self.unread).partition(b"\n")
        self.unread = bytearray(rest)
        return line.rstrip(b"\r").decode("utf-8", "backslashreplace")


_ANOTHER_PROTOCOL = "Check the port, and that it serves this protocol"


async def _smtp(server: _Conversation) -> str:
    code, greeting = await _smtp_answer(server)
    if code != "220":
        raise server.problem(f"greeted with {code} {greeting[0]}", "It does not take mail from here now")
    # RFC 5321 section 4.1.3: a client without a name gives an address literal, and TLS comes before any mail.
    await server.send(b"EHLO [127.0.0.1]\r\n")
    code, extensions = await _smtp_answer(server)
    if code != "250":
        raise server.problem(f"answered EHLO with {code} {extensions[0]}")
    if "STARTTLS" not in (extension.strip().upper() for extension in extensions[1:]):
        raise server.problem("does not offer STARTTLS", "It may do so on another port: 587 is that for submission")
    await server.send(b"STARTTLS\r\n")
    code, words = await _smtp_answer(server)
    if code != "220":
        raise server.problem(f"answered STARTTLS with {code} {words[0]}", "See its log")
    return greeting[0]


async def _smtp_answer(server: _Conversation) -> tuple[str, list[str]]:
    """The code and the lines of one answer: ``250-first``, ``250 last``."""
    lines: list[str] = []
    while len(lines) < LINES_LIMIT:
        line = await server.line()
        code, mark = line[:3], line[3:4]
        if not (code.isascii() and code.isdigit() and len(code) == 3 and mark in ("", " ", "-")):
            raise server.problem(f"said {line[:60]!r}, which is no SMTP", _ANOTHER_PROTOCOL)
        lines.append(line[4:])
        if mark != "-":
            return code, lines
    raise server.problem(f"sent an answer of more than {LINES_LIMIT} lines", _ANOTHER_PROTOCOL)


async def _imap(server: _Conversation) -> str:
    greeting = await server.line()
    if greeting[:9].upper() == "* PREAUTH":
        raise server.problem("has logged us in before any TLS, so TLS cannot begin (RFC 9051 section 7.1.4)")
    if greeting[:5].upper() != "* OK ":
        refused = greeting[:5].upper() == "* BYE"
        raise server.problem(
            f"said {greeting[:60]!r}" + ("" if refused else ", which is no IMAP"), "" if refused else _ANOTHER_PROTOCOL
        )
    told, _ = await _imap_answer(server, "a1", "CAPABILITY")
    offered = {word.upper() for line in told if line[:13].upper() == "* CAPABILITY " for word in line.split()}
    if "STARTTLS" not in offered:
        raise server.problem("does not offer STARTTLS", "It may serve TLS from the start on port 993")
    await _imap_answer(server, "a2", "STARTTLS")
    return greeting[5:]


async def _imap_answer(server: _Conversation, tag: str, command: str) -> tuple[list[str], str]:
    """The untagged lines, and the words of the tagged one, which has to be OK."""
    await server.send(f"{tag} {command}\r\n".encode())
    lines: list[str] = []
    while len(lines) < LINES_LIMIT:
        line = await server.line()
        if not line.startswith(f"{tag} "):
            lines.append(line)
            continue
        verdict, _, words = line[len(tag) + 1 :].partition(" ")
        if verdict.upper() != "OK":
            raise server.problem(f"answered {command} with {verdict} {words}", "See its log")
        return lines, words
    raise server.problem(f"sent an answer of more than {LINES_LIMIT} lines", _ANOTHER_PROTOCOL)


#: SSLRequest: its length, and a number that is no protocol version.
POSTGRES_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


async def _postgres(server: _Conversation) -> str:
    await server.send(POSTGRES_SSL_REQUEST)
    answer = await server.byte()
    if answer == b"S":
        # "the server should not send anything else": what comes behind the byte is left for TLS, which refuses it.
        return ""
    if answer == b"N":
        raise server.problem("has TLS switched off", 'Set "ssl = on" and a certificate in its postgresql.conf')
    if answer == b"E":
        raise server.problem("answered the request for TLS with an error", "See its log")
    raise server.problem(f"answered the request for TLS with {answer!r}, which is no PostgreSQL", _ANOTHER_PROTOCOL)


#: Each returns the server's greeting.
PROTOCOLS: dict[str, Callable[[_Conversation], Awaitable[str]]] = {
    "imap": _imap,
    "postgres": _postgres,
    "smtp": _smtp,
}
