"""The command: ``python -m tests.instructions [--update] [--only TEXT]``, or ``nox -s instructions``.

Exits with 1 if a count rose by more than the tolerance. ``--update`` writes the new counts into ``baseline.json``, to
be committed with the change that explains them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .baseline import PATH, Baseline, Change, Comparison
from .counting import CannotCount, count, environment


def told(change: Change, how: Comparison) -> str:
    """One line of the table."""
    verdict = ""
    if how is not Comparison.NONE:
        verdict = "MORE" if change.too_much else "less" if change.outdated else ""
    before = "new" if change.before is None else f"{change.before:,}"
    return f"{change.name:42}{before:>14}{change.after:>14,}{change.rise:>+9.1%}  {verdict}".rstrip()


def main(argv: Sequence[str] | None = None) -> int:
    """Count, compare, and say so; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.instructions", description="Count instructions.")
    parser.add_argument("--update", action="store_true", help="make the new counts the baseline")
    parser.add_argument("--only", default="", metavar="TEXT", help="only workloads whose name has this text in it")
    options = parser.parse_args(argv)
    if options.update and options.only:
        parser.error("the baseline has all workloads: --update without --only")
    try:
        print("counting instructions under callgrind: this takes a minute", flush=True)
        new = Baseline(environment(), count(options.only))
    except CannotCount as problem:
        print(problem, file=sys.stderr)
        return 2
    if not new.counts:
        print(f"no workload has {options.only!r} in its name", file=sys.stderr)
        return 2
    old = Baseline.load(PATH)
    how = old.comparison(new)
    print(how.value)
    if how is not Comparison.DIRECT:
        for name, value in new.environment.items():
            if old.environment.get(name) != value:
                print(f"  {name}: {value}; baseline: {old.environment.get(name)}")
    changes = list(old.changes(new))
    print(f"\n{'instructions of one operation':42}{'baseline':>14}{'now':>14}{'change':>9}")
    print("\n".join(told(change, how) for change in changes))
    if options.update:
        new.save(PATH)
        print(f"\n{PATH.name} has the new counts")
        return 0
    if how is Comparison.NONE:
        return 0
    if any(change.outdated for change in changes):
        print("\nless: nox -s instructions -- --update keeps what was gained")
    if any(change.too_much for change in changes):
        print(
            f"\nMORE: above the tolerance of {how.tolerance:.0%}. If there is a good reason: run"
            "\nnox -s instructions -- --update, and commit baseline.json with the change that it is for."
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
