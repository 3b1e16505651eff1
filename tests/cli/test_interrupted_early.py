"""Ctrl-C before the command has even begun: no traceback of some module that nobody has asked for."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

#: Presses Ctrl-C when the package is about to be imported, or when the command has taken over.
PRESSED = """
import importlib.abc, os, signal, sys
import trio_tls_command

class Press(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {when!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Press())
sys.argv = ["trio-tls", "connect", "127.0.0.1:1"]
sys.exit(trio_tls_command.main())
"""


def pressed(when: str, prefix: str = "") -> subprocess.CompletedProcess[str]:
    code = prefix + PRESSED.format(when=when)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("when", ["trio_tls", "trio_tls.stream", "trio_tls.cli.arguments"])
def test_while_the_package_is_imported_it_ends_as_most_programs_do(when: str) -> None:
    done = pressed(when)
    assert done.returncode == -signal.SIGINT, "as a shell sees it: 130"
    assert (done.stdout, done.stderr) == ("", "")


def test_once_the_command_runs_it_says_so() -> None:
    done = pressed("trio_tls.cli.connect")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\ninterrupted\n")


def test_who_has_the_signal_ignored_is_not_interrupted() -> None:
    done = pressed("trio_tls.stream", "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n")
    assert done.returncode == 3
    assert "nobody listens on 127.0.0.1:1" in done.stderr
