"""The local CA: a certification authority in a directory, made once and trusted by one developer's machines.

How this works. The directory has two files: ``ca.pem``, to be given to whoever shall trust it, and ``ca-key.pem``,
which stays (mode 0600). Both are there or neither is: the key is written first and the certificate last, under a name
of its own and then renamed, so that a crash leaves a key that is made anew, and never a certificate without its key.
Calls that come at once wait for one another at a third file, ``ca.lock``.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .certificates import DAY, Authority
from .files import unusable, usage

__all__ = ["CA_FILE", "CA_KEY_FILE", "default_directory", "local_authority", "write_secret"]

CA_FILE, CA_KEY_FILE = "ca.pem", "ca-key.pem"

#: What is issued must end with the CA at the latest, and nobody trusts a new CA gladly.
CA_LIFETIME = 3650 * DAY


def default_directory() -> Path:
    """Where the local CA lies, if nobody says otherwise: in the user's data, as the XDG directories have it."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "trio-tls"


def local_authority(directory: Path, *, name: str) -> tuple[Authority, bool]:
    """The CA in this directory, and whether it was made just now.

    Args:
      directory: made (mode 0700) if it is not there.
      name: the common name of a new CA.

    Raises:
      Problem: a file cannot be read or written, or is not of a CA that this command has made; the CA has expired.
    """
    certificate, key = directory / CA_FILE, directory / CA_KEY_FILE
    try:
        if not certificate.exists():
            with _alone_in(directory):
                if not certificate.exists():  # two calls at once (make -j) make one CA, and not a half of each
                    return _made(directory, name), True
        authority = Authority.from_pem(certificate.read_bytes(), key.read_bytes())
    except FileNotFoundError as error:
        raise usage(
            f"{certificate} is there, but its key {key} is not", "Bring the key back, or take another --ca-dir"
        ) from error
    except OSError as error:
        raise unusable("--ca-dir", str(error.filename or directory), error) from error
    except ValueError as error:
        raise usage(
            f"the CA in {directory} cannot be used: {error}", "Take another --ca-dir; there a new CA is made"
        ) from error
    if authority.certificate.not_valid_after_utc <= datetime.datetime.now(datetime.timezone.utc):
        raise usage(
            f"the CA in {directory} expired at {authority.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            f"Delete {certificate} and {key} for a new one, which has to be trusted anew; or take another --ca-dir",
        )
    return authority, False


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Make the directory, and wait until no other call makes a CA in it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "ca.lock").open("w") as lock:
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415  # not everywhere

            fcntl.flock(lock, fcntl.LOCK_EX)  # let go of with the file
        yield


def _made(directory: Path, name: str) -> Authority:
    authority = Authority(name, lifetime=CA_LIFETIME)
    write_secret(directory / CA_KEY_FILE, authority.key_pem)
    unfinished = directory / f"{CA_FILE}.new"
    unfinished.write_text(authority.pem)
    unfinished.replace(directory / CA_FILE)
    return authority


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that nobody but its owner may read, all of it or nothing. What lay there is replaced.

    Raises:
      OSError: as the system has it.
    """
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)  # of a run that was interrupted; O_EXCL makes sure that nobody has put it there
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.replace(path)
