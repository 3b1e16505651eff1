"""``--self-signed``: a certificate for a try, and the file with the CA that clients have to trust."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .certificates import Authority, Issued
from .problem import ExitStatus, Problem

__all__ = ["throw_away"]


@contextmanager
def throw_away(names: Sequence[str], write_ca: str | None) -> Iterator[tuple[Issued, Path]]:
    """A throw-away certificate, and where its CA's certificate lies.

    Args:
      names: DNS names and IP addresses.
      write_ca: where to write the CA's certificate; None: to a file that is taken away again at the end.

    Raises:
      Problem: a name is none, or the file cannot be written.
    """
    authority = Authority()
    try:
        issued = authority.issue(*names)
    except ValueError as error:
        raise Problem(ExitStatus.USAGE, f"--self-signed: {error}", "Give DNS names and IP addresses") from error
    with tempfile.TemporaryDirectory(prefix="trio-tls-") as directory:
        path = Path(write_ca or Path(directory, "ca.pem"))
        try:
            path.write_text(authority.pem)
        except OSError as error:
            sentence = f"--write-ca {path}: {error.strerror or error}"
            raise Problem(ExitStatus.USAGE, sentence, "Check the path and its permissions") from error
        yield issued, path
