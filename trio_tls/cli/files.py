"""Files that a person has named: what is wrong with one is told with its option and its path."""

from __future__ import annotations

from pathlib import Path

from .problem import ExitStatus, Problem

__all__ = ["PEM_HINT", "check_appendable", "check_readable", "password_in", "unusable", "usage"]

PEM_HINT = "A PEM file has lines such as -----BEGIN CERTIFICATE-----"


def usage(sentence: str, hint: str) -> Problem:
    """A mistake of the one who types: what it is, and what to type instead."""
    return Problem(ExitStatus.USAGE, sentence, hint)


def unusable(option: str, path: str, error: OSError) -> Problem:
    """A file that the system does not let us use."""
    return usage(f"{option} {path}: {error.strerror or error}", "Check the path and its permissions")


def check_readable(option: str, *paths: str) -> None:
    """Raise a `Problem` unless these files can be read. `ssl` says neither which it could not read, nor always why."""
    for path in paths:
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise unusable(option, path, error) from error


def check_appendable(option: str, path: str) -> None:
    """Raise a `Problem` unless this file can be appended to; it is made, for its owner alone, if it is not there."""
    try:
        Path(path).touch(mode=0o600)
        with Path(path).open("ab"):
            pass
    except OSError as error:
        raise unusable(option, path, error) from error


def password_in(path: str) -> bytes:
    """The first line of the file of ``--key-password-file``."""
    check_readable("--key-password-file", path)
    lines = Path(path).read_bytes().splitlines()
    return lines[0] if lines else b""
