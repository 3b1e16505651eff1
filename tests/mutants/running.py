"""Runs the tests on each mutant: a pytest plugin that collects once, and forks for every mutant.

How this works. The tests run once on the code as it is, under coverage: which test gets to which line, and how long it
takes. Then each mutant has a forked process of its own, which runs the tests that get to its line until one fails. The
tests that make the check speak come first, so most mutants are dead at once. A mutant that makes a test run much longer
than it took before has hung it, and is dead as well.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import coverage
import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from .mutating import Mutant

#: Seconds of one test on a mutant, beyond five times what it took on the code as it is.
PATIENCE = 60


@dataclass
class Outcome:
    """What became of the mutants, by name."""

    killed: list[str] = field(default_factory=list)
    survived: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Tests that fail on the code as it is: nothing can be said before they are mended."""


class MutantsPlugin:
    """Takes the place of pytest's own loop over the tests.

    Args:
      mutants: what to run the tests on.
      jobs: how many processes at a time.
      limit: the most tests on one mutant.
    """

    def __init__(self, mutants: Sequence[Mutant], *, jobs: int, limit: int) -> None:
        self.outcome = Outcome()
        self._mutants, self._jobs, self._limit = mutants, jobs, limit
        self._running: dict[int, Mutant] = {}
        self._took: dict[str, float] = {}

    def pytest_configure(self) -> None:
        # A failing property is enough: nobody looks at its smallest example here.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", phases=phases, database=None, derandomize=True, deadline=None)
        hypothesis.settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        reached = self._baseline(list(items.values()))
        if self.outcome.failed:
            return True
        for number, mutant in enumerate(self._mutants, 1):
            lines = reached.get(mutant.module, {})
            speaking = {test for line in mutant.inside for test in lines.get(line, ())}
            passing = set(lines.get(mutant.line, ()))
            tests = [
                items[test]
                for group in (speaking, passing - speaking)
                for test in sorted(group, key=lambda test: self._took[test])
            ][: self._limit]
            if not tests:
                self.outcome.unreached.append(mutant.name)
                continue
            while len(self._running) >= self._jobs:
                self._reap()
            self._running[self._start(mutant, tests)] = mutant
            if number % 25 == 0:
                print(f"  {number} of {len(self._mutants)}", file=sys.__stderr__, flush=True)
        while self._running:
            self._reap()
        return True

    def _baseline(self, items: list[pytest.Item]) -> dict[str, dict[int, list[str]]]:
        """By module and line, the tests that get there."""
        files = {sys.modules[mutant.module].__file__ or "": mutant.module for mutant in self._mutants}
        measured = coverage.Coverage(data_file=None, config_file=False, include=list(files), messages=False)
        measured.start()
        try:
            for index, item in enumerate(items):
                measured.switch_context(item.nodeid)
                began = time.perf_counter()
                following = items[index + 1] if index + 1 < len(items) else None
                reports = runtestprotocol(item, nextitem=following, log=False)
                self._took[item.nodeid] = time.perf_counter() - began
                if any(report.failed for report in reports):
                    self.outcome.failed.append(item.nodeid)
        finally:
            measured.stop()
        data = measured.get_data()
        return {module: data.contexts_by_lineno(path) for path, module in files.items()}

    def _start(self, mutant: Mutant, tests: list[pytest.Item]) -> int:
        sys.stdout.flush()
        process = os.fork()
        if process:
            return process
        status = 2
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            mutant.apply()
            status = 1 if any(self._fails(item) for item in tests) else 0
        finally:
            os._exit(status)

    def _reap(self) -> None:
        process, status = os.wait()
        mutant = self._running.pop(process)
        (self.outcome.killed if status else self.outcome.survived).append(mutant.name)
        if os.waitstatus_to_exitcode(status) == 2:
            raise RuntimeError(f"the process of {mutant.name} has failed by itself")

    def _fails(self, item: pytest.Item) -> bool:
        signal.alarm(int(PATIENCE + 5 * self._took[item.nodeid]))
        return any(report.failed for report in runtestprotocol(item, nextitem=None, log=False))
