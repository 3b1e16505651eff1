"""Key logs: the secrets of connections, written down so that tools like Wireshark can decrypt them (RFC 9850).

How this works. A `KeyLog` is called with each secret of a handshake, and writes a line of it. Whoever has the file can
read the connections, so this is for debugging, where it is asked for by name or by the environment. It must never be
what breaks a connection: what goes wrong is logged, once, and the connection goes on.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import weakref
from collections.abc import Callable
from typing import TextIO

__all__ = ["KeyLog", "keylog_from_environment"]

VARIABLE = "SSLKEYLOGFILE"

_logger = logging.getLogger(__name__)


class KeyLog:
    """Writes secrets down, in lines of ``LABEL client_random secret``, the latter two in hexadecimal.

    When the first line is written, that is logged once, as a warning: nobody's secrets leave without a word.

    One object serves any number of connections, and threads. Several of them, in several processes, may write to one
    file, other TLS libraries too: each line is appended by one system call.

    Args:
      target: where to. A path: the file is opened at the first line and stays open; it is created for its owner alone
        (mode 0600), and what it holds already is kept. An open text file: each line is flushed. A function: it gets
        each line, without the line end.
    """

    __slots__ = ("__weakref__", "_announced", "_describe", "_warned", "_write")

    def __init__(self, target: str | os.PathLike[str] | TextIO | Callable[[str], object]) -> None:
        self._announced = self._warned = False
        self._write: Callable[[str], object]
        if isinstance(target, str | os.PathLike):
            self._describe = os.fspath(target)
            self._write = _Appended(self._describe).write
        elif callable(target):
            self._describe = repr(target)
            self._write = target
        elif hasattr(target, "write"):
            self._describe = repr(target)
            self._write = functools.partial(_write_text, target)
        else:
            raise TypeError(f"a key log is a path, a text file or a function of one line, not {target!r}")

    def __call__(self, label: str, client_random: bytes, secret: bytes) -> None:
        """Write one secret down. It never raises an ``Exception``.

        Args:
          label: such as ``"CLIENT_TRAFFIC_SECRET_0"`` (RFC 9850 section 2.1).
          client_random: the random of the ClientHello, 32 bytes.
          secret: the secret itself.
        """
        try:
            self._write(f"{label} {client_random.hex()} {secret.hex()}")
            if not self._announced:
                self._announced = True
                _logger.warning(
                    "the secrets of TLS connections go to %s: who has them can read the connections", self._describe
                )
        except Exception as exc:
            if not self._warned:
                self._warned = True
                # Only the kind and the words of the error: a traceback may show the line.
                _logger.warning(
                    "secrets cannot be written to the key log %s: %s: %s", self._describe, type(exc).__name__, exc
                )

    def __repr__(self) -> str:
        return f"<KeyLog to {self._describe}>"


@functools.cache
def _keylog_at(path: str) -> KeyLog:
    return KeyLog(path)


def keylog_from_environment() -> KeyLog | None:
    """The key log that the environment variable ``SSLKEYLOGFILE`` asks for, as browsers honour it.

    As with `ssl.create_default_context`: None if the variable is not set or empty, or if Python was told to ignore the
    environment (``-E``, ``-I``). All who ask for the same file get the same object.
    """
    path = None if sys.flags.ignore_environment else os.environ.get(VARIABLE)
    return _keylog_at(path) if path else None


class _Appended:
    """A file that lines are appended to, opened when the first one comes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None

    def write(self, line: str) -> None:
        if self._fd is None:
            # O_APPEND: the position and the write are one step for the kernel, whoever else writes.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            fd = os.open(self._path, flags, 0o600)
            weakref.finalize(self, os.close, fd).atexit = False  # lines may come until the very end
            self._fd = fd
        os.write(self._fd, f"{line}\n".encode())


def _write_text(file: TextIO, line: str) -> None:
    file.write(f"{line}\n")
    file.flush()
