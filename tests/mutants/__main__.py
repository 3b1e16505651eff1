"""``python -m tests.mutants``: take each check away in turn, and see that a test fails; lists the mutants that survive.

How this works. See `mutating` and `running`. A mutant that changes nothing which anybody can observe is listed in
`equivalent`, with the reason, and does not count. The command fails if another one survives, or if a listed one dies.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import pytest

from .equivalent import EQUIVALENT
from .groups import GROUPS
from .mutating import Mutant, mutants_of
from .running import MutantsPlugin


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"some of {', '.join(GROUPS)}; by default all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--limit", type=int, default=1000, help="tests on one mutant, at the most")
    parser.add_argument("--every", type=int, default=1, help="only every so many mutants: a sample")
    parser.add_argument("--offset", type=int, default=0, help="begin so many mutants later: another sample")
    parser.add_argument("--module", default="", help="only mutants whose name contains this")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    wrong = 0
    for name in options.groups or GROUPS:
        group = GROUPS[name]
        mutants = [mutant for module in group.modules for mutant in mutants_of(module)]
        chosen = [mutant for mutant in mutants if options.module in mutant.name][options.offset :: options.every]
        print(f"{name}: {len(chosen)} of {len(mutants)} mutants of {len(group.modules)} modules", flush=True)
        wrong += run(chosen, group.tests, options)
    return 1 if wrong else 0


def run(mutants: list[Mutant], tests: tuple[str, ...], options: argparse.Namespace) -> int:
    """Run one group, and tell what came of it; how many mutants need somebody to look at them."""
    began = time.monotonic()
    plugin = MutantsPlugin(mutants, jobs=options.jobs, limit=options.limit)
    quiet = [
        *("-q", "--no-header", "-n", "0", "-m", "not slow", "-p", "no:cacheprovider", "-o", "timeout=0"),
        *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
    ]
    pytest.main([*quiet, *tests], plugins=[plugin])
    outcome = plugin.outcome
    if outcome.failed or not (outcome.killed or outcome.survived or outcome.unreached):
        print("  these tests fail on the code as it is:", *outcome.failed, sep="\n    ")
        return 1
    alive = {*outcome.survived, *outcome.unreached}
    survivors = sorted(alive - set(EQUIVALENT))
    revived = sorted(set(outcome.killed) & set(EQUIVALENT))
    print(
        f"  {len(outcome.killed)} killed, {len(alive) - len(survivors)} equivalent, {len(survivors)} survived "
        f"({time.monotonic() - began:.0f} s)"
    )
    for mutant in survivors:
        print(f"  SURVIVED{' (no test gets there)' if mutant in outcome.unreached else ''}: {mutant}")
    for mutant in revived:
        print(f"  listed as equivalent, but a test fails on it: {mutant}")
    return len(survivors) + len(revived)


if __name__ == "__main__":
    sys.exit(main())
