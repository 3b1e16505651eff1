"""The ``trio-tls`` command.

How this works. Each subcommand is a module with `add_to(commands)`, which declares its arguments and sets
``run``, a function of the parsed arguments that returns the exit status. Ctrl-C and a closed standard output
are dealt with here, once for all of them: they may come out of `trio.run` inside exception groups.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import __version__
from . import demo
from .console import OutputClosed

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = ["main"]

#: 128 and the number of the signal, as a shell reports it.
INTERRUPTED = 130
OUTPUT_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's own); the exit status.

    Raises:
      SystemExit: argparse's, for ``--help``, ``--version`` and wrong arguments.
    """
    parser = argparse.ArgumentParser(prog="trio-tls", description="TLS for Trio that survives every cancel.")
    parser.add_argument("--version", action="version", version=f"trio-tls {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (demo,):
        command.add_to(commands)
    arguments = parser.parse_args(argv)
    if "run" not in arguments:
        parser.print_help(sys.stderr)
        return 2
    try:
        status = arguments.run(arguments)
    except BaseException as error:
        if _holds(error, KeyboardInterrupt):
            print("\ninterrupted", file=sys.stderr)
            return INTERRUPTED
        if _holds(error, OutputClosed):
            _forget_output()
            return OUTPUT_CLOSED
        raise
    assert isinstance(status, int)  # argparse does not know the types of its own attributes
    return status


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kind) is not None
    return isinstance(error, kind)


def _forget_output() -> None:
    """Let the interpreter's last flush of stdout succeed, though nobody reads it any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
