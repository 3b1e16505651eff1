"""Sessions in files: what ``--session-out`` writes and ``--session-in`` reads.

How this works. A session is a secret: the file is its owner's alone, and it is replaced as a whole, so that nobody
reads half of one. A session is good for the server, and under the options, that it was made with.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from ..config import ClientConfig
from ..machine.tls13.sessions import Session
from ..names import normalised
from .files import check_readable, unusable, usage

__all__ = ["check_place", "load", "refused", "save"]


def load(path: str) -> Session:
    """The session in this file.

    Raises:
      Problem: it cannot be read, or holds none.
    """
    check_readable("--session-in", path)
    try:
        return Session.from_bytes(Path(path).read_bytes())
    except ValueError as error:
        raise usage(f"--session-in {path}: {error}", "Save a session with --session-out") from error


def refused(session: Session, config: ClientConfig, server_name: str | None) -> str | None:
    """Why the session cannot be offered to this server; None if it can."""
    if session.expired(time.time()):
        return "it has expired"
    ours = None if server_name is None else normalised(server_name)
    if (session.server_name and normalised(session.server_name)) != ours:
        return f"it is one with {session.server_name}"
    if session.fingerprint != config.parameters.fingerprint:
        return "it was made with other options (CA files, certificate, ALPN protocols, groups or cipher suites)"
    return None


def check_place(path: str) -> None:
    """Raise a `Problem` if there is no place for a session, before a connection is made for it."""
    if not Path(path).parent.is_dir():
        raise usage(f"--session-out {path}: there is no such directory", "Check the path and its permissions")
    if Path(path).exists() and not Path(path).is_file():  # a device, say: what is put in its place would not be one
        raise usage(f"--session-out {path}: it is there, and is no file", "Name a file, or one that is to be made")


def save(session: Session, path: str) -> None:
    """Write the session to this file, mode 0600, in place of what was there.

    Raises:
      Problem: it cannot be written.
    """
    target = Path(path).resolve()  # a symbolic link stays one
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(session.to_bytes())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unusable("--session-out", path, error) from error
