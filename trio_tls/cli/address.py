"""Addresses as a person writes and reads them: ``host:port``, ``[::1]:443``, ``unix:/run/x.sock``."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Any

import trio

from .printable import printable

__all__ = ["Endpoint", "address_of", "host_and_port", "joined", "peer_address"]

MOST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen, or to connect.

    Attributes:
      host: an address or a name; ``""`` with ``unix``.
      port: the TCP port; 0, where one listens: any.
      unix: the path of a Unix domain socket, instead.
    """

    host: str
    port: int
    unix: str | None = None

    @classmethod
    def of(cls, given: tuple[str, int] | str) -> Endpoint:
        """From what `trio_tls.cli.arguments_common.endpoint` has made of an argument."""
        return cls("", 0, given) if isinstance(given, str) else cls(*given)

    def __str__(self) -> str:
        return f"unix:{self.unix}" if self.unix else joined(self.host, self.port)


def host_and_port(text: str, *, least: int = 1) -> tuple[str, int | None]:
    """Take ``HOST[:PORT]`` apart; an IPv6 address stands in brackets.

    Args:
      text: what was given.
      least: the least port; 0 stands for any where one listens.

    Raises:
      ValueError: it is neither; the text says why.
    """
    if "://" in text:
        raise ValueError(f"{text!r} is a URL; give HOST or HOST:PORT")
    bracketed = re.fullmatch(r"\[([^\[\]]+)\](?::(.*))?", text)
    if bracketed:
        host, port = bracketed.groups()
    elif text.count(":") > 1:
        raise ValueError(f"write an IPv6 address in brackets, as [::1]:443, not {text!r}")
    else:
        host, colon, rest = text.partition(":")
        port = rest if colon else None
    if not host or re.search(r"[\s\[\]]", host):
        raise ValueError(f"{text!r} names no host")
    if port is None:
        return host, None
    if not (port.isascii() and port.isdigit() and least <= int(port) <= MOST_PORT):
        raise ValueError(f"a port is a number from {least} to {MOST_PORT}, not {port!r}")
    return host, int(port)


def joined(host: str, port: int) -> str:
    """``host:port``, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_of(family: int, name: Any) -> str:
    """What ``getsockname()`` or ``getpeername()`` has returned, as text."""
    if family == socket.AF_UNIX:
        return f"unix:{_path(name)}" if name else "unix"
    return joined(name[0], name[1])


def _path(name: str | bytes) -> str:
    """A path, which a client may have chosen; bytes are one in Linux's abstract namespace, and begin with a NUL."""
    return printable(name if isinstance(name, str) else name.decode(errors="backslashreplace"))


def peer_address(stream: trio.abc.Stream | None) -> str:
    """The address of the peer of a socket stream."""
    if not isinstance(stream, trio.SocketStream):
        return "the peer"
    try:
        return address_of(stream.socket.family, stream.socket.getpeername())
    except OSError:
        return "a peer that is gone"
