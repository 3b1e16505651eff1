"""Prints the interop matrix at the end of a run."""

from __future__ import annotations

import pytest

from .tls13.matrix import Collected


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where the tests ran in several processes, their reports come together here."""
    collected = Collected()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            collected.add(report)
    lines = collected.lines()
    if lines:
        terminalreporter.section("our TLS 1.3 with other implementations")
        terminalreporter.write("\n".join(lines) + "\n")
