"""The ``trio-tls`` command, from before its package is imported.

How this works. To import the package takes some tenths of a second, and a Ctrl-C in them would end in a traceback of
some module that nobody has asked for. So this one module stands outside of the package: until the command itself takes
over, the signal does what it does to most programs.
"""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> int:
    """Run the command; the exit status."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else whoever started us wants it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from trio_tls.cli import main as run  # noqa: PLC0415  # that is the point

    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, handler)
    return run()
