"""The ``trio-tls`` command.

How this works. `parser` declares every subcommand; each sets ``run``, a function of the parsed arguments that
returns the exit status. What ends a command before its time is dealt with here, once for all of them: a `Problem`
(one sentence and a hint on standard error, and its exit status), Ctrl-C, and an output that nobody reads any
more; they may come out of `trio.run` inside exception groups.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from .arguments import parser
from .console import OutputClosed
from .paper import OutputFailed, Paper
from .problem import ExitStatus, Problem, leaves

__all__ = ["main", "parser"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's own); the exit status.

    Raises:
      SystemExit: argparse's, for ``--help`` and ``--version``.
    """
    _complete_standard_streams()
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _run(argv)
    except BaseException as error:
        causes = list(leaves(error))
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
            sys.stderr.write("\ninterrupted\n")
            return ExitStatus.INTERRUPTED
        if any(isinstance(cause, OutputClosed) for cause in causes):
            _forget_output()
            return ExitStatus.OUTPUT_CLOSED
        for cause in causes:
            if isinstance(cause, OutputFailed):
                _forget_output()
                return _tell(cause, as_json=False)
        for cause in causes:
            if isinstance(cause, Problem):
                return _tell(cause, as_json="--json" in argv)
        raise


def _run(argv: Sequence[str]) -> int:
    whole = parser()
    arguments = whole.parse_args(argv)
    if "run" not in arguments:
        whole.print_help(sys.stderr)
        return ExitStatus.USAGE
    status = arguments.run(arguments)
    assert isinstance(status, int)  # argparse does not know the types of its own attributes
    return status


def _tell(problem: Problem, *, as_json: bool) -> int:
    try:
        if as_json:
            facts = {"ok": False, "exit_status": int(problem.status), "error": problem.as_json()}
            Paper(sys.stdout).line(json.dumps(facts))
        else:
            paper = Paper(sys.stderr)
            paper.line(f"trio-tls: {problem.sentence}", "bold red")
            if problem.hint:
                paper.line(f"  {problem.hint}")
    except OutputClosed:
        _forget_output()
    except OutputFailed as failed:
        _forget_output()
        return _tell(failed, as_json=False)
    return problem.status


def _complete_standard_streams() -> None:
    """Where the caller has closed one (``>&-``), /dev/null: else the next socket would get its number."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            setattr(sys, name, os.fdopen(descriptor, "r" if not descriptor else "w", closefd=False))


def _forget_output() -> None:
    """Let the interpreter's last flush of stdout succeed, though nobody reads it any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
