"""``--keylog``: a key log whose failure is not forgotten.

How this works. In a program, a key log must never be what breaks a connection. Here it is what was asked for: the
connection goes on, and at the end the command fails, since the file lacks secrets.
"""

from __future__ import annotations

from ..keylog import KeyLog
from .files import unusable

__all__ = ["KeyLogFile", "check_keylog"]


class KeyLogFile(KeyLog):
    """As `KeyLog`, and remembers.

    Args:
      path: the file.

    Attributes:
      path: as given.
      failure: why secrets are missing in it; None: none are.
    """

    __slots__ = ("_append", "failure", "path")

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path: str = path
        self.failure: OSError | None = None
        self._append, self._write = self._write, self._keep

    def _keep(self, line: str) -> None:
        try:
            self._append(line)
        except OSError as error:
            self.failure = error
            raise


def check_keylog(config: object) -> None:
    """Raise a `Problem` if secrets of this configuration's connections could not be written to their file.

    OpenSSL does not tell of such failures, so there is none with an `ssl.SSLContext`.
    """
    keylog = getattr(config, "keylog", None)
    if isinstance(keylog, KeyLogFile) and keylog.failure is not None:
        raise unusable("--keylog", keylog.path, keylog.failure) from keylog.failure
