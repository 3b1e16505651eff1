"""What the ecosystem tests have in common: their packages have to be there, and they make a matrix.

How this works. The packages are a dependency group of their own (``ecosystem``). Where one is missing, every module
here is one skipped test that says so. In the sessions that install them, ``TRIO_TLS_ECOSYSTEM`` is set, and then what
is missing is a failure.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from ..support import CROSSED
from .matrix import Collected, machines_of

#: All that these tests import.
PACKAGES = ("anyio", "h2", "httpcore", "httpx", "hypercorn", "quart_trio", "trio_websocket", "websockets")

MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]

#: Set in the nox sessions that have installed the group.
REQUIRED = "TRIO_TLS_ECOSYSTEM"


class Absent(pytest.Module):
    """In the place of a module whose imports would fail."""

    def collect(self) -> Any:
        text = f"not installed here: {', '.join(MISSING)} (pip install --group ecosystem)"
        if os.environ.get(REQUIRED):
            raise self.CollectError(text)
        pytest.skip(text)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> pytest.Module | None:
    if MISSING and module_path.parent == Path(__file__).parent:
        absent: pytest.Module = Absent.from_parent(parent, path=module_path)
        return absent
    return None


#: Of httpcore, which leaves the body of a request that has failed to the garbage collector.
LEFT_OVER = "ignore:Async generator .httpcore:ResourceWarning"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Both ends are of one kind, unless a test asks for more: that one may be ours is shown in other places."""
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    crossed = {item for item in here if item.get_closest_marker("slow") and machines_of(item) in CROSSED}
    for item in here:
        item.add_marker(pytest.mark.filterwarnings(LEFT_OVER))
    items[:] = [item for item in items if item not in crossed]
    config.hook.pytest_deselected(items=list(crossed))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where the tests ran in several processes, their reports come together here."""
    collected = Collected()
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport):
                collected.add(report)
    if lines := collected.lines():
        terminalreporter.section("trio_tls below other libraries")
        terminalreporter.write("\n".join(lines) + "\n")
